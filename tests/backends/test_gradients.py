"""Gradients other than backsolve: along the stored solution, and through the solver's own steps."""

import re
from pathlib import Path

import numpy as np
import pytest

from crossbackend import load, registry
from crossbackend.agreement import same_steps
from crossbackend.backends.diffrax import DIRECT_MAX_STEPS
from crossbackend.interpolating import Interpolating
from crossbackend.plan import GRADIENTS, Plan
from crossbackend.record import Status, from_outcome, gradient_difference, relative_error
from tests import cases
from tests.backends import solves

WAYS = (("scipy", "interpolating"), ("scipy", "quadrature"), ("torchdiffeq", "direct"), ("diffrax", "direct"))
STEPPED = WAYS[:2]
THROUGH = WAYS[2:]
ways = pytest.mark.parametrize(("solver", "gradient"), WAYS, ids=[" ".join(way) for way in WAYS])


def record(name, solver, gradient, rtol=1e-6, stepping="native", norm="default"):
    return solves.record(name, solver, norm, stepping, rtol, gradient=gradient)


def compiled(name, solver, gradient, stepping="native", norm="default"):
    return solves.compiled(name, solver, norm, stepping, gradient=gradient)


def truth(name):
    case, _, argument = name.partition(":")
    problem = solves.problem(case, int(argument)) if argument else solves.problem(case)
    return Interpolating(problem).gradient()[0].arrays


def test_every_gradient_is_some_backends():
    taken = {gradient for _, gradient in WAYS}
    assert taken | {"backsolve"} == set(GRADIENTS)


@ways
def test_the_gradient_is_the_closed_form(solver, gradient):
    problem = solves.problem("decay")
    exact = problem.exact(problem.params, problem.data)
    found = compiled("decay", solver, gradient).solve(1e-9, 1e-11)
    assert found.loss == pytest.approx(exact["loss"], rel=1e-7)
    assert found.y0[""] == pytest.approx(exact["y0"], rel=1e-6)
    assert found.params["rate"] == pytest.approx(exact["params"]["rate"], rel=1e-6)


@ways
def test_the_error_falls_with_the_tolerance(solver, gradient):
    problem = solves.problem("decay")
    exact = problem.exact(problem.params, problem.data)
    known = {"y0": exact["y0"], "params/rate": exact["params"]["rate"]}
    errors = [
        relative_error(record("decay", solver, gradient, rtol).gradient.arrays, known) for rtol in (1e-4, 1e-6, 1e-8)
    ]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["forced:8", "flow", "latent", "piecewise", "output_on_breakpoint"])
@ways
def test_encoders_dict_states_and_breakpoints(solver, gradient, name):
    found = record(name, solver, gradient, 1e-8)
    assert found.status == Status.OK
    # SciPy is not told of breakpoints, and torchdiffeq loses those on a regular grid (docs/upstream.md).
    told = "piecewise" not in name and "breakpoint" not in name
    assert relative_error(found.gradient.arrays, truth(name)) < (1e-6 if told else 1e-2)


@ways
def test_recording_moves_neither_loss_nor_gradient(solver, gradient):
    outcome = record("latent", solver, gradient)
    bare = compiled("latent", solver, gradient).solve(1e-6, 1e-8)
    assert bare.loss == outcome.gradient.loss
    assert set(bare.arrays) == set(outcome.gradient.arrays)
    for leaf, array in bare.arrays.items():
        np.testing.assert_array_equal(array, outcome.gradient.arrays[leaf], err_msg=leaf)


@ways
def test_the_forward_solve_is_backsolves(solver, gradient):
    own, usual = record("latent", solver, gradient), record("latent", solver, "backsolve")
    assert own.forward.counts == usual.forward.counts
    np.testing.assert_allclose(own.forward.t1, usual.forward.t1, rtol=1e-13)
    np.testing.assert_allclose(own.ys[""], usual.ys[""], rtol=1e-13)


@ways
def test_the_settings_state_both_passes(solver, gradient):
    settings = compiled("forced:2", solver, gradient).settings(1e-5, 1e-7)
    for which in settings.values():
        assert (which["rtol"], which["atol"]) == (1e-5, 1e-7)
        assert {"solver", "norm", "first_step", "ends", "breakpoints", "error_estimate"} <= set(which)
    backward = settings["backward"]
    assert backward["norm"] == ("rms a_y" if gradient in ("interpolating", "quadrature") else "none")


