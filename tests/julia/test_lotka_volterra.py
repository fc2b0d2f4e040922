"""Lotka-Volterra: every backend gives the gradient that Julia's own packages gave.

p = (1.5, 1, 3, 1), y0 = (1, 1), loss = sum of squares at t = 0, 0.1, ..., 10. The numbers are of OrdinaryDiffEq 5.46
with DiffEqSensitivity 6.36 on Julia 1.5.3: forward mode through the solver at tolerances of 1e-10. Where they were
noted down, dL/dp[1] stood as -1105.222...; a complex step, which is checked here too, says that it is -1105.122....
"""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from crossbackend import ops, registry
from crossbackend.plan import Plan
from crossbackend.problem import Problem

OF_PARAMS = (69.55371416, -1105.12225683, 1030.65889978, -3627.01786254)
OF_Y0 = (-1039.42851195, -257.99415433)


def field(t, y, params, data):
    xp = ops.namespace(y)
    prey, predators = y[0], y[1]
    a, b, c, d = (params[k] for k in range(4))
    return xp.stack([a * prey - b * prey * predators, -c * predators + d * prey * predators])


PROBLEM = Problem(
    "lotka_volterra", field, lambda ys, params, data: (ys**2).sum(), np.array([1.5, 1.0, 3.0, 1.0]), np.ones(2),
    np.linspace(0.0, 10.0, 101), source="Lotka (1925), Volterra (1926)",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("stepping", ["native", "matched"])
def test_the_gradient_is_that_of_julias_packages(backend, stepping):
    plan = Plan(PROBLEM.name, backend, "default", stepping, 1e-10, 1e-12)
    gradient = registry.get(backend).compile(PROBLEM, plan).solve(1e-10, 1e-12)
    np.testing.assert_allclose(gradient.params[""], OF_PARAMS, rtol=1e-7)
    np.testing.assert_allclose(gradient.y0[""], OF_Y0, rtol=1e-7)


def test_the_numbers_are_those_of_a_complex_step():
    """d loss(x + ih).imag / h by SciPy's order 8: no subtraction, no adjoint."""

    def loss(p, y0):
        def slope(t, y):
            return [p[0] * y[0] - p[1] * y[0] * y[1], -p[2] * y[1] + p[3] * y[0] * y[1]]

        ts, y0 = PROBLEM.ts, np.array(y0, dtype=complex)
        return (solve_ivp(slope, (ts[0], ts[-1]), y0, "DOP853", ts, rtol=1e-13, atol=1e-14).y ** 2).sum()

    at, tiny = np.array([1.5, 1.0, 3.0, 1.0, 1.0, 1.0], dtype=complex), 1e-30
    found = [loss(*np.split(at + 1j * tiny * np.eye(6)[k], [4])).imag / tiny for k in range(6)]
    np.testing.assert_allclose(found, [*OF_PARAMS, *OF_Y0], rtol=1e-8)
