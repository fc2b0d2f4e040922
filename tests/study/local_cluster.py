"""A real Dask scheduler and its workers, each a process of this machine."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

PATIENCE = 60
"""Seconds that anything may take to start."""


class LocalCluster:
    """A scheduler and workers that find the stubs; every wait has an end.

    Parameters
    ----------
    folder : Path
        For logs, and what the workers write.
    workers : int
    nanny : bool
        Whether a worker that dies is started again.
    resources : str or None
        What every worker says that it has.
    failures : int
        Workers that a task may lose before it is given up.
    **environment : str
        Variables beside this process's own.
    """

    def __init__(self, folder, workers=2, *, nanny=False, resources="cores=2", failures=3, **environment):
        self.folder, self.nanny, self.resources = folder, nanny, resources
        (folder / "tmp").mkdir(exist_ok=True)  # they are killed, so that nobody else would clear it up
        self.environment = os.environ | {
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(failures), "TMPDIR": str(folder / "tmp"),
            **environment,
        }  # fmt: skip
        self.processes = []
        self.scheduler = self._start("scheduler", "dask_scheduler", "--host", "127.0.0.1", "--port", "0")
        self.address = self._said("scheduler", r"Scheduler at:\s+(tcp://\S+)").group(1)
        self.workers = [self.worker(f"worker{number}") for number in range(workers)]
        for number in range(workers):
            self._said(f"worker{number}", r"Registered to")

    def _start(self, name, module, *args):
        with (self.folder / f"{name}.log").open("w") as log:
            command = [sys.executable, "-m", f"distributed.cli.{module}", *args, "--no-dashboard"]
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=self.environment, cwd=self.folder, start_new_session=True
            )
        self.processes.append(process)
        return process

    def _said(self, name, pattern):
        """Wait until a process has said something."""
        end = time.monotonic() + PATIENCE
        path = self.folder / f"{name}.log"
        while (found := re.search(pattern, path.read_text())) is None:
            assert time.monotonic() < end, path.read_text()
            time.sleep(0.02)
        return found

    def worker(self, name):
        """Start one more worker and return its process."""
        flags = ["--nworkers", "1", "--nthreads", "2", "--nanny" if self.nanny else "--no-nanny"]
        flags += ["--resources", self.resources] if self.resources else []
        folder = self.folder / f"{name}-files"
        return self._start(name, "dask_worker", self.address, *flags, "--local-directory", str(folder))

    def end(self):
        """End all processes, and with them those that they have started, at once."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=15)
