"""The reference: two routes that know nothing of each other, a closed form, finite differences."""

import numpy as np
import pytest

from crossbackend import registry
from crossbackend.finite_differences import finite_differences
from crossbackend.interpolating import Interpolating
from crossbackend.record import relative_error
from crossbackend.reference import card, reference, through_steps
from tests import cases


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: cases.forced(3), cases.flow, cases.latent, cases.output_on_breakpoint],
                         ids=["forced", "flow", "latent", "breakpoints"])  # fmt: skip
def test_the_routes_agree_far_below_any_tolerance(make):
    about, arrays, picture = reference(make())
    assert about["status"] == "ok"
    assert about["floor"] < 1e-10
    assert about["check"] < 1e-6
    assert {name.split("/")[0] for name in arrays} == {"gradient"}
    assert len(picture["t"]) == len(picture["series"][0]["y"])


def test_the_closed_form_is_the_reference_where_there_is_one():
    problem = cases.decay()
    about, arrays, _ = reference(problem)
    assert about["status"] == "exact"
    assert about["floor"] < 1e-11
    assert about["check"] < 1e-8
    np.testing.assert_array_equal(arrays["gradient/y0"], problem.exact(problem.params, None)["y0"])
    assert [route["message"] for route in about["routes"]] == [""] * 4
    assert set(about["leaves"]) == {"params/rate", "y0"}


def test_a_solution_that_stands_still_is_no_excuse():
    """With a last layer of zeros no error of y asks for steps: differentiating through few would be blind."""
    from tests.test_adjoint import zero_initialised

    about, _, _ = reference(zero_initialised())
    assert about["status"] == "ok"
    assert about["floor"] < 1e-11
    assert about["check"] < 1e-6


def test_the_leaves_move_the_loss_as_the_gradient_says():
    """Along the same direction inside a leaf, g.v is what finite differences give."""
    from crossbackend.finite_differences import _direction, by_leaf

    route = Interpolating(cases.forced(2))
    gradient, _ = route.gradient()
    found = by_leaf(route)
    v, w = _direction(route)
    names, slices = route.system.param_names, route.system.params_layout.slices
    for name, at in zip(names, slices, strict=True):
        along = float(np.ravel(gradient.params[name]) @ v[at])
        assert found[f"params/{name}"] == pytest.approx(along, rel=1e-4, abs=1e-6)
    assert found["y0"] == pytest.approx(float(np.ravel(gradient.y0[""]) @ w), rel=1e-4)


def test_an_initial_state_that_is_computed_is_no_leaf_of_its_own():
    from crossbackend.finite_differences import by_leaf

    case = cases.latent()
    assert set(by_leaf(Interpolating(case))) == {"params/encoder", "params/field", "params/decoder"}
    ported = case.replace(initial={"torch": case.initial, "jax": case.initial})
    assert "y0" not in by_leaf(Interpolating(ported))


def test_torch_alone_gives_the_second_route_too():
    problem = cases.decay()
    exact = problem.exact(problem.params, None)
    found = registry.get("torchdiffeq").through_steps(problem, 1e-12, 1e-14)
    assert relative_error({"p": found.params["rate"]}, {"p": exact["params"]["rate"]}) < 1e-10
    alone = problem.replace(vector_field={"torch": problem.vector_field}, loss={"torch": problem.loss}, exact=None)
    assert relative_error(through_steps(alone).arrays, found.arrays) < 1e-10
    about, _, _ = reference(alone)
    assert about["status"] == "ok"
    assert about["floor"] < 1e-10


def test_finite_differences_see_a_wrong_gradient():
    route = Interpolating(cases.latent())
    gradient, _ = route.gradient()
    assert finite_differences(route, gradient) < 1e-7
    gradient.params["field"] *= 1.01
    assert finite_differences(route, gradient) > 1e-5


def test_a_problem_without_a_solution_has_no_reference():
    about, arrays, picture = reference(cases.nan_in_field())
    assert about["status"] == "failed"
    assert arrays == {}
    assert picture is None
    assert any("not finite at t = " in route["message"] for route in about["routes"])


def test_the_card_holds_what_the_report_says():
    problem = cases.latent()
    found = card(problem, None)
    assert found["state"] == {"": [4, 3]}
    assert found["state_size"] == 12
    assert found["parameter_size"] == 15 + 9 + 6
    assert found["field_parameter_size"] == 9
    assert found["ts"] == [0.0, 0.4, 1.5]
