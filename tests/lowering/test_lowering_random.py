"""Random programs against JAX: the value, and the derivative in both modes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from against_jax import assert_same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax import lax

UNARY = [
    jnp.sin,
    jnp.tanh,
    jax.nn.softplus,
    jax.nn.sigmoid,
    jnp.negative,
    jnp.square,
    lambda x: x / (1 + x**2),
    lambda x: jnp.exp(-(x**2)),
    lambda x: jnp.sqrt(1 + x**2),
    lambda x: jnp.where(x > 0.3, x, 0.5 * x),
    lambda x: jnp.clip(x, -1.0, 1.0),
    lambda x: jnp.log1p(jnp.abs(x)),
]
MOVES = [
    lambda x: x.T,
    lambda x: x.reshape(-1, 1),
    lambda x: x.reshape(1, -1),
    lambda x: x[::-1],
    lambda x: x[:1],
    lambda x: x[:, -1:],
    lambda x: jnp.pad(x, ((1, 0), (0, 2))),
    lambda x: jnp.concatenate([x, 2 * x], 1),
    lambda x: jnp.concatenate([x, x[:1]], 0),
    lambda x: jnp.stack([x[0], x[-1]]),
    lambda x: jnp.roll(x, 1, 0),
    lambda x: x.sum(0, keepdims=True),
    lambda x: x.mean(1)[:, None],
    lambda x: x - x.max(1, keepdims=True),
    lambda x: jnp.cumsum(x, 0),
    lambda x: x[jnp.array([0, -1, 0])],
    lambda x: x.at[0, 0].add(1.5),
    lambda x: jnp.broadcast_to(x[:1], (3, x.shape[1])),
    lambda x: lax.scan(lambda c, r: (0.5 * c + r, c), x[0], x)[1],
    lambda x: lax.cond(x[0, 0] > 0, jnp.cos, lambda v: v * 0.5, x),
]
BINARY = [jnp.add, jnp.subtract, jnp.multiply, jnp.maximum, lambda a, b: a / (1.5 + b**2), jnp.arctan2]

step = st.one_of(
    st.tuples(st.just("unary"), st.integers(0, len(UNARY) - 1), st.integers(0, 9)),
    st.tuples(st.just("move"), st.integers(0, len(MOVES) - 1), st.integers(0, 9)),
    st.tuples(st.just("binary"), st.integers(0, len(BINARY) - 1), st.integers(0, 9)),
    st.tuples(st.just("dot"), st.integers(0, 1), st.integers(0, 9)),
)


def broadcasts(a, b):
    return all(m == n or 1 in (m, n) for m, n in zip(a.shape, b.shape, strict=True))


def build(steps):
    """Return a function of two matrices that runs the steps on a growing stack of values."""

    def function(x, w):
        stack = [x, w]
        for kind, which, other in steps:
            top, second = stack[-1], stack[other % len(stack)]
            if kind == "unary":
                new = UNARY[which](top)
            elif kind == "move":
                new = MOVES[which](top)
            elif kind == "binary":
                new = BINARY[which](top, second if broadcasts(top, second) else top)
            else:
                new = top @ (second if second.shape[0] == top.shape[1] else top.T) if which else second.T @ second
            if new.size > 400:
                new = new[:2, :2]
            stack.append(jnp.tanh(new) if kind == "dot" else new)
        return stack[-1], sum(value.sum() for value in stack[2:])

    return function


@settings(max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=st.lists(step, min_size=1, max_size=7),
    shapes=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)),
    seed=st.integers(0, 1000),
    static=st.booleans(),
)
def test_random_programs(steps, shapes, seed, static):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=shapes[:2]), rng.normal(size=shapes[1:])
    function = build(steps)

    def everything(x, w):
        out, pull = jax.vjp(function, x, w)
        weights = jax.tree_util.tree_map(lambda o: jnp.cos(jnp.arange(o.size, dtype=float)).reshape(o.shape), out)
        _, tangent = jax.jvp(function, (x, w), (jnp.ones_like(x), jnp.cos(w)))
        return out, pull(weights), tangent

    assert_same(everything, {"x": x, "w": w}, static=("w",) if static else (), rtol=1e-11)
