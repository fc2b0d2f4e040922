"""What only explains a record: its loss at another scale, and where its error comes from."""

from __future__ import annotations

from crossbackend.errors import UserError
from crossbackend.flags import BELOW_ATOL_SHARE, below_atol
from crossbackend.record import Outcome, Record, Status, from_outcome
from crossbackend.study.cells import Cell
from crossbackend.study.pool import Failed
from crossbackend.study.state import Study


def explain(study: Study, cell: Cell, record: Record, outcome: Outcome, *, usual: bool) -> None:
    """Fill a record's `scaled` and `error_split` where they are asked for; a failure is their message.

    Parameters
    ----------
    outcome : Outcome
        What the record was made from.
    usual : bool
        Whether the plan's rtol stands for its sweep: the error of one plan a sweep is taken apart.
    """
    if record.status != Status.OK:
        return
    plan = cell.plan
    share = below_atol(record)
    if share is not None and share > BELOW_ATOL_SHARE:
        try:
            _scale(study, cell, record, outcome)
        except (Failed, UserError) as error:
            record.scaled = {"message": f"the scaled loss was not run: {error}"}
    if usual and plan.backend.partition(":")[0] == "scipy" and plan.stepping == "native":
        try:
            record.error_split = study.workers[plan.backend].ask(
                cell.problem, "error_split", plan=plan, outcome=outcome
            )
        except (Failed, UserError) as error:
            record.error_split = {"message": str(error)}


def _scale(study: Study, cell: Cell, record: Record, outcome: Outcome) -> None:
    """Run the plan with its loss scaled; keep its counts and, as arrays under `scaled/`, its gradient divided again."""
    plan = cell.plan
    factor, scaled = study.workers[plan.backend].ask(cell.problem, "scaled", plan=plan, ys=outcome.ys)
    if scaled is None:
        return
    other = from_outcome("", plan.as_dict(), scaled, {})
    message = "" if scaled.status == Status.OK else f"with the loss times {factor:.2g} it ended {scaled.status}"
    record.scaled = {
        "factor": factor, "status": str(scaled.status), "message": message, "forward": other.forward,
        "backward": other.backward if scaled.status == Status.OK else None, "below_atol": below_atol(other),
        "error": None,
    }  # fmt: skip
    record.arrays |= {f"scaled/{name}": array for name, array in other.gradient().items()}
