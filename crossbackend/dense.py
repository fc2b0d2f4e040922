"""Dormand-Prince's dense output: from the slopes of one step, seen from outside a solver, and of a stored solution."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.integrate import RK45

STAGES = 7


class DenseStep:
    """Collects the slopes of the current step of a first-same-as-last solver and evaluates its quartic.

    Call `stage` for every evaluation of the field, `begin` when an attempt begins and `reject` when it is
    rejected. The first evaluation before the first `begin` is the slope at the start; further ones before it are
    the probe of the first-step selection and are forgotten.
    """

    def __init__(self) -> None:
        self.first: np.ndarray | None = None
        self.slopes: list[np.ndarray] = []
        self.begun = False

    def stage(self, slope: np.ndarray) -> None:
        """Note the slope of one evaluation."""
        if self.first is None:
            self.first = slope
        elif self.begun:
            self.slopes.append(slope)

    def begin(self) -> None:
        """Note that an attempt begins: the last slope of an accepted step is the first of the next."""
        if self.begun and self.slopes:
            self.first = self.slopes[-1]
        self.begun, self.slopes = True, []

    def reject(self) -> None:
        """Forget the slopes of an attempt."""
        self.slopes = []

    def evaluate(self, t0: float, t1: float, y0: np.ndarray, t: float) -> np.ndarray:
        """Return y(t) of the step from (t0, y0) to t1, shape (n,).

        The quartic is the one of torchdiffeq, diffrax and `RK45.P`.
        """
        assert self.first is not None
        k = np.stack([self.first, *self.slopes[: STAGES - 1]])
        x = (t - t0) / (t1 - t0)
        return y0 + (t1 - t0) * (k.T @ RK45.P @ np.array([x, x**2, x**3, x**4]))


Piece = tuple[float, float, np.ndarray, np.ndarray]
"""One step's dense output: its start, its length, y there (n,), and the quartic's coefficients (n, 4)."""


class Stored:
    """A solution between its steps, by the quartics of SciPy's own dense output.

    Their coefficients are read once, for one time is asked for at each evaluation of an adjoint, and `OdeSolution`
    takes longer to find and call an interpolant than a small field takes.

    Parameters
    ----------
    interpolants : sequence of RkDenseOutput
        Of one solve forwards in time, in the order of its steps.
    """

    def __init__(self, interpolants: Sequence[Any]) -> None:
        self.pieces = [piece(interpolant) for interpolant in interpolants]
        self.ends = [t_old + h for t_old, h, _, _ in self.pieces]

    def __call__(self, t: float) -> np.ndarray:
        """Return y(t), shape (n,)."""
        return evaluate(self.pieces[min(bisect_left(self.ends, t), len(self.ends) - 1)], t)


def piece(interpolant: Any) -> Piece:
    """Return what an `RkDenseOutput` holds."""
    return float(interpolant.t_old), float(interpolant.h), interpolant.y_old, interpolant.Q


def evaluate(step: Piece, t: float) -> np.ndarray:
    """Return y(t), shape (n,), inside a step."""
    t_old, h, y_old, quartic = step
    x = (t - t_old) / h
    square = x * x
    return y_old + h * quartic.dot((x, square, square * x, square * square))
