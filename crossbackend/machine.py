"""Facts about the machine and the installed versions, for every record."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
import time
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

PACKAGES = ("crossbackend", "numpy", "scipy", "torch", "torchdiffeq", "jax", "jaxlib", "diffrax", "equinox")


@cache
def facts() -> dict[str, Any]:
    """Return what the machine is: system, processor, cores this process may use, memory in bytes, Python."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "python": platform.python_version(),
    }


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the installed versions of the libraries that matter, those that are not installed left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def give_back_memory() -> None:
    """Collect garbage and hand freed memory back to the system, where the C library can (glibc)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def reset_peak_memory(helpers: Iterable[int] = ()) -> bool:
    """Set the kernel's peak-memory mark of this process back to its present use; False where it cannot.

    Parameters
    ----------
    helpers : iterable of int
        Numbers of processes of its own that work for it: theirs too.
    """
    try:
        for process in ("self", *helpers):
            with open(f"/proc/{process}/clear_refs", "w", encoding="ascii") as control:
                control.write("5")
    except OSError:
        return False
    return True


def peak_memory_bytes(helpers: Iterable[int] = ()) -> int | None:
    """Return the peak resident memory of this process, and its helpers', since the last reset; None if not known."""
    peaks = [_peak(process) for process in ("self", *map(str, helpers))]
    return None if None in peaks else sum(filter(None, peaks))


def _peak(process: str) -> int | None:
    try:
        with open(f"/proc/{process}/status", encoding="ascii", errors="replace") as lines:
            for line in lines:
                if line.startswith("VmHWM"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def cpu_seconds(helpers: Iterable[int] = ()) -> float:
    """Return the CPU seconds of this process, all its threads, and of the processes that it started, as far as known.

    Parameters
    ----------
    helpers : iterable of int
        Numbers of processes of its own that run still; those that ended are counted once they were waited for.
    """
    ended = os.times()
    own = time.process_time() + ended.children_user + ended.children_system
    for number in helpers:
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            spent = psutil.Process(number).cpu_times()
            own += spent.user + spent.system
    return own


def memory_in_use(process: psutil.Process, *, family: bool = False) -> int:
    """Return the resident memory of a process in bytes; with `family`, that of the processes it has started too.

    Raises
    ------
    psutil.Error
        It has ended.
    """
    used = process.memory_info().rss
    for child in process.children(recursive=True) if family else ():
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            used += child.memory_info().rss
    return used
