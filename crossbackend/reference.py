"""The reference gradient: the closed form, or two independent routes at 1e-12 whose difference is the floor.

1. SciPy's DOP853 with an interpolating adjoint: y(t) in the backward solve is the forward solution's dense output,
   so nothing is integrated backwards that is unstable backwards.
2. Differentiation through the steps of an order-8 solver, in a library that is itself compared (diffrax, or
   torchdiffeq for a problem that only torch can run). The backsolve adjoint has no part in it.

Directional finite differences check the result once more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from scipy.integrate import OdeSolution

from crossbackend import registry, tree
from crossbackend.augmented import Augmented
from crossbackend.compare import UNCERTAIN_FLOOR
from crossbackend.finite_differences import by_leaf, finite_differences
from crossbackend.interpolating import ATOL, RTOL, Interpolating, NoReference
from crossbackend.problem import Problem
from crossbackend.record import FORMAT, Gradient, relative_error

T = TypeVar("T")
PICTURE_POINTS = 161
PICTURE_SERIES = 6


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
        `check` (relative difference to directional finite differences), `leaves` (the derivative along one direction
        inside every leaf, by finite differences), `routes`.
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
        exact = timed(routes, "closed form", lambda: closed_form(problem))
        if exact is not None:
            found["closed form"] = exact
    try:
        interpolating = Interpolating(problem, engine)
    except Exception as error:
        routes.append({"name": "DOP853, interpolating adjoint", "seconds": 0.0, "message": str(error)})
    else:
        both = timed(routes, "DOP853, interpolating adjoint", interpolating.gradient)
        if both is not None:
            found["interpolating"], solutions = both
            picture = _picture(interpolating, solutions)
    if "closed form" not in found or "interpolating" not in found:
        steps = timed(routes, "order 8, differentiated through its steps", lambda: through_steps(problem))
        if steps is not None:
            found["through steps"] = steps
    best = list(found.values())
    floor = relative_error(best[1].arrays, best[0].arrays) if len(best) > 1 else None
    about = {"format": FORMAT, "problem": problem.name, "status": _status(found, floor), "floor": floor, "check": None,
             "leaves": {}, "routes": routes, "loss": best[0].loss if best else None}  # fmt: skip
    if interpolating is not None:
        about["leaves"] = timed(routes, "finite differences, a leaf at a time", lambda: by_leaf(interpolating)) or {}
    if not best:
        return about, {}, picture
    if interpolating is not None:
        about["check"] = timed(routes, "finite differences", lambda: finite_differences(interpolating, best[0]))
    return about, {f"gradient/{name}": array for name, array in best[0].arrays.items()}, picture


def _status(found: dict[str, Gradient], floor: float | None) -> str:
    if not found:
        return "failed"
    if "closed form" in found:
        return "exact"
    return "ok" if floor is not None and floor <= UNCERTAIN_FLOOR else "uncertain"


def timed(routes: list[dict[str, Any]], name: str, function: Callable[[], T]) -> T | None:
    """Call a route; note its seconds and what went wrong, and return None then."""
    started, message, value = time.perf_counter(), "", None
    try:
        value = function()
    except Exception as error:
        message = f"{type(error).__name__}: {error}"[:500]
    routes.append({"name": name, "seconds": round(time.perf_counter() - started, 3), "message": message})
    return value


def closed_form(problem: Problem) -> Gradient:
    """Return what `Problem.exact` gives."""
    assert problem.exact is not None
    given = problem.exact(problem.params, problem.data)
    arrays = (
        {name: np.asarray(leaf, dtype=np.float64) for name, leaf in tree.leaves(given[key])} for key in ("y0", "params")
    )
    return Gradient(float(given["loss"]), *arrays)


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
