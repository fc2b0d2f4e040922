"""The adjoint along a stored solution: SciPy's DOP853 at 1e-12, and y is never integrated backwards.

y(t) in the backward solve is the forward solution's dense output, so the only state there is (a_y, a_params). It is the
first route of the reference, and the exact solve against which an error is taken apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.integrate import OdeSolution, solve_ivp

from crossbackend import tree
from crossbackend.augmented import Augmented
from crossbackend.backends.contract import pieces
from crossbackend.problem import Problem
from crossbackend.record import Gradient

RTOL = 1e-12
FORWARD_RTOL = 1e-13
"""The dense output is an order lower than the step, so the forward solve is tighter."""
ATOL = 1e-15


class NoReference(Exception):
    """A route that did not reach its end; the text says why."""


class Interpolating:
    """Route 1 on a problem: the dense forward solution, and the adjoint along it.

    Parameters
    ----------
    problem : Problem
    engine : {"numpy", "jax", "torch"}
    """

    def __init__(self, problem: Problem, engine: str = "numpy") -> None:
        self.problem = problem
        self.system = Augmented(problem, engine)
        self.chain = pieces(problem)

    def forward(
        self, y0: np.ndarray, field: Any, *, dense: bool = True, rtol: float = FORWARD_RTOL
    ) -> tuple[np.ndarray, list[OdeSolution]]:
        """Return ys, shape (len(ts), n), and one dense solution a piece.

        Raises
        ------
        NoReference
            Where DOP853 gives up.
        """
        at, solutions, y = {self.problem.ts[0]: y0}, [], y0
        for start, end, lo, hi in self.chain:
            fun = _clipped(field, lo, hi)
            with np.errstate(all="ignore"):
                found = solve_ivp(
                    _stop_at_nan(fun),
                    (start, end),
                    y,
                    method="DOP853",
                    rtol=rtol,
                    atol=ATOL,
                    dense_output=dense,
                )
            if not found.success:
                raise NoReference(f"forward: {found.message}")
            y = found.y[:, -1]
            at[end] = y
            solutions.append(found.sol)
        return np.stack([at[t] for t in self.problem.ts]), solutions

    def gradient(self, rtol: float = RTOL) -> tuple[Gradient, list[OdeSolution]]:
        """Return the gradient and the dense forward solution, which is ten times as tight as the adjoint's rtol."""
        system, n = self.system, self.system.layout.size
        ys, solutions = self.forward(system.y0(), system.function("field"), rtol=rtol * FORWARD_RTOL / RTOL)
        loss, of_ys, direct = system.loss(ys)
        jumps = dict(zip(self.problem.ts, of_ys, strict=True))
        adjoint = system.function("adjoint")
        a = np.zeros(system.size - n)  # (a_y, a_params)
        for (start, end, lo, hi), solution in zip(self.chain[::-1], solutions[::-1], strict=True):
            if end in jumps:
                a[:n] += jumps[end]
            a = self._back(adjoint, solution, start, end, (lo, hi), a, rtol)
        a[:n] += jumps[self.problem.ts[0]]
        leaves = tree.values(system.layout.unravel(a[:n]))
        y0 = {name: np.array(leaf) for name, leaf in zip(system.layout.names, leaves, strict=True)}
        return Gradient(loss, y0, system.total(direct, a[:n], a[n:])), solutions

    def _back(
        self, adjoint: Any, solution: OdeSolution, start: float, end: float, clip: tuple[float, float], a: np.ndarray,
        rtol: float,
    ) -> np.ndarray:  # fmt: skip
        n = self.system.layout.size

        def fun(t: float, a: np.ndarray) -> np.ndarray:
            return adjoint(t, np.concatenate([solution(t), a]))[n:]

        scale = max(float(np.max(np.abs(a[:n]), initial=0.0)), 1e-300)
        with np.errstate(all="ignore"):
            found = solve_ivp(
                _stop_at_nan(_clipped(fun, *clip)), (end, start), a, method="DOP853", rtol=rtol, atol=1e-14 * scale
            )
        if not found.success:
            raise NoReference(f"backward: {found.message}")
        return found.y[:, -1]

    def loss_along(self, params: np.ndarray, y0: np.ndarray, rtol: float = FORWARD_RTOL) -> float:
        """Return the loss with the flat parameters and the initial state moved by the given amounts."""
        moved = self.system.moved(params)
        ys, _ = self.forward(moved.y0() + y0, moved.function("field"), dense=False, rtol=rtol)
        return moved.loss(ys)[0]


def _clipped(fun: Any, lo: float, hi: float) -> Any:
    return fun if lo == -np.inf and hi == np.inf else lambda t, y: fun(min(max(t, lo), hi), y)


def _stop_at_nan(fun: Any) -> Any:
    def checked(t: float, y: np.ndarray) -> np.ndarray:
        out = fun(t, y)
        if not np.isfinite(out).all():
            raise NoReference(f"the field is not finite at t = {t:.6g}")
        return out

    return checked
