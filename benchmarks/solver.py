"""What a solver adds to the evaluations that it asks for: `python -m benchmarks.solver BACKEND PROBLEM RTOL TURNS`.

The time of a gradient is divided by (forward evaluations x the field's time + backward evaluations x the augmented
field's time): what is above 1 is the solver, the loss and the hand-over of arrays.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.figure import Figure, Options, figure
from benchmarks.turns import asked
from crossbackend import registry
from crossbackend.flattened import Flattened
from crossbackend.load import load
from crossbackend.plan import Plan
from crossbackend.problem import Problem

RTOL = 1e-6
GOALS = {"scipy": 1.6, "torchdiffeq": None, "diffrax": None}
PROBLEM = "spiral"
CALLS = 200
"""Evaluations that are timed together: one alone is shorter than a clock's tick is sure."""

Evaluations = tuple[Callable[[], Any], Callable[[], Any]]
"""What evaluates the field, and the augmented field, `CALLS` times."""


def solver_overhead(options: Options) -> Iterator[Figure]:
    """Yield time over evaluations times their time, for every backend."""
    for backend, goal in GOALS.items():
        for problem in options.chosen((PROBLEM,)):
            found = asked("benchmarks.solver", backend, problem, repr(RTOL), str(options.repeats))
            yield figure(f"solver_overhead.{backend}", problem, goal, found["ratios"])


def by_scipy(compiled: Any, problem: Problem) -> Evaluations:
    """Return the evaluations that RK45 asks for: the printed NumPy functions over flat vectors."""
    field, adjoint = compiled.system.function("field"), compiled.system.function("adjoint")
    y, z = _points(problem)
    t = problem.ts[0]

    def many(function: Callable[..., Any], at: np.ndarray) -> Callable[[], Any]:
        def run() -> None:
            for _ in range(CALLS):
                function(t, at)

        return run

    return many(field, y), many(adjoint, z)


def by_torchdiffeq(problem: Problem) -> Evaluations:
    """Return the evaluations that `odeint` and `odeint_adjoint` ask for: eager, the second with its own autograd."""
    import torch

    from crossbackend import tree
    from crossbackend.bound import Bound

    bound = Bound(problem, "torch")
    params = tree.map_leaves(lambda leaf: leaf.requires_grad_(True), bound.params)
    used = [leaf for leaf, flag in zip(tree.values(params), bound.field_leaves(), strict=True) if flag]
    t, y = bound.time(problem.ts[0]), bound.initial(params, bound.data)
    y = y.detach()
    a = torch.ones_like(y)

    def forward() -> None:
        with torch.no_grad():
            for _ in range(CALLS):
                bound.field(t, y, params, bound.data)

    def backward() -> None:
        for _ in range(CALLS):
            own_t, own_y = t.detach().requires_grad_(True), y.detach().requires_grad_(True)
            slope = bound.field(own_t, own_y, params, bound.data)
            torch.autograd.grad(slope, (own_t, own_y, *used), -a, allow_unused=True)

    return forward, backward


def by_diffrax(problem: Problem) -> Evaluations:
    """Return the evaluations inside one compiled loop, as `diffeqsolve` has them: no call from Python in between."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    flat = Flattened(problem, "jax")
    params, data, n = flat.bound.params, flat.bound.data, flat.layout.size
    y, z = (jnp.asarray(point) for point in _points(problem))
    t = jnp.asarray(problem.ts[0])

    def field(z: Any) -> Any:
        return flat.field(t, z, params, data)

    def adjoint(z: Any) -> Any:
        return jnp.concatenate([field(z[:n]), flat.along(t, z[:n], z[n : 2 * n], params, data)])

    def many(function: Callable[[Any], Any], at: Any) -> Callable[[], Any]:
        # Each call starts from what the one before gave, so that none is left out.
        loop = jax.jit(lambda at: jax.lax.fori_loop(0, CALLS, lambda _, z: z + 1e-12 * function(z), at))
        loop(at).block_until_ready()
        return lambda: loop(at).block_until_ready()

    return many(field, y), many(adjoint, z)


def _points(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Return y(t0) flat, and (y, a_y = 1, a_params = 0)."""
    flat = Flattened(problem, "jax")
    constants = flat.constants()
    y = np.asarray(flat.initial(constants["params"], constants["data"]), dtype=np.float64)
    size = sum(int(np.prod(shape, dtype=int)) for shape in flat.shapes(with_time=False).values())
    return y, np.concatenate([y, np.ones(y.size), np.zeros(size - 2 * y.size)])


def measure(backend: str, name: str, rtol: float, turns: int) -> dict[str, Any]:
    """Return the ratio of every turn: one gradient and the two kinds of evaluation, one after the other."""
    problem = load(name)
    compiled: Any = registry.get(backend).compile(problem, Plan(name, backend, "default", "native", rtol, rtol / 100))
    outcome = compiled.record(rtol, rtol / 100)
    made = {"scipy": lambda: by_scipy(compiled, problem), "torchdiffeq": lambda: by_torchdiffeq(problem)}
    sides = (lambda: compiled.solve(rtol, rtol / 100), *made.get(backend, lambda: by_diffrax(problem))())
    seconds = np.array([[_timed(side) for side in sides] for _ in range(turns + 1)])[1:]  # the first warms up
    total, forward, backward = seconds.T
    nfe = np.array([outcome.forward.nfe, outcome.backward.nfe])
    evaluations = (forward * nfe[0] + backward * nfe[1]) / CALLS
    return {"ratios": (total / evaluations).tolist(), "nfe": nfe.tolist()}


def _timed(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))))
