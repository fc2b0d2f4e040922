"""A run of trainings: a process for each job, so many at a time; what is stored is kept, what was begun goes on."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tqdm import tqdm

from crossbackend import machine, registry
from crossbackend.errors import Mistake, UserError, raise_all
from crossbackend.load import load
from crossbackend.lock import hold
from crossbackend.plan import Choice, check_choice
from crossbackend.record import FORMAT
from crossbackend.store import Damaged, read_about, read_training, write_about
from crossbackend.train.experiments import named, preset
from crossbackend.train.job import Job
from crossbackend.training_record import TrainingRecord


@dataclass
class Options:
    """How a run is carried out; nothing here decides a curve.

    Attributes
    ----------
    out : Path
        The run's folder; it may hold a run of `crossbackend run` too.
    data : Path or None
        Folder of a data set that no package brings.
    cache : Path or None
        Where computed data is kept; `out/cache` where it is None.
    jobs : int
        Processes at a time, which share the cores.
    force : bool
        Begin anew where there is something to go on from.
    progress : bool
        Show a progress bar on standard error.
    """

    out: Path
    data: Path | None = None
    cache: Path | None = None
    jobs: int = 1
    force: bool = False
    progress: bool = True


def run_training(jobs: Sequence[Job], options: Options) -> list[TrainingRecord]:
    """Train every job and return the records, those of earlier runs of the same settings included.

    Raises
    ------
    UserError
        For mistakes in what was given, before any step: an unknown experiment, preset, norm or backend, a missing
        package or data folder, settings other than those of what is there.
    KeyboardInterrupt
        After Ctrl-C; the same command goes on from the last checkpoints.
    """
    _check(jobs, options)
    with hold(options.out):
        _write_about(options.out)
        Run(list(jobs), options).run()
    found = []
    for job in jobs:
        for seed in job.seeds:
            path = options.out / "training" / f"{job.record(seed).name}.json"
            with contextlib.suppress(Damaged):
                found.append(read_training(path))
    return found


def _check(jobs: Sequence[Job], options: Options) -> None:
    mistakes = []
    for name in dict.fromkeys(job.experiment for job in jobs):
        named(name)
    for job in jobs:
        job.sizes()
    for backend in dict.fromkeys(job.backend for job in jobs):
        lacking = registry.missing(backend) if backend in registry.names() else ()
        for package in lacking:
            fix = f"Install crossbackend[{backend}]."
            mistakes.append(Mistake("--backend", f"{backend} without {package}", "its libraries installed", fix))
        for package in registry.training_distributions(backend) if backend in registry.names() else ():
            if find_spec(package) is None:
                fix = "Install crossbackend[paper]."
                mistakes.append(Mistake("--backend", f"{backend} without {package}", "its optimisers installed", fix))
        if backend.partition(":")[0] in registry.names() and not hasattr(registry.get(backend), "stepper"):
            mistakes.append(Mistake("--backend", repr(backend), "torchdiffeq or diffrax, which can train"))
    for what in ("steps", "epochs", "width"):
        for value in {getattr(job, what) for job in jobs} - {None}:
            if value < 1:
                mistakes.append(Mistake(f"--{what}", repr(value), "a whole number above 0"))
    for name, size, width in sorted({(job.experiment, job.preset, job.width) for job in jobs if job.width is not None}):
        if "width" not in preset(named(name), size).model:
            expected = "nothing: its networks have no one width"
            mistakes.append(Mistake("--width", f"{width} for {name}", expected))
    if not all(job.seeds for job in jobs):
        mistakes.append(Mistake("--seeds", "0", "a whole number above 0"))
    for seed in sorted({seed for job in jobs for seed in job.seeds}):
        if seed < 0:
            mistakes.append(Mistake("--seed", repr(seed), "a whole number, at least 0"))
    for scale in {job.loss_scale for job in jobs}:
        if not 0 < scale < math.inf:
            mistakes.append(Mistake("--loss-scale", f"{scale:g}", "a positive number"))
    if options.jobs < 1:
        mistakes.append(Mistake("--jobs", repr(options.jobs), "a whole number above 0"))
    raise_all(mistakes)
    for job in jobs:
        choice = Choice((job.backend,), (job.norm,), (job.stepping,), (job.sizes().rtol,), device=job.device,
                        dtype=job.sizes().dtype)  # fmt: skip
        check_choice(choice, [load(job.problem())], registry.names())


def _write_about(folder: Path) -> None:
    """Write `run.json` where no run has been made before."""
    if (folder / "run.json").exists():
        read_about(folder)
        return
    created = datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat()
    command = shlex.join(["crossbackend", *sys.argv[1:]]) if Path(sys.argv[0]).stem == "crossbackend" else ""
    about = {"format": FORMAT, "name": folder.name, "created": created, "command": command, "planned": 0,
             "machine": machine.facts(), "versions": machine.versions()}  # fmt: skip
    write_about(folder, about)


@dataclass
class Run:
    """Jobs under way."""

    jobs: list[Job]
    options: Options
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    stopped: bool = False

    def run(self) -> None:
        """Run all jobs; the first mistake, or Ctrl-C, ends them all."""
        total = sum(len(job.seeds) for job in self.jobs)
        with (
            tqdm(total=total, unit="training", disable=not self.options.progress, dynamic_ncols=True) as bar,
            ThreadPoolExecutor(self.options.jobs) as pool,
        ):
            futures = [pool.submit(self._lane, job, bar) for job in self.jobs]
            try:
                pending = set(futures)
                while pending:
                    done, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
                    for future in done:
                        future.result()
            except BaseException:
                self._stop()
                for future in futures:
                    future.cancel()
                raise

    def _stop(self) -> None:
        self.stopped = True
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _environment(self, device: str) -> dict[str, str]:
        """Return variables that give each process its share of the cores."""
        threads = str(max(1, machine.cores() // min(self.options.jobs, max(1, len(self.jobs)))))
        own = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        if device == "cpu":
            own["JAX_PLATFORMS"] = "cpu"
            if threads == "1":
                flags = os.environ.get("XLA_FLAGS", "")
                own["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
        else:
            own["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        return {**os.environ, **own}

    def _lane(self, job: Job, bar: Any) -> None:
        if self.stopped:
            return
        options = self.options
        cache = options.cache or options.out / "cache"
        data = None if options.data is None else str(options.data)
        asked = {"job": asdict(job), "out": str(options.out), "data": data, "cache": str(cache), "force": options.force}
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log, subprocess.Popen(
            [sys.executable, "-m", "crossbackend.train.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=log, text=True, env=self._environment(job.device), start_new_session=True,
        ) as process:  # fmt: skip
            self.processes.append(process)
            if self.stopped:
                self._stop()
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(asked))
                process.stdin.close()
            shown = f"{job.experiment} {job.backend} {job.norm}"
            last = 0.0
            for line in process.stdout:
                message = json.loads(line)
                if message["do"] == "mistakes":
                    raise UserError(*(Mistake(**mistake) for mistake in message["mistakes"]))
                if message["do"] == "done":
                    bar.update(1)
                elif time.monotonic() - last > 0.5:
                    last = time.monotonic()
                    bar.set_postfix_str(f"{shown} step {message['steps']} of {message['of']}")
            if process.wait() and not self.stopped:
                log.seek(0)
                words = log.read().strip().splitlines()[-12:]
                raise RuntimeError("\n".join([f"the process of {shown} ended with {process.returncode}:", *words]))