@ways
@pytest.mark.parametrize(
    ("case", "status"),
    [("nan_in_field", Status.NAN_IN_FIELD), ("blow_up", Status.DIVERGED)],
    ids=lambda case: str(case),
)
def test_a_failed_solve_has_the_same_status(solver, gradient, case, status):
    outcome = record(case, solver, gradient)
    assert outcome.status == status
    assert outcome.gradient is None
    assert "forward solve:" in outcome.message


def test_a_pole_that_the_forward_solve_steps_across_ends_the_adjoint_solve_and_no_other():
    outcomes = {way: record("underflow", *way) for way in WAYS}
    for way in STEPPED:
        assert outcomes[way].status == Status.STEP_UNDERFLOW
        assert "backward solve:" in outcomes[way].message
    through = [outcomes[way] for way in THROUGH]
    assert {outcome.status for outcome in through} == {Status.OK}
    # Both go on where there is no derivative, and do not agree on it.
    assert gradient_difference(*(outcome.gradient.arrays for outcome in through)) > 0.01


@ways
def test_what_feeds_a_seminorm_is_no_norm_of_these(solver, gradient):
    problem = solves.problem("decay")
    for norm in ("seminorm", "mixed", "pooled-seminorm"):
        plan = Plan("decay", solver, norm, "native", 1e-6, 1e-8, gradient)
        assert "would be the norm default once more" in registry.get(solver).declines(problem, plan)


@pytest.mark.parametrize(
    ("solver", "gradient", "reason"),
    [pytest.param("julia", "quadrature", "use backsolve", marks=pytest.mark.julia),
     ("diffrax", "quadrature", "use backsolve or direct"),
     ("torchdiffeq", "interpolating", "use backsolve or direct"),
     ("scipy", "direct", "use backsolve or interpolating or quadrature")],
)  # fmt: skip
def test_a_gradient_that_a_backend_lacks_is_declined(solver, gradient, reason):
    plan = Plan("decay", solver, "default", "native", 1e-6, 1e-8, gradient)
    assert reason in registry.get(solver).declines(solves.problem("decay"), plan)


def test_the_page_says_who_takes_which():
    page = (Path(__file__).parents[2] / "docs" / "gradients.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", page, re.MULTILINE)[: len(GRADIENTS)])
    assert list(rows) == list(GRADIENTS)
    words = {"scipy": "SciPy", "torchdiffeq": "torchdiffeq", "diffrax": "diffrax"}
    for solver, gradient in WAYS:
        assert words[solver] in rows[gradient]
    assert f"{DIRECT_MAX_STEPS:,} steps at most".replace(",", " ") in " ".join(page.split())


# Along the stored solution.


@pytest.mark.parametrize("gradient", ["interpolating", "quadrature"])
def test_no_other_backend_has_steps_to_match(gradient):
    plan = Plan("decay", "scipy", "default", "matched", 1e-6, 1e-8, gradient)
    assert "no steps to match" in registry.get("scipy").declines(solves.problem("decay"), plan)


@pytest.mark.parametrize("gradient", ["interpolating", "quadrature"])
def test_a_norm_must_see_a_y_and_nothing_else(gradient):
    norms = {"late": {"y": 1.0}, "own": lambda blocks: 0.0, "double": {"y": 1.0, "a_y": 2.0}}
    problem = solves.problem("decay").replace(norms=norms)
    reasons = {
        name: registry.get("scipy").declines(problem, Plan("decay", "scipy", name, "native", 1e-6, 1e-8, gradient))
        for name in norms
    }
    assert "leaves it out" in reasons["late"]
    assert "a function of all blocks" in reasons["own"]
    assert reasons["double"] is None
    plan = Plan("decay", "scipy", "double", "native", 1e-6, 1e-8, gradient)
    twice = registry.get("scipy").compile(problem, plan).record(1e-6, 1e-8)
    assert twice.backward.counts["accepted"] > record("decay", "scipy", gradient).backward.counts["accepted"]


