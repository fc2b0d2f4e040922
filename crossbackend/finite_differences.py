"""Central differences of the loss along directions, which share no derivative with the gradient they check."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from crossbackend.interpolating import Interpolating
from crossbackend.problem import is_function
from crossbackend.record import Gradient

STEP_SIZES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
LEAF_STEP = 1e-3
LEAF_RTOL = 1e-10
"""Of the solves for one leaf alone: they tell zero from not zero, so they need not be as tight as the reference's."""

QUICK_STEPS = (1e-3, 1e-4, 1e-2, 1e-5)
QUICK_RTOL = 1e-9
QUICK_ENOUGH = 5e-4
"""Of a leaf's own scale: agreement to this needs no other step."""
Row = dict[str, Any]


def finite_differences(route: Interpolating, gradient: Gradient) -> float:
    """Return the best relative difference, over step sizes, of g.v to central differences along a random v."""
    v, w = _direction(route)
    g_params = np.concatenate([np.ravel(gradient.params[n]) for n in route.system.param_names] or [np.zeros(0)])
    g_y0 = np.concatenate([np.ravel(gradient.y0[n]) for n in route.system.layout.names])
    along = float(g_params @ v + g_y0 @ w)
    scale = max(abs(along), 1e-8 * float(np.linalg.norm(np.concatenate([g_params, g_y0]))), 1e-300)
    found = []
    for h in STEP_SIZES:
        difference = (route.loss_along(h * v, h * w) - route.loss_along(-h * v, -h * w)) / (2 * h)
        found.append(abs(difference - along) / scale)
    return float(min(found))


def by_leaf(route: Interpolating) -> dict[str, float]:
    """Return the derivative of the loss along one random direction inside every leaf.

    Returns
    -------
    dict of str to float
        By the leaf's name in a record, `params/w`, and `y0` or `y0/NAME` where the initial state is given and not
        computed. A gradient that is zero where this is not has lost the leaf.
    """
    return {
        f"{group}/{name}" if name else group: _quotient(route, moves, LEAF_STEP, LEAF_RTOL)
        for group, name, _, moves in _leaves(route, *_direction(route))
    }


def _leaves(
    route: Interpolating, v: np.ndarray, w: np.ndarray
) -> Iterator[tuple[str, str, np.ndarray, tuple[np.ndarray, np.ndarray]]]:
    """Yield group, name, the direction inside the leaf, flat, and the moves of parameters and y(t0) along it alone."""
    system = route.system
    for group, names, layout, along in (
        ("params", system.param_names, system.params_layout, v),
        ("y0", system.layout.names, system.layout, w),
    ):
        for name, at in zip(names, layout.slices, strict=True):
            if np.any(along[at]):
                alone = np.zeros_like(along)
                alone[at] = along[at]
                yield group, name, along[at], (alone, 0 * w) if group == "params" else (0 * v, alone)


def _quotient(route: Interpolating, moves: tuple[np.ndarray, np.ndarray], h: float, rtol: float) -> float:
    ahead, behind = (route.loss_along(*(sign * h * m for m in moves), rtol=rtol) for sign in (1, -1))
    return float((ahead - behind) / (2 * h))


def directional(route: Interpolating, gradient: Gradient, seed: int) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Return central differences of the loss inside every leaf along a direction of its own.

    Smaller and larger steps follow where the first does not agree with the gradient, so that neither rounding nor
    curvature is taken for a mistake.

    Parameters
    ----------
    gradient : Gradient
        What is believed to be right; it decides only how many steps are taken.
    seed : int
        Of the direction.

    Returns
    -------
    rows : list of {"leaf": str, "seed": int, "steps": [[h, difference], ...]}
        A leaf as a record names it.
    directions : dict of str to ndarray
        By leaf, of its shape.
    """
    rows, directions = [], {}
    found = {"params": gradient.params, "y0": gradient.y0}
    for group, name, along, moves in _leaves(route, *_direction(route, seed)):
        leaf, own = f"{group}/{name}" if name else group, np.asarray(found[group][name])
        scale = float(np.linalg.norm(own.ravel() * along))
        steps: list[list[float]] = []
        for h in QUICK_STEPS:
            steps.append([h, _quotient(route, moves, h, QUICK_RTOL)])
            if abs(steps[-1][1] - float(own.ravel() @ along)) <= QUICK_ENOUGH * scale:
                break
        rows.append({"leaf": leaf, "seed": seed, "steps": steps})
        directions[leaf] = along.reshape(own.shape)
    return rows, directions


def _direction(route: Interpolating, seed: int = 5443) -> tuple[np.ndarray, np.ndarray]:
    """Return a random direction of the flat parameters, and one of y(t0): zero where that is computed from them."""
    rng = np.random.default_rng(seed)
    params = route.system.params_layout.ravel(route.problem.params)
    y0 = route.system.y0()
    free = params.size == 0 or not is_function(route.problem.initial)
    v = rng.standard_normal(params.size) * (np.abs(params) + 0.1 * np.sqrt(np.mean(params**2)) if params.size else 0)
    w = rng.standard_normal(y0.size) * (np.abs(y0) + 0.1) if free else np.zeros(y0.size)
    return v, w
