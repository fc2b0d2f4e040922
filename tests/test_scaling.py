"""A loss of another size: the same gradient, and an adjoint that starts at size 1."""

import numpy as np
import pytest

from crossbackend import ops, registry
from crossbackend.flags import below_atol, flags
from crossbackend.plan import Plan
from crossbackend.problem import Problem
from crossbackend.record import from_outcome, relative_error
from crossbackend.scaling import divided, loss_scale, scaled
from tests import cases
from tests.backends import solves


def mean_of_many(pairs=50_000):
    """A rotation by a matrix on many pairs, and the mean over all entries: the adjoint is about 1 / pairs."""
    y0 = np.stack([np.ones(pairs), np.linspace(-1, 1, pairs)])

    def field(t, y, params, data):
        return params["A"] @ y

    def loss(ys, params, data):
        return ops.namespace(ys).mean(ys[-1, ...] ** 2)

    return Problem("mean_of_many", field, loss, {"A": np.array([[0.0, 1.0], [-1.0, 0.0]])}, y0, (0.0, 2.0))


def carried(problem, backend, rtol=1e-3, atol_factor=1e-1):
    """The record of a native plan, and the names of its flags."""
    plan = Plan(problem.name, backend, "default", "native", rtol, atol_factor * rtol)
    made = registry.get(backend).compile(problem, plan).record(plan.rtol, plan.atol)
    record = from_outcome("", plan.as_dict(), made, {})
    return record, [flag.name for flag in flags([record], {"ts": list(problem.ts)}, {"status": "ok"}, [])]


def test_a_mean_over_1e5_entries_is_below_atol_and_its_scaled_loss_is_not(backend):
    problem = mean_of_many()
    record, names = carried(problem, backend)
    assert below_atol(record) == 1.0
    assert "adjoint_below_atol" in names
    library = registry.get(backend).library
    factor = loss_scale(problem, library, {"": record.arrays["forward/ys"]})
    ys = record.arrays["forward/ys"][-1]
    assert factor == pytest.approx(1 / np.sqrt(np.mean((2 * ys / ys.size) ** 2)), rel=1e-12)
    other, names = carried(scaled(problem, factor), backend)
    assert below_atol(other) == 0.0
    assert "adjoint_below_atol" not in names
    assert other.backward["nfe"] >= record.backward["nfe"]


def test_the_gradient_divided_again_is_the_gradient(backend):
    """To the solver's error: the scaled adjoint takes other steps."""
    for name in ("flow",) if backend == "diffrax" else ("flow", "latent", "decay"):
        problem = solves.problem(name)
        plan = Plan(problem.name, backend, "default", "native", 1, 1)
        made = registry.get(backend).compile(scaled(problem, 1e3), plan)
        found = divided(made.solve(1e-9, 1e-11), 1e3)
        truth = solves.compiled(name, backend, "default", "native").solve(1e-9, 1e-11)
        assert found.loss == pytest.approx(truth.loss, rel=1e-12)
        assert relative_error(found.arrays, truth.arrays) < 1e-6


def test_the_scale_is_that_of_the_largest_output():
    """dL/dys of a mean of squares over 8 outputs is 2 y / size."""
    problem = cases.forced(8)
    ys = np.random.default_rng(0).standard_normal((8, 4, 2))
    expected = 1 / np.max(np.sqrt(np.mean((2 * ys / ys.size).reshape(8, -1) ** 2, axis=1)))
    for library in ("torch", "jax"):
        assert loss_scale(problem, library, {"": ys}) == pytest.approx(expected, rel=1e-12)


def test_a_dict_state():
    problem = cases.flow()
    ys = {"z": np.ones((3, 5, 2)), "logp": np.zeros((3, 5))}
    # mean over 5 of |z|^2 / 2 - logp at the last output: dL/dz = z / 5, dL/dlogp = -1 / 5
    expected = 1 / np.sqrt((10 * (1 / 5) ** 2 + 5 * (1 / 5) ** 2) / 15)
    assert loss_scale(problem, "jax", ys) == pytest.approx(expected, rel=1e-12)


def test_a_loss_that_does_not_depend_on_the_solution_has_no_scale():
    problem = cases.decay().replace(loss=lambda ys, params, data: 0 * ops.namespace(ys).sum(ys) + params["rate"][0])
    assert loss_scale(problem, "jax", {"": np.ones((2, 1))}) is None


def test_ported_losses_are_scaled_in_both_libraries():
    case = cases.decay()
    ported = case.replace(loss={"torch": case.loss, "jax": case.loss})
    twice = scaled(ported, 2.0)
    assert set(twice.loss) == {"torch", "jax"}
    assert twice.exact is None
    assert float(twice.loss["jax"](np.ones((2, 1)), {}, {})) == 2.0


def test_an_adapted_loss_keeps_its_library():
    class OnlyTorch:
        library = "torch"

        def __call__(self, ys, params, data):
            return (ys**2).sum()

    problem = cases.decay().replace(loss=OnlyTorch(), exact=None)
    assert scaled(problem, 2.0).lacks("jax") == ("loss",)
