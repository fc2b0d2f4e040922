"""A field on which the backsolve adjoint is wrong everywhere and no library says so: the solution forgets where it came
from, so that solving backwards cannot find the way.

    dy/dt = 3 tanh(tanh(y^3 W1 + b1) W2),    t in [0, 6],    8 states of two entries
    loss = mean of |y(6) - (1, 0)|^2
"""

import numpy as np

from crossbackend import ops
from crossbackend.problem import Problem

BATCH, WIDTH, BOUND = 8, 48, 3.0
OMEGA, PULL = 1.5, 4.0


def vector_field(t, y, params, data):
    """Return the network of y cubed, every entry within [-3, 3]."""
    xp = ops.namespace(y)
    return BOUND * xp.tanh(xp.tanh((y * y * y) @ params["W1"] + params["b1"]) @ params["W2"])


def loss(ys, params, data):
    """Return the mean squared distance of the final states to (1, 0)."""
    xp = ops.namespace(ys)
    return xp.mean((ys[-1, ...] - data["goal"]) ** 2)


def fitted(rng):
    """Return a network whose field is near that of a pull to the unit circle and a turn along it."""
    W1, b1 = 2.0 * rng.normal(size=(2, WIDTH)), rng.normal(size=WIDTH)
    points = rng.uniform(-1.4, 1.4, size=(2000, 2))
    radius = np.linalg.norm(points, axis=1, keepdims=True)
    slopes = PULL * (1 - radius**2) * points + OMEGA * points[:, ::-1] * np.array([-1.0, 1.0])
    wanted = np.arctanh(np.clip(slopes / BOUND, -0.95, 0.95))
    features = np.tanh(points**3 @ W1 + b1)
    W2 = np.linalg.solve(features.T @ features + 1.0 * np.eye(WIDTH), features.T @ wanted)
    return {"W1": W1, "b1": b1, "W2": np.round(W2, 6)}


rng = np.random.default_rng(5)
angles = 2 * np.pi * np.arange(BATCH) / BATCH

problem = Problem(
    name="dissipative",
    vector_field=vector_field,
    loss=loss,
    params=fitted(rng),
    initial=0.7 * np.stack([np.cos(angles), np.sin(angles)], axis=1),
    ts=[0.0, 6.0],
    data={"goal": np.array([1.0, 0.0])},
    source="made for this gallery",
)
