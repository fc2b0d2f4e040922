"""A continuous normalising flow on a density in the plane: points of two moons, an MLP field, and the log-density an
integral that feeds back into nothing.

    dz/dt = f(t, z),    dlogp/dt = -tr(df/dz) ~ -v' (df/dz) v,    t in [0, 1]
    loss = mean over points of -(log N(z(1); 0, I) - logp(1)) / (2 log 2),    in bits per dimension

f is a network of (z, t), tanh between its layers; v holds one fixed vector with entries +-1 for every point
(Hutchinson's estimator). No derivative depends on logp: norms ending in `-integrals` leave logp and its adjoint out, on
the forward pass and on the backward one.

Source: Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud, *FFJORD*, ICLR 2019. Points and parameters are drawn here,
seed 7.
"""

import math

import numpy as np

from crossbackend import Problem, initialise, ops

BATCH, WIDTH, GAIN = 32, 16, 3.0


def vector_field(t, y, params, data):
    """Return the derivatives of z, shape (batch, 2), and of logp, shape (batch,)."""
    xp = ops.namespace(y)

    def network(z):
        x = xp.concat([z, xp.zeros_like(z[:, :1]) + t], axis=1)
        *inner, last = params["field"]
        for layer in inner:
            x = xp.tanh(x @ layer["w"] + layer["b"])
        return x @ last["w"] + last["b"]

    dz, pull = ops.vjp(network, y["z"])
    (back,) = pull(data["v"])
    return {"z": dz, "logp": -xp.sum(back * data["v"], axis=1)}


def initial(params, data):
    """Return the points, and no change of log-density yet."""
    xp = ops.namespace(data["x"])
    return {"z": data["x"], "logp": xp.zeros_like(data["x"][:, 0])}


def loss(ys, params, data):
    """Return the mean over points of the bits per dimension."""
    xp = ops.namespace(ys)
    z, logp = ys["z"][-1, ...], ys["logp"][-1, ...]
    size = int(z.shape[1])
    normal = -0.5 * xp.sum(z * z, axis=1) - 0.5 * size * math.log(2 * math.pi)
    return xp.mean(-(normal - logp) / (size * math.log(2)))


def two_moons(rng, count):
    """Return points of two interleaved half circles with noise of size 0.1, centred, shape (count, 2)."""
    angle = rng.uniform(0.0, np.pi, size=count)
    upper = np.arange(count) % 2 == 0
    curve = np.where(upper, [np.cos(angle), np.sin(angle)], [1.0 - np.cos(angle), 0.5 - np.sin(angle)]).T
    points = curve - [0.5, 0.25] + 0.1 * rng.normal(size=(count, 2))
    return np.round(points, 6)  # the same on every machine


rng = np.random.default_rng(7)
layers = initialise.mlp(rng, (3, WIDTH, WIDTH, 2))

problem = Problem(
    name="cnf_density",
    vector_field=vector_field,
    loss=loss,
    params={"field": [{"w": GAIN * layer["w"], "b": layer["b"]} for layer in layers]},
    initial=initial,
    ts=[0.0, 1.0],
    data={"x": two_moons(rng, BATCH), "v": rng.choice([-1.0, 1.0], size=(BATCH, 2))},
    integrals=["logp"],
    source="Grathwohl et al., ICLR 2019 (FFJORD); points drawn for this gallery",
)
