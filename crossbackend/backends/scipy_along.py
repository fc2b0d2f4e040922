"""SciPy's adjoints along the stored solution: `interpolating` and `quadrature`.

Backsolve integrates (y, a_y, a_params) backwards in one ODE. But y is known, from the forward solve's dense output, and
a_params is an integral that feeds back into nothing. So here a_y alone is an ODE,

    da_y/dt = -a_y . df/dy(t, y(t)),

and the parameters' integral of -a_y . df/dparams is taken beside it:

    interpolating   by the Runge-Kutta weights of every accepted step, from slopes that its stages give along the way:
                    what a seminorm makes of backsolve, without the reverse solve of y
    quadrature      afterwards, on the dense output of a_y: Gauss-Legendre on every step with as many nodes as its error
                    asks for (`quadrature.integrate`), held against rtol and atol as a step's error is

Nothing runs backwards that might be unstable there: where y cannot be integrated back, these gradients still hold.
The price is the memory of the forward solution, and an error of its dense output, which is of order 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.integrate import solve_ivp

from crossbackend import norms
from crossbackend.backends.contract import max_abs, plan_norm
from crossbackend.backends.scipy_gradient import Solve
from crossbackend.backends.scipy_solver import NormRK45, SolveFailed, advance, steps
from crossbackend.dense import Piece, Stored, evaluate, piece
from crossbackend.norms import Norm
from crossbackend.plan import Plan
from crossbackend.problem import Problem
from crossbackend.quadrature import integrate

if TYPE_CHECKING:
    from crossbackend.backends.scipy import ScipyCompiled

GRADIENTS = ("interpolating", "quadrature")
BACKWARD = {"interpolating": ("along",), "quadrature": ("along_y", "along_params")}
"""The functions that each is made of: see `Augmented`."""


def declines(problem: Problem, plan: Plan) -> str | None:
    """Return why a plan with one of these gradients cannot be run, or None."""
    if plan.gradient not in GRADIENTS:
        return None
    if plan.stepping == "matched":
        return f"no other backend takes the gradient {plan.gradient!r}, so there are no steps to match"
    norm = plan_norm(problem, plan)
    if norm is not None and norm.function is not None:
        return f"only a_y is an ODE under {plan.gradient}, and the norm {plan.norm!r} is a function of all blocks"
    if norm is not None and not _of_a_y(norm).weights:
        return f"only a_y is an ODE under {plan.gradient}, and the norm {plan.norm!r} leaves it out"
    return None


def backward_norm(norm: Norm | None) -> Norm:
    """Return what measures a_y: a norm's part of it, or RK45's own RMS where the plan names no norm."""
    return Norm("a_y", "max", {"a_y": 1.0}) if norm is None else _of_a_y(norm)


def _of_a_y(norm: Norm) -> Norm:
    weights = {name: w for name, w in norm.weights.items() if w and name.split("/", 1)[0] == "a_y"}
    return replace(norm, weights=weights)


class Slopes:
    """`along` for RK45: hands over the slope of a_y and keeps that of a_params, shape (p,), in the order of calls."""

    def __init__(self, along: Any, y: Stored, n: int) -> None:
        self.along, self.y, self.n = along, y, n
        self.rows: list[np.ndarray] = []

    def __call__(self, t: float, a: np.ndarray) -> np.ndarray:
        """Return da_y/dt, shape (n,)."""
        both = self.along(t, self.y(t), a)
        self.rows.append(both[self.n :])
        return both[: self.n]


class SummingRK45(NormRK45):
    """NormRK45 over a_y, which adds a_params' increment over every accepted step to `total`, shape (p,), in place.

    Parameters
    ----------
    slopes : Slopes
    *args, **kwargs
        As `NormRK45` takes them after the function.
    total : ndarray, shape (p,)
    """

    def __init__(self, slopes: Slopes, *args: Any, total: np.ndarray, **kwargs: Any) -> None:
        self.slopes, self.total = slopes, total
        slopes.rows.clear()
        super().__init__(slopes, *args, **kwargs)
        self.first = slopes.rows[0]  # what follows it was the probe for a first step
        slopes.rows.clear()

    def _estimate_error_norm(self, K: np.ndarray, h: float, scale: np.ndarray) -> float:
        self.attempt = [self.first, *self.slopes.rows]
        self.slopes.rows.clear()
        error = super()._estimate_error_norm(K, h, scale)
        if error < 1:
            self.total += self._weighted(self.B, h)
            self.first = self.attempt[-1]
        return error

    def _weighted(self, weights: np.ndarray, h: float) -> np.ndarray:
        parts = (h * weight * row for weight, row in zip(weights, self.attempt, strict=False) if weight)
        return np.add.reduce(list(parts))

    def _error_seen(self, K: np.ndarray, h: float, scale: np.ndarray) -> np.ndarray:
        """Return the error of a_y and, though no norm sees it, that of a_params."""
        after = self.total + self._weighted(self.B, h)
        own = self.atol + self.rtol * np.maximum(np.abs(self.total), np.abs(after))
        return np.concatenate([super()._error_seen(K, h, scale), self._weighted(self.E, h) / own])


class AlongSolve(Solve):
    """One gradient along the stored solution."""

    y: Stored

    def _forward(self, y0: np.ndarray, chain: Any) -> None:
        """Fill `ys`, shape (len(ts), n), as backsolve has them, and `y`, the solution between."""
        del chain
        ts = self.of.problem.ts
        method: Any = self.of.method
        solution = solve_ivp(
            self._function("forward"), (ts[0], ts[-1]), y0, method=method, t_eval=ts, dense_output=True,
            **self._options("forward"),
        )  # fmt: skip
        if not solution.success:
            raise SolveFailed(solution.message)
        self.ys = np.ascontiguousarray(solution.y.T)
        self.y = Stored(solution.sol.interpolants)

    def _along(self, name: str) -> Any:
        """Return a function of (t, y, a), counted where the run is watched."""
        bare, watch = self.of.system.function(name), self.backward
        if watch is None:
            return bare
        part = {"along_y": "vjp_y", "along_params": "vjp_params"}.get(name)

        def counted(t: float, y: np.ndarray, a: np.ndarray) -> np.ndarray:
            out = bare(t, y, a)
            watch.field(float(t), max_abs(y), bool(np.isfinite(out).all()))
            if part:
                watch.parts[part] += 1
            return out

        return counted

    def _backward(self, of_ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (a_y(t0), a_params): a_y jumps at every output time."""
        ts = self.of.problem.ts
        a, total = of_ys[-1].copy(), np.zeros(self.of.params_size)
        along = {"interpolating": self._summed, "quadrature": self._integrated}[self.of.plan.gradient]()
        for i in range(len(ts) - 1, 0, -1):
            a = along(ts[i], ts[i - 1], a, total) + of_ys[i - 1]
        return a, total

    def _summed(self) -> Any:
        slopes = Slopes(self._along("along"), self.y, self.of.system.layout.size)
        options = self._options("backward")

        def along(t0: float, t1: float, a: np.ndarray, total: np.ndarray) -> np.ndarray:
            return advance(slopes, t0, t1, a, SummingRK45, {**options, "total": total})

        return along

    def _integrated(self) -> Any:
        y, along_y, along_params = self.y, self._along("along_y"), self._along("along_params")
        options, measure = self._options("backward"), self.of.params_norm

        def field(t: float, a: np.ndarray) -> np.ndarray:
            return along_y(t, y(t), a)

        def slope(step: Piece, t: float) -> np.ndarray:
            return along_params(t, y(t), evaluate(step, t))

        def along(t0: float, t1: float, a: np.ndarray, total: np.ndarray) -> np.ndarray:
            solver = NormRK45(field, t0, a, t1, **options)
            size = partial(_over_scale, total=total, measure=measure, **self.tolerances)
            for _ in steps(solver):
                if total.size:
                    step: Any = solver.dense_output()
                    total += integrate(partial(slope, piece(step)), float(step.t_old), float(step.t), size)
            return solver.y

        return along


