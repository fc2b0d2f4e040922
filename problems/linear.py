"""A linear system, whose gradient is known in closed form: what every backend must get right.

    dy/dt = A y,    y(0) = y0,    loss = 1/2 sum over i of |y(t_i) - target_i|^2

With y(t) = exp(A t) y0, and L the Frechet derivative of the matrix exponential, the gradient is

    dloss/dy0 = sum over i of exp(A t_i)' r_i,    dloss/dA = sum over i of t_i L(A' t_i, r_i y0')

where r_i = y(t_i) - target_i. A turns and damps a little, so that the solve is stable in both directions.

Source: Al-Mohy, Higham, *Computing the Frechet Derivative of the Matrix Exponential, with an Application to Condition
Number Estimation*, SIAM J. Matrix Anal. Appl. 30 (2009), as `scipy.linalg.expm_frechet`.
"""

import numpy as np

from crossbackend import Problem, ops

TIMES = np.linspace(0.0, 5.0, 6)
Y0 = np.array([1.0, -0.5, 0.8])
A = np.array([[-0.05, 1.0, 0.2], [-1.0, -0.1, 0.4], [-0.2, -0.4, 0.0]])


def vector_field(t, y, params, data):
    """Return A y."""
    return params["A"] @ y


def loss(ys, params, data):
    """Return half the summed squares of the distance to the targets."""
    xp = ops.namespace(ys)
    return 0.5 * xp.sum((ys - data["targets"]) ** 2)


def exact(params, data):
    """Return loss and gradient in closed form."""
    from scipy.linalg import expm, expm_frechet

    value, of_y0, of_a = 0.0, np.zeros_like(Y0), np.zeros_like(A)
    for t, target in zip(TIMES, data["targets"], strict=True):
        flow = expm(params["A"] * t)
        residual = flow @ Y0 - target
        value += 0.5 * residual @ residual
        of_y0 += flow.T @ residual
        of_a += t * expm_frechet(params["A"].T * t, np.outer(residual, Y0), compute_expm=False)
    return {"loss": value, "y0": of_y0, "params": {"A": of_a}}


rng = np.random.default_rng(1)

problem = Problem(
    name="linear",
    vector_field=vector_field,
    loss=loss,
    params={"A": A},
    initial=Y0,
    ts=TIMES,
    data={"targets": rng.normal(size=(len(TIMES), 3))},
    exact=exact,
    source="closed form: Al-Mohy and Higham, SIAM J. Matrix Anal. Appl. 30 (2009)",
)
