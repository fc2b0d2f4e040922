"""A neural ODE out of an equinox model: it runs on diffrax, and on SciPy."""

import equinox as eqx
import jax
import numpy as np

from crossbackend import Problem, adapt, ops


def call(model, t, y):  # the model takes one state; the problem has a batch of them
    return jax.vmap(model)(y)


def loss(ys, params, data):
    xp = ops.namespace(ys)
    return xp.mean((ys[-1, ...] - data["target"]) ** 2)


model = eqx.nn.MLP(2, 2, width_size=16, depth=1, activation=jax.nn.tanh, key=jax.random.key(0))
field, params = adapt.jax(model, call)  # without `call` where the model is model(y) or model(t, y)
rng = np.random.default_rng(0)

problem = Problem(
    name="equinox_model",
    vector_field=field,
    loss=loss,
    params=params,  # {"layers": {"0": {"bias": ..., "weight": ...}, "1": ...}}
    initial=rng.normal(size=(4, 2)),
    ts=[0.0, 1.0],
    data={"target": rng.normal(size=(4, 2))},
)
