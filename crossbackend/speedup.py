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

AT_FLOOR = 10.0
"""An error under this multiple of the reference's own uncertainty is shown as `at the floor`."""
Point = tuple[float, float]
"""A gradient error and what it cost."""


@dataclass(frozen=True)
class Saving:
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


@dataclass(frozen=True)
class SpeedUp:
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


def front(points: Iterable[Point]) -> list[Point]:
    """Return the points that no other one beats in both error and cost, from the largest error to the smallest.

    A plan that costs more and errs more than another is no way to reach any error.
    """
    best: list[Point] = []
    for error, cost in sorted(points, key=lambda point: (point[1], point[0])):
        if not best or error < best[-1][0]:
            best.append((error, cost))
    return best


def equal_error(default: Sequence[Point], other: Sequence[Point]) -> tuple[float, float, float, float, float] | str:
    """Compare two work-precision curves over the errors that both reach.

    Parameters
    ----------
    default, other : sequence of (error, cost)
        Positive; in any order.

    Returns
    -------
    tuple of float, or str
        `(factor, low, high, smallest error, largest error)` with the factor cost(default) / cost(other), its geometric
        mean over the logarithm of the error and its extremes; or the reason why there is none.
    """
    curves = [front(points) for points in (default, other)]
    for name, curve in zip(("default", "this norm"), curves, strict=True):
        if len(curve) < 2:
            return f"{name} has fewer than two plans on its curve of error against cost"
    ends = [(curve[-1][0], curve[0][0]) for curve in curves]
    low, high = max(end[0] for end in ends), min(end[1] for end in ends)
    if not low < high:
        spans = [f"{a:.2g} to {b:.2g}" for a, b in ends]
        return f"no error that both reach: default {spans[0]}, this norm {spans[1]}"
    logs = [np.log(np.array(curve[::-1])) for curve in curves]
    at = np.unique(np.concatenate([[math.log(low), math.log(high)], *(log[:, 0] for log in logs)]))
    at = at[(at >= math.log(low)) & (at <= math.log(high))]
    gain = np.interp(at, logs[0][:, 0], logs[0][:, 1]) - np.interp(at, logs[1][:, 0], logs[1][:, 1])
    width = at[-1] - at[0]  # 0 for two errors whose logarithms are the same
    mean = float(np.trapezoid(gain, at) / width) if width else float(gain[0])
    return math.exp(mean), math.exp(gain.min()), math.exp(gain.max()), low, high


COSTS: dict[str, Callable[[Record], float | None]] = {
    "backward_nfe": lambda record: (record.backward or {}).get("nfe"),
    "time": lambda record: (record.time or {}).get("median_s"),
}


def speedups(records: Sequence[Record], floor: float | None, unstable: set[str]) -> list[SpeedUp]:
    """Return the speed-up of every norm against `default` at equal gradient error, by backend and stepping.

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
            sweeps[_sweep(record)][record.norm].append(record)
    found = []
    for by_norm in sweeps.values():
        default = by_norm.get("default")
        for norm, own in by_norm.items():
            if default and norm != "default":
                found += [_speedup(default, own, cost, floor, unstable) for cost in COSTS]
    return found


def _sweep(record: Record) -> tuple[Any, ...]:
    """Return what the plans of one curve have in common, the norm left out."""
    plan = {name: value for name, value in record.plan.items() if name not in ("norm", "rtol", "atol")}
    return (*plan.values(), float(f"{record.atol / record.rtol:.6g}"))


def _speedup(
    default: Sequence[Record], own: Sequence[Record], cost: str, floor: float | None, unstable: set[str]
) -> SpeedUp:
    first = own[0]
    cell = (first.backend, first.stepping, first.norm, cost)
    default, own = ([r for r in part if r.digest not in unstable] for part in (default, own))
    if not default or not own:
        return SpeedUp(*cell, reason="the reverse solve is unstable: no tolerance buys a smaller error")
    curves = [[point for record in part if (point := _point(record, cost, floor))] for part in (default, own)]
    if not all(curves):
        return SpeedUp(*cell, reason=_lacking(default, own, cost))
    compared = equal_error(*curves)
    if isinstance(compared, str):
        return SpeedUp(*cell, reason=compared)
    factor, low, high, smallest, largest = compared
    return SpeedUp(*cell, factor, low, high, (smallest, largest))


def _point(record: Record, cost: str, floor: float | None) -> Point | None:
    error, spent = record.error.get("all"), COSTS[cost](record)
    if record.status != Status.OK or not error or not spent or error < AT_FLOOR * (floor or 0.0):
        return None
    return float(error), float(spent)


def _lacking(default: Sequence[Record], own: Sequence[Record], cost: str) -> str:
    for records in (default, own):
        good = [record for record in records if record.status == Status.OK]
        if not good:
            return f"no plan under {records[0].norm} finished"
        if all(record.error.get("all") is None for record in good):
            return "no reference, so no gradient error is known"
        if all(COSTS[cost](record) is None for record in good):
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
                   1.0 - nfe / nfe_default, *errors)
        )  # fmt: skip
    return found


def _but_norm(record: Record) -> tuple[Any, ...]:
    return tuple(value for name, value in record.plan.items() if name != "norm")
