"""Hairer's choice of a first step, under a norm of one's own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def first_step(
    fun: Callable[[float, np.ndarray], np.ndarray],
    t0: float,
    y0: np.ndarray,
    f0: np.ndarray,
    direction: float,
    rtol: float,
    atol: float,
    norm: Callable[[np.ndarray], float],
    length: float,
) -> float:
    """Return Hairer's first step under a norm (Hairer, Norsett, Wanner, *Solving ODEs I*, section II.4).

    With `length` the interval's it is SciPy's own choice, which is clipped to the interval; with infinity it is
    torchdiffeq's.
    """
    scale = atol + np.abs(y0) * rtol
    d0, d1 = norm(y0 / scale), norm(f0 / scale)
    h0 = 1e-6 if d0 < 1e-5 or d1 < 1e-5 else 0.01 * d0 / d1
    h0 = min(h0, length)
    d2 = norm((fun(t0 + direction * h0, y0 + direction * h0 * f0) - f0) / scale) / h0
    largest = max(d1, d2)
    h1 = max(1e-6, h0 * 1e-3) if largest <= 1e-15 else (0.01 / largest) ** 0.2
    return min(100 * h0, h1, length)
