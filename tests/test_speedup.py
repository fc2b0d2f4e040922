"""Speed-up at equal gradient error, on curves whose answer is known."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crossbackend.plan import Plan
from crossbackend.record import Record, Status
from crossbackend.speedup import AT_FLOOR, equal_error, front, savings, speedups

LINE = [(1e-2, 100.0), (1e-4, 200.0), (1e-6, 400.0), (1e-8, 800.0)]
"""cost = 50 / error^(log10(2) / 2): doubled for two digits."""


def scaled(points, error=1.0, cost=1.0):
    return [(e * error, c * cost) for e, c in points]


def test_half_the_cost_is_a_factor_of_two():
    factor, low, high, smallest, largest = equal_error(LINE, scaled(LINE, cost=0.5))
    assert (factor, low, high) == pytest.approx((2.0, 2.0, 2.0))
    assert (smallest, largest) == (1e-8, 1e-2)


def test_an_error_a_hundred_times_smaller_at_the_same_cost():
    """Half the cost at equal error, over the errors that both reach."""
    factor, low, high, smallest, largest = equal_error(LINE, scaled(LINE, error=1e-2))
    assert (factor, low, high) == pytest.approx((2.0, 2.0, 2.0))
    assert (smallest, largest) == pytest.approx((1e-8, 1e-4))


def test_fewer_evaluations_bought_with_error_are_no_speed_up():
    """Half the evaluations at every tolerance, and an error a hundred times as large: nothing is gained."""
    factor, *_ = equal_error(LINE, scaled(LINE, error=1e2, cost=0.5))
    assert factor == pytest.approx(1.0)


def test_a_gain_that_changes_over_the_range_is_a_mean_with_its_extremes():
    other = [(1e-2, 100.0), (1e-8, 200.0)]  # the same at 1e-2, four times cheaper at 1e-8
    factor, low, high, *_ = equal_error([(1e-2, 100.0), (1e-8, 800.0)], other)
    assert (low, high) == pytest.approx((1.0, 4.0))
    assert factor == pytest.approx(2.0)  # the geometric mean of a straight line from 1 to 4


def test_a_kink_between_two_points_is_integrated_exactly():
    """In powers of two over six decades: 0 to 3 against 0, 1 in the middle, 4. The gain is 0, 1/2, -1: mean 0."""
    other = [(1e-2, 100.0), (1e-5, 200.0), (1e-8, 1600.0)]
    factor, low, high, *_ = equal_error([(1e-2, 100.0), (1e-8, 800.0)], other)
    assert (factor, low, high) == pytest.approx((1.0, 0.5, math.sqrt(2)))


def test_no_error_that_both_reach():
    found = equal_error(LINE, [(1e-10, 900.0), (1e-12, 1800.0)])
    assert found == "no error that both reach: default 1e-08 to 0.01, this norm 1e-12 to 1e-10"


@pytest.mark.parametrize("points", [[], [(1e-3, 10.0)], [(1e-3, 10.0), (1e-2, 20.0)]])
def test_a_curve_of_one_point_is_none(points):
    """A plan that costs more and errs more is no second point."""
    assert equal_error(LINE, points) == "this norm has fewer than two plans on its curve of error against cost"
    assert equal_error(points, LINE) == "default has fewer than two plans on its curve of error against cost"


def test_the_front_leaves_out_what_another_point_beats():
    points = [(1e-3, 10.0), (1e-2, 20.0), (1e-5, 30.0), (1e-5, 40.0), (2e-3, 10.0)]
    assert front(points) == [(1e-3, 10.0), (1e-5, 30.0)]
    assert front([]) == []


curves = st.lists(
    st.tuples(st.floats(1e-12, 1.0), st.floats(1.0, 1e6)), min_size=2, max_size=6, unique_by=lambda point: point[0]
)


@given(curves, st.floats(0.01, 100), st.floats(1e-3, 1e3))
def test_units_of_cost_and_error_do_not_matter(points, cost, error):
    assume(len(front(points)) >= 2)
    found = equal_error(points, scaled(points, cost=cost))
    assert found[:3] == pytest.approx((1 / cost,) * 3, rel=1e-9)
    both = [scaled(p, error=error) for p in (points, scaled(points, cost=cost))]
    assert equal_error(*both)[:3] == pytest.approx(found[:3], rel=1e-6)


@given(curves, curves)
def test_the_other_way_round_is_the_inverse(a, b):
    there, back = equal_error(a, b), equal_error(b, a)
    if isinstance(there, str):
        assert isinstance(back, str)
        return
    assert there[0] * back[0] == pytest.approx(1.0, rel=1e-9)
    assert there[1] * back[2] == pytest.approx(1.0, rel=1e-9)
    assert there[1] <= there[0] * (1 + 1e-9)
    assert there[0] <= there[2] * (1 + 1e-9)


def record(norm, rtol, error, nfe, seconds=None, **changes):
    plan = Plan("p", "scipy", norm, "native", rtol, rtol * 1e-2).as_dict() | changes.pop("plan", {})
    made = Record(f"{norm}{rtol}{plan['backend']}{plan['stepping']}{plan['dtype']}{plan['atol']}", plan, Status.OK)
    made.error = {"all": error}
    made.backward = {"nfe": nfe}
    made.time = None if seconds is None else {"median_s": seconds}
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def sweep(norm, *, error=1.0, cost=1.0, seconds=0.001, **changes):
    return [
        record(norm, 10.0**-k, error * 10.0**-k, cost * 100 * 2 ** (k / 2), seconds * 2 ** (k / 2), **changes)
        for k in (2, 4, 6)
    ]


def by_cost(found):
    return {(row.norm, row.cost): row for row in found}


def test_from_records():
    found = by_cost(speedups([*sweep("default"), *sweep("seminorm", cost=0.5, seconds=0.004)], 1e-13, set()))
    assert set(found) == {("seminorm", "backward_nfe"), ("seminorm", "time")}
    nfe, time = found["seminorm", "backward_nfe"], found["seminorm", "time"]
    assert (nfe.factor, time.factor) == pytest.approx((2.0, 0.25))
    assert nfe.errors == pytest.approx((1e-6, 1e-2))
    assert nfe.reason == ""


def reasons(default, other, floor=1e-13, unstable=()):
    return {row.cost: row.reason for row in speedups([*default, *other], floor, set(unstable))}


def test_every_absence_has_its_reason():
    base = sweep("default")
    assert reasons(base, _untimed("seminorm"))["time"] == "not timed"
    matched = {"plan": {"stepping": "matched"}}
    assert reasons(_untimed("default", **matched), _untimed("seminorm", **matched))["time"] == (
        "not timed: matched plans are not"
    )
    assert reasons(base, sweep("seminorm"), unstable=[r.digest for r in base])["time"].startswith(
        "the reverse solve is unstable"
    )
    nothing = [record("seminorm", 1e-4, None, 10)]
    assert reasons(base, nothing)["backward_nfe"] == "no reference, so no gradient error is known"
    assert reasons(base, [record("seminorm", 1e-4, 1e-4, 10, status=Status.DIVERGED)])["backward_nfe"] == (
        "no plan under seminorm finished"
    )
    assert reasons(base, sweep("seminorm"), floor=1.0)["backward_nfe"] == "every error is at the reference's own floor"


def _untimed(norm, **changes):
    return [record(norm, 10.0**-k, 10.0**-k, 100 * k, **changes) for k in (2, 4, 6)]


def test_errors_at_the_floor_are_no_points():
    """The last point's error is below ten floors: the curve ends before it."""
    floor = 1e-6 / AT_FLOOR * 1.01
    found = by_cost(speedups([*sweep("default"), *sweep("seminorm")], floor, set()))["seminorm", "backward_nfe"]
    assert found.errors == pytest.approx((1e-4, 1e-2))