@pytest.mark.parametrize("gradient", ["interpolating", "quadrature"])
def test_every_engine_gives_the_same_gradient(gradient):
    for engine in ("jax", "torch"):
        for name in ("latent", "flow"):
            found, usual = record(name, f"scipy:{engine}", gradient), record(name, "scipy", gradient)
            assert relative_error(found.gradient.arrays, usual.gradient.arrays) < 1e-12
            assert found.backward.counts == usual.backward.counts


def test_both_step_a_y_alike_and_alone():
    summed, integrated = (record("forced:8", "scipy", gradient) for gradient in ("interpolating", "quadrature"))
    np.testing.assert_array_equal(summed.backward.t1, integrated.backward.t1)
    np.testing.assert_array_equal(summed.gradient.y0[""], integrated.gradient.y0[""])
    for steps in (summed.backward, integrated.backward):
        assert not np.any(steps.seen.get("share_a_params", 0))
        np.testing.assert_allclose(steps.seen["ratio"], steps.seen["ratio_a_y"], rtol=1e-12)
        assert "ratio_y" not in steps.seen
    # One call of the augmented field an evaluation, 6 an attempt, 2 more at every restart for the first step.
    attempts = len(summed.backward.accepted)
    assert summed.backward.nfe == 6 * attempts + 2 * 7
    parts = integrated.backward.parts
    assert parts["vjp_y"] == summed.backward.nfe
    assert parts["vjp_y"] + parts["vjp_params"] == integrated.backward.nfe
    assert parts["vjp_params"] >= 3 * int(integrated.backward.accepted.sum())


def test_the_sum_over_stages_is_what_a_step_of_a_params_would_be():
    """Carried through RK45 with a_y, and left out of its norm, a_params comes out the same."""
    from scipy.integrate import RK45

    made = compiled("forced:2", "scipy", "interpolating")
    outcome = record("forced:2", "scipy", "interpolating", 1e-5)
    problem, system = made.problem, made.system
    n = system.layout.size
    solve = made._solve(1e-5, 1e-7, watched=False)
    solve._forward(system.y0(), None)
    loss, of_ys, direct = system.loss(solve.ys)
    along = system.function("along")
    z = np.concatenate([of_ys[-1], np.zeros(made.params_size)])
    backward = outcome.backward
    ratios = backward.seen["ratio_a_params"]
    for t0, t1, good, ratio in zip(backward.t0, backward.t1, backward.accepted, ratios, strict=True):
        if good:
            slopes, before = np.empty((7, len(z))), z
            for k in range(6):
                stage = z + (t1 - t0) * (RK45.A[k, :k] @ slopes[:k])
                t = t0 + RK45.C[k] * (t1 - t0)
                slopes[k] = along(t, solve.y(t), stage[:n])
            z = z + (t1 - t0) * (RK45.B @ slopes[:6])
            slopes[6] = along(t1, solve.y(t1), z[:n])
            scale = 1e-7 + 1e-5 * np.maximum(np.abs(before), np.abs(z))
            error = (t1 - t0) * (RK45.E @ slopes) / scale
            assert ratio == pytest.approx(made.params_norm(error[n:]), rel=1e-4)
    expected = system.total(direct, z[:n] + of_ys[0], z[n:])
    assert loss == outcome.gradient.loss
    for name, leaf in expected.items():
        np.testing.assert_allclose(outcome.gradient.params[name], leaf, rtol=1e-9, atol=1e-12, err_msg=name)
    assert problem.ts[0] == backward.t1[-1]


def test_the_stored_solution_is_the_solvers_own():
    made = compiled("forced:8", "scipy", "interpolating")
    solve = made._solve(1e-6, 1e-8, watched=False)
    solve._forward(made.system.y0(), None)
    for t, y in zip(made.problem.ts, solve.ys, strict=True):
        np.testing.assert_allclose(solve.y(t), y, rtol=1e-12, atol=1e-13)


def blind(width=8):
    """A network fed sin 3t whose last layer starts at zero: y and a_y stand still, a_params does not."""
    rng = np.random.default_rng(5)

    def field(t, y, params, data):
        from crossbackend import ops

        xp = ops.namespace(y)
        hidden = xp.tanh(xp.sin(3 * t) * params["clock"] + params["bias"])
        return y * 0 + xp.sum(hidden * params["last"])

    params = {"clock": rng.standard_normal(width), "bias": rng.standard_normal(width), "last": np.zeros(width)}
    return cases.Problem("blind", field, cases._mean_square, params, np.array([1.0, 2.0]), (0.0, 4.0))


