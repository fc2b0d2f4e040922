"""A network driven by a clock: where the field depends on t, torchdiffeq carries the adjoint of time and both of its
own norms see it; the paper's seminorm, which does not, needs about half the backward evaluations.

    dy/dt = tanh([y, sin(5 t)] W1 + b1) W2 + b2,    t in [0, 5],    32 states of two entries
    loss = mean of y(5)^2 over all entries

a_t is one number that sums over the batch and swings with the forcing; its error alone rejects steps that y and a_y
accept.

Source: Kidger, Chen, Lyons, *"Hey, that's not an ODE": Faster ODE Adjoints via Seminorms*, ICML 2021, on the seminorm;
the field is made for this gallery, seed 4.
"""

import numpy as np

from crossbackend import Problem, ops

BATCH, SIZE, WIDTH = 32, 2, 32


def vector_field(t, y, params, data):
    """Return the network of the state and the forcing, shape (batch, 2)."""
    xp = ops.namespace(y)
    clock = xp.sin(5.0 * t) * params["clock"] + params["b1"]
    return xp.tanh(y @ params["W1"] + clock) @ params["W2"] + params["b2"]


def loss(ys, params, data):
    """Return the mean square of the final state."""
    xp = ops.namespace(ys)
    return xp.mean(ys[-1, ...] ** 2)


rng = np.random.default_rng(4)

problem = Problem(
    name="forced_mlp",
    vector_field=vector_field,
    loss=loss,
    params={
        "W1": rng.normal(size=(SIZE, WIDTH)) / np.sqrt(SIZE + 1),
        "clock": rng.normal(size=WIDTH) / np.sqrt(SIZE + 1),
        "b1": 0.1 * rng.normal(size=WIDTH),
        "W2": rng.normal(size=(WIDTH, SIZE)) / np.sqrt(WIDTH),
        "b2": np.zeros(SIZE),
    },
    initial=rng.normal(size=(BATCH, SIZE)),
    ts=[0.0, 5.0],
    source="Kidger, Chen, Lyons, ICML 2021, on the seminorm; field made for this gallery",
)
