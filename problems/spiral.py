"""A neural ODE on the spiral of Chen et al.: sixteen short pieces of one trajectory, fitted at once by a small network.

    truth:  dy/dt = y^3 B,    B = [[-0.1, 2], [-2, -0.1]],    y(0) = (2, 0)
    model:  dy/dt = tanh(y^3 W1 + b1) W2 + b2,    y^3 entry by entry
    loss = mean of (y(t_i) - truth(s + t_i))^2 over pieces that start at times s, and over i

The network (2-50-2) stands part of the way through training: W1 and b1 are drawn, W2 and b2 fit the true slopes along
the trajectory by ridge regression.

Source: Chen, Rubanova, Bettencourt, Duvenaud, *Neural Ordinary Differential Equations*, NeurIPS 2018: the example
`ode_demo.py` of torchdiffeq. Seed 3.
"""

import numpy as np
from scipy.integrate import solve_ivp

from crossbackend import Problem, ops

B = np.array([[-0.1, 2.0], [-2.0, -0.1]])
TIMES = np.linspace(0.0, 1.0, 6)
BATCH, WIDTH = 16, 50


def vector_field(t, y, params, data):
    """Return the network of y cubed, shape (batch, 2)."""
    xp = ops.namespace(y)
    return xp.tanh((y * y * y) @ params["W1"] + params["b1"]) @ params["W2"] + params["b2"]


def loss(ys, params, data):
    """Return the mean squared distance to the pieces of the spiral."""
    xp = ops.namespace(ys)
    return xp.mean((ys - data["pieces"]) ** 2)


def spiral(times):
    """Return the true trajectory at increasing times, shape (n, 2)."""
    field = lambda t, y: (y**3) @ B  # noqa: E731 - one line of mathematics
    return solve_ivp(field, (0.0, times[-1]), [2.0, 0.0], "DOP853", times, rtol=1e-10, atol=1e-10).y.T


def fitted(rng, path):
    """Return the network's parameters: a drawn first layer, and a second one fitted to the slopes along the path."""
    W1, b1 = rng.normal(scale=0.4, size=(2, WIDTH)), rng.normal(size=WIDTH)
    features = np.column_stack([np.tanh(path**3 @ W1 + b1), np.ones(len(path))])
    slopes = path**3 @ B
    ridge = 0.1 * np.eye(WIDTH + 1)
    W2 = np.round(np.linalg.solve(features.T @ features + ridge, features.T @ slopes), 6)  # the same on every machine
    return {"W1": W1, "b1": b1, "W2": W2[:-1], "b2": W2[-1]}


rng = np.random.default_rng(3)
starts = np.sort(rng.choice(100, size=BATCH, replace=False)) * 0.2
grid = np.round(np.arange(0.0, 21.1, 0.2), 10)
path = np.round(spiral(grid), 8)
pieces = path[np.round(starts / 0.2).astype(int)[None, :] + np.arange(len(TIMES))[:, None]]

problem = Problem(
    name="spiral",
    vector_field=vector_field,
    loss=loss,
    params=fitted(rng, path),
    initial=pieces[0],
    ts=TIMES,
    data={"pieces": pieces},
    source="Chen et al., NeurIPS 2018 (torchdiffeq's ode_demo.py)",
)
