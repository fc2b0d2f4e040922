"""A problem whose every evaluation takes a while, so that a process can be ended in the middle of its solve."""

import numpy as np

from crossbackend import Problem, ops


def field(t, y, params, data):
    xp = ops.namespace(y)
    return -params["rate"] * y + xp.cos(10 * t) * xp.tanh(xp.matmul(data["w"], y))


problem = Problem(
    "slow", field, lambda ys, params, data: (ys[-1, ...] ** 2).sum(), {"rate": np.array(0.1)}, np.ones(600),
    [0.0, 200.0], {"w": np.random.default_rng(0).normal(size=(600, 600)) / 20}, tolerances=[1e-3],
)  # fmt: skip