def test_an_unstable_record_is_left_out_and_the_rest_compared():
    base, other = sweep("default"), sweep("seminorm", cost=0.5)
    found = by_cost(speedups([*base, *other], None, {base[0].digest}))["seminorm", "backward_nfe"]
    assert found.factor == pytest.approx(2.0)
    assert found.errors == pytest.approx((1e-6, 1e-4))


@pytest.mark.parametrize(
    "plan", [{"backend": "diffrax"}, {"stepping": "matched"}, {"dtype": "float32"}, {"first_step": 0.1}]
)
def test_plans_that_differ_in_more_than_the_norm_are_not_compared(plan):
    assert speedups([*sweep("default"), *sweep("seminorm", plan=plan)], None, set()) == []


def test_another_ratio_of_atol_to_rtol_is_another_curve():
    other = [record("seminorm", 10.0**-k, 10.0**-k, 10 * k, plan={"atol": 10.0**-k}) for k in (2, 4, 6)]
    assert speedups([*sweep("default"), *other], None, set()) == []


def test_the_papers_figure_is_at_equal_tolerance():
    (saving,) = savings([record("default", 1e-4, 1e-3, 200), record("seminorm", 1e-4, 2e-3, 120)])
    assert (saving.nfe_default, saving.nfe, saving.saved) == (200, 120, 0.4)
    assert math.isclose(saving.error / saving.error_default, 2.0)
