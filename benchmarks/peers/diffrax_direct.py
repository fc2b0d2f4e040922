"""`diffeqsolve` with `BacksolveAdjoint` under `jax.value_and_grad`, one jitted function, on the problem's own field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.leaves import merger, of_field
from crossbackend import tree
from crossbackend.problem import Problem
from crossbackend.record import MAX_STEPS


def prepare(
    problem: Problem, rtol: float, atol: float, device: str = "cpu"
) -> Callable[[], tuple[float, np.ndarray, list[np.ndarray]]]:
    """Return what takes the gradient once, compiled ahead of time; see the package."""
    import diffrax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_device", jax.devices("gpu" if device == "cuda" else "cpu")[0])
    params = tree.map_leaves(lambda leaf: jnp.asarray(np.asarray(leaf, dtype=np.float64)), problem.params)
    data = tree.map_leaves(jnp.asarray, problem.data)
    ts = jnp.asarray(problem.ts)
    inner = [b for b in problem.inner_breakpoints() if problem.ts[0] < b < problem.ts[-1]]
    field, loss_of = problem.vector_field, problem.loss
    flags = of_field(problem, "jax")
    merge = merger(params, flags)

    def initial(params: Any) -> Any:
        return problem.initial(params, data) if callable(problem.initial) else jnp.asarray(problem.initial)

    def loss(params: Any, y0: Any, rtol: Any, atol: Any) -> Any:
        controller: Any = diffrax.PIDController(rtol=rtol, atol=atol)
        if inner:
            controller = diffrax.ClipStepSizeController(controller, jump_ts=jnp.asarray(inner))
        used = [leaf for leaf, flag in zip(tree.values(params), flags, strict=True) if flag]
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: field(t, y, merge(args), data)), diffrax.Dopri5(), ts[0], ts[-1], None,
            y0, used, saveat=diffrax.SaveAt(t0=True, ts=ts[1:]), stepsize_controller=controller,
            adjoint=diffrax.BacksolveAdjoint(), max_steps=MAX_STEPS,
        )  # fmt: skip
        return loss_of(solution.ys, params, data)

    def whole(params: Any, rtol: Any, atol: Any) -> Any:
        y0, pull = jax.vjp(initial, params)
        value, (of_params, of_y0) = jax.value_and_grad(loss, argnums=(0, 1))(params, y0, rtol, atol)
        (through_y0,) = pull(of_y0)
        return value, of_y0, jax.tree_util.tree_map(jnp.add, of_params, through_y0)

    compiled = jax.jit(whole).lower(params, rtol, atol).compile()

    def run() -> tuple[float, np.ndarray, list[np.ndarray]]:
        value, of_y0, of_params = compiled(params, rtol, atol)
        return float(value), np.asarray(of_y0), [np.asarray(leaf) for leaf in tree.values(of_params)]

    return run
