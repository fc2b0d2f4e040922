"""The Julia of this process: started when it is first asked, kept, and started again where it has died.

It runs `julia/worker.jl`: a request is one line, a reply one line of JSON and the bytes of its arrays. It belongs to
the process group of this process and ends with it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from queue import SimpleQueue
from typing import IO, Any

import numpy as np

from crossbackend.julia_program import program, sources

LAST_LINES = 8
"""Lines of its standard error that are repeated where it has died."""
_DTYPES = ("<f8", "<f4", "<i8", "|b1")
_LONGEST = 2**24
"""Bytes of a reply's first line, at most."""
# Linux ends a process with the one that started it, also in the middle of a solve; elsewhere it ends at its next read.
_START = "Sys.islinux() && ccall(:prctl, Cint, (Cint, Culong, Culong, Culong, Culong), 1, 9, 0, 0, 0)"


class JuliaDied(RuntimeError):
    """Julia ended, or gave no reply that can be read."""


class JuliaError(RuntimeError):
    """Julia answered that it could not do what it was asked; the text is its own."""


@dataclass(frozen=True)
class Reply:
    """What came back: the header's fields, and the arrays by name."""

    header: dict[str, Any]
    arrays: dict[str, np.ndarray]


class JuliaProcess:
    """One Julia process; safe to be asked from several threads.

    Attributes
    ----------
    generation : int
        How many processes there have been; what an earlier one was told is lost.
    start_s : float
        Seconds that the last start took.
    """

    def __init__(self) -> None:
        self.generation = 0
        self.start_s = 0.0
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()
        self._log: IO[bytes] | None = None
        atexit.register(self.end)

    @property
    def pid(self) -> int | None:
        """The process's number, None where there is none."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def start(self) -> int:
        """Start Julia where it is not running; return the generation.

        Raises
        ------
        JuliaDied
            Where it cannot be started.
        """
        with self._lock:
            if self.pid is None:
                self.end()
                began = time.perf_counter()
                self._launch()
                self.generation += 1
                self._exchange(["hello"])
                self.start_s = time.perf_counter() - began
            return self.generation

    def ask(self, *words: str) -> Reply:
        """Send a request and return the reply.

        Raises
        ------
        JuliaError
            It could not do what it was asked.
        JuliaDied
            It ended meanwhile, with the last lines that it wrote; the next request starts it again.
        MemoryError
            It could not get memory.
        """
        if any(set(word) & {"\t", "\n", "\r"} for word in words):
            raise JuliaError(f"{words!r}: tabs and line ends cannot be part of a request")
        with self._lock:
            self.start()
            reply = self._exchange(list(words))
        if reply.header["ok"]:
            return reply
        text = str(reply.header.get("error", "no words"))
        if "OutOfMemoryError" in text:
            raise MemoryError(f"Julia: {text}")
        raise JuliaError(text)

    def end(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            process, self._process = self._process, None
            self._over.set()
            if process is None:
                return
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # what was left to be written
                    assert stream is not None
                    stream.close()
            try:
                process.wait(0.5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert self._log is not None
            self._log.close()

    def _launch(self) -> None:
        found = program()
        if not found.path:
            raise JuliaDied(found.reason)
        worker = str(sources() / "worker.jl")
        command = [found.path, "--startup-file=no", "--history-file=no", "--color=no",
                   "-e", f"{_START}; include(popfirst!(ARGS))", worker]  # fmt: skip
        self._log = tempfile.TemporaryFile()
        self._over = over = threading.Event()
        box: SimpleQueue[subprocess.Popen[bytes] | OSError] = SimpleQueue()

        def hold(log: IO[bytes]) -> None:
            """Start it in a thread that lasts: for Linux the parent is the thread."""
            try:
                box.put(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log))
            except OSError as error:
                box.put(error)
            else:
                over.wait()

        threading.Thread(target=hold, args=(self._log,), daemon=True, name="julia").start()
        started = box.get()
        if isinstance(started, OSError):
            self._log.close()
            raise JuliaDied(f"{found.path} cannot be started: {started}") from started
        self._process = started

    def _exchange(self, words: list[str]) -> Reply:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        whole = False
        try:
            process.stdin.write(("\t".join(words) + "\n").encode())
            process.stdin.flush()
            reply = self._reply(process.stdout)
            whole = True
        except (OSError, EOFError):
            raise JuliaDied(self._post_mortem(process)) from None
        finally:
            if not whole:  # a reply left half read would be taken for the next one's
                process.kill()
                process.wait()
                self.end()
        return reply

    def _reply(self, stream: IO[bytes]) -> Reply:
        line = stream.readline(_LONGEST)
        if not line.endswith(b"\n"):
            if len(line) < _LONGEST:
                raise EOFError
            raise JuliaDied(f"Julia's reply has no end: it begins with {line[:60]!r}")
        try:
            header = json.loads(line)
            parts = [(str(name), np.dtype(dtype), tuple(map(int, shape))) for name, dtype, shape in header["arrays"]
                     if dtype in _DTYPES and all(length >= 0 for length in shape)]  # fmt: skip
            known = isinstance(header["ok"], bool) and len(parts) == len(header["arrays"])
        except (ValueError, TypeError, KeyError):
            known, parts, header = False, [], {}
        if not known:
            raise JuliaDied(f"Julia's reply is none that can be read: {line[:200]!r}")
        arrays = {}
        for name, dtype, shape in parts:
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            content = stream.read(size)
            if len(content) < size:
                raise EOFError
            arrays[name] = np.frombuffer(content, dtype).reshape(shape).copy()
        return Reply(header, arrays)

    def _post_mortem(self, process: subprocess.Popen[bytes]) -> str:
        """Return how it ended, with the last lines that it wrote."""
        try:
            code = process.wait(2)
        except subprocess.TimeoutExpired:
            return f"Julia closed its pipes in the middle of a reply: {self._last_lines()}"
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        hint = " (often the system's out-of-memory killer)" if code == -9 else ""
        return f"Julia {how}{hint}: {self._last_lines()}"

    def _last_lines(self) -> str:
        assert self._log is not None
        end = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, end - 4000))
        lines = [line.strip() for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        return " / ".join(lines[-LAST_LINES:]) or "it left no words"


SHARED = JuliaProcess()
"""The one process that the backend's plans share."""
