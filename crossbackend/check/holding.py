"""One cell held against the same cell of a baseline: what is wrong, what is better, the figure that decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from crossbackend.record import Status
from crossbackend.speedup import AT_FLOOR

PLAN = ("backend", "norm", "stepping", "gradient", "dtype", "device", "rtol", "atol", "first_step")
"""What tells the cells of a problem apart."""
COUNTS = ("nfe", "accepted", "rejected")
_DEFAULTS = {"gradient": "backsolve", "dtype": "float64", "device": "cpu"}
NFE_FACTOR = 1.05
"""Evaluations of a native solve may be this many times the baseline's, and `NFE_MORE` beside."""
NFE_MORE = 2
ERROR_FACTOR = 2.0
"""A gradient's error may be this many times the baseline's."""
LEAST_ERROR = 1e-12
"""An error up to this is rounding and never judged."""
_SAME = 1e-9
"""Errors are stored to three digits; this much beyond a bound is the rounding of that."""

Key = tuple[Any, ...]


def key(cell: Mapping[str, Any]) -> Key:
    """Return what tells a cell of a problem apart: its plan, in the order of `PLAN`."""
    return tuple(_DEFAULTS.get(name) if cell.get(name) is None else cell[name] for name in PLAN)


@dataclass
class Held:
    """What became of a cell.

    Attributes
    ----------
    then, now : mapping
        The cell in the baseline and in the run: see `baseline.taken`.
    wrong, better : list of str
        What changed for the worse, a phrase each, and what for the better.
    grew : bool
        Whether the gradient's error is above its bound.
    worst : tuple of two floats, or None
        The figure that is furthest beyond its limit, or came nearest to it, and the limit.
    """

    then: Mapping[str, Any]
    now: Mapping[str, Any]
    wrong: list[str] = field(default_factory=list)
    better: list[str] = field(default_factory=list)
    grew: bool = False
    worst: tuple[float, float] | None = None

    def figure(self, value: float, limit: float) -> None:
        """Keep a figure and its limit where it is nearer to it, or further beyond, than any so far."""
        if limit > 0 and (self.worst is None or value / limit > self.worst[0] / self.worst[1]):
            self.worst = (value, limit)


def held(then: Mapping[str, Any], now: Mapping[str, Any], floor: Any) -> Held:
    """Hold a cell against the baseline's.

    Matched: status and every count are the same. Native: evaluations at most 1.05 times and 2 more. Both: the
    gradient's error at most twice, and one under ten times the reference's floor, or 1e-12, is not judged.

    Parameters
    ----------
    then, now : mapping
        As in `baseline.taken`.
    floor : float or None
        What the reference's own two routes differ by.
    """
    result = Held(then, now)
    exact = then["stepping"] == "matched"
    if then["status"] != now["status"]:
        said = f"status {then['status']} -> {now['status']}"
        (result.better if now["status"] == Status.OK and not exact else result.wrong).append(said)
        return result
    for which, name, before, after in _counts(then, now):
        if exact:
            _exact(result, f"{which} {name}", before, after)
        elif name == "nfe":
            _bounded(result, which, before, after)
    _error(result, floor)
    return result


def _counts(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str, int | None, int | None]]:
    for which in ("forward", "backward"):
        before, after = then.get(which) or {}, now.get(which) or {}
        for name in COUNTS:
            if before.get(name) is not None or after.get(name) is not None:
                yield which, name, before.get(name), after.get(name)


def _exact(result: Held, what: str, before: int | None, after: int | None) -> None:
    if before != after:
        result.wrong.append(f"{what} {_shown(before)} -> {_shown(after)}, must be the same")
    if before is not None and after is not None:
        result.figure(after, before)


def _bounded(result: Held, which: str, before: int | None, after: int | None) -> None:
    if before is None or after is None:
        result.wrong.append(f"{which} nfe {_shown(before)} -> {_shown(after)}")
        return
    limit = NFE_FACTOR * before + NFE_MORE
    result.figure(after, limit)
    if after > limit:
        result.wrong.append(f"{which} nfe {before} -> {after}, at most {limit:g}")
    elif after < before:
        result.better.append("fewer evaluations")


def _error(result: Held, floor: Any) -> None:
    before, after = result.then.get("error"), result.now.get("error")
    if before is None:
        return
    if after is None:
        result.wrong.append(f"the gradient's error was {before:.3g} and is not known now")
        return
    known = isinstance(floor, (int, float)) and floor > 0
    limit = max(ERROR_FACTOR * before, AT_FLOOR * floor if known else 0.0, LEAST_ERROR)
    result.figure(after, limit)
    if after > limit * (1 + _SAME):
        result.grew = True
        result.wrong.append(f"gradient error {before:.3g} -> {after:.3g}, at most {limit:.3g}")
    elif ERROR_FACTOR * after < before and before > max(AT_FLOOR * floor if known else 0.0, LEAST_ERROR):
        result.better.append("smaller errors")


def _shown(value: int | None) -> str:
    return "none" if value is None else str(value)
