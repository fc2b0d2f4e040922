"""A latent ODE: a recurrent encoder reads masked, irregular observations; the loss holds a KL term."""

import numpy as np

from crossbackend import Problem, ops


def encode(params, data):  # a recurrence backwards over (time since, values, mask) -> mean and log of the deviation
    def step(h, x):
        return ops.namespace(h).tanh(x @ params["in"] + h @ params["back"]), None

    hidden, _ = ops.scan(step, data["h0"], data["seen"])
    return hidden @ params["mean"], hidden @ params["log_std"]


def initial(params, data):  # the noise is data: a gradient wants one fixed sample
    mean, log_std = encode(params, data)
    return mean + ops.namespace(mean).exp(log_std) * data["noise"]


def vector_field(t, y, params, data):
    return ops.namespace(y).tanh(y @ params["w1"]) @ params["w2"]


def loss(ys, params, data):  # ys: (times, batch, latent)
    xp = ops.namespace(ys)
    mean, log_std = encode(params, data)
    kl = xp.sum(xp.exp(2 * log_std) + mean**2 - 1 - 2 * log_std) / 2
    return 0.1 * kl + xp.sum(data["mask"] * (ys @ params["read"] - data["values"]) ** 2)


rng = np.random.default_rng(0)
ts, mask = np.sort(rng.uniform(0.0, 2.0, 8)), (rng.uniform(size=(8, 3, 1)) < 0.7).astype(float)
values = mask * np.sin(3 * ts[:, None, None] + np.arange(3)[:, None])
seen = np.concatenate([np.diff(ts, append=ts[-1])[:, None, None] + 0 * mask, values, mask], axis=2)
sizes = {"in": (3, 5), "back": (5, 5), "mean": (5, 2), "log_std": (5, 2), "w1": (2, 6), "w2": (6, 2), "read": (2, 1)}
params = {name: 0.4 * rng.normal(size=size) for name, size in sizes.items()}
data = {"seen": seen[::-1], "values": values, "mask": mask, "noise": rng.normal(size=(3, 2)), "h0": np.zeros((3, 5))}
problem = Problem("latent_ode", vector_field, loss, params, initial, ts, data)
