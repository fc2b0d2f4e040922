"""Worker processes seen from the study: started when needed, watched, killed and replaced."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Protocol

import psutil

from crossbackend import machine
from crossbackend.errors import UserError
from crossbackend.problem import Problem
from crossbackend.record import Status
from crossbackend.study import protocol
from crossbackend.study.parcel import Parcel, parcel

WATCH_S = 0.25
"""Seconds between looks at a worker's clock and memory."""


class Failed(Exception):
    """A request that got no value: the status for its record, and the words."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Stopped(Exception):
    """The run was interrupted."""


class Handle(Protocol):
    """What answers requests about problems: one worker process, or any of a cluster's."""

    def ask(self, problem: Problem | Parcel, do: str, **arguments: Any) -> Any:
        """Send a request about a problem and return its value; see `WorkerHandle.ask`."""
        ...

    def kill(self) -> None:
        """End what is under way."""
        ...


class WorkerHandle:
    """One worker process of a backend.

    Parameters
    ----------
    name : str
        For messages: the backend's name.
    timeout : float
        Seconds a request may take before the worker is killed.
    memory_bytes : int
        Resident memory at which it is killed.
    family : bool
        Whether the processes that it starts count with it.
    environment : dict of str to str
        Variables beside this process's own.

    Attributes
    ----------
    cpu_s : float
        CPU seconds that its answers took so far; what a process did that was killed meanwhile is not known.
    """

    def __init__(
        self, name: str, timeout: float, memory_bytes: int, environment: dict[str, str], *, family: bool = False
    ) -> None:
        self.name, self.timeout, self.memory_bytes, self.family = name, timeout, memory_bytes, family
        self.environment = environment
        self.cpu_s = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self.sent: set[str] = set()
        self.log = tempfile.TemporaryFile()
        self.lock = threading.Lock()
        self.stopped = False

    def _start(self) -> subprocess.Popen[bytes]:
        self.sent = set()
        self.log.seek(0)
        self.log.truncate()
        return subprocess.Popen(
            [sys.executable, "-m", "crossbackend.study.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, **self.environment},
            start_new_session=True,  # Ctrl-C is the study's to handle
        )

    def ask(self, problem: Problem | Parcel, do: str, **arguments: Any) -> Any:
        """Send a request about a problem and return its value.

        Raises
        ------
        UserError
            For a mistake of the user's.
        Failed
            With the status for the record: timeout, out_of_memory or crashed.
        Stopped
            After `kill`.
        """
        key = problem.key if isinstance(problem, Parcel) else f"{problem.name}-{id(problem)}"
        with self.lock:
            if self.stopped:
                raise Stopped
            if self.process is None or self.process.poll() is not None:
                self._close()
                self.process = self._start()
            if key not in self.sent:
                made = problem if isinstance(problem, Parcel) else parcel(problem)
                self._exchange({"do": "problem", "key": key, **made.request()})
                self.sent.add(key)
            return self._exchange({"do": do, "key": key, **arguments})

    def _exchange(self, request: dict[str, Any]) -> Any:
        process = self.process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        done = threading.Event()
        verdict: list[tuple[Status, str]] = []
        watcher = threading.Thread(target=self._watch, args=(process, done, verdict), daemon=True)
        watcher.start()
        try:
            protocol.send(process.stdin, request)
            kind, value, cpu_s = protocol.receive(process.stdout)
        except protocol.Closed:
            if self.stopped:
                raise Stopped from None
            raise Failed(*self._post_mortem(process, verdict)) from None
        finally:
            done.set()
            watcher.join()
        self.cpu_s += cpu_s
        if kind == "ok":
            return value
        if kind == "user":
            raise UserError(*value)
        raise Failed(Status.OUT_OF_MEMORY if kind == "memory" else Status.CRASHED, value)

    def _watch(
        self, process: subprocess.Popen[bytes], done: threading.Event, verdict: list[tuple[Status, str]]
    ) -> None:
        """Kill the worker when it takes too long or too much."""
        end = time.monotonic() + self.timeout
        try:
            looked = psutil.Process(process.pid)
            while not done.wait(WATCH_S):
                if self.stopped:  # it was started after all had been ended
                    pass
                elif time.monotonic() > end:
                    verdict.append((Status.TIMEOUT, f"no answer in {self.timeout:g} s"))
                elif (used := machine.memory_in_use(looked, family=self.family)) > self.memory_bytes:
                    limit = self.memory_bytes / 2**30
                    verdict.append((Status.OUT_OF_MEMORY, f"used {used / 2**30:.2f} GiB of {limit:.2f} GiB allowed"))
                else:
                    continue
                _kill(process)
                return
        except psutil.Error:  # it ended meanwhile
            return

    def _post_mortem(self, process: subprocess.Popen[bytes], verdict: list[tuple[Status, str]]) -> tuple[Status, str]:
        code = process.wait()
        if verdict:
            return verdict[0]
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        hint = " (often the system's out-of-memory killer)" if code == -9 else ""
        return Status.CRASHED, f"the worker {how}{hint}: {self._last_words()}"

    def _last_words(self) -> str:
        end = self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, end - 2000))
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it left no words"

    def kill(self) -> None:
        """End the worker at once; a request under way raises Stopped."""
        self.stopped = True
        process = self.process
        if process is not None:
            _kill(process)
        with self.lock:  # the request under way, if any, has come back by now
            self._close()
            self.log.close()

    def _close(self) -> None:
        """Reap the worker, which has ended or been killed, and close its pipes."""
        if self.process is None:
            return
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # what was left to be written
                    stream.close()
        self.process = None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a worker and the processes that its problem has started."""
    if hasattr(os, "killpg") and process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # it leads its own session
    process.kill()
