"""`solve_ivp` forward and backward over flat vectors, the field and the augmented field jitted by JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from benchmarks.peers.leaves import merger, of_field
from crossbackend import tree
from crossbackend.problem import Problem


def prepare(problem: Problem, rtol: float, atol: float) -> Callable[[], tuple[float, np.ndarray, list[np.ndarray]]]:
    """Return what takes the gradient once, its functions compiled; see the package. No breakpoints."""
    import jax
    import jax.numpy as jnp
    from jax.flatten_util import ravel_pytree

    jax.config.update("jax_enable_x64", True)
    params = tree.map_leaves(lambda leaf: jnp.asarray(np.asarray(leaf, dtype=np.float64)), problem.params)
    data = tree.map_leaves(jnp.asarray, problem.data)
    flags = of_field(problem, "jax")
    merge = merger(params, flags)
    leaves = tree.values(params)
    theta, unravel_used = ravel_pytree([leaf for leaf, flag in zip(leaves, flags, strict=True) if flag])

    def initial(params: Any) -> Any:
        return problem.initial(params, data) if callable(problem.initial) else jnp.asarray(problem.initial)

    y0, unravel = ravel_pytree(initial(params))
    n = y0.size

    def flat_field(t: Any, y: Any, theta: Any) -> Any:
        return ravel_pytree(problem.vector_field(t, unravel(y), merge(unravel_used(theta)), data))[0]

    @jax.jit
    def forward(t: Any, y: Any) -> Any:
        return flat_field(t, y, theta)

    @jax.jit
    def augmented(t: Any, z: Any) -> Any:
        dy, pull = jax.vjp(lambda y, theta: flat_field(t, y, theta), z[:n], theta)
        of_y, of_theta = pull(z[n : 2 * n])
        return jnp.concatenate([dy, -of_y, -of_theta])

    def flat_loss(ys: Any, params: Any) -> Any:
        return problem.loss(jax.vmap(unravel)(ys), params, data)

    loss = jax.jit(jax.value_and_grad(flat_loss, argnums=(0, 1)))

    @jax.jit
    def total(direct: Any, a_y: Any, a_theta: Any) -> Any:
        (through_y0,) = jax.vjp(lambda params: ravel_pytree(initial(params))[0], params)[1](a_y)
        mine = iter(unravel_used(a_theta))
        through_field = [next(mine) if flag else 0 * leaf for leaf, flag in zip(leaves, flags, strict=True)]
        return [a + b + c for a, b, c in zip(tree.values(direct), tree.values(through_y0), through_field, strict=True)]

    def run() -> tuple[float, np.ndarray, list[np.ndarray]]:
        ts = problem.ts
        start = np.asarray(ravel_pytree(initial(params))[0])
        found = solve_ivp(
            lambda t, y: np.asarray(forward(t, y)), (ts[0], ts[-1]), start, t_eval=ts, rtol=rtol, atol=atol
        )
        ys = found.y.T
        value, (of_ys, direct) = loss(ys, params)
        of_ys = np.asarray(of_ys)
        z = np.zeros(2 * n + theta.size)
        z[n : 2 * n] = of_ys[-1]
        for i in range(len(ts) - 1, 0, -1):
            z[:n] = ys[i]
            back = solve_ivp(lambda t, z: np.asarray(augmented(t, z)), (ts[i], ts[i - 1]), z, rtol=rtol, atol=atol)
            z = back.y[:, -1].copy()
            z[n : 2 * n] += of_ys[i - 1]
        a_y = z[n : 2 * n]
        return float(value), a_y, [np.asarray(leaf) for leaf in total(direct, a_y, z[2 * n :])]

    return run
