"""The neural CDE with ReLU, as published: the field has a kink wherever a hidden unit changes sign, at times that no
one can declare, and every solver pays for them in rejected steps.

    z(0) = X(0) W + b,    dz/dt = F(z) dX/dt,    t in [0, 11] frames,    6 utterances, 8 hidden channels
    loss = mean cross-entropy of the speaker, from z(11) V + c

As `neural_cde`, but for the activation: linear control, the same parameters, seed 6. Two references agree to 1e-5
only, so the tolerances end there.

Source: Kidger, Chen, Lyons, *"Hey, that's not an ODE": Faster ODE Adjoints via Seminorms*, ICML 2021; the rest as of
`neural_cde`.
"""

import numpy as np
from _neural_cde_model import SOURCE, control, field, initial, loss, parameters, speech

from crossbackend import Problem, ops

HIDDEN, WIDTH, LAYERS = 8, 16, 2


def vector_field(t, z, params, data):
    """Return F(z) dX/dt, shape (batch, hidden)."""
    return field(t, z, params, data, ops.relu)


data = control(*speech(), ops.linear_coefficients)
channels, classes = data["first"].shape[1], data["labels"].shape[1]

problem = Problem(
    name="neural_cde_relu",
    vector_field=vector_field,
    loss=loss,
    params=parameters(np.random.default_rng(6), channels, HIDDEN, WIDTH, LAYERS, classes),
    initial=initial,
    ts=data["knots"][[0, -1]],
    data=data,
    breakpoints=data["knots"][1:-1],
    tolerances=(1e-3, 1e-4, 1e-5),
    source=SOURCE,
)
