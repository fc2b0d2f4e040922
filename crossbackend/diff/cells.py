"""The cells of two runs, paired by their plan: what became of each result, and of its time."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from crossbackend.agreement import MATCHED_TOLERANCE
from crossbackend.compare import Comparison
from crossbackend.diff.parts import LEAST_REPEATS, Alone, BackendTimes, CellChange, Cells, TimeChange
from crossbackend.flags import is_unstable
from crossbackend.record import Record, Status, gradient_difference
from crossbackend.speedup import AT_FLOOR
from crossbackend.store import PLAN_FIELDS

ROUNDING = {"float64": MATCHED_TOLERANCE, "float32": 1e-4}
"""Gradients and losses that differ by no more are alike up to rounding, by dtype."""
ALIKE = 1.1
"""Gradient errors, and reconstruction errors, whose ratio is within this factor are alike."""
TINY = 1e-12
"""A reconstruction error up to this is rounding, and so is a difference of two reference gradients."""
COUNTS = tuple((which, count) for which in ("forward", "backward") for count in ("nfe", "accepted", "rejected"))

Key = tuple[Any, ...]
Pair = tuple[Record, Record]
Two = tuple[float | None, float | None]


def key(record: Record) -> Key:
    """Return what tells the cells of a run apart."""
    return tuple(record.plan.get(name) for name in PLAN_FIELDS)


def _first(run: Comparison) -> dict[Key, Record]:
    """Return a run's records by cell; of two of one plan, which only a run put together by hand has, the first."""
    found: dict[Key, Record] = {}
    for record in run.records:
        found.setdefault(key(record), record)
    return found


def paired(a: Comparison, b: Comparison) -> list[Pair]:
    """Return the records of the cells that both runs hold, in A's order."""
    other = _first(b)
    return [(record, other[cell]) for cell, record in _first(a).items() if cell in other]


def alone(run: Comparison, other: Comparison) -> list[Alone]:
    """Return the cells of a run that the other one lacks, by problem and backend."""
    there = _first(other)
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for cell, record in _first(run).items():
        if cell not in there:
            found[record.problem, record.backend].append(record.plan)
    return [Alone(*names, plans) for names, plans in found.items()]


def change(a: Record, b: Record, *, expected: bool) -> CellChange:
    """Return what became of a cell; what is more than rounding stands in its `changed`."""
    limit = ROUNDING.get(a.plan["dtype"], MATCHED_TOLERANCE)
    finished = a.status == b.status == Status.OK
    gradient, incomparable = gradients(a.gradient(), b.gradient()) if finished else (None, "")
    loss = number(a.loss), number(b.loss)
    error = number(a.error.get("all")), number(b.error.get("all"))
    ratio = _ratio(error, [AT_FLOOR * (number(r.error.get("floor")) or 0.0) for r in (a, b)])
    missed = number(a.reconstruction_error), number(b.reconstruction_error)
    counts = _counts(a, b) if a.status == b.status else {}
    found = {
        "status": a.status != b.status,
        "counts": bool(counts),
        "gradient": bool(incomparable) or (gradient or 0.0) > limit,
        "loss": finished and _apart(loss) > limit,
        "error": ratio is not None and not _alike(ratio),
        "reconstruction": _missed_otherwise(missed),
    }
    return CellChange(
        a.plan, (str(a.status), str(b.status)), counts, gradient, incomparable, loss, error, ratio, missed,
        changed=[name for name, is_so in found.items() if is_so],
        unstable=is_unstable(a) or is_unstable(b), expected=expected,
    )  # fmt: skip


def number(value: Any) -> float | None:
    """Return a finite number as a float, None for anything else."""
    known = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return float(value) if known and math.isfinite(value) else None


def _alike(ratio: float) -> bool:
    return 1 / ALIKE <= ratio <= ALIKE


def _ratio(values: Two, least: Sequence[float] = (0.0, 0.0)) -> float | None:
    """Return B's value over A's, None where one is not known, not positive or under the least that means anything."""
    a, b = values
    if a is None or b is None or a <= 0 or b <= 0 or a < least[0] or b < least[1]:
        return None
    return b / a


def _missed_otherwise(values: Two) -> bool:
    a, b = values
    if a is None or b is None or max(a, b) <= TINY:
        return False
    return not _alike(_ratio(values) or math.inf)


def _apart(values: Two) -> float:
    """Return how far two numbers are apart, relative to the larger one; infinite where one is not there."""
    a, b = values
    if a is None or b is None:
        return 0.0 if a == b else math.inf
    return abs(a - b) / max(abs(a), abs(b)) if a != b else 0.0


