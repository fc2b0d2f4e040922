"""A nonlinear oscillator over most of a period: mildly dissipative, and still stable backwards.

    dx/dt = v,    dv/dt = mu (1 - x^2) v - x
    loss = mean of (x(t_i) - recorded_i)^2

The damping mu = 0.5 is fitted to a noisy recording of an oscillator with mu = 0.6. For mu = 1 the reverse solve, which
the backsolve adjoint needs, loses three digits by t = 6; for mu = 2 it blows up.

Source: van der Pol, *On relaxation-oscillations*, Philosophical Magazine 2, 1926. The recording is made here, seed 2.
"""

import numpy as np
from scipy.integrate import solve_ivp

from crossbackend import Problem, ops

TIMES = np.linspace(0.0, 6.0, 13)
Y0 = np.array([1.5, 0.0])


def vector_field(t, y, params, data):
    """Return (dx/dt, dv/dt)."""
    xp = ops.namespace(y)
    x, v = y[0], y[1]
    return xp.stack([v, params["mu"] * (1 - x * x) * v - x])


def loss(ys, params, data):
    """Return the mean squared distance of x to the recording."""
    xp = ops.namespace(ys)
    return xp.mean((ys[:, 0] - data["recorded"]) ** 2)


def recording():
    """Return x at the output times for mu = 0.6, with noise of size 0.05."""
    truth = solve_ivp(
        lambda t, y: [y[1], 0.6 * (1 - y[0] ** 2) * y[1] - y[0]],
        (0.0, 6.0),
        Y0,
        "DOP853",
        TIMES,
        rtol=1e-10,
        atol=1e-10,
    )
    noise = np.random.default_rng(2).normal(size=len(TIMES))
    return np.round(truth.y[0] + 0.05 * noise, 6)  # the same on every machine


problem = Problem(
    name="van_der_pol",
    vector_field=vector_field,
    loss=loss,
    params={"mu": np.array(0.5)},
    initial=Y0,
    ts=TIMES,
    data={"recorded": recording()},
    source="van der Pol (1926)",
)
