"""A gradient by differentiating through the steps of diffrax's Dopri8: a route of the reference, not a contestant."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossbackend import ops, tree
from crossbackend.backends.contract import THROUGH_STEPS, by_name, pieces
from crossbackend.bound import Bound
from crossbackend.problem import Problem
from crossbackend.record import Gradient


def through_steps(problem: Problem, rtol: float, atol: float) -> Gradient:
    """Return the gradient of a problem, its interval split at outputs and breakpoints."""
    import diffrax
    import jax
    import jax.numpy as jnp

    bound = Bound(problem, "jax")
    chain = pieces(problem)
    times = [chain[0][0], *(end for _, end, _, _ in chain)]
    index = np.array([times.index(t) for t in problem.ts])
    # Where y stands still its error asks for no steps, and the derivative would be as blind as the steps.
    longest = (times[-1] - times[0]) / THROUGH_STEPS

    def loss(y0: Any, params: Any) -> Any:
        def piece(y: Any, row: Any) -> tuple[Any, Any]:
            solution = diffrax.diffeqsolve(
                diffrax.ODETerm(lambda t, y, args: bound.field(jnp.clip(t, row[2], row[3]), y, args, bound.data)),
                diffrax.Dopri8(), row[0], row[1], None, y, params, saveat=diffrax.SaveAt(t1=True),
                stepsize_controller=diffrax.PIDController(rtol, atol, dtmax=longest), max_steps=16384,
            )  # fmt: skip
            y = jax.tree_util.tree_map(lambda leaf: leaf[0], solution.ys)
            return y, y

        _, ends = jax.lax.scan(piece, y0, bound.convert(np.array(chain)))
        ys = jax.tree_util.tree_map(lambda a, b: jnp.concatenate([a[None], b])[index], y0, ends)
        return bound.loss(ys, params, bound.data)

    @jax.jit
    def everything(params: Any) -> Any:
        y0, pull = jax.vjp(lambda p: bound.initial(p, bound.data), params)
        value, (of_y0, direct) = jax.value_and_grad(loss, argnums=(0, 1))(y0, params)
        return value, of_y0, jax.tree_util.tree_map(jnp.add, direct, pull(of_y0)[0])

    with ops.precision("jax", "float64"):
        value, of_y0, of_params = jax.block_until_ready(everything(bound.params))
        arrays = (by_name(tree.map_leaves(ops.to_numpy, part)) for part in (of_y0, of_params))
        return Gradient(float(value), *arrays)
