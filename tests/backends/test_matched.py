"""Matched stepping: all three libraries take the same steps, so their gradients agree to rounding."""

from itertools import combinations

import numpy as np
import pytest

from crossbackend import registry
from crossbackend.agreement import same_steps
from crossbackend.record import Status, from_outcome, gradient_difference
from tests import cases
from tests.backends import solves

pytestmark = pytest.mark.slow

CASES = {
    "two output times": "forced:2",
    "eight output times": "forced:8",
    "breakpoints on a regular grid": "piecewise",
    "an output time on a breakpoint": "output_on_breakpoint",
    "a dict state with an integral": "flow",
    "an encoder, and parameters of the loss alone": "latent",
}


def agree(name, norm, rtol, first_step=None):
    """Assert that every pair of installed backends takes the same steps to the same gradient."""
    outcomes = {
        backend: solves.record(name, backend, norm, "matched", rtol, "float64", first_step)
        for backend in registry.installed()
    }
    assert len(outcomes) >= 3
    assert {outcome.status for outcome in outcomes.values()} == {Status.OK}
    case, _, argument = name.partition(":")
    ts = (getattr(cases, case)(int(argument)) if argument else getattr(cases, case)()).ts
    for (name_a, a), (name_b, b) in combinations(outcomes.items(), 2):
        records = [from_outcome("", {}, outcome, {}) for outcome in (a, b)]
        assert same_steps(*records, ts[-1] - ts[0]), (name_a, name_b)
        assert gradient_difference(a.gradient.arrays, b.gradient.arrays) <= 1e-9, (name_a, name_b)
        assert a.gradient.loss == pytest.approx(b.gradient.loss, rel=1e-11)
        # Each library shows the reverse solve's y in another way: callbacks, a controller, the solver's own state.
        assert a.reconstruction_error == pytest.approx(b.reconstruction_error, rel=1e-3, abs=1e-12)


def test_every_matched_case_of_the_design_is_here():
    assert set(CASES) == set(cases.MATCHED)


@pytest.mark.parametrize("norm", ["default", "seminorm"])
@pytest.mark.parametrize("case", CASES)
def test_agreement(case, norm):
    for rtol in (1e-3, 1e-6, 1e-9):
        agree(CASES[case], norm, rtol)


@pytest.mark.parametrize("norm", ["pooled", "pooled-seminorm", "mixed-seminorm-integrals"])
def test_agreement_under_other_norms(norm):
    agree("flow", norm, 1e-5)


def test_agreement_with_a_given_first_step():
    agree("forced:8", "default", 1e-5, first_step=0.05)


def test_a_wrong_gradient_is_seen():
    """The check can fail: one leaf moved by 1e-6 of the gradient is far outside."""
    good = solves.record("forced:8", "scipy", "default", "matched", 1e-6).gradient.arrays
    moved = {name: array.copy() for name, array in good.items()}
    moved["params/b1"] *= 1 + 1e-6
    assert gradient_difference(good, moved) > 1e-9


def test_steps_at_breakpoints_end_on_them():
    for backend in registry.installed():
        outcome = solves.record("piecewise", backend, "default", "matched", 1e-6)
        for steps in (outcome.forward, outcome.backward):
            ends = steps.t1[steps.accepted]
            for b in (1.0, 2.0, 3.0):
                assert np.min(np.abs(ends - b)) < 1e-12
