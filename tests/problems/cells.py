"""Run one cell by hand, and compare gradients leaf by leaf."""

from functools import cache
from itertools import combinations
from typing import Any

import numpy as np

from crossbackend import registry
from crossbackend.load import load
from crossbackend.plan import Plan


def compiled(problem, backend, norm="default", stepping="native") -> Any:
    """Return the sweep of a problem on a backend, None where the backend declines it."""
    chosen = registry.get(backend)
    plan = Plan(problem.name, chosen.name, norm, stepping, 1e-6, 1e-8)
    return None if chosen.declines(problem, plan) else chosen.compile(problem, plan)


def outcome(problem, backend, rtol, norm="default", stepping="native") -> Any:
    """Return the outcome of one cell at atol = 1e-2 rtol."""
    sweep = compiled(problem, backend, norm, stepping)
    assert sweep is not None
    return sweep.record(rtol, 1e-2 * rtol)


@cache
def _sweep(name, backend, norm, stepping):
    return compiled(load(name), backend, norm, stepping)


@cache
def gallery_outcome(name, backend, rtol, norm="default", stepping="native") -> Any:
    """Return the outcome of a cell of the gallery, computed once in a session."""
    return _sweep(name, backend, norm, stepping).record(rtol, 1e-2 * rtol)


def difference(found, reference):
    """Return the largest relative difference over leaves, each against its own size or 1e-3 of the whole."""
    whole = np.sqrt(sum(float(np.sum(leaf**2)) for leaf in reference.values()))
    assert found.keys() == reference.keys()
    return max(
        float(np.linalg.norm(found[name] - leaf)) / max(float(np.linalg.norm(leaf)), 1e-3 * whole)
        for name, leaf in reference.items()
    )


def worst_difference(outcomes):
    """Return the largest difference between the gradients of any two outcomes."""
    gradients = [item.gradient.arrays for item in outcomes]
    return max(difference(a, b) for a, b in combinations(gradients, 2))
