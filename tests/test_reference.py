"""The reference: two routes that know nothing of each other, a closed form, finite differences."""

import numpy as np
import pytest

from crossbackend import registry
from crossbackend.record import relative_error
from crossbackend.reference import Interpolating, card, finite_differences, reference, through_steps
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
    assert [route["message"] for route in about["routes"]] == [""] * 3


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
