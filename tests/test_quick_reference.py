"""The quick reference: as right as it says, and finite differences that find a leaf that is wrong."""

import numpy as np
import pytest

from crossbackend.check.specimen import specimen
from crossbackend.interpolating import Interpolating
from crossbackend.load import load
from crossbackend.quick_reference import CHECKED, FLOOR, difference, quick_reference
from crossbackend.record import relative_error
from crossbackend.reference import reference

pytest.importorskip("jax")


@pytest.fixture(scope="module")
def quick():
    return quick_reference(specimen(), 2)


def gradient(arrays):
    return {name.removeprefix("gradient/"): a for name, a in arrays.items() if name.startswith("gradient/")}


def test_it_is_the_tight_one_to_its_floor(quick):
    about, arrays = quick
    tight, _ = Interpolating(specimen()).gradient()
    assert relative_error(gradient(arrays), tight.arrays) < FLOOR
    assert (about["status"], about["floor"]) == ("ok", FLOOR)
    assert about["loss"] == pytest.approx(tight.loss, rel=1e-9)


def test_every_leaf_is_held_along_every_direction(quick):
    about, arrays = quick
    assert {(row["leaf"], row["seed"]) for row in about["derivatives"]} == {
        (leaf, seed) for leaf in gradient(arrays) for seed in (0, 1)
    }
    assert set(about["leaves"]) == set(gradient(arrays))
    assert about["check"] < CHECKED
    for leaf, array in gradient(arrays).items():
        assert arrays[f"direction/0/{leaf}"].shape == array.shape
        assert not np.array_equal(arrays[f"direction/0/{leaf}"], arrays[f"direction/1/{leaf}"])


def test_a_directional_derivative_is_the_gradient_along_it(quick):
    about, arrays = quick
    for row in about["derivatives"]:
        along = np.sum(arrays[f"gradient/{row['leaf']}"] * arrays[f"direction/{row['seed']}/{row['leaf']}"])
        assert min(abs(value - along) for _, value in row["steps"]) < 1e-5


def test_a_closed_form_has_no_floor():
    about, arrays = quick_reference(load("linear"), 1)
    assert (about["status"], about["floor"]) == ("exact", None)
    full, truth, _ = reference(load("linear"))
    assert relative_error(gradient(arrays), gradient(truth)) == 0
    assert full["loss"] == about["loss"]


def test_a_leaf_that_is_off_stands_out(quick):
    about, arrays = quick
    right = gradient(arrays)
    for row in about["derivatives"]:
        assert difference(row, right, arrays) < CHECKED
        wrong = right | {row["leaf"]: 0 * right[row["leaf"]]}
        along = np.sum(right[row["leaf"]] * arrays[f"direction/{row['seed']}/{row['leaf']}"])
        assert difference(row, wrong, arrays) > 0.1 * min(1, abs(along))
        assert difference(row, {}, arrays) == float("inf")


def test_where_finite_differences_disagree_it_is_uncertain_and_says_by_how_much():
    problem = load("linear")
    exact = problem.exact
    off = problem.replace(exact=lambda p, d: {**exact(p, d), "params": {"A": 1.01 * exact(p, d)["params"]["A"]}})
    about, _ = quick_reference(off, 1)
    assert about["status"] == "uncertain"
    assert about["check"] > CHECKED
    assert max(len(row["steps"]) for row in about["derivatives"]) == 4  # every step was tried before it was said


def test_a_problem_that_cannot_be_solved_has_none():
    blown = specimen().replace(
        vector_field=lambda t, y, p, d: 100 * y * y * y + 0 * p["w_in"].sum(), initial=np.ones((4, 2))
    )
    about, arrays = quick_reference(blown, 1)
    assert (about["status"], about["derivatives"], arrays) == ("failed", [], {})
    assert any("forward" in route["message"] or "finite" in route["message"] for route in about["routes"])
