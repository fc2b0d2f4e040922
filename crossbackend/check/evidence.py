"""What the records of one problem show of each backend: whether its error falls, and what of it is wrong.

A sweep is the cells of one backend under one norm and stepping, at all tolerances.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossbackend.compare import ProblemComparison
from crossbackend.flags import is_unstable
from crossbackend.record import Record, Status, relative_error

RATE = 0.5
"""Least exponent p of error ~ rtol^p that counts as falling: per-step control gives about 0.8 to 1 (Hairer, Norsett,
Wanner, Solving ODEs I, II.4), an undeclared kink less."""
GOOD = 100.0
"""An error under this multiple of rtol is as small as asked for, however it got there."""
SLOW = 1000.0
"""One under this multiple that does not fall is slow, not wrong."""
AT_FLOOR = 10.0
EXCUSES = ("backsolve_unstable", "integral_uncontrolled")
"""Flags that say of a gradient that no tolerance makes it right, though the backend does what it was asked."""


@dataclass(frozen=True)
class Sweep:
    """The cells of one backend under one norm and stepping that ended well, by falling rtol.

    Attributes
    ----------
    backend, norm, stepping : str
    records : list of Record
    errors : list of float
        Of the gradient, relative to the reference, by record; NaN where there is no reference.
    losses : list of float
        |loss - reference| relative to the reference's size, or to 1 where that is smaller; NaN likewise.
    floor : float
        What the reference itself may err.
    excuse : str
        The first of `EXCUSES` that is raised for one of the cells, or empty.
    """

    backend: str
    norm: str
    stepping: str
    records: list[Record]
    errors: list[float]
    losses: list[float]
    floor: float
    excuse: str

    @property
    def tightest(self) -> Record:
        """The record of the smallest rtol."""
        return self.records[-1]

    @property
    def rate(self) -> float | None:
        """The exponent p of error ~ rtol^p between the loosest and the tightest cell; None with fewer than two."""
        return _rate(self.errors, [record.rtol for record in self.records])

    @property
    def converges(self) -> bool:
        """Whether the gradient's error falls, or is as small as can be asked for."""
        return _falls(self.errors, [record.rtol for record in self.records], self.floor)

    @property
    def slow(self) -> bool:
        """Whether an error that does not fall is small all the same."""
        return bool(self.errors[-1] <= SLOW * self.tightest.rtol)

    @property
    def loss_converges(self) -> bool:
        """Whether the loss comes to the reference's."""
        return _falls(self.losses, [record.rtol for record in self.records], self.floor)


def _rate(errors: Sequence[float], rtols: Sequence[float]) -> float | None:
    if len(errors) < 2 or not all(math.isfinite(e) and e > 0 for e in (errors[0], errors[-1])):
        return None
    return math.log(errors[0] / errors[-1]) / math.log(rtols[0] / rtols[-1])


def _falls(errors: Sequence[float], rtols: Sequence[float], floor: float) -> bool:
    if errors[-1] <= max(GOOD * rtols[-1], AT_FLOOR * floor):
        return True
    rate = _rate(errors, rtols)
    return rate is not None and rate >= RATE


def sweeps(item: ProblemComparison) -> list[Sweep]:
    """Return the sweeps of a problem that have a record that ended well."""
    cells: dict[tuple[str, str, str], list[Record]] = {}
    for record in item.records:
        if record.status == Status.OK:
            cells.setdefault((record.norm, record.stepping, record.backend), []).append(record)
    return [_sweep(item, sorted(records, key=lambda r: -r.rtol)) for records in cells.values()]


def _sweep(item: ProblemComparison, records: list[Record]) -> Sweep:
    truth = reference_gradient(item)
    loss = item.reference.get("loss")
    first = records[0]
    errors, losses = [], []
    for record in records:
        error = relative_error(record.gradient(), truth) if truth else None
        errors.append(math.nan if error is None else error)
        off = math.nan if loss is None or record.loss is None else abs(record.loss - loss) / max(abs(loss), 1e-3)
        losses.append(off)
    floor = item.reference.get("floor") or 0.0
    return Sweep(first.backend, first.norm, first.stepping, records, errors, losses, floor, _excuse(item, records))


