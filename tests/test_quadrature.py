"""Nested Gauss rules on one step: exact where they should be, and no node more than the error asks for."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossbackend.quadrature import DEPTH, NODES, RULES, integrate

DEGREES = {1: 1, 3: 5, 7: 11, 15: 23}


class Counted:
    """An integrand that notes where it was evaluated."""

    def __init__(self, function):
        self.function, self.at = function, []

    def __call__(self, t):
        self.at.append(t)
        return np.atleast_1d(np.asarray(self.function(t), dtype=float))


def within(tolerance):
    return lambda error, found: float(np.max(np.abs(error), initial=0.0)) / tolerance


@pytest.mark.parametrize(("count", "degree"), DEGREES.items())
def test_a_rule_is_exact_to_its_degree_and_no_further(count, degree):
    places, weights = RULES[count]
    x = NODES[list(places)]
    assert len(x) == count
    for power in range(0, degree + 1, 2):
        assert weights @ x**power == pytest.approx(2 / (power + 1), abs=1e-14)
    assert abs(weights @ x ** (degree + 1) - 2 / (degree + 2)) > 1e-9
    np.testing.assert_allclose(x, -x[::-1], atol=0)
    assert np.all(weights > 0)


def test_a_rule_holds_the_nodes_of_the_one_before():
    counts = list(RULES)
    assert counts == [1, 3, 7, 15]
    for fewer, more in zip(counts[:-1], counts[1:], strict=True):
        assert set(RULES[fewer][0]) < set(RULES[more][0])


@given(st.floats(-3, 3), st.floats(0.1, 2), st.floats(-4, 4), st.sampled_from([1e-3, 1e-6, 1e-9]))
def test_an_exponential_is_integrated_to_tolerance(t0, length, rate, tolerance):
    found = integrate(Counted(lambda t: math.exp(rate * (t - t0))), t0, t0 + length, within(tolerance))
    exact = length if rate == 0 else math.expm1(rate * length) / rate
    assert found == pytest.approx([exact], abs=tolerance)


@given(st.floats(0.5, 9), st.sampled_from([1e-3, 1e-6, 1e-9]))
def test_an_oscillation_is_integrated_to_tolerance_backwards_too(frequency, tolerance):
    found = integrate(Counted(lambda t: [math.sin(frequency * t), 1.0]), 1.0, 0.0, within(tolerance))
    assert found == pytest.approx([(math.cos(frequency) - 1) / frequency, -1.0], abs=tolerance)


def test_nodes_grow_with_what_is_asked_and_none_is_evaluated_twice():
    counts = []
    for tolerance in (1.0, 1e-3, 1e-9, 1e-13):
        integrand = Counted(lambda t: math.sin(2 * t))
        integrate(integrand, 0.0, 1.0, within(tolerance))
        assert len(set(integrand.at)) == len(integrand.at)
        counts.append(len(integrand.at))
    assert counts == sorted(counts)
    assert counts[0] == 3
    assert counts[-1] >= 15


def test_agreement_by_accident_is_not_believed():
    """Near one period of a sine the midpoint and 3 nodes agree to 1e-5 of the integrand's size, and both are wrong."""
    frequency = 6.27575
    integrand = Counted(lambda t: [math.sin(frequency * t), 1.0])
    found = integrate(integrand, 1.0, 0.0, within(1e-6))
    assert found == pytest.approx([(math.cos(frequency) - 1) / frequency, -1.0], abs=1e-6)
    assert len(integrand.at) > 3


def test_a_constant_takes_three_nodes_at_any_tolerance():
    integrand = Counted(lambda t: 2.0)
    assert integrate(integrand, 0.0, 3.0, within(1e-15)) == pytest.approx([6.0], rel=1e-14)
    assert len(integrand.at) == 3


def test_a_jump_is_closed_in_on_by_halves():
    integrand = Counted(lambda t: float(t > 0.3))
    found = integrate(integrand, 0.0, 1.0, within(1e-4))
    assert found == pytest.approx([0.7], abs=1 / 2**DEPTH)
    assert min(abs(t - 0.3) for t in integrand.at) < 2 / 2**DEPTH
    assert len(integrand.at) < 2 * 15 * DEPTH


def test_a_value_that_is_not_finite_is_handed_on_at_once():
    integrand = Counted(lambda t: math.nan)
    assert np.isnan(integrate(integrand, 0.0, 1.0, within(1e-9)))
    assert len(integrand.at) == 3


def test_the_size_of_the_integral_is_told():
    told = []

    def measure(error, found):
        told.append(found)
        return 0.0

    integrate(Counted(lambda t: t**2), 0.0, 3.0, measure)
    assert told[-1] == pytest.approx([9.0])
