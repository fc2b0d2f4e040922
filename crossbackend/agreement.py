"""Whether backends that ran the same plan agree: their gradients, and the steps they took."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from crossbackend.record import Record, Status, Steps, gradient_difference
from crossbackend.series import BACKSOLVE, InSeries, gradient_of

MATCHED_TOLERANCE = 1e-9
"""Largest relative difference of gradients that took the same steps."""
STEP_TOLERANCE = 1e-9
"""Largest difference of step ends, relative to the interval's length, of the same steps."""
_OF_THE_MACHINE = (Status.TIMEOUT, Status.OUT_OF_MEMORY, Status.CRASHED)
"""Statuses that say nothing about the gradient."""


@dataclass(frozen=True)
class Agreement(InSeries):
    """Whether the backends of one cell agree.

    Attributes
    ----------
    norm : str
    rtol, atol : float
    dtype : str
    backends : list of str
        Those with a gradient.
    max_relative_difference : float or None
        Largest `gradient_difference` over pairs; None with fewer than two gradients, or where one is not finite.
    worst_pair : list of str
    same_steps : bool
        The same sequence of accepted and rejected steps in both passes, every end within 1e-9 of the interval.
    rounding_floor : float or None
        What moving the stored solution by one ulp does to the gradient (matched stepping).
    unstable : bool
        Some backend's cell carries `backsolve_unstable`.
    verdict : {"pass", "unstable", "fail", "missing", "none"}
        `missing`: fewer than two gradients, or a backend that timed out, crashed or ran out of memory while the
        others agree. `none`: native stepping, where the steps differ and no difference is too large.
    gradient : str
        How all of them took it.
    """

    norm: str
    rtol: float
    atol: float
    dtype: str
    backends: list[str]
    max_relative_difference: float | None
    worst_pair: list[str]
    same_steps: bool
    rounding_floor: float | None
    unstable: bool
    verdict: str
    gradient: str = BACKSOLVE


def same_plan(record: Record) -> tuple[object, ...]:
    """Return what the plans of one cell have in common: all but the backend."""
    return tuple(value for name, value in record.plan.items() if name != "backend")


def agreements(records: Iterable[Record], stepping: str, span: float | None, flagged: set[str]) -> list[Agreement]:
    """Return the agreement of every cell of one stepping; declined plans have no place in it.

    Parameters
    ----------
    records : iterable of Record
        Of one problem.
    stepping : {"native", "matched"}
    span : float or None
        Length of the problem's interval; read off the steps where it is None.
    flagged : set of str
        Digests of the records whose reverse solve is unstable.
    """
    cells: dict[tuple[object, ...], list[Record]] = defaultdict(list)
    for record in records:
        if record.stepping == stepping and record.status != Status.UNSUPPORTED:
            cells[same_plan(record)].append(record)
    return [_agreement(cell, span, any(r.digest in flagged for r in cell)) for cell in cells.values()]


def _agreement(cell: list[Record], span: float | None, unstable: bool) -> Agreement:
    whole = [record for record in cell if record.status == Status.OK]
    worst, pair = None, []
    for a, b in combinations(whole, 2):
        difference = gradient_difference(a.gradient(), b.gradient())
        if worst is None or difference > worst:
            worst, pair = difference, [a.backend, b.backend]
    length = _span(whole) if span is None else span
    same = len(whole) >= 2 and all(same_steps(a, b, length) for a, b in combinations(whole, 2))
    floor = max((r.rounding_floor for r in whole if r.rounding_floor is not None), default=None)
    agree = worst is not None and worst <= MATCHED_TOLERANCE and same
    first = cell[0]
    return Agreement(
        first.norm, first.rtol, first.atol, first.dtype, [r.backend for r in whole],
        worst if worst is None or math.isfinite(worst) else None, pair, same, floor, unstable,
        _verdict(cell, agree, unstable), gradient_of(first.plan),
    )  # fmt: skip


def _verdict(cell: list[Record], agree: bool, unstable: bool) -> str:
    whole = [record for record in cell if record.status == Status.OK]
    rest = [record for record in cell if record.status != Status.OK]
    if agree and not rest:
        return "pass" if cell[0].stepping == "matched" else "none"
    if unstable:
        return "unstable"
    lost = all(record.status in _OF_THE_MACHINE for record in rest)
    if (agree and lost) or len(whole) < 2:
        return "missing"
    return "fail" if cell[0].stepping == "matched" else "none"


def _span(records: Sequence[Record]) -> float:
    ends = [float(np.ptp([s.t0, s.t1])) for r in records if (s := r.steps("forward")) is not None and len(s.t1)]
    return max(ends, default=1.0)


def same_steps(a: Record, b: Record, span: float) -> bool:
    """Whether two records took the same steps in both passes: see `Agreement.same_steps`."""
    return all(_same_pass(a.steps(which), b.steps(which), span) for which in ("forward", "backward"))


def _same_pass(a: Steps | None, b: Steps | None, span: float) -> bool:
    if a is None or b is None or not np.array_equal(a.accepted, b.accepted):
        return False
    ends_a, ends_b = a.t1[a.accepted], b.t1[b.accepted]
    return bool(np.all(np.abs(ends_a - ends_b) <= STEP_TOLERANCE * span))