def _excuse(item: ProblemComparison, records: Iterable[Record]) -> str:
    first, *_ = records = list(records)
    if any(is_unstable(record) for record in records):
        return "backsolve_unstable"
    raised = {
        flag.name
        for flag in item.flags
        if (flag.backend, flag.norm, flag.stepping) == (first.backend, first.norm, first.stepping)
    }
    return next((name for name in EXCUSES if name in raised), "")


def reference_gradient(item: ProblemComparison) -> dict[str, np.ndarray]:
    """Return the reference gradient by leaf; empty where there is none that is believed."""
    if item.reference.get("status") not in ("exact", "ok"):
        return {}
    arrays: Mapping[str, Any] = item.reference.get("arrays") or {}
    return {name.removeprefix("gradient/"): a for name, a in arrays.items() if name.startswith("gradient/")}


@dataclass(frozen=True)
class Worst:
    """The leaf in which two gradients differ most, and its entry that does.

    Attributes
    ----------
    leaf : str
    difference : float
        |a - b| / max(|a|, 1e-3 |g|) over the leaf, 2-norms, as `record.gradient_difference`.
    index : tuple of int
    values : tuple of float
    """

    leaf: str
    difference: float
    index: tuple[int, ...]
    values: tuple[float, float]

    @property
    def entry(self) -> str:
        """The leaf with its entry: `params/w[0, 1]`."""
        return f"{self.leaf}[{', '.join(map(str, self.index))}]" if self.index else self.leaf


def worst_leaf(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> Worst | None:
    """Return the worst leaf of two gradients; None where they share none of one shape."""
    whole = math.sqrt(sum(float(np.sum(np.square(array.astype(float)))) for array in b.values()))
    found = [
        _worst(name, a[name].astype(float), b[name].astype(float), whole)
        for name in b
        if name in a and a[name].shape == b[name].shape and b[name].size
    ]
    return max(found, key=lambda worst: worst.difference, default=None)


def _worst(name: str, a: np.ndarray, b: np.ndarray, whole: float) -> Worst:
    apart = np.abs(a - b)
    at = np.unravel_index(int(np.argmax(apart)), apart.shape) if apart.shape else ()
    scale = max(float(np.linalg.norm(np.ravel(b))), 1e-3 * whole)
    size = float(np.linalg.norm(np.ravel(a - b)))
    return Worst(name, size / scale if scale > 0 else size, tuple(map(int, at)), (float(a[at]), float(b[at])))


def wrong_leaves(found: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray], limit: float) -> list[str]:
    """Return the leaves whose own relative error is above a limit."""
    whole = math.sqrt(sum(float(np.sum(np.square(array))) for array in truth.values()))
    return [
        name
        for name, array in truth.items()
        if name not in found
        or found[name].shape != array.shape
        or not _worst(name, found[name].astype(float), array.astype(float), whole).difference <= limit
    ]


def factor(found: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray], leaves: Sequence[str]) -> float | None:
    """Return c where all these leaves are c times the truth but for a tenth of what they are off; else None."""
    a = np.concatenate([np.ravel(found[name]) for name in leaves if name in found] or [np.zeros(0)])
    b = np.concatenate([np.ravel(truth[name]) for name in leaves if name in found] or [np.zeros(0)])
    size = float(b @ b)
    if size == 0 or a.size != b.size:
        return None
    c = float(a @ b) / size
    off, left = float(np.linalg.norm(a - b)), float(np.linalg.norm(a - c * b))
    return c if left <= 0.1 * off else None


def outputs(record: Record) -> dict[str, np.ndarray]:
    """Return the forward solution at the output times by entry, leading axis len(ts)."""
    return {name: array for name, array in record.arrays.items() if name.split("/")[:2] == ["forward", "ys"]}


def apart(a: Record, b: Record, *, first: bool = False) -> float:
    """Return how far two forward solutions are apart at the output times (the first alone), relative to their size."""
    ours, theirs = outputs(a), outputs(b)
    if set(ours) != set(theirs) or any(ours[name].shape != theirs[name].shape for name in ours):
        return math.inf
    scale = max((float(np.max(np.abs(array), initial=0.0)) for array in theirs.values()), default=0.0)
    rows = slice(0, 1) if first else slice(None)
    most = max((float(np.max(np.abs(ours[n][rows] - theirs[n][rows]), initial=0.0)) for n in ours), default=0.0)
    return most / scale if scale > 0 else most
