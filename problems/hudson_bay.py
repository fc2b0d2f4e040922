"""Predator and prey fitted to real data: hare and lynx pelts of the Hudson's Bay Company, 1900 to 1920. Few
parameters, many output times, and an initial state that is fitted too.

    dhare/dt = hare (alpha - beta lynx),    dlynx/dt = lynx (-gamma + delta hare)
    loss = mean of (log y(t_i) - log counts_i)^2,    t in years since 1900, counts in thousands of pelts

`growth` is (alpha, -gamma), `coupling` is (-beta, delta), `log_y0` the logarithm of the state in 1900: all near the
posterior means of Carpenter's fit.

Source: Lotka, *Elements of Physical Biology*, 1925; Volterra, *Fluctuations in the abundance of a species considered
mathematically*, Nature 118, 1926. Data: Hewitt, *The Conservation of the Wild Life of Canada*, 1921, as used by
Carpenter, *Predator-Prey Population Dynamics: the Lotka-Volterra model in Stan*, 2018; see `hudson_bay.csv`.
"""

from pathlib import Path

import numpy as np

from crossbackend import Problem, ops

YEARS, *COUNTS = np.loadtxt(Path(__file__).with_suffix(".csv"), delimiter=",", skiprows=7, unpack=True)


def vector_field(t, y, params, data):
    """Return the growth of (hare, lynx), each times its own size."""
    xp = ops.namespace(y)
    return y * (params["growth"] + params["coupling"] * xp.flip(y))


def initial(params, data):
    """Return the state in 1900, positive by construction."""
    xp = ops.namespace(params)
    return xp.exp(params["log_y0"])


def loss(ys, params, data):
    """Return the mean squared residual of the logarithms."""
    xp = ops.namespace(ys)
    return xp.mean((xp.log(ys) - data["log_counts"]) ** 2)


problem = Problem(
    name="hudson_bay",
    vector_field=vector_field,
    loss=loss,
    params={
        "growth": np.array([0.55, -0.80]),
        "coupling": np.array([-0.028, 0.024]),
        "log_y0": np.log([33.9, 5.9]),
    },
    initial=initial,
    ts=YEARS - 1900.0,
    data={"log_counts": np.log(np.stack(COUNTS, axis=1))},
    source="Lotka (1925), Volterra (1926); data of Hewitt (1921) as in Carpenter's Stan case study (2018)",
)
