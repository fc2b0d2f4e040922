"""A neural CDE: dz = F(z) dX, X the cubic path through a time series, classified at the end."""

import numpy as np

from crossbackend import Problem, ops


def vector_field(t, z, params, data):  # z: (batch, hidden); F(z): (batch, hidden, channels)
    xp = ops.namespace(z)
    hidden = ops.softplus(z @ params["w1"] + params["b1"])
    matrix = xp.reshape(xp.tanh(hidden @ params["w2"]), (*z.shape, 2))
    slope = ops.interpolate(t, data["knots"], data["path"], derivative=1)  # (batch, channels)
    return xp.sum(matrix * slope[:, None, :], axis=-1)


def initial(params, data):
    return data["first"] @ params["start"]


def loss(ys, params, data):  # cross-entropy of two classes
    xp = ops.namespace(ys)
    scores = ops.log_softmax(ys[-1, ...] @ params["read"])
    return -xp.mean(xp.sum(scores * data["labels"], axis=-1))


rng = np.random.default_rng(0)
knots = np.arange(6.0)
labels = np.arange(4) % 2
series = np.sin((1.0 + labels) * knots[:, None]) + 0.1 * rng.normal(size=(6, 4))
values = np.stack([np.broadcast_to(knots[:, None] / 5, series.shape), series], axis=2)  # time is a channel: (6, 4, 2)
shapes = {"w1": (4, 8), "b1": (8,), "w2": (8, 8), "start": (2, 4), "read": (4, 2)}
params = {name: 0.5 * rng.normal(size=shape) for name, shape in shapes.items()}
path = ops.hermite_coefficients(knots, values)
data = {"knots": knots, "path": path, "first": values[0], "labels": np.eye(2)[labels]}
# The path's second derivative jumps at the knots: told so, a solver steps onto them and not across.
problem = Problem("neural_cde", vector_field, loss, params, initial, [0.0, 5.0], data, breakpoints=[1.0, 2.0, 3.0, 4.0])
