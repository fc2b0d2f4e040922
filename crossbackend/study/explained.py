"""What only explains a record: its loss at another scale, and where its error comes from."""

from __future__ import annotations

from collections.abc import Mapping

from crossbackend.errors import UserError
from crossbackend.flags import BELOW_ATOL_SHARE, below_atol
from crossbackend.plan import Plan
from crossbackend.record import Outcome, Record, Status, from_outcome
from crossbackend.study.bench import Bench
from crossbackend.study.cells import Cell
from crossbackend.study.pool import Failed


def asleep(record: Record) -> bool:
    """Whether error control on a_y is asleep, so that the loss at another scale is worth a solve."""
    share = below_atol(record)
    return share is not None and share > BELOW_ATOL_SHARE


def taken_apart(plan: Plan, usual: Mapping[tuple[str, ...], float]) -> bool:
    """Whether a plan's error is taken apart: native SciPy's backsolve, at the rtol that stands for its sweep."""
    native = plan.backend.partition(":")[0] == "scipy" and plan.stepping == "native" and plan.gradient == "backsolve"
    return native and usual.get(plan.sweep_key) == plan.rtol


def lacks(record: Record, plan: Plan, usual: Mapping[tuple[str, ...], float]) -> bool:
    """Whether a stored record lacks an explanation that it would be given now."""
    if record.status != Status.OK:
        return False
    return (asleep(record) and record.scaled is None) or (taken_apart(plan, usual) and record.error_split is None)


def explain(bench: Bench, cell: Cell, record: Record, outcome: Outcome) -> None:
    """Fill a record's `scaled` and `error_split` where they are asked for; a failure is their message.

    Parameters
    ----------
    outcome : Outcome
        What the record was made from.
    """
    if record.status != Status.OK:
        return
    plan = cell.plan
    if asleep(record):
        try:
            _scale(bench, cell, record, outcome)
        except (Failed, UserError) as error:
            record.scaled = {"message": f"the scaled loss was not run: {error}"}
    if taken_apart(plan, bench.usual):
        try:
            worker = bench.workers[plan.backend]
            record.error_split = worker.ask(cell.problem, "error_split", plan=plan, outcome=outcome)
        except (Failed, UserError) as error:
            record.error_split = {"message": str(error)}


def _scale(bench: Bench, cell: Cell, record: Record, outcome: Outcome) -> None:
    """Run the plan with its loss scaled; keep its counts and, as arrays under `scaled/`, its gradient divided again."""
    plan = cell.plan
    factor, scaled = bench.workers[plan.backend].ask(cell.problem, "scaled", plan=plan, ys=outcome.ys)
    if scaled is None:
        record.scaled = {"message": "the loss does not depend on the solution, so it has no other scale"}
        return
    other = from_outcome("", plan.as_dict(), scaled, {})
    message = "" if scaled.status == Status.OK else f"with the loss times {factor:.2g} it ended {scaled.status}"
    record.scaled = {
        "factor": factor, "status": str(scaled.status), "message": message, "forward": other.forward,
        "backward": other.backward if scaled.status == Status.OK else None, "below_atol": below_atol(other),
        "error": None,
    }  # fmt: skip
    record.arrays |= {f"scaled/{name}": array for name, array in other.gradient().items()}
