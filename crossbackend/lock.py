"""One run at a time writes into a folder: what holds it, said to the one that comes second.

The lock is the operating system's, on the file `.lock`: it ends with the process that holds it, however that ends, so
that none is ever stale. Who holds it lies beside it in `.lock.json`, for the message alone. Commands that only read
need no lock: a file of a run is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import platform
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import psutil

from crossbackend.errors import Mistake, UserError
from crossbackend.pairs import room, write_json
from crossbackend.store import prepare, refuse_foreign

LOCK, HOLDER = ".lock", ".lock.json"
_KINDS = {"pid": int, "host": str, "boot": str, "started": str, "since": str, "command": str}


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Make a run's folder ready and keep every other run out of it until the block ends.

    A file system without locks is written to without one, and a warning (logger `crossbackend`) says so. A disk that
    is full inside the block is one mistake.

    Raises
    ------
    UserError
        A run is writing into the folder; the folder is no place for a run or cannot be written; the disk is full.
    """
    refuse_foreign(folder)
    with room(folder), _locked(folder):
        prepare(folder)
        yield


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if not _writable(folder):  # `prepare` says why
        yield
        return
    lock = _lock(folder / LOCK)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(_held(folder)) from None
    except (OSError, NotImplementedError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "the file system has no locks"
        words = "%s cannot be locked (%s): going on without a lock; do not run into it twice at a time"
        logging.getLogger("crossbackend").warning(words, folder, why)
        yield
        return
    try:
        write_json(folder / HOLDER, _own())
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file; a leftover does no harm
            (folder / HOLDER).unlink(missing_ok=True)
            (folder / LOCK).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            lock.release()


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _lock(path: Path) -> filelock.BaseFileLock:
    """Return a lock that is tried once and that the system frees: a file alone would outlive a killed process."""
    try:
        return filelock.FileLock(path, timeout=0, fallback_to_soft=False)
    except TypeError:  # an older filelock never falls back
        return filelock.FileLock(path, timeout=0)


def _own() -> dict[str, Any]:
    """Return who this process is."""
    return {
        "pid": os.getpid(), "host": platform.node(), "boot": _boot(),
        "started": _started(os.getpid()),
        "since": datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat(),
        "command": shlex.join([_program(Path(sys.argv[0])), *sys.argv[1:]]),
    }  # fmt: skip


def _program(path: Path) -> str:
    """Return the name that a program was called by; `python -m NAME` runs NAME/__main__.py."""
    return (path.parent.name if path.name == "__main__.py" else path.name) or "python"


def _boot() -> str:
    """Return what tells one start of the system from another, empty where nothing does."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _held(folder: Path) -> Mistake:
    """Return the mistake of writing where another run does."""
    expected = "a folder that no other run writes into"
    holder = _holder(folder)
    if holder is None:
        return Mistake("--out", f"{folder}, into which another run is writing", expected, "Wait for its end.")
    who = f"process {holder['pid']} on {holder['host']} since {holder['since']}: `{holder['command']}`"
    if _gone(holder):
        fix = f"It has ended, but a process that it started holds {folder / LOCK} open: end that, or remove the file."
        return Mistake("--out", f"{folder}, held by {who}", expected, fix)
    fix = f"Wait for its end, end it (`kill -INT {holder['pid']}`: what it stored stays), or write another folder."
    return Mistake("--out", f"{folder}, into which another run is writing ({who})", expected, fix)


def _holder(folder: Path) -> dict[str, Any] | None:
    """Return what the holder says of itself, None where it says nothing that can be read."""
    try:
        found = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if isinstance(found, dict) and all(isinstance(found.get(name), kind) for name, kind in _KINDS.items()):
        return found
    return None


def _gone(holder: dict[str, Any]) -> bool:
    """Whether the holder, a process of this machine, has ended; of another machine's nothing is known."""
    if holder["host"] != platform.node():
        return False
    if holder["boot"] != _boot():
        return True
    return not psutil.pid_exists(holder["pid"]) or _started(holder["pid"]) != holder["started"]


def _started(process: int) -> str:
    """Return what tells a process from a later one of the same number, empty where nothing does.

    Ticks since the system's start: a clock that is set back must not make another process of it.
    """
    try:
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as about:
            return about.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