def test_quadrature_sees_the_integral_that_a_seminorm_is_blind_to():
    problem = blind()
    exact = Interpolating(problem).gradient()[0].arrays
    errors = {}
    for norm, gradient in (("seminorm", "backsolve"), ("default", "interpolating"), ("default", "quadrature")):
        plan = Plan("blind", "scipy", norm, "native", 1e-6, 1e-8, gradient)
        errors[gradient] = relative_error(registry.get("scipy").compile(problem, plan).solve(1e-6, 1e-8).arrays, exact)
    assert errors["backsolve"] > 1e-3
    assert errors["interpolating"] > 1e-3
    assert errors["quadrature"] < 1e-5


def test_the_blind_integral_is_recorded():
    problem = blind()
    plan = Plan("blind", "scipy", "default", "native", 1e-6, 1e-8, "interpolating")
    outcome = registry.get("scipy").compile(problem, plan).record(1e-6, 1e-8)
    assert max(outcome.backward.seen["ratio_a_params"]) > 100


# Where the reverse solve is unstable.


@pytest.mark.slow
@ways
def test_they_hold_where_backsolve_does_not(solver, gradient):
    problem = load("dissipative")
    exact = Interpolating(problem).gradient()[0].arrays
    plan = Plan("dissipative", solver, "default", "native", 1e-6, 1e-8, gradient)
    outcome = registry.get(solver).compile(problem, plan).record(1e-6, 1e-8)
    assert relative_error(outcome.gradient.arrays, exact) < 1e-5
    assert outcome.reconstruction_error is None


# Through the steps.


@pytest.mark.parametrize("solver", [solver for solver, _ in THROUGH])
def test_the_way_back_has_products_and_no_steps(solver):
    outcome = record("latent", solver, "direct")
    backward, forward = outcome.backward, outcome.forward
    assert len(backward.t1) == 0
    assert 0 < backward.nfe <= forward.nfe
    assert set(backward.parts) == ({"recomputed"} if solver == "diffrax" else set())
    if solver == "diffrax":  # every evaluation of the forward pass is made again, to be differentiated
        assert backward.parts["recomputed"] >= forward.nfe


@pytest.mark.slow
@pytest.mark.parametrize("name", ["forced:2", "forced:8", "piecewise", "output_on_breakpoint", "flow", "latent"])
def test_matched_steps_give_the_same_direct_gradient(name):
    """No reverse solve, so nothing but rounding is left between the two."""
    a, b = (record(name, solver, "direct", 1e-5, "matched") for solver, _ in THROUGH)
    records = [from_outcome("", {}, outcome, {}) for outcome in (a, b)]
    assert same_steps(*records, 4.0)
    assert gradient_difference(a.gradient.arrays, b.gradient.arrays) <= 1e-12


@pytest.mark.slow
def test_where_backsolve_is_unstable_direct_still_matches():
    problem = load("dissipative")
    a, b = (
        registry.get(solver)
        .compile(problem, Plan("dissipative", solver, "default", "matched", 1e-5, 1e-7, "direct"))
        .solve(1e-5, 1e-7)
        for solver, _ in THROUGH
    )
    assert gradient_difference(a.arrays, b.arrays) <= 1e-12


@pytest.mark.slow
def test_a_given_first_step_is_matched_too():
    a, b = (
        solves.record("forced:8", solver, "default", "matched", 1e-5, first_step=0.01, gradient="direct")
        for solver, _ in THROUGH
    )
    assert gradient_difference(a.gradient.arrays, b.gradient.arrays) <= 1e-12


def test_direct_has_diffraxs_own_limit_of_steps(monkeypatch):
    monkeypatch.setattr("crossbackend.backends.diffrax.DIRECT_MAX_STEPS", 20)
    problem = solves.problem("forced", 2)
    plan = Plan(problem.name, "diffrax", "default", "native", 1e-10, 1e-12, "direct")
    outcome = registry.get("diffrax").compile(problem, plan).record(1e-10, 1e-12)
    assert outcome.status == Status.MAX_STEPS
    assert "20 steps reached t = " in outcome.message
