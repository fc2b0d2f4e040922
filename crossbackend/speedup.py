"""What a norm saves: cost at equal gradient error, and evaluations at equal tolerance beside it.

Fewer evaluations at equal tolerance may be bought with a larger error, so the fair question is what the same error
costs. A norm's plans over the tolerances give points (error, cost); between them the logarithm of the cost is taken to
be linear in the logarithm of the error, as work-precision diagrams are read, and two norms are compared over the errors
that both reach.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossbackend.record import Record, Status
from crossbackend.series import BACKSOLVE, InSeries, gradient_of, series_of

AT_FLOOR = 10.0
"""An error under this multiple of the reference's own uncertainty is shown as `at the floor`."""
Point = tuple[float, float]
"""A gradient error and what it cost."""
Cost = Callable[[Record], float | None]
"""What a record cost, None where that is not known."""


@dataclass(frozen=True)
class Saving(InSeries):
    """Backward evaluations that a norm saves against `default` at equal tolerance: the paper's figure of merit."""

    backend: str
    stepping: str
    norm: str
    rtol: float
    nfe: int
    nfe_default: int
    saved: float
    error: float | None
    error_default: float | None
    gradient: str = BACKSOLVE


@dataclass(frozen=True)
class SpeedUp(InSeries):
    """How many times less a norm costs than `default` at equal gradient error.

    Attributes
    ----------
    backend, stepping, norm : str
    cost : {"backward_nfe", "time"}
        Backward evaluations, or the median time of loss and gradient.
    factor : float or None
        Cost under `default` over cost under the norm: the geometric mean over the shared errors; above 1 the norm is
        the cheaper one. None where there is none, with the reason.
    low, high : float or None
        The smallest and the largest factor over the shared errors.
    errors : tuple of float, or None
        Smallest and largest gradient error that both reach.
    reason : str
        Why there is no factor.
    gradient : str
        Of both norms.
    """

    backend: str
    stepping: str
    norm: str
    cost: str
    factor: float | None = None
    low: float | None = None
    high: float | None = None
    errors: tuple[float, float] | None = None
    reason: str = ""
    gradient: str = BACKSOLVE


def front(points: Iterable[Point]) -> list[Point]:
    """Return the points that no other one beats in both error and cost, from the largest error to the smallest.

    A plan that costs more and errs more than another is no way to reach any error.
    """
    best: list[Point] = []
    for error, cost in sorted(points, key=lambda point: (point[1], point[0])):
        if not best or error < best[-1][0]:
            best.append((error, cost))
    return best


def equal_error(
    default: Sequence[Point], other: Sequence[Point], names: tuple[str, str] = ("default", "this norm")
) -> tuple[float, float, float, float, float] | str:
    """Compare two work-precision curves over the errors that both reach.

    Parameters
    ----------
    default, other : sequence of (error, cost)
        Positive; in any order.
    names : tuple of str
        What a reason calls them.

    Returns
    -------
    tuple of float, or str
        `(factor, low, high, smallest error, largest error)` with the factor cost(default) / cost(other), its geometric
        mean over the logarithm of the error and its extremes; or the reason why there is none.
    """
    curves = [front(points) for points in (default, other)]
    for name, curve in zip(names, curves, strict=True):
        if len(curve) < 2:
            return f"{name} has fewer than two plans on its curve of error against cost"
    ends = [(curve[-1][0], curve[0][0]) for curve in curves]
    low, high = max(end[0] for end in ends), min(end[1] for end in ends)
    if not low < high:
        spans = [f"{name} {a:.2g} to {b:.2g}" for name, (a, b) in zip(names, ends, strict=True)]
        return f"no error that both reach: {', '.join(spans)}"
    logs = [np.log(np.array(curve[::-1])) for curve in curves]
    at = np.unique(np.concatenate([[math.log(low), math.log(high)], *(log[:, 0] for log in logs)]))
    at = at[(at >= math.log(low)) & (at <= math.log(high))]
    gain = np.interp(at, logs[0][:, 0], logs[0][:, 1]) - np.interp(at, logs[1][:, 0], logs[1][:, 1])
    width = at[-1] - at[0]  # 0 for two errors whose logarithms are the same
    mean = float(np.trapezoid(gain, at) / width) if width else float(gain[0])
    return math.exp(mean), math.exp(gain.min()), math.exp(gain.max()), low, high


def total_nfe(record: Record) -> float | None:
    """Return evaluations of both passes, None where one is not known."""
    if not record.forward or not record.backward:
        return None
    return float(record.forward["nfe"] + record.backward["nfe"])


