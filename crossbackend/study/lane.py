"""One backend's counting runs, sweep by sweep; every cell becomes a record, whatever comes of it."""

from __future__ import annotations

import dataclasses

import numpy as np

from crossbackend import registry
from crossbackend.errors import UserError
from crossbackend.problem import Problem
from crossbackend.record import Outcome, Record, Status, from_outcome
from crossbackend.study.cells import Cell
from crossbackend.study.explained import explain
from crossbackend.study.pool import Failed
from crossbackend.study.state import Study


def run_lane(study: Study, backend: str) -> None:
    """Run a backend's cells that are to do, and compile the bare plans that will be timed."""
    wanted = study.todo | study.to_time
    for problem in study.problems:
        mine = [c for c in study.cells if c.problem is problem and c.plan.backend == backend and c.digest in wanted]
        lost = study.lost.get((problem.name, registry.get(backend).library))
        if not mine:
            continue
        if lost is not None:
            _lose(study, [cell for cell in mine if cell.digest in study.todo], lost)
            continue
        for sweep in _sweeps(study, problem, backend, mine):
            for cell in sweep:
                if cell.digest in study.todo:
                    _run(study, cell)
            _warm(study, sweep)


def _sweeps(study: Study, problem: Problem, backend: str, cells: list[Cell]) -> list[list[Cell]]:
    """Return the cells that the backend takes, by sweep; store a record of every other one."""
    try:
        reasons = study.workers[backend].ask(problem, "declines", plans=[cell.plan for cell in cells])
    except Failed as error:
        _lose(study, [cell for cell in cells if cell.digest in study.todo], error)
        return []
    sweeps: dict[tuple[str, ...], list[Cell]] = {}
    for cell, reason in zip(cells, reasons, strict=True):
        if reason is None:
            sweeps.setdefault(cell.plan.sweep_key, []).append(cell)
        elif cell.digest in study.todo:
            _keep(study, cell, Record(cell.digest, cell.plan.as_dict(), Status.UNSUPPORTED, reason))
    return list(sweeps.values())


def _lose(study: Study, cells: list[Cell], error: Failed) -> None:
    for cell in cells:
        _keep(study, cell, Record(cell.digest, cell.plan.as_dict(), error.status, error.message))


def _run(study: Study, cell: Cell) -> None:
    """Make one counting run, and measure what explains it."""
    plan = cell.plan
    try:
        outcome, settings = study.workers[plan.backend].ask(cell.problem, "record", plan=plan)
        outcome = checked(outcome)
        record = from_outcome(cell.digest, plan.as_dict(), outcome, settings)
        if study.options.explain:
            explain(study, cell, record, outcome)
    except Failed as error:
        record = Record(cell.digest, plan.as_dict(), error.status, error.message)
    except UserError as error:  # an operation that the lowering lacks, say
        record = Record(cell.digest, plan.as_dict(), Status.UNSUPPORTED, str(error))
    _keep(study, cell, record)


def checked(outcome: Outcome) -> Outcome:
    """Return the outcome, which is not `ok` where the solves ended but the loss or its gradient is not finite."""
    found = outcome.gradient
    if outcome.status != Status.OK or found is None:
        return outcome
    bad = [f"gradient/{name}" for name, array in found.arrays.items() if not np.isfinite(array).all()]
    bad = ["loss", *bad] if not np.isfinite(found.loss) else bad
    if not bad:
        return outcome
    message = f"both solves ended, but {', '.join(bad)} is not finite: look at the loss and at its derivative"
    return dataclasses.replace(outcome, status=Status.NAN_IN_FIELD, message=message)


def _keep(study: Study, cell: Cell, record: Record) -> None:
    study.keep(cell, record)
    study.tick(cell.plan.describe())


def _warm(study: Study, sweep: list[Cell]) -> None:
    """Compile and call the bare plan of a sweep that will be timed; the first call is told apart."""
    good = [c for c in sweep if c.digest in study.to_time and study.records[c.digest].status == Status.OK]
    if not good:
        return
    cell = good[0]
    try:
        study.warmed[cell.plan.sweep_key] = study.workers[cell.plan.backend].ask(cell.problem, "warm", plan=cell.plan)
    except (Failed, UserError) as error:
        for cell in good:
            not_timed(study, cell, error)


def not_timed(study: Study, cell: Cell, error: Failed | UserError) -> None:
    """Say in the record of a cell that could be counted but not timed what went wrong."""
    record = study.records[cell.digest]
    status = f"{error.status}: " if isinstance(error, Failed) else ""
    record.message = f"not timed: {status}{error}"
    study.keep(cell, record)
