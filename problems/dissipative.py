"""A field on which the backsolve adjoint is wrong at every tolerance, in every library, without a word: the solution
forgets where it came from, so that solving backwards cannot find the way.

    dy/dt = 2 tanh(tanh(y^3 W1 + b1) W2),    y = (u, v),    t in [0, 5],    8 states
    loss = mean of |y(5) - (1, 1/2)|^2

The network is fitted to a fast pull of u towards a line and a slow drift of v, du/dt = -10 (u - 1 - 0.3 v),
dv/dt = 0.5 (u - 1) - 0.2 v. Backwards the pull pushes: an error grows as exp(10 t), and past 1e-10 exp(50) no tolerance
helps; the reverse solve leaves the line and walks off at the bounded speed 2. The adjoint of the slow v follows it
there, and the gradient is off by as much as its own size and more. Take an adjoint that keeps the forward solution.

Source: made for this gallery, seed 5. On the failure: Gholami, Keutzer, Biros, *ANODE: Unconditionally Accurate
Memory-Efficient Gradients for Neural ODEs*, IJCAI 2019.
"""

import numpy as np

from crossbackend import Problem, ops

BATCH, WIDTH, BOUND = 8, 32, 2.0


def vector_field(t, y, params, data):
    """Return the network of y cubed, shape (batch, 2), every entry within the bound."""
    xp = ops.namespace(y)
    return BOUND * xp.tanh(xp.tanh((y * y * y) @ params["W1"] + params["b1"]) @ params["W2"])


def loss(ys, params, data):
    """Return the mean squared distance of the final states to the goal."""
    xp = ops.namespace(ys)
    return xp.mean((ys[-1, ...] - data["goal"]) ** 2)


def fitted(rng):
    """Return the network's parameters: a drawn first layer, and a second one fitted to the pull and the drift."""
    W1, b1 = rng.normal(size=(2, WIDTH)), rng.normal(size=WIDTH)
    points = rng.uniform([0.3, -1.3], [1.7, 1.3], size=(2000, 2))
    u, v = points.T
    slopes = np.stack([-10 * (u - 1 - 0.3 * v), 0.5 * (u - 1) - 0.2 * v], axis=1)
    wanted = np.arctanh(np.clip(slopes / BOUND, -0.95, 0.95))
    features = np.tanh(points**3 @ W1 + b1)
    W2 = np.linalg.solve(features.T @ features + np.eye(WIDTH), features.T @ wanted)
    return {"W1": W1, "b1": b1, "W2": np.round(W2, 6)}  # the same on every machine


v0 = np.linspace(-1.0, 1.0, BATCH)

problem = Problem(
    name="dissipative",
    vector_field=vector_field,
    loss=loss,
    params=fitted(np.random.default_rng(5)),
    initial=np.stack([1 + 0.3 * v0 + 0.3 * np.cos(np.arange(BATCH)), v0], axis=1),
    ts=[0.0, 5.0],
    data={"goal": np.array([1.0, 0.5])},
    source="made for this gallery; on the failure: Gholami, Keutzer, Biros, IJCAI 2019",
)