COSTS: dict[str, Cost] = {
    "backward_nfe": lambda record: (record.backward or {}).get("nfe"),
    "time": lambda record: (record.time or {}).get("median_s"),
}


def speedups(records: Sequence[Record], floor: float | None, unstable: set[str]) -> list[SpeedUp]:
    """Return the speed-up of every norm against `default` at equal gradient error, all else in the plan alike.

    Parameters
    ----------
    records : sequence of Record
        Of one problem.
    floor : float or None
        The reference's own uncertainty: errors under `AT_FLOOR` times it are left out.
    unstable : set of str
        Digests of records whose reverse solve is unstable; they are left out.
    """
    sweeps: dict[tuple[Any, ...], dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.status != Status.UNSUPPORTED:
            sweeps[sweep(record)][record.norm].append(record)
    found = []
    for by_norm in sweeps.values():
        default = by_norm.get("default")
        for norm, own in by_norm.items():
            if default and norm != "default":
                found += [_speedup(default, own, cost, floor, unstable) for cost in COSTS]
    return found


def sweep(record: Record, *but: str) -> tuple[Any, ...]:
    """Return what the plans of one curve have in common, the norm left out and what else is named."""
    plan = {name: value for name, value in record.plan.items() if name not in ("norm", "rtol", "atol", *but)}
    return (*plan.values(), float(f"{record.atol / record.rtol:.6g}"))


def _speedup(
    default: Sequence[Record], own: Sequence[Record], cost: str, floor: float | None, unstable: set[str]
) -> SpeedUp:
    first = own[0]
    cell, gradient = (first.backend, first.stepping, first.norm, cost), gradient_of(first.plan)
    found = compared(default, own, COSTS[cost], floor, unstable)
    if isinstance(found, str):
        return SpeedUp(*cell, reason=found, gradient=gradient)
    factor, low, high, smallest, largest = found
    return SpeedUp(*cell, factor, low, high, (smallest, largest), gradient=gradient)


def compared(
    default: Sequence[Record],
    own: Sequence[Record],
    cost: Cost,
    floor: float | None,
    unstable: set[str],
    names: tuple[str, str] = ("default", "this norm"),
) -> tuple[float, float, float, float, float] | str:
    """Compare two sweeps at equal gradient error: see `equal_error`; or say why they cannot be compared.

    Parameters
    ----------
    default, own : sequence of Record
        Neither is empty.
    cost : callable
    floor, unstable
        As for `speedups`.
    names : tuple of str
        What a reason calls them.
    """
    default, own = ([r for r in part if r.digest not in unstable] for part in (default, own))
    if not default or not own:
        return "the reverse solve is unstable: no tolerance buys a smaller error"
    theirs, ours = ([point for r in part if (point := _point(r, cost, floor))] for part in (default, own))
    return equal_error(theirs, ours, names) if theirs and ours else _lacking(default, own, cost)


def _point(record: Record, cost: Cost, floor: float | None) -> Point | None:
    error, spent = record.error.get("all"), cost(record)
    if record.status != Status.OK or not error or not spent or error < AT_FLOOR * (floor or 0.0):
        return None
    return float(error), float(spent)


def _lacking(default: Sequence[Record], own: Sequence[Record], cost: Cost) -> str:
    for records in (default, own):
        good = [record for record in records if record.status == Status.OK]
        if not good:
            return f"no plan under {series_of(records[0].plan)} finished"
        if all(record.error.get("all") is None for record in good):
            return "no reference, so no gradient error is known"
        if all(cost(record) is None for record in good):
            return "not timed" + (": matched plans are not" if good[0].stepping == "matched" else "")
    return "every error is at the reference's own floor"


def savings(records: Sequence[Record]) -> list[Saving]:
    """Return what every norm saves against `default` at equal tolerance, the rest of the plan alike."""
    whole = [r for r in records if r.status == Status.OK and (r.backward or {}).get("nfe")]
    default = {_but_norm(r): r for r in whole if r.norm == "default"}
    found = []
    for record in whole:
        base = default.get(_but_norm(record))
        if record.norm == "default" or base is None:
            continue
        nfe, nfe_default = int((record.backward or {})["nfe"]), int((base.backward or {})["nfe"])
        errors = record.error.get("all"), base.error.get("all")
        found.append(
            Saving(record.backend, record.stepping, record.norm, record.rtol, nfe, nfe_default,
                   1.0 - nfe / nfe_default, *errors, gradient_of(record.plan))
        )  # fmt: skip
    return found


def _but_norm(record: Record) -> tuple[Any, ...]:
    return tuple(value for name, value in record.plan.items() if name != "norm")
