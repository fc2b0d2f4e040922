"""A neural CDE with a smooth control: its field depends on t, so torchdiffeq's `"seminorm"` measures the adjoint of
time and saves next to nothing, where the paper's seminorm saves a third of the backward evaluations at rtol 1e-8 and
1e-10. At 1e-6 it takes three times as many: torchdiffeq loses its stops on these regular knots.

    z(0) = X(0) W + b,    dz/dt = F(z) dX/dt,    t in [0, 11] frames,    6 utterances, 8 hidden channels
    loss = mean cross-entropy of the speaker, from z(11) V + c

As `neural_cde`, but X is the cubic Hermite spline with backward differences. Its slope is continuous and its second
derivative jumps at the frames, which are therefore breakpoints still; at the end of an utterance the slope jumps to
zero. Seed 6, the same parameters.

Source: the spline, Morrill, Kidger, Yang, Lyons, *Neural Controlled Differential Equations for Online Prediction
Tasks*, 2021; the rest as of `neural_cde`.
"""

import numpy as np
from _neural_cde_model import SOURCE, control, field, initial, loss, parameters, speech

from crossbackend import Problem, ops

HIDDEN, WIDTH, LAYERS = 8, 16, 2


def vector_field(t, z, params, data):
    """Return F(z) dX/dt, shape (batch, hidden)."""
    return field(t, z, params, data, ops.softplus)


data = control(*speech(), ops.hermite_coefficients)
channels, classes = data["first"].shape[1], data["labels"].shape[1]

problem = Problem(
    name="neural_cde_hermite",
    vector_field=vector_field,
    loss=loss,
    params=parameters(np.random.default_rng(6), channels, HIDDEN, WIDTH, LAYERS, classes),
    initial=initial,
    ts=data["knots"][[0, -1]],
    data=data,
    breakpoints=data["knots"][1:-1],
    source=SOURCE,
)
