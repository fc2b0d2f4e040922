"""On this machine: one backend's counting runs, sweep by sweep, and the timing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from crossbackend import registry
from crossbackend.errors import UserError
from crossbackend.record import Status
from crossbackend.study.bench import Bench, Place, worker
from crossbackend.study.cells import Cell
from crossbackend.study.pool import Failed
from crossbackend.study.state import Study
from crossbackend.study.sweep import count_sweep, failed, sweeps, warm
from crossbackend.study.timing import Timed, groups, time_in_turns


def lanes(study: Study) -> list[Callable[[], None]]:
    """Return what runs the cells of every backend, to be called side by side; several a backend with `jobs`."""
    jobs = 1 if study.to_time else study.options.jobs
    found = []
    for backend in study.backends:
        wanted = study.todo | study.to_time
        every = sweeps(c for c in study.cells if c.plan.backend == backend and c.digest in wanted)
        for turn in range(min(jobs, len(every))):
            bench: Bench = study
            if turn:
                another = worker(backend, study.options, study.choice.device)
                study.more.append(another)
                bench = Place({backend: another}, study.options, study.usual)
            found.append(partial(run_lane, study, bench, every[turn::jobs]))
    return found


def run_lane(study: Study, bench: Bench, every: Sequence[list[Cell]]) -> None:
    """Run the cells of some sweeps that are to do, and compile the bare plans that will be timed."""
    for sweep in every:
        todo = [cell for cell in sweep if cell.digest in study.todo]
        lost = lost_with(study, sweep[0])
        if todo:
            for record in count_sweep(bench, todo) if lost is None else failed(todo, lost):
                study.counted(record)
        if lost is None:
            _warm(study, sweep)


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
