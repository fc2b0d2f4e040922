"""A reference in seconds: the closed form, or one route, held against finite differences leaf by leaf.

The full one (`reference`) takes a second route, in a library that is itself compared, and minutes of compilation for a
gallery. Here finite differences, which share no derivative with the gradient, take its place: they are no route to a
gradient, but they show one that is wrong.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from crossbackend.finite_differences import directional
from crossbackend.interpolating import Interpolating
from crossbackend.problem import Problem
from crossbackend.record import FORMAT, Gradient
from crossbackend.reference import closed_form, timed

RTOL = 1e-10
FLOOR = 1e-8
"""What an error against this reference cannot be told below: its tolerance, with room for what the adjoint adds."""
CHECKED = 1e-3
"""Largest difference to finite differences, relative to its leaf, of a reference that is believed."""


def quick_reference(problem: Problem, seeds: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return a problem's quick reference and its arrays.

    Parameters
    ----------
    problem : Problem
    seeds : int
        Random directions along which every leaf is held against finite differences.

    Returns
    -------
    about : dict
        As `reference.reference`, and `derivatives`: the rows of `finite_differences.directional`. `floor` is `FLOOR`,
        or None for a closed form; the status is `uncertain` where finite differences differ by more than `CHECKED`.
    arrays : dict of str to ndarray
        `gradient/LEAF`, and `direction/SEED/LEAF`.
    """
    routes: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    gradient: Gradient | None = None
    if problem.exact is not None:
        gradient = timed(routes, "closed form", lambda: closed_form(problem))
    engine = "torch" if problem.lacks("jax") else "numpy"
    route = timed(routes, "tracing", lambda: Interpolating(problem, engine))
    if gradient is None and route is not None:
        found = timed(routes, "DOP853, interpolating adjoint", partial(route.gradient, RTOL))
        gradient = None if found is None else found[0]
    for seed in range(seeds):
        if route is None or gradient is None:
            break
        made = timed(routes, f"finite differences, direction {seed}", partial(directional, route, gradient, seed))
        if made is not None:
            rows += made[0]
            arrays |= {f"direction/{seed}/{leaf}": array for leaf, array in made[1].items()}
    status, check = "failed", None
    if gradient is not None:
        arrays |= {f"gradient/{name}": array for name, array in gradient.arrays.items()}
        check = max((difference(row, gradient.arrays, arrays) for row in rows), default=None)
        checked = check is not None and check <= CHECKED
        status = ("exact" if problem.exact is not None else "ok") if checked else "uncertain"
    exact = any(route["name"] == "closed form" and not route["message"] for route in routes)
    leaves = {row["leaf"]: row["steps"][0][1] for row in rows if row["seed"] == 0}
    about = {"format": FORMAT, "problem": problem.name, "status": status, "floor": None if exact else FLOOR,
             "check": check, "leaves": leaves, "derivatives": rows, "routes": routes,
             "loss": None if gradient is None else gradient.loss}  # fmt: skip
    return about, arrays


def difference(row: dict[str, Any], gradient: dict[str, np.ndarray], arrays: dict[str, np.ndarray]) -> float:
    """Return the best difference, over step sizes, of a gradient along a row's direction to the row's.

    It is relative to the largest of: the difference quotient itself, the size |g v| (2-norm, entry by entry) that a
    random direction leads to expect, and 1e-3 of that size for the largest leaf, so that a leaf that is nothing but
    rounding does not count. Infinite for a leaf that the gradient lacks.

    Parameters
    ----------
    row : dict
        Of `finite_differences.directional`.
    gradient : dict of str to ndarray
        By leaf.
    arrays : dict of str to ndarray
        Of the reference: directions and its own gradient.
    """
    leaf, seed = row["leaf"], row["seed"]
    direction = arrays[f"direction/{seed}/{leaf}"]
    if leaf not in gradient or gradient[leaf].shape != direction.shape:
        return float("inf")
    along = float(np.sum(gradient[leaf] * direction))
    scale = max(_size(arrays, seed, leaf), 1e-3 * _largest(arrays, seed), 1e-300)
    found = min(abs(value - along) / max(scale, abs(value)) for _, value in row["steps"])
    return found if np.isfinite(found) else float("inf")


def _size(arrays: dict[str, np.ndarray], seed: int, leaf: str) -> float:
    return float(np.linalg.norm(arrays[f"gradient/{leaf}"] * arrays[f"direction/{seed}/{leaf}"]))


def _largest(arrays: dict[str, np.ndarray], seed: int) -> float:
    start = f"direction/{seed}/"
    return max(_size(arrays, seed, name.removeprefix(start)) for name in arrays if name.startswith(start))
