"""One gradient on SciPy: the forward pass, the loss, and a backward solve for every output interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from scipy.integrate import solve_ivp

from crossbackend.backends.contract import Watch, max_abs, pieces
from crossbackend.backends.scipy_solver import Function, SolveFailed, advance
from crossbackend.record import Gradient

if TYPE_CHECKING:
    from crossbackend.backends.scipy import ScipyCompiled


class Solve:
    """One gradient: a forward pass, the loss, the backward pass; shared by the counting and the bare run."""

    def __init__(self, compiled: ScipyCompiled, rtol: float, atol: float, *, watched: bool) -> None:
        self.of = compiled
        self.tolerances = {"rtol": rtol, "atol": atol}
        self.watched = watched
        self.forward: Watch | None = None
        self.backward: Watch | None = None
        self.ys = np.zeros((0, 0))
        self.stored: dict[float, np.ndarray] = {}
        self.back: dict[float, np.ndarray] = {}

    def run(self) -> Gradient:
        """Return the loss and gradient.

        Raises
        ------
        SolveFailed, SolveStopped
            Where a pass does not reach its end.
        """
        system, problem = self.of.system, self.of.problem
        y0 = system.y0()
        span = (problem.ts[0], problem.ts[-1])
        if self.watched:
            self.forward = Watch(max_abs(y0), span)
        chain = pieces(problem) if self.of.chained else None
        self._forward(y0, chain)
        loss, self.of_ys, self.direct = system.loss(self.ys)
        if self.watched:
            self.backward = Watch(max_abs(y0), span)
        return self.finish(self.of_ys, loss, self.direct)

    def finish(self, of_ys: np.ndarray, loss: float, direct: np.ndarray) -> Gradient:
        """Run the backward pass from the stored solution and return the gradient."""
        system = self.of.system
        chain = pieces(self.of.problem) if self.of.chained else None
        a_y, a_params = self._backward(of_ys) if chain is None else self._backward_chain(of_ys, chain)
        y0_gradient = dict(zip(system.layout.names, _leaves(system.layout, a_y), strict=True))
        return Gradient(loss, y0_gradient, system.total(direct, a_y, a_params))

    def _options(self, which: str) -> dict[str, Any]:
        norm = self.of.norm_functions[which]
        watch = self.forward if which == "forward" else self.backward
        own = {} if watch is None else {"watch": watch, "look": self.of.look(which)}
        return {**self.tolerances, "block_norm": norm, "given_step": self.of.plan.first_step, **own}

    def _function(self, which: str, lo: float = -math.inf, hi: float = math.inf) -> Function:
        """Return the field or the augmented field, t kept in [lo, hi], counted where the run is watched."""
        bare = self.of.system.function("field" if which == "forward" else "adjoint")
        watch = self.forward if which == "forward" else self.backward
        n = self.of.system.layout.size

        def inside(t: float, y: np.ndarray) -> np.ndarray:
            return bare(min(max(t, lo), hi), y)

        clipped = bare if lo == -math.inf and hi == math.inf else inside
        if watch is None:
            return clipped

        def counted(t: float, y: np.ndarray) -> np.ndarray:
            out = clipped(t, y)
            watch.field(float(t), max_abs(y[:n]), bool(np.isfinite(out[:n]).all()))
            return out

        return counted

    def _forward(self, y0: np.ndarray, chain: list[tuple[float, float, float, float]] | None) -> None:
        """Fill `ys`, shape (len(ts), n), and `stored`, y by time, at the breakpoints too."""
        ts = self.of.problem.ts
        if chain is None:
            solution = solve_ivp(
                self._function("forward"), (ts[0], ts[-1]), y0, method=cast(Any, self.of.method), t_eval=ts,
                **self._options("forward"),
            )  # fmt: skip
            if not solution.success:
                raise SolveFailed(solution.message)
            self.ys = np.ascontiguousarray(solution.y.T)
            self.stored = dict(zip(ts, self.ys, strict=True))
            return
        y, self.stored = y0, {ts[0]: y0}
        for start, end, lo, hi in chain:
            y = advance(self._function("forward", lo, hi), start, end, y, self.of.method, self._options("forward"))
            self.stored[end] = y
        self.ys = np.stack([self.stored[t] for t in ts])

    def _backward(self, of_ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (a_y(t0), a_params): y is reset to the stored value and a_y jumps at every output time."""
        ts, n = self.of.problem.ts, self.of.system.layout.size
        z = np.zeros(self.of.system.size)
        z[n : 2 * n] = of_ys[-1]
        fun, options = self._function("backward"), self._options("backward")
        for i in range(len(ts) - 1, 0, -1):
            z[:n] = self.ys[i]
            z = advance(fun, ts[i], ts[i - 1], z, self.of.method, options)
            self.back[ts[i - 1]] = z[:n].copy()
            z[n : 2 * n] += of_ys[i - 1]
        return z[n : 2 * n], self.of.params_part(z)

    def _backward_chain(
        self, of_ys: np.ndarray, chain: list[tuple[float, float, float, float]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (a_y(t0), a_params) piece by piece, a_params from 0 in each, as a chain of library calls does."""
        ts, n = self.of.problem.ts, self.of.system.layout.size
        jumps = dict(zip(ts, of_ys, strict=True))
        a_y = np.zeros(n)
        a_params = np.zeros(self.of.params_size)
        for start, end, lo, hi in chain[::-1]:
            z = np.zeros(self.of.system.size)
            z[:n] = self.stored[end]
            z[n : 2 * n] = a_y + jumps[end] if end in jumps else a_y
            z = advance(self._function("backward", lo, hi), end, start, z, self.of.method, self._options("backward"))
            a_y, a_params = z[n : 2 * n], a_params + self.of.params_part(z)
            self.back[start] = z[:n].copy()
        return a_y + jumps[ts[0]], a_params


def _leaves(layout: Any, flat: np.ndarray) -> list[np.ndarray]:
    return [flat[at].reshape(shape).copy() for at, shape in zip(layout.slices, layout.shapes, strict=True)]