def _counts(a: Record, b: Record) -> dict[str, tuple[int, int]]:
    found = {}
    for which, name in COUNTS:
        then, now = ((getattr(record, which) or {}).get(name) for record in (a, b))
        if isinstance(then, int) and isinstance(now, int) and then != now:
            found[f"{which} {name}"] = then, now
    return found


def gradients(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> tuple[float | None, str]:
    """Return the difference of two gradients, the same whichever comes first, or why there is none."""
    said = _incomparable(a, b)
    if said or not a:
        return None, said
    with np.errstate(all="ignore"):
        found = max(gradient_difference(dict(a), dict(b)), gradient_difference(dict(b), dict(a)))
    return (found, "") if math.isfinite(found) else (None, "their difference is too large to be computed")


def _incomparable(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> str:
    """Say why two gradients cannot be compared, leaf by leaf; empty where they can."""
    said = [
        f"{_leaves(sorted(lost))} missing in {name}"
        for name, lost in (("A", set(b) - set(a)), ("B", set(a) - set(b)))
        if lost
    ]
    for leaf in sorted(set(a) & set(b)):
        if a[leaf].shape != b[leaf].shape:
            said.append(f"{leaf} has shape {a[leaf].shape} in A and {b[leaf].shape} in B")
        said += [f"{leaf} is not finite in {name}" for name, own in (("A", a), ("B", b)) if not _finite(own[leaf])]
    return "; ".join(said)


def _leaves(names: Sequence[str]) -> str:
    return f"{names[0]} is" if len(names) == 1 else f"{names[0]} and {len(names) - 1} more are"


def _finite(array: np.ndarray) -> bool:
    return bool(np.isfinite(array).all())


def counted(cells: Sequence[CellChange]) -> Cells:
    """Return how many cells are the same, alike up to rounding, changed, and unfinished in both runs."""
    quiet = [cell for cell in cells if not cell.changed]
    whole = [cell for cell in quiet if cell.status[0] == Status.OK]
    same = sum(cell.same for cell in whole)
    largest = max((cell.gradient or 0.0 for cell in whole), default=0.0)
    return Cells(len(cells), same, len(whole) - same, len(cells) - len(quiet), len(quiet) - len(whole), largest)


def timed(run: Comparison) -> int:
    """Return how many records of a run have a time."""
    return sum(_time(record, "median_s") is not None for record in run.records)


def _time(record: Record, name: str) -> float | None:
    found = number((record.time or {}).get(name))
    return found if found is not None and found > 0 else None


def times(pairs: Iterable[Pair]) -> list[TimeChange]:
    """Return the times of the cells that both runs timed, the largest change first."""
    found = []
    for a, b in pairs:
        then, now = _time(a, "median_s"), _time(b, "median_s")
        if then is not None and now is not None:
            found.append(TimeChange(a.plan, (then, now), now / then, _verdict(a, b)))
    return sorted(found, key=lambda row: -abs(math.log(row.ratio)))


def _verdict(a: Record, b: Record) -> str:
    ends = [_time(record, name) for record in (a, b) for name in ("q1_s", "q3_s")]
    repeats = [number((record.time or {}).get("repeats")) or 0 for record in (a, b)]
    low_a, high_a, low_b, high_b = ends
    if low_a is None or high_a is None or low_b is None or high_b is None or min(repeats) < LEAST_REPEATS:
        return "unknown"
    return "slower" if low_b > high_a else "faster" if high_b < low_a else "within"


def by_backend(rows: Iterable[TimeChange], pairs: Iterable[Pair]) -> list[BackendTimes]:
    """Return the times by backend: the ratio's median is taken of its logarithm, so that B over A mirrors A over B."""
    own: dict[str, list[TimeChange]] = defaultdict(list)
    for row in rows:
        own[row.plan["backend"]].append(row)
    other = {a.backend for a, b in pairs if a.versions != b.versions or not a.versions}
    found = []
    for backend, cells in sorted(own.items()):
        ratios = [cell.ratio for cell in cells]
        middle = math.exp(float(np.median(np.log(ratios))))
        verdicts = [cell.verdict for cell in cells]
        counts = (verdicts.count(name) for name in ("slower", "faster", "within", "unknown"))
        spread = (len(cells), middle, min(ratios), max(ratios))
        found.append(BackendTimes(backend, *spread, *counts, same_versions=backend not in other))
    return found
