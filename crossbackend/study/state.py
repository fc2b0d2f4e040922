"""The state of a run under way, shared by the rooms that do its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from crossbackend import machine, registry
from crossbackend.plan import Choice
from crossbackend.problem import Problem
from crossbackend.record import Record
from crossbackend.store import write_record
from crossbackend.study.cells import Cell
from crossbackend.study.options import Options
from crossbackend.study.pool import Failed, WorkerHandle


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
    usual : dict of tuple to float
        The rtol that stands for a sweep, by its key.
    warmed : dict
        Seconds of compiling and of the first call, by sweep.
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
    warmed: dict[tuple[str, ...], dict[str, float]] = field(default_factory=dict)
    workers: dict[str, WorkerHandle] = field(default_factory=dict)
    bar: tqdm[Any] | None = None

    @property
    def backends(self) -> tuple[str, ...]:
        """The backends asked for, each once."""
        return tuple(dict.fromkeys(self.choice.backends))

    def keep(self, cell: Cell, record: Record) -> None:
        """Store a cell's record."""
        record.machine = machine.facts()
        record.versions = registry.versions(cell.plan.backend)
        self.records[cell.digest] = record
        write_record(self.options.out, record)

    def tick(self, text: str) -> None:
        """Move the progress bar by one."""
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(1)

    def start(self) -> None:
        """Make the workers' handles, one a backend and one for the references, and the progress bar."""
        cpu = self.choice.device == "cpu"
        environment = {"JAX_PLATFORMS": "cpu"} if cpu else {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        memory = int(self.options.memory_gib * 2**30)
        for name in (*self.backends, "reference"):
            family = name != "reference" and bool(registry.programs(name))
            self.workers[name] = WorkerHandle(name, self.options.timeout, memory, environment, family=family)
        total = len(self.todo) + len(self.to_time) + len(self.references)
        silent = not self.options.progress
        self.bar = tqdm(total=total, unit="cell", disable=silent, dynamic_ncols=True, smoothing=0.05)

    def end(self) -> None:
        """End the workers at once, whatever they do."""
        for handle in self.workers.values():
            handle.kill()

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
