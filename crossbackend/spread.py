"""Mean and sample standard deviation over repeats, and whether a change is larger than that."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of n numbers; None where they cannot be had."""

    mean: float | None = None
    std: float | None = None
    n: int = 0


def spread(values: Iterable[float | None]) -> Spread:
    """Return mean and sample standard deviation of the numbers among the values."""
    known = np.array([float(v) for v in values if v is not None and math.isfinite(v)])
    if not known.size:
        return Spread()
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(np.mean(known))
        std = float(np.std(known, ddof=1)) if known.size > 1 else None
    return Spread(_finite(mean), _finite(std), int(known.size))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def within(change: float | None, spread: float | None) -> bool | None:
    """Whether a change is no larger than the spread over seeds; None where there is no spread to judge by."""
    return None if change is None or spread is None else abs(change) <= spread
