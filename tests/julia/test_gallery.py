"""The gallery in Julia: matched stepping takes SciPy's steps to its gradient, native stepping its own rules."""

import time
from functools import cache

import pytest

from crossbackend.agreement import same_steps
from crossbackend.flags import is_unstable
from crossbackend.load import gallery, load
from crossbackend.record import Status, from_outcome, gradient_difference
from tests.problems.cells import compiled

pytestmark = [pytest.mark.julia, pytest.mark.slow]
UNSTABLE = {"dissipative"}
"""Problems whose reverse solve amplifies rounding, by which their gradients differ."""


@cache
def problem(name):
    """Return a problem, the same one each time: Julia compiles it once."""
    return load(name)


@cache
def outcome(name, backend, norm="default", stepping="native"):
    return compiled(problem(name), backend, norm, stepping).record(1e-6, 1e-8)


@pytest.mark.parametrize("norm", ["default", "seminorm"])
@pytest.mark.parametrize("name", gallery())
def test_matched_stepping_is_scipys(name, norm):
    found = {backend: outcome(name, backend, norm, "matched") for backend in ("julia", "scipy")}
    records = {backend: from_outcome("", {"rtol": 1e-6}, one, {}) for backend, one in found.items()}
    assert {record.status for record in records.values()} == {Status.OK}
    for which in ("forward", "backward"):
        mine, its = (getattr(found[backend], which).counts for backend in ("julia", "scipy"))
        assert mine == its, which
    ts = problem(name).ts
    assert same_steps(records["julia"], records["scipy"], ts[-1] - ts[0])
    assert any(is_unstable(record) for record in records.values()) == (name in UNSTABLE)
    if name not in UNSTABLE:
        gradients = [one.gradient.arrays for one in found.values()]
        assert gradient_difference(*gradients) <= 1e-9


@pytest.mark.parametrize("name", ["linear", "hudson_bay", "van_der_pol", "cnf_density"])
def test_native_stepping_is_scipys(name):
    """Its own rules, written in Julia: the same steps where no kink turns rounding into another step."""
    mine, its = (outcome(name, backend) for backend in ("julia", "scipy"))
    assert mine.forward.counts == its.forward.counts
    assert mine.backward.counts == its.backward.counts
    assert gradient_difference(mine.gradient.arrays, its.gradient.arrays) <= 1e-9


def test_a_warm_gradient_is_faster_than_scipys():
    """By far on a small problem: `hudson_bay` takes SciPy about six times as long (README)."""
    sweeps = [compiled(problem("hudson_bay"), backend) for backend in ("julia", "scipy")]
    best = []
    for sweep in sweeps:
        sweep.solve(1e-6, 1e-8)
        times = []
        for _ in range(5):
            started = time.perf_counter()
            sweep.solve(1e-6, 1e-8)
            times.append(time.perf_counter() - started)
        best.append(min(times))
    assert best[0] < best[1]
