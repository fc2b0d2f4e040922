"""Where a gradient's error comes from: the forward solve, the reverse solve's y, a_y, or the parameter integral.

To first order the error of a backsolve gradient is the sum of what four inexact computations add, each alone, to a
solve that is exact in all else:

    forward         y at the output times is the plan's own; everything after it is exact
    reconstruction  y is stepped backwards as the plan does, from the exact y(t_i); a_y and a_params are exact along it
    a_y             a_y is stepped as the plan does, along the exact y; a_params is exact along it
    a_params        the integral is taken as the plan does, along the exact y and a_y

"As the plan does" is one Dormand-Prince step from each start of an accepted step of the plan to its end; "exact" is
DOP853 at 1e-12 from there, so that an error made in one step is carried on exactly. Kidger, Chen, Lyons (ICML 2021,
section 2.2) expect y and a_y to dominate, for errors in them propagate: here it is measured, a solve at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.integrate import RK45, solve_ivp

from crossbackend.interpolating import RTOL, Interpolating, NoReference
from crossbackend.problem import Problem
from crossbackend.record import Gradient, Outcome

_BLOWS_UP = "a part of the error is not finite: the reverse solve blows up"
Advance = Callable[[float, float, np.ndarray], np.ndarray]


class ErrorSplit:
    """The exact solve of a problem, against which the parts of a plan's error are measured.

    Parameters
    ----------
    problem : Problem
    engine : {"numpy", "jax", "torch"}

    Raises
    ------
    NoReference
        Where the exact solve does not reach its end.
    """

    def __init__(self, problem: Problem, engine: str = "numpy") -> None:
        self.route = Interpolating(problem, engine)
        self.problem, self.system = problem, self.route.system
        self.n = self.system.layout.size
        self.exact, self.solutions = self.route.gradient()
        self.ys = np.stack([self._y(t) for t in problem.ts])
        self.atol = 1e-14 * np.concatenate([
            np.full(self.n, _size(self.ys)),
            np.full(self.n, _size(*self.exact.y0.values())),
            np.full(self.system.size - 2 * self.n, _size(*self.exact.params.values())),
        ])  # fmt: skip

    def _y(self, t: float) -> np.ndarray:
        """Return the exact y(t), shape (n,)."""
        ends = [end for _, end, _, _ in self.route.chain]
        return self.solutions[min(int(np.searchsorted(ends, t)), len(ends) - 1)](t)

    def split(self, outcome: Outcome) -> dict[str, Any]:
        """Return the parts of the error of a native SciPy solve.

        Parameters
        ----------
        outcome : Outcome
            With status ok: its backward steps, its ys and its gradient.

        Returns
        -------
        dict
            `whole`: |g - g*| / |g*| in the 2-norm over all leaves. `parts`: the same of every part alone. `share`:
            the part of the whole that a part makes up, by projection onto it; the shares and the residual's sum to 1.
            `residual`: |whole - sum of parts| / |whole|. `replay`: how far the plan's own steps, taken again here,
            miss its gradient, over |g*|.

        Raises
        ------
        NoReference
            Where a part does not reach its end, or is not finite: a reverse solve that blows up.
        """
        with np.errstate(all="ignore"):
            return self._split(outcome)

    def _split(self, outcome: Outcome) -> dict[str, Any]:
        assert outcome.gradient is not None
        assert outcome.backward is not None
        steps = self._steps(outcome.backward.t0, outcome.backward.t1, outcome.backward.accepted)
        intervals = list(zip(self.problem.ts[:0:-1], self.problem.ts[-2::-1], strict=True))
        own = np.concatenate([ys.reshape(len(ys), -1) for ys in (outcome.ys or {}).values()], axis=1)
        n, exactly, step = self.n, self._exactly, self._step

        def reconstruction(t0: float, t1: float, z: np.ndarray) -> np.ndarray:
            return np.concatenate([step(t0, t1, z)[:n], exactly(t0, t1, z)[n:]])

        def only(at: slice) -> Advance:
            def advance(t0: float, t1: float, z: np.ndarray) -> np.ndarray:
                z = np.concatenate([self._y(t0), z[n:]])
                end = exactly(t0, t1, z)
                end[at] = step(t0, t1, z)[at]
                return end

            return advance

        found = {
            "forward": self._gradient(intervals, own, exactly),
            "reconstruction": self._gradient(steps, self.ys, reconstruction),
            "a_y": self._gradient(steps, self.ys, only(slice(n, 2 * n))),
            "a_params": self._gradient(steps, self.ys, only(slice(2 * n, None))),
        }
        replayed = self._gradient(steps, own, step)
        return _compared(self.exact, outcome.gradient, found, replayed)

    def _steps(self, t0: np.ndarray, t1: np.ndarray, accepted: np.ndarray) -> list[tuple[float, float]]:
        """Return the accepted steps; an end within rounding of an output time is that time."""
        ts = np.array(self.problem.ts)
        near = 1e-12 * (ts[-1] - ts[0])

        def output(t: float) -> float:
            closest = float(ts[np.argmin(np.abs(ts - t))])
            return closest if abs(closest - t) <= near else t

        return [(output(float(a)), output(float(b))) for a, b in zip(t0[accepted], t1[accepted], strict=True)]

    def _gradient(self, steps: Sequence[tuple[float, float]], ys: np.ndarray, advance: Advance) -> Gradient:
        """Return the gradient of a backward pass from the stored ys, shape (len(ts), n), by a way to make a step."""
        n, system, ts = self.n, self.system, self.problem.ts
        loss, of_ys, direct = system.loss(ys)
        stored, jumps = dict(zip(ts, ys, strict=True)), dict(zip(ts, of_ys, strict=True))
        z = np.zeros(system.size)
        for t0, t1 in steps:
            if t0 in stored:
                z = np.concatenate([stored[t0], z[n : 2 * n] + jumps[t0], z[2 * n :]])
            z = advance(t0, t1, z)
        a_y = z[n : 2 * n] + jumps[ts[0]]
        layout = system.layout
        parts = (a_y[at].reshape(shape) for at, shape in zip(layout.slices, layout.shapes, strict=True))
        return Gradient(loss, dict(zip(layout.names, parts, strict=True)), system.total(direct, a_y, z[2 * n :]))

    def _exactly(self, t0: float, t1: float, z: np.ndarray) -> np.ndarray:
        """Return the augmented state carried exactly from t0 back to t1, split at breakpoints between."""
        adjoint = self.system.function("adjoint")
        if not np.isfinite(z).all():
            raise NoReference(_BLOWS_UP)
        for start, end, lo, hi in self.route.chain[::-1]:
            a, b = min(t0, end), max(t1, start)
            if a <= b:
                continue

            def fun(t: float, z: np.ndarray, lo: float = lo, hi: float = hi) -> np.ndarray:
                return adjoint(min(max(t, lo), hi), z)

            found = solve_ivp(fun, (a, b), z, method="DOP853", rtol=RTOL, atol=self.atol, first_step=a - b)
            if not found.success:
                raise NoReference(f"an exact step from t = {a:.6g}: {found.message}")
            z = found.y[:, -1]
        return z

    def _step(self, t0: float, t1: float, z: np.ndarray) -> np.ndarray:
        """Return the augmented state after one Dormand-Prince step."""
        adjoint, h = self.system.function("adjoint"), t1 - t0
        slopes = np.empty((len(RK45.C), len(z)))
        for k, (a, c) in enumerate(zip(RK45.A, RK45.C, strict=True)):
            slopes[k] = adjoint(t0 + c * h, z + h * (a[:k] @ slopes[:k]))
        return z + h * (RK45.B @ slopes)


def _size(*arrays: np.ndarray) -> float:
    return max((float(np.max(np.abs(a), initial=0.0)) for a in arrays), default=0.0) or 1.0


def _flat(gradient: Gradient) -> np.ndarray:
    return np.concatenate([np.ravel(array) for _, array in sorted(gradient.arrays.items())])


def _compared(exact: Gradient, own: Gradient, alone: Mapping[str, Gradient], replayed: Gradient) -> dict[str, Any]:
    truth = _flat(exact)
    size = float(np.linalg.norm(truth)) or 1.0
    whole = _flat(own) - truth
    parts = {name: _flat(gradient) - truth for name, gradient in alone.items()}
    square = float(whole @ whole) or 1.0
    rest = whole - sum(parts.values())
    if not np.isfinite(rest).all():
        raise NoReference(_BLOWS_UP)
    return {
        "whole": float(np.linalg.norm(whole)) / size,
        "parts": {name: float(np.linalg.norm(part)) / size for name, part in parts.items()},
        "share": {name: float(part @ whole) / square for name, part in parts.items()},
        "residual": float(np.linalg.norm(rest)) / float(np.sqrt(square)),
        "replay": float(np.linalg.norm(_flat(replayed) - _flat(own))) / size,
    }
