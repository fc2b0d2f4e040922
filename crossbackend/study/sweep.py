"""One sweep's counting runs, here or on a cluster's worker; every cell becomes a record, whatever comes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from crossbackend import machine, registry
from crossbackend.errors import UserError
from crossbackend.record import Outcome, Record, Status, from_outcome
from crossbackend.study.bench import Bench
from crossbackend.study.cells import Cell
from crossbackend.study.explained import explain
from crossbackend.study.pool import Failed


def sweeps(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Return cells by sweep, in the order in which they first come."""
    found: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.plan.sweep_key, []).append(cell)
    return list(found.values())


def count_sweep(bench: Bench, cells: Sequence[Cell]) -> Iterator[Record]:
    """Make the counting runs of one sweep's cells; yield a record a cell, in their order.

    Raises
    ------
    UserError
        For a problem that cannot reach the worker process, or is another one there.
    """
    versions = registry.versions(cells[0].plan.backend)
    try:
        worker = bench.workers[cells[0].plan.backend]
        reasons = worker.ask(cells[0].problem, "declines", plans=[cell.plan for cell in cells])
    except Failed as error:
        yield from failed(cells, error)
        return
    for cell, reason in zip(cells, reasons, strict=True):
        if reason is None:
            record = _count(bench, cell)
        else:
            record = Record(cell.digest, cell.plan.as_dict(), Status.UNSUPPORTED, reason)
        record.machine, record.versions = machine.facts(), versions
        yield record


def failed(cells: Sequence[Cell], error: Failed) -> Iterator[Record]:
    """Yield the records of cells that were not run, for a reason they share."""
    for cell in cells:
        record = Record(cell.digest, cell.plan.as_dict(), error.status, error.message)
        record.machine, record.versions = machine.facts(), registry.versions(cell.plan.backend)
        yield record


def _count(bench: Bench, cell: Cell) -> Record:
    """Make one counting run, and measure what explains it."""
    plan = cell.plan
    try:
        outcome, settings = bench.workers[plan.backend].ask(cell.problem, "record", plan=plan)
        outcome = checked(outcome)
        record = from_outcome(cell.digest, plan.as_dict(), outcome, settings)
        if bench.options.explain:
            explain(bench, cell, record, outcome)
    except Failed as error:
        return Record(cell.digest, plan.as_dict(), error.status, error.message)
    except UserError as error:  # an operation that the lowering lacks, say
        return Record(cell.digest, plan.as_dict(), Status.UNSUPPORTED, str(error))
    return record


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


def warm(bench: Bench, cell: Cell) -> dict[str, Any]:
    """Compile and call the bare plan of a cell's sweep; return the seconds of both.

    Raises
    ------
    Failed, UserError
    """
    return bench.workers[cell.plan.backend].ask(cell.problem, "warm", plan=cell.plan)
