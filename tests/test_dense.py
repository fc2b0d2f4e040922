"""The dense output seen from outside is the solver's own."""

import numpy as np
from scipy.integrate import RK45

from crossbackend.dense import DenseStep


def test_the_quartic_is_scipys(rng):
    seen = []

    def field(t, y):
        slope = np.array([y[1], -np.sin(y[0]) + 0.3 * np.cos(t)])
        seen.append(slope)
        return slope

    solver = RK45(field, 0.0, np.array([1.0, 0.2]), 5.0, rtol=1e-5, atol=1e-8)
    start = seen[0]
    for _ in range(3):
        seen.clear()
        t0, y0 = solver.t, solver.y.copy()
        solver.step()
        step = DenseStep()
        step.stage(start)
        step.begin()
        for slope in seen[-6:]:  # those of rejected attempts come before
            step.stage(slope)
        start = seen[-1]
        for t in rng.uniform(t0, solver.t, 4):
            np.testing.assert_allclose(step.evaluate(t0, solver.t, y0, t), solver.dense_output()(t), rtol=1e-13)


def test_rejected_attempts_and_the_probe_are_forgotten():
    step = DenseStep()
    for k in range(2):  # f(t0), then the probe of the first step
        step.stage(np.array([float(k)]))
    step.begin()
    for _ in range(6):
        step.stage(np.array([np.nan]))
    step.reject()
    step.begin()
    for _ in range(6):
        step.stage(np.array([0.0]))
    assert step.first == 0.0
    np.testing.assert_array_equal(step.evaluate(0.0, 1.0, np.array([2.0]), 0.3), [2.0])
