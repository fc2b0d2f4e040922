"""Evaluations counted inside the field, held to the formulas of each library's algorithm."""

import numpy as np
import pytest

from crossbackend import registry
from tests.backends import solves

CASES = ["forced:2", "forced:8", "latent", "flow"]


def solves_of(steps, starts):
    """Return the attempts of every solve of a pass: a solve begins at each of `starts`."""
    found, begun = [], []
    for k in range(len(steps.t0)):
        if steps.t0[k] in starts and steps.t0[k] not in begun and (k == 0 or steps.t0[k] != steps.t0[k - 1]):
            begun.append(steps.t0[k])
            found.append([])
        found[-1].append(bool(steps.accepted[k]))
    assert len(found) == len(starts)
    return found


def expected(backend, stepping, attempts):
    """Return the evaluations of one solve of dopri5 from its accepted and rejected attempts.

    f(t0) and Hairer's probe cost 2 and every attempt 6. diffrax evaluates stage 0 of the first step again, and
    once more for every rejection before the first acceptance; natively it has no probe (its first step is 0.01).
    """
    if backend != "diffrax":
        return 2 + 6 * len(attempts)
    early = attempts.index(True)
    return 1 + 6 * len(attempts) + early + (2 if stepping == "matched" else 0)


@pytest.mark.parametrize("stepping", ["native", "matched"])
@pytest.mark.parametrize("name", CASES)
def test_nfe_is_what_the_algorithm_costs(backend, name, stepping):
    for rtol in (1e-4, 1e-7):
        outcome = solves.record(name, backend, "default", stepping, rtol)
        case, _, argument = name.partition(":")
        ts = (solves.problem(case, int(argument)) if argument else solves.problem(case)).ts
        for steps, starts in ((outcome.forward, ts[:1]), (outcome.backward, ts[:0:-1])):
            attempts = solves_of(steps, list(starts))
            assert steps.nfe == sum(expected(backend, stepping, solve) for solve in attempts)


def test_a_given_first_step_saves_the_probe(backend):
    outcome = solves.record("forced:2", backend, "default", "matched", 1e-6, "float64", 0.05)
    extra = 0 if backend != "diffrax" else list(outcome.forward.accepted).index(True)
    assert outcome.forward.nfe == 1 + 6 * len(outcome.forward.t0) + extra
    assert np.isclose(outcome.forward.t1[0] - outcome.forward.t0[0], 0.05)


def test_counting_happens_inside_the_field():
    """A field that counts its own calls sees the same number, in torch, where every evaluation is a Python call."""
    case = solves.problem("decay")
    calls = []

    def field(t, y, params, data):
        calls.append(1)
        return case.vector_field(t, y, params, data)

    problem = case.replace(vector_field=field)
    plan = solves.compiled("decay", "torchdiffeq", "default", "native").plan
    made = registry.get("torchdiffeq").compile(problem, plan)
    calls.clear()
    outcome = made.record(1e-6, 1e-8)
    assert len(calls) == outcome.forward.nfe + outcome.backward.nfe
