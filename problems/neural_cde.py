"""A neural CDE on real speech: its control has a corner at every frame. Told so, a solver takes one to two steps a
frame and every norm costs the same down to rtol 1e-6; SciPy's RK45 cannot be told, and needs 18 times the evaluations
for a worse gradient.

    z(0) = X(0) W + b,    dz/dt = F(z) dX/dt,    t in [0, 11] frames,    6 utterances, 8 hidden channels
    loss = mean cross-entropy of the speaker, from z(11) V + c

X has 13 channels, the time and 12 cepstral coefficients, and is linear between frames; an utterance shorter than the
longest stands still after its end. F is a network 8-16-16-(8 x 13), softplus and a final tanh, seed 6. The paper's
field has ReLU (`neural_cde_relu`); softplus is smooth, so that the gradient has a reference.

Source: Kidger, Chen, Lyons, *"Hey, that's not an ODE": Faster ODE Adjoints via Seminorms*, ICML 2021; Kidger,
Morrill, Foster, Lyons, *Neural Controlled Differential Equations for Irregular Time Series*, NeurIPS 2020. Data:
Kudo, Toyama, Shimbo, *Japanese Vowels*, UCI Machine Learning Repository, CC BY 4.0; see `japanese_vowels.csv`.
"""

import numpy as np
from _neural_cde_model import SOURCE, control, field, initial, loss, parameters, speech

from crossbackend import Problem, ops

HIDDEN, WIDTH, LAYERS = 8, 16, 2


def vector_field(t, z, params, data):
    """Return F(z) dX/dt, shape (batch, hidden)."""
    return field(t, z, params, data, ops.softplus)


data = control(*speech(), ops.linear_coefficients)
channels, classes = data["first"].shape[1], data["labels"].shape[1]

problem = Problem(
    name="neural_cde",
    vector_field=vector_field,
    loss=loss,
    params=parameters(np.random.default_rng(6), channels, HIDDEN, WIDTH, LAYERS, classes),
    initial=initial,
    ts=data["knots"][[0, -1]],
    data=data,
    breakpoints=data["knots"][1:-1],
    source=SOURCE,
)
