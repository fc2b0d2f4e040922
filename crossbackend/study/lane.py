"""On this machine: the counting runs, sweep by sweep, by as many processes as keep its cores busy; then the timing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

import psutil

from crossbackend import machine, registry
from crossbackend.errors import UserError
from crossbackend.record import Status
from crossbackend.study.bench import Bench, Place, worker
from crossbackend.study.cells import Cell
from crossbackend.study.line import Line
from crossbackend.study.pool import Failed
from crossbackend.study.state import Study
from crossbackend.study.sweep import count_sweep, failed, sweeps, warm
from crossbackend.study.timing import Timed, groups, time_in_turns

WORTH = 3
"""Sweeps that must wait for each process of a backend before another is started: that takes seconds."""


class Lanes:
    """What runs the cells of every backend, and the references, side by side.

    A backend's own process counts its sweeps and compiles the bare plans that will be timed. One backend takes longer
    than the others: a core that they leave idle gets another process for it, which counts.

    Parameters
    ----------
    study : Study
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        wanted = study.todo | study.to_time
        self.lines = [
            Line(backend, sweeps(c for c in study.cells if c.plan.backend == backend and c.digest in wanted))
            for backend in study.backends
        ]
        self.jobs = 1 if study.to_time else study.options.jobs
        self._busy, self._lock = 0, threading.Lock()

    def all(self, *others: Callable[[], None]) -> list[Callable[[], None]]:
        """Return what is to be called side by side: the lanes, and what else there is to do."""
        own = [partial(self._own, line) for line in self.lines]
        more = [partial(self._another, line) for line in self.lines for _ in range(self.jobs - 1)]
        found = [*own, *more, *others]
        self._busy = len(found)
        idle = max(0, machine.cores() - len(found))
        return [*(partial(self._then_help, job) for job in found), *(self._help for _ in range(idle))]

    def _then_help(self, job: Callable[[], None]) -> None:
        job()
        with self._lock:
            self._busy -= 1
        self._help()

    def _help(self) -> None:
        """Count for the backends that have most to do, as long as a core is idle and it pays."""
        while (line := self._join()) is not None:
            self._another(line)
            with self._lock:
                self._busy -= 1

    def _join(self) -> Line | None:
        """Return the line to help with; None where no process more would be of use, or has room."""
        with self._lock:
            line = max(self.lines, key=lambda line: line.share, default=None)
            room = psutil.virtual_memory().available > self.study.options.memory_gib * 2**30
            if line is None or line.share < WORTH or self._busy >= machine.cores() or not room:
                return None
            self._busy += 1
            return line

    def _own(self, line: Line) -> None:
        """Run a backend's sweeps in its own process, and compile there what will be timed, whoever counted it."""
        with line.hand():
            while line.wait():
                sweep = line.counted()
                if sweep is not None:
                    if lost_with(self.study, sweep[0]) is None:
                        _warm(self.study, sweep)
                    continue
                with line.to_count() as sweep:
                    if sweep is not None:
                        _count(self.study, self.study, sweep)

    def _another(self, line: Line) -> None:
        """Count a backend's sweeps in another process, until none waits."""
        with line.hand():
            handle = None
            while True:
                with line.to_count() as sweep:
                    if sweep is None:
                        break
                    if handle is None:
                        handle = worker(line.backend, self.study.options, self.study.choice.device)
                        self.study.more.append(handle)
                    place = Place({line.backend: handle}, self.study.options, self.study.usual)
                    _count(self.study, place, sweep)
            if handle is not None:
                handle.kill()  # its memory is wanted for the rest


def _count(study: Study, bench: Bench, sweep: Sequence[Cell]) -> None:
    """Make the counting runs of a sweep that are to do."""
    todo = [cell for cell in sweep if cell.digest in study.todo]
    if not todo:
        return
    lost = lost_with(study, sweep[0])
    for record in count_sweep(bench, todo) if lost is None else failed(todo, lost):
        study.counted(record)


def lost_with(study: Study, cell: Cell) -> Failed | None:
    """Return why a cell's problem cannot be run: its functions are mistaken, or brought the worker down when tried."""
    if cell.plan.problem in study.mistaken:
        mistakes = "\n".join(map(str, study.mistaken[cell.plan.problem]))
        return Failed(Status.UNSUPPORTED, mistakes)
    return study.lost.get((cell.plan.problem, registry.get(cell.plan.backend).library))


def _warm(study: Study, sweep: list[Cell]) -> None:
    """Compile and call the bare plan of a sweep that will be timed; the first call is told apart."""
    good = to_be_timed(study, sweep)
    if not good:
        return
    try:
        study.warmed[good[0].plan.sweep_key] = warm(study, good[0])
    except (Failed, UserError) as error:
        for cell in good:
            study.note(cell.digest, Timed.not_timed(error))


def to_be_timed(study: Study, cells: list[Cell]) -> list[Cell]:
    """Return the cells that are to be timed and were counted."""
    return [c for c in cells if c.digest in study.to_time and study.records[c.digest].status == Status.OK]


def time_cells(study: Study) -> None:
    """Time every native plan that ended ok and has no time yet, and store its record again."""
    ready = {cell.digest for cell in to_be_timed(study, study.cells) if cell.plan.sweep_key in study.warmed}
    study.skipped(cell for cell in study.cells if cell.digest in study.to_time - ready)
    for group in groups(cell for cell in study.cells if cell.digest in ready):
        for digest, timed in time_in_turns(study, group, study.warmed).items():
            study.timed(digest, timed)
