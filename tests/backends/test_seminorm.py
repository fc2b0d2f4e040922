"""The seminorm on a problem made for it: the right gradient and strictly fewer evaluations."""

import numpy as np
import pytest

from crossbackend import ops, registry
from crossbackend.interpolating import Interpolating
from crossbackend.plan import Plan
from crossbackend.problem import Problem
from crossbackend.record import Status, relative_error


def rotation():
    """The state turns at frequency 2; a_params, an integral along it, is driven at frequency 6."""

    def field(t, y, params, data):
        xp = ops.namespace(y)
        turn = xp.stack([2 * y[1], -2 * y[0], 2 * y[3], -2 * y[2]])
        return turn + params["drive"] * xp.sin(6 * t)

    def loss(ys, params, data):
        return ops.namespace(ys).sum(ys[-1, ...] * data["c"])

    c = np.array([1.0, 2.0, -1.0, 0.5])
    return Problem("rotation", field, loss, {"drive": np.zeros(4)}, np.ones(4), (0.0, 4.0), data={"c": c})


@pytest.mark.parametrize(
    ("full", "semi"), [("default", "seminorm"), ("mixed", "mixed-seminorm"), ("pooled", "pooled-seminorm")]
)
def test_fewer_evaluations_and_the_right_gradient(backend, full, semi):
    problem = rotation()
    truth, _ = Interpolating(problem).gradient()
    found = {}
    for norm in (full, semi):
        plan = Plan("rotation", backend, norm, "native", 1e-6, 1e-8)
        found[norm] = registry.get(backend).compile(problem, plan).record(1e-6, 1e-8)
        assert found[norm].status == Status.OK
        assert relative_error(found[norm].gradient.arrays, truth.arrays) < 1e-5
    assert found[semi].backward.nfe < 0.75 * found[full].backward.nfe
    assert found[semi].forward.nfe == found[full].forward.nfe
