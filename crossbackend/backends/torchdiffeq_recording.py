"""The vector field as torchdiffeq calls it, and one that counts and hears of every step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from crossbackend.backends.contract import Watch, max_abs
from crossbackend.dense import DenseStep


class Field:
    """The vector field as torchdiffeq calls it: a dict state is a tuple in sorted order, t stays in [lo, hi]."""

    def __init__(self, compiled: Any, lo: float = -math.inf, hi: float = math.inf) -> None:
        self.of, self.lo, self.hi = compiled, lo, hi

    def __call__(self, t: Any, y: Any) -> Any:
        """Return dy/dt."""
        if self.lo != -math.inf or self.hi != math.inf:
            t = t.clamp(self.lo, self.hi)
        bound = self.of.bound
        dy = bound.field(t, self.of.to_state(y), bound.params, bound.data)
        return self.of.from_state(dy)


class WatchedField(Field):
    """A Field that counts its evaluations and hears of every step, in both passes.

    torchdiffeq calls the methods named `callback_...` with `(t0, y0, dt)`; those ending in `_adjoint` in the
    backward pass, with t0 in the problem's time and dt positive.
    """

    def __init__(self, compiled: Any, watched: Watched, *clip: float) -> None:
        super().__init__(compiled, *clip)
        self.watched = watched

    def __call__(self, t: Any, y: Any) -> Any:
        """Return dy/dt, counted."""
        dy = super().__call__(t, y)
        state, slope = flat(y), flat(dy)
        self.watched.now.field(float(t.detach()), max_abs(state), bool(np.isfinite(slope).all()))
        self.watched.dense.stage(slope)
        return dy

    def callback_accept_step(self, t0: Any, y0: Any, dt: Any) -> None:
        """Note an accepted forward step."""
        del y0
        self.watched.forward.step(float(t0), float(t0 + dt), True)

    def callback_reject_step(self, t0: Any, y0: Any, dt: Any) -> None:
        """Note a rejected forward step."""
        del y0
        self.watched.forward.step(float(t0), float(t0 + dt), False)

    def callback_step_adjoint(self, t0: Any, y0: Any, dt: Any) -> None:
        """Note that an attempt begins."""
        del t0, y0, dt
        self.watched.dense.begin()

    def callback_accept_step_adjoint(self, t0: Any, y0: Any, dt: Any) -> None:
        """Note an accepted backward step; one that reaches the interval's start gives the reconstructed y there."""
        self.watched.backward_step(float(t0), float(t0 - dt), flat(y0[1]))

    def callback_reject_step_adjoint(self, t0: Any, y0: Any, dt: Any) -> None:
        """Note a rejected backward step."""
        del y0
        self.watched.backward.step(float(t0), float(t0 - dt), False)
        self.watched.dense.reject()


class Watched:
    """What a counting run sees: two Watches, and the reverse solve's y at the stored times.

    Parameters
    ----------
    y0_max : float
    times : list of float
        Stored times, increasing: the backward pass reaches them from the last but one down.
    """

    def __init__(self, y0_max: float, times: list[float]) -> None:
        span = (times[0], times[-1])
        self.forward, self.backward = Watch(y0_max, span), Watch(y0_max, span)
        self.now = self.forward
        self.dense = DenseStep()
        self.targets = times[-2::-1]
        self.back: dict[float, np.ndarray] = {}

    def turn(self) -> None:
        """Begin the backward pass."""
        self.now, self.dense = self.backward, DenseStep()

    def backward_step(self, t0: float, t1: float, y0: np.ndarray) -> None:
        """Note an accepted step of the backward pass."""
        self.backward.step(t0, t1, True)
        target = self.targets[len(self.back)]
        if t1 <= target + 4 * np.spacing(max(abs(target), abs(t0))):  # t1 = t0 - dt carries a rounding error
            self.back[target] = self.dense.evaluate(t0, t1, y0, target)
            self.dense = DenseStep()


def flat(state: Any) -> np.ndarray:
    """Return a tensor or tuple of tensors as one flat NumPy vector."""
    parts = state if isinstance(state, tuple) else (state,)
    return np.concatenate([part.detach().cpu().numpy().astype(np.float64).reshape(-1) for part in parts])
