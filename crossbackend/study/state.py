"""The state of a run under way, shared by the rooms that do its parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tqdm import tqdm

from crossbackend import machine
from crossbackend.errors import Mistake
from crossbackend.plan import Choice
from crossbackend.problem import Problem
from crossbackend.record import Record
from crossbackend.store import write_record
from crossbackend.study.bench import worker
from crossbackend.study.cells import Cell
from crossbackend.study.options import Options
from crossbackend.study.pool import Failed, Handle, WorkerHandle
from crossbackend.study.timing import Timed
from crossbackend.trial import Trial


@dataclass
class Study:
    """The state of a run under way.

    Attributes
    ----------
    problems, choice, options
        What was asked for.
    cells : list of Cell
        Every cell of the choice.
    todo, to_time : set of str
        Digests of the cells to run and of those to time.
    references : list of Problem
        Those whose reference is to be computed.
    digests : dict of str to str
        Every problem's digest, by its name.
    records : dict of str to Record
        What is stored by now, by digest.
    lost : dict of (problem, library) to Failed
        Problems whose functions brought the worker down when they were tried.
    mistaken : dict of str to list of Mistake
        Problems whose functions are mistaken, in a lenient run.
    tried : dict of (problem, library) to Trial
        What the problems' functions gave when they were tried.
    usual : dict of tuple to float
        The rtol that stands for a sweep, by its key.
    warmed : dict
        Seconds of compiling and of the first call, by sweep.
    workers : mapping of str to Handle
        Who answers for every backend and for the references, by name.
    more : list of WorkerHandle
        Worker processes beside those, where a backend has several.
    phases : dict of str to dict
        What each phase took: `wall_s`, the CPU seconds of the workers' answers `solver_cpu_s`, and `cores`.
    machines : list of dict
        Facts of the machines that the cells run on; empty where it is this one.
    ending : list of functions
        What else to call when the workers are ended.
    """

    problems: Sequence[Problem]
    choice: Choice
    options: Options
    cells: list[Cell]
    todo: set[str]
    to_time: set[str]
    references: list[Problem]
    digests: dict[str, str]
    records: dict[str, Record]
    usual: dict[tuple[str, ...], float]
    lost: dict[tuple[str, str], Failed] = field(default_factory=dict)
    mistaken: dict[str, list[Mistake]] = field(default_factory=dict)
    tried: dict[tuple[str, str], Trial] = field(default_factory=dict)
    warmed: dict[tuple[str, ...], dict[str, float]] = field(default_factory=dict)
    workers: Mapping[str, Handle] = field(default_factory=dict)
    more: list[WorkerHandle] = field(default_factory=list)
    phases: dict[str, dict[str, float]] = field(default_factory=dict)
    machines: list[dict[str, Any]] = field(default_factory=list)
    ending: list[Callable[[], None]] = field(default_factory=list)
    bar: tqdm[Any] | None = None

    @property
    def backends(self) -> tuple[str, ...]:
        """The backends asked for, each once."""
        return tuple(dict.fromkeys(self.choice.backends))

    def cell(self, digest: str) -> Cell:
        """Return the cell of a digest."""
        return self._by_digest[digest]

    @cached_property
    def _by_digest(self) -> dict[str, Cell]:
        return {cell.digest: cell for cell in self.cells}

    def counted(self, record: Record) -> None:
        """Store the record of a counting run."""
        self._store(record)
        self.tick(self.cell(record.digest).plan.describe())

    def note(self, digest: str, timed: Timed) -> None:
        """Store a counted cell's record again, with its time or with why it has none."""
        record = self.records[digest]
        record.message, record.machine = timed.message, timed.machine
        if timed.time is not None:
            record.time = timed.time
            for name, size in timed.memory.items():
                setattr(record, name, size)
        self._store(record)

    def timed(self, digest: str, timed: Timed) -> None:
        """Store what timing a cell gave."""
        self.note(digest, timed)
        self.tick(f"{self.cell(digest).plan.describe()} timed")

    def skipped(self, cells: Iterable[Cell]) -> None:
        """Pass over cells that were to be timed and cannot be."""
        for cell in cells:
            self.tick(f"{cell.plan.describe()} not timed")

    def _store(self, record: Record) -> None:
        self.records[record.digest] = record
        write_record(self.options.out, record)

    def tick(self, text: str) -> None:
        """Move the progress bar by one."""
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(1)

    def start(self, workers: Mapping[str, Handle] | None = None) -> None:
        """Take the workers, one a backend and one for the references, and make the progress bar.

        Parameters
        ----------
        workers : mapping of str to Handle, optional
            Processes of this machine by default.
        """
        names = (*self.backends, "reference")
        self.workers = workers or {name: worker(name, self.options, self.choice.device) for name in names}
        total = len(self.todo) + len(self.to_time) + len(self.references)
        silent = not self.options.progress
        self.bar = tqdm(total=total, unit="cell", disable=silent, dynamic_ncols=True, smoothing=0.05)

    def end(self) -> None:
        """End the workers at once, whatever they do."""
        for end in (*self.ending, *(handle.kill for handle in (*self.more, *self.workers.values()))):
            end()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Note what is done meanwhile as a phase of the run, on worker processes of this machine."""
        started, before = time.monotonic(), self._solver_cpu_s()
        yield
        self.phases[name] = {
            "wall_s": round(time.monotonic() - started, 3),
            "solver_cpu_s": round(self._solver_cpu_s() - before, 3),
            "cores": machine.cores(),
        }

    def _solver_cpu_s(self) -> float:
        """Return the CPU seconds that the workers' answers took so far: solvers, compilers and their imports."""
        handles = (*self.more, *self.workers.values())
        return sum(handle.cpu_s for handle in handles if isinstance(handle, WorkerHandle))

    def side_by_side(self, jobs: Sequence[Callable[[], None]]) -> None:
        """Run jobs in threads; the first error, or Ctrl-C, ends them all."""
        with ThreadPoolExecutor(max(1, len(jobs))) as pool:
            futures = [pool.submit(job) for job in jobs]
            try:
                pending = set(futures)
                while pending:
                    done, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
                    for future in done:
                        future.result()
            except BaseException:
                self.end()
                raise