def _over_scale(
    error: np.ndarray, increment: np.ndarray, total: np.ndarray, measure: Any, rtol: float, atol: float
) -> float:
    """Return the size of an error of a_params over the scale of a step from `total` by an increment, as RK45 has it."""
    return measure(error / (atol + rtol * np.maximum(np.abs(total), np.abs(total + increment))))


def blocks(compiled: ScipyCompiled) -> dict[str, tuple[int, ...]]:
    """Return the blocks of a backward attempt's error: a_y, and a_params where it is summed along the way."""
    return {name: shape for name, shape in compiled.system.shapes.items() if _seen(name, compiled.plan.gradient)}


def _seen(block: str, gradient: str) -> bool:
    group = block.split("/", 1)[0]
    return group == "a_y" or (group == "a_params" and gradient == "interpolating")


def settings(common: Mapping[str, Any], compiled: ScipyCompiled) -> dict[str, Any]:
    """Return the effective settings of the backward pass."""
    norm = compiled.backward_norm
    integral = {
        "interpolating": "the pair's weights on accepted steps, not controlled",
        "quadrature": "Gauss-Legendre, 3, 7 or 15 nodes a step or halves of it, as rtol and atol ask",
    }[compiled.plan.gradient]
    return {
        **common, "norm": norm.describe(), "across": norm.across_blocks, "outputs": "restart at every output",
        "a_t": False, "y": "the forward solve's dense output", "a_params": integral,
    }  # fmt: skip


def params_norm(compiled: ScipyCompiled) -> Any:
    """Return the norm of a_params alone, flat: the largest RMS of a leaf."""
    shapes = {name: s for name, s in compiled.system.shapes.items() if name.split("/", 1)[0] == "a_params"}
    return norms.flat(Norm("a_params", "max", {"a_params": 1.0}), shapes)
