"""The parts of a gradient's error, each computed alone: they add up, and each is what its name says."""

from dataclasses import replace

import numpy as np
import pytest

from crossbackend import registry
from crossbackend.error_split import ErrorSplit
from crossbackend.interpolating import NoReference
from crossbackend.load import load
from crossbackend.plan import Plan
from crossbackend.record import ERROR_PARTS, Gradient, relative_error
from tests import cases

PROBLEMS = {
    **{name: lambda name=name: load(name) for name in ("linear", "spiral", "forced_mlp")},
    "breakpoints": cases.piecewise, "a dict state": cases.flow, "an encoder": cases.latent,
}  # fmt: skip


def split(problem, norm="default", rtol=1e-6, stepping="native", engine="numpy"):
    plan = Plan(problem.name, "scipy", norm, stepping, rtol, 1e-2 * rtol)
    outcome = registry.get("scipy").compile(problem, plan).record(rtol, 1e-2 * rtol)
    made = ErrorSplit(problem, engine)
    return made, outcome, made.split(outcome)


@pytest.mark.parametrize("norm", ["default", "mixed-seminorm"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_parts_add_up_to_the_whole(name, norm):
    """At most 1 % of its norm is left over; a thousandth of that is what these problems leave."""
    made, outcome, found = split(PROBLEMS[name](), norm)
    assert found["residual"] <= 0.01
    assert found["whole"] == pytest.approx(relative_error(outcome.gradient.arrays, made.exact.arrays), rel=1e-9)
    assert sum(found["share"].values()) == pytest.approx(1.0, abs=2e-3)
    assert set(found["parts"]) == set(found["share"]) == set(ERROR_PARTS)
    assert found["replay"] <= 1e-13  # the plan's own steps, taken again, give its own gradient
    # No part is a name for another one, and none is nothing.
    values = list(found["parts"].values())
    assert min(values) > 1e-12
    assert len({f"{value:.3g}" for value in values}) == len(values)


def test_the_whole_is_the_error_against_the_closed_form():
    problem = load("linear")
    _, outcome, found = split(problem)
    exact = problem.exact(problem.params, problem.data)
    truth = {"y0": exact["y0"], "params/A": exact["params"]["A"]}
    assert found["whole"] == pytest.approx(relative_error(outcome.gradient.arrays, truth), rel=1e-5)


def test_a_forward_solve_without_error_leaves_no_forward_part():
    """The exact ys in place of the plan's: that part vanishes, the other three stay."""
    problem = load("linear")
    made, outcome, found = split(problem)
    exact_ys = replace(outcome, ys={"": made.ys})
    again = made.split(exact_ys)
    assert found["parts"]["forward"] > 1e-8
    assert again["parts"]["forward"] < 1e-11
    for name in ("reconstruction", "a_y", "a_params"):
        assert again["parts"][name] == found["parts"][name]


def test_the_integrals_part_is_in_the_parameters_alone():
    problem = cases.forced(2)
    made, outcome, found = split(problem, "mixed-seminorm", 1e-4)
    steps = made._steps(outcome.backward.t0, outcome.backward.t1, outcome.backward.accepted)
    n = made.n

    def integral(t0, t1, z):
        z = np.concatenate([made._y(t0), z[n:]])
        end = made._exactly(t0, t1, z)
        end[2 * n :] = made._step(t0, t1, z)[2 * n :]
        return end

    gradient = made._gradient(steps, made.ys, integral)
    assert relative_error(gradient.y0, made.exact.y0) < 1e-10
    assert relative_error(gradient.params, made.exact.params) > 1e-7
    assert found["parts"]["a_params"] > 1e-7


def test_the_seminorm_leaves_a_larger_integral_part():
    """Where a_params is harder to integrate than y and a_y, leaving it out of the norm is paid for there."""
    problem = load("linear")
    _, _, default = split(problem)
    _, _, seminorm = split(problem, "seminorm")
    assert seminorm["parts"]["forward"] == pytest.approx(default["parts"]["forward"], rel=1e-6)
    assert seminorm["parts"]["a_params"] > 1.5 * default["parts"]["a_params"]


def test_one_step_is_scipys():
    """A step of the split is a step of RK45, bit by bit."""
    from scipy.integrate import RK45

    made = ErrorSplit(cases.forced(2))
    z = np.random.default_rng(0).standard_normal(made.system.size)
    solver = RK45(made.system.function("adjoint"), 1.0, z, 0.75, first_step=0.25, rtol=1e3, atol=1e3)
    solver.step()
    assert solver.t == 0.75
    np.testing.assert_allclose(made._step(1.0, 0.75, z), solver.y, rtol=1e-15, atol=1e-15)


def test_where_the_reverse_solve_is_unstable_the_residual_says_so():
    _, _, found = split(load("dissipative"))
    assert found["residual"] > 0.1
    assert found["whole"] > 1


def test_a_part_that_is_not_finite_is_no_split(monkeypatch):
    made, outcome, _ = split(load("linear"))
    monkeypatch.setattr(made, "_step", lambda t0, t1, z: np.full_like(z, np.inf))
    with pytest.raises(NoReference, match="a part of the error is not finite: the reverse solve blows up"):
        made.split(outcome)


def test_a_wrong_gradient_is_all_residual():
    """What no part explains stands in the residual: a gradient 1 % off is no error of the solver's."""
    problem = cases.forced(2)
    made, outcome, _ = split(problem)
    off = Gradient(
        outcome.gradient.loss, outcome.gradient.y0, {n: 1.01 * a for n, a in outcome.gradient.params.items()}
    )
    found = made.split(replace(outcome, gradient=off))
    assert found["residual"] > 0.99
    assert found["replay"] > 1e-3
