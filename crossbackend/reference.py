"""The reference gradient: the closed form, or two independent routes at 1e-12 whose difference is the floor.

1. SciPy's DOP853 with an interpolating adjoint: y(t) in the backward solve is the forward solution's dense output,
   so nothing is integrated backwards that is unstable backwards.
2. Differentiation through the steps of an order-8 solver, in a library that is itself compared (diffrax, or
   torchdiffeq for a problem that only torch can run). The backsolve adjoint has no part in it.

Directional finite differences check the result once more.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy.integrate import OdeSolution, solve_ivp

from crossbackend import registry, tree
from crossbackend.augmented import Augmented
from crossbackend.backends.contract import pieces
from crossbackend.compare import UNCERTAIN_FLOOR
from crossbackend.problem import Problem
from crossbackend.record import FORMAT, Gradient, relative_error

RTOL = 1e-12
FORWARD_RTOL = 1e-13
"""The dense output is an order lower than the step, so the forward solve is tighter."""
ATOL = 1e-15
PICTURE_POINTS = 161
PICTURE_SERIES = 6
STEP_SIZES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


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

    def forward(self, y0: np.ndarray, field: Any, *, dense: bool = True) -> tuple[np.ndarray, list[OdeSolution]]:
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
                    rtol=FORWARD_RTOL,
                    atol=ATOL,
                    dense_output=dense,
                )
            if not found.success:
                raise NoReference(f"forward: {found.message}")
            y = found.y[:, -1]
            at[end] = y
            solutions.append(found.sol)
        return np.stack([at[t] for t in self.problem.ts]), solutions

    def gradient(self) -> tuple[Gradient, list[OdeSolution]]:
        """Return the gradient and the dense forward solution."""
        system, n = self.system, self.system.layout.size
        ys, solutions = self.forward(system.y0(), system.function("field"))
        loss, of_ys, direct = system.loss(ys)
        jumps = dict(zip(self.problem.ts, of_ys, strict=True))
        adjoint = system.function("adjoint")
        a = np.zeros(system.size - n)  # (a_y, a_params)
        for (start, end, lo, hi), solution in zip(self.chain[::-1], solutions[::-1], strict=True):
            if end in jumps:
                a[:n] += jumps[end]
            a = self._back(adjoint, solution, start, end, (lo, hi), a)
        a[:n] += jumps[self.problem.ts[0]]
        leaves = tree.values(system.layout.unravel(a[:n]))
        y0 = {name: np.array(leaf) for name, leaf in zip(system.layout.names, leaves, strict=True)}
        return Gradient(loss, y0, system.total(direct, a[:n], a[n:])), solutions

    def _back(
        self, adjoint: Any, solution: OdeSolution, start: float, end: float, clip: tuple[float, float], a: np.ndarray
    ) -> np.ndarray:
        n = self.system.layout.size

        def fun(t: float, a: np.ndarray) -> np.ndarray:
            return adjoint(t, np.concatenate([solution(t), a]))[n:]

        scale = max(float(np.max(np.abs(a[:n]), initial=0.0)), 1e-300)
        with np.errstate(all="ignore"):
            found = solve_ivp(
                _stop_at_nan(_clipped(fun, *clip)), (end, start), a, method="DOP853", rtol=RTOL, atol=1e-14 * scale
            )
        if not found.success:
            raise NoReference(f"backward: {found.message}")
        return found.y[:, -1]

    def loss_along(self, params: np.ndarray, y0: np.ndarray) -> float:
        """Return the loss with the flat parameters and the initial state moved by the given amounts."""
        moved = self.system.moved(params)
        ys, _ = self.forward(moved.y0() + y0, moved.function("field"), dense=False)
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


def through_steps(problem: Problem) -> Gradient:
    """Route 2: differentiate through the steps of the first installed library that can.

    Raises
    ------
    NoReference
        Where none can.
    """
    for name in ("diffrax", "torchdiffeq"):
        if name in registry.installed() and not problem.lacks(registry.get(name).library):
            gradient = registry.get(name).through_steps(problem, RTOL, ATOL)  # type: ignore[attr-defined]
            if np.isfinite(gradient.loss):
                return gradient
            raise NoReference(f"{name}: the loss is not finite")
    raise NoReference("neither diffrax nor torchdiffeq can run this problem")


def reference(problem: Problem) -> tuple[dict[str, Any], dict[str, np.ndarray], Any]:
    """Return a problem's reference, its arrays, and the data of its picture.

    Returns
    -------
    about : dict
        `status` (`exact`, `ok`, `uncertain`, `failed`), `floor` (relative difference of the two best routes),
        `check` (relative difference to directional finite differences), `routes`.
    arrays : dict of str to ndarray
        `gradient/...` by leaf, empty without a reference.
    picture : dict or None
    """
    routes: list[dict[str, Any]] = []
    engine = "torch" if problem.lacks("jax") else "numpy"
    interpolating: Interpolating | None = None
    found: dict[str, Gradient] = {}
    picture = None
    if problem.exact is not None:
        exact = _timed(routes, "closed form", lambda: _closed_form(problem))
        if exact is not None:
            found["closed form"] = exact
    try:
        interpolating = Interpolating(problem, engine)
    except Exception as error:
        routes.append({"name": "DOP853, interpolating adjoint", "seconds": 0.0, "message": str(error)})
    else:
        both = _timed(routes, "DOP853, interpolating adjoint", interpolating.gradient)
        if both is not None:
            found["interpolating"], solutions = both
            picture = _picture(interpolating, solutions)
    if "closed form" not in found or "interpolating" not in found:
        steps = _timed(routes, "order 8, differentiated through its steps", lambda: through_steps(problem))
        if steps is not None:
            found["through steps"] = steps
    best = list(found.values())
    floor = relative_error(best[1].arrays, best[0].arrays) if len(best) > 1 else None
    about = {"format": FORMAT, "problem": problem.name, "status": _status(found, floor), "floor": floor, "check": None,
             "routes": routes, "loss": best[0].loss if best else None}  # fmt: skip
    if not best:
        return about, {}, picture
    if interpolating is not None:
        about["check"] = _timed(routes, "finite differences", lambda: finite_differences(interpolating, best[0]))
    return about, {f"gradient/{name}": array for name, array in best[0].arrays.items()}, picture


def _status(found: dict[str, Gradient], floor: float | None) -> str:
    if not found:
        return "failed"
    if "closed form" in found:
        return "exact"
    return "ok" if floor is not None and floor <= UNCERTAIN_FLOOR else "uncertain"


def _timed(routes: list[dict[str, Any]], name: str, function: Any) -> Any:
    """Call a route; note its seconds and what went wrong, and return None then."""
    started, message, value = time.perf_counter(), "", None
    try:
        value = function()
    except Exception as error:
        message = f"{type(error).__name__}: {error}"[:500]
    routes.append({"name": name, "seconds": round(time.perf_counter() - started, 3), "message": message})
    return value


def _closed_form(problem: Problem) -> Gradient:
    assert problem.exact is not None
    given = problem.exact(problem.params, problem.data)
    arrays = (
        {name: np.asarray(leaf, dtype=np.float64) for name, leaf in tree.leaves(given[key])} for key in ("y0", "params")
    )
    return Gradient(float(given["loss"]), *arrays)


def finite_differences(route: Interpolating, gradient: Gradient) -> float:
    """Return the best relative difference, over step sizes, of g.v to central differences along a random v."""
    rng = np.random.default_rng(5443)
    params = route.system.params_layout.ravel(route.problem.params)
    y0 = route.system.y0()
    free = params.size == 0 or not callable(route.problem.initial)
    v = rng.standard_normal(params.size) * (np.abs(params) + 0.1 * np.sqrt(np.mean(params**2)) if params.size else 0)
    w = rng.standard_normal(y0.size) * (np.abs(y0) + 0.1) if free else np.zeros(y0.size)
    g_params = np.concatenate([np.ravel(gradient.params[n]) for n in route.system.param_names] or [np.zeros(0)])
    g_y0 = np.concatenate([np.ravel(gradient.y0[n]) for n in route.system.layout.names])
    along = float(g_params @ v + g_y0 @ w)
    scale = max(abs(along), 1e-8 * float(np.linalg.norm(np.concatenate([g_params, g_y0]))), 1e-300)
    found = []
    for h in STEP_SIZES:
        difference = (route.loss_along(h * v, h * w) - route.loss_along(-h * v, -h * w)) / (2 * h)
        found.append(abs(difference - along) / scale)
    return float(min(found))


def _picture(route: Interpolating, solutions: list[OdeSolution]) -> dict[str, Any]:
    """Return the solution at even times, a few entries of the state, for a chart."""
    ts = route.problem.ts
    grid = np.linspace(ts[0], ts[-1], PICTURE_POINTS)
    ends = [end for _, end, _, _ in route.chain]
    values = np.stack([solutions[min(int(np.searchsorted(ends, t)), len(ends) - 1)](t) for t in grid])
    layout = route.system.layout
    labels = [
        f"{name or 'y'}[{', '.join(map(str, np.unravel_index(k, shape)))}]" if shape else (name or "y")
        for name, shape in zip(layout.names, layout.shapes, strict=True)
        for k in range(int(np.prod(shape, dtype=int)))
    ]
    chosen = range(min(PICTURE_SERIES, layout.size))
    series = [{"label": labels[k], "y": [float(f"{x:.6g}") for x in values[:, k]]} for k in chosen]
    return {"t": [float(f"{t:.6g}") for t in grid], "series": series, "outputs": list(ts)}


def card(problem: Problem, picture: Any) -> dict[str, Any]:
    """Return what the report says about a problem: `problems/NAME.json`."""
    engine = "torch" if problem.lacks("jax") else "numpy"
    bound = Augmented.sizes(problem, engine)
    return {
        "format": FORMAT, "name": problem.name, "description": problem.description, "source": problem.source,
        "ts": list(problem.ts), "breakpoints": list(problem.breakpoints), "integrals": list(problem.integrals),
        "dtype": problem.dtype, "tolerances": list(problem.tolerances), "picture": picture, **bound,
    }  # fmt: skip
