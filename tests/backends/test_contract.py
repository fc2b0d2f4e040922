"""The numbered duties of `crossbackend.backends.contract`, for every registered backend."""

import numpy as np
import pytest

from crossbackend import registry
from crossbackend.backends.contract import Backend, Compiled
from crossbackend.errors import UserError
from crossbackend.plan import Plan
from crossbackend.problem import Problem
from crossbackend.record import Status, relative_error
from tests import cases
from tests.backends import solves


def plan(problem, backend, **changes):
    fields = {"norm": "default", "stepping": "native", "rtol": 1e-6, "atol": 1e-8} | changes
    return Plan(problem.name, backend, **fields)


def test_a_backend_and_its_compiled_have_what_the_contract_names(backend):
    assert isinstance(registry.get(backend), Backend)
    assert isinstance(solves.compiled("decay", backend, "default", "native"), Compiled)


@pytest.mark.parametrize(
    ("norm", "stepping"),
    [("default", "native"), ("seminorm", "native"), ("mixed", "native"), ("pooled-seminorm", "native"),
     ("default", "matched")],
)  # fmt: skip
def test_the_gradient_is_the_closed_form(backend, norm, stepping):
    problem = solves.problem("decay")
    exact = problem.exact(problem.params, problem.data)
    gradient = solves.compiled("decay", backend, norm, stepping).solve(1e-9, 1e-11)
    assert gradient.loss == pytest.approx(exact["loss"], rel=1e-7)
    assert gradient.y0[""] == pytest.approx(exact["y0"], rel=1e-6)
    assert gradient.params["rate"] == pytest.approx(exact["params"]["rate"], rel=1e-6)


def test_the_error_falls_with_the_tolerance(backend):
    problem = solves.problem("decay")
    exact = problem.exact(problem.params, problem.data)
    truth = {"y0": exact["y0"], "params/rate": exact["params"]["rate"]}
    errors = [
        relative_error(solves.record("decay", backend, "default", "matched", rtol).gradient.arrays, truth)
        for rtol in (1e-3, 1e-5, 1e-7)
    ]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


def test_recording_moves_neither_loss_nor_gradient(backend):
    outcome = solves.record("latent", backend, "default", "native", 1e-6)
    bare = solves.compiled("latent", backend, "default", "native").solve(1e-6, 1e-8)
    assert bare.loss == outcome.gradient.loss
    assert set(bare.arrays) == set(outcome.gradient.arrays)
    for leaf, array in bare.arrays.items():
        np.testing.assert_array_equal(array, outcome.gradient.arrays[leaf], err_msg=leaf)


def test_a_sweep_traces_the_field_once(backend):
    if registry.get(backend).library == "torch":
        pytest.skip("torch runs the field itself at every evaluation")
    calls = []
    case = cases.decay()

    def field(t, y, params, data):
        calls.append(1)
        return case.vector_field(t, y, params, data)

    problem = case.replace(vector_field=field)
    made = registry.get(backend).compile(problem, plan(problem, backend))
    made.solve(1e-4, 1e-6)
    made.record(1e-4, 1e-6)
    first = len(calls)
    for rtol in (1e-5, 1e-6, 1e-7):
        made.solve(rtol, 1e-2 * rtol)
        made.record(rtol, 1e-2 * rtol)
    assert first > 0
    assert len(calls) == first


def test_the_record_is_complete(backend):
    problem = solves.problem("latent")
    outcome = solves.record("latent", backend, "default", "native", 1e-6)
    assert outcome.status == Status.OK
    assert set(outcome.gradient.params) == {"encoder", "field", "decoder"}
    for name, leaf in outcome.gradient.params.items():
        assert leaf.shape == problem.params[name].shape
        assert leaf.dtype == np.float64
    assert outcome.gradient.y0[""].shape == (4, 3)
    assert outcome.ys[""].shape == (3, 4, 3)
    for steps, ends in ((outcome.forward, (0.0, 1.5)), (outcome.backward, (1.5, 0.0))):
        assert steps.t0[0] == ends[0]
        direction = np.sign(ends[1] - ends[0])
        kept = steps.accepted
        assert np.all((steps.t1 - steps.t0) * direction > 0)
        # An accepted step begins where the last accepted one ended, or at an output time.
        starts, stops = steps.t0[kept], steps.t1[kept]
        joined = np.isclose(starts[1:], stops[:-1], rtol=0, atol=1e-12) | np.isin(starts[1:], problem.ts)
        assert joined.all()
        assert (stops[-1] - ends[1]) * direction >= -1e-12
    assert 0 < outcome.reconstruction_error < 1e-4


def test_settings_state_both_passes(backend):
    for stepping in ("native", "matched"):
        settings = solves.compiled("forced:2", backend, "default", stepping).settings(1e-5, 1e-7)
        assert set(settings) == {"forward", "backward"}
        for which in settings.values():
            assert which["rtol"] == 1e-5
            assert which["atol"] == 1e-7
            assert {"solver", "norm", "first_step", "ends", "breakpoints", "error_estimate"} <= set(which)
        assert settings["forward"]["norm"] == "rms y"


def test_a_norm_nobody_can_match_is_declined(backend):
    problem = solves.problem("decay")
    reason = registry.get(backend).declines(problem, plan(problem, backend, norm="mixed-t", stepping="matched"))
    assert "a_t" in reason


def test_matched_float32_is_declined(backend):
    problem = solves.problem("decay")
    reason = registry.get(backend).declines(problem, plan(problem, backend, dtype="float32", stepping="matched"))
    assert "float64" in reason


def test_float32_is_run_or_declined(backend):
    problem = solves.problem("forced", 2)
    reason = registry.get(backend).declines(problem, plan(problem, backend, dtype="float32"))
    if backend in ("scipy", "julia"):
        assert "float64 alone" in reason
        return
    outcome = solves.record("forced:2", backend, "default", "native", 1e-4, "float32")
    truth = solves.record("forced:2", backend, "default", "native", 1e-6).gradient
    assert outcome.status == Status.OK
    assert outcome.gradient.params["w1"].dtype == np.float32
    assert relative_error(outcome.gradient.arrays, truth.arrays) < 1e-3


def test_a_device_that_is_not_there_is_declined(backend):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    problem = solves.problem("decay")
    assert "CUDA" in (reason := registry.get(backend).declines(problem, plan(problem, backend, device="cuda"))) or (
        "CPU alone" in reason
    )


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["torchdiffeq", "diffrax"])
def test_a_gpu_gives_the_same_gradient(name):
    problem = solves.problem("forced", 2)
    on_gpu = plan(problem, name, device="cuda")
    if registry.get(name).declines(problem, on_gpu):
        pytest.skip("no GPU")
    gradient = registry.get(name).compile(problem, on_gpu).solve(1e-8, 1e-10)
    truth = solves.compiled("forced:2", name, "default", "native").solve(1e-8, 1e-10)
    assert relative_error(gradient.arrays, truth.arrays) < 1e-6


def test_a_function_given_for_the_other_library_alone_is_declined(backend):
    library = registry.get(backend).library
    other = "jax" if library == "torch" else "torch"
    case = solves.problem("decay")
    problem = case.replace(loss={other: case.loss})
    reason = registry.get(backend).declines(problem, plan(problem, backend))
    if backend == "scipy":  # it takes torch as its engine then
        assert reason is None
    else:
        assert f"loss given for {other} alone" in reason


@pytest.mark.parametrize("case", ["nan_in_field", "blow_up", "underflow"])
@pytest.mark.parametrize("stepping", ["native", "matched"])
def test_a_failed_solve_is_an_outcome_with_the_same_status_everywhere(backend, case, stepping):
    status = {"nan_in_field": Status.NAN_IN_FIELD, "blow_up": Status.DIVERGED, "underflow": Status.STEP_UNDERFLOW}
    outcome = solves.record(case, backend, "default", stepping, 1e-6)
    assert outcome.status == status[case]
    assert outcome.gradient is None
    assert "solve:" in outcome.message
    assert "t = " in outcome.message
    assert outcome.forward.nfe > 0


@pytest.mark.slow
def test_a_solve_that_never_ends_is_stopped(backend, monkeypatch):
    monkeypatch.setattr("crossbackend.backends.contract.MAX_STEPS", 50)
    outcome = solves.record("forced:2", backend, "default", "native", 1e-13)
    assert outcome.status == Status.MAX_STEPS
    assert "50 steps reached t = " in outcome.message


def test_after_a_failure_the_next_tolerance_is_clean(backend, monkeypatch):
    made = solves.compiled("decay", backend, "seminorm", "matched")
    with monkeypatch.context() as patch:
        patch.setattr("crossbackend.backends.contract.MAX_STEPS", 3)
        assert made.record(1e-8, 1e-10).status == Status.MAX_STEPS
    outcome = made.record(1e-6, 1e-8)
    assert outcome.status == Status.OK
    assert outcome.forward.nfe == made.record(1e-6, 1e-8).forward.nfe


def test_a_torch_only_problem_still_has_scipy():
    case = solves.problem("decay")
    torch_only = case.replace(name="torch_only", vector_field={"torch": case.vector_field}, loss={"torch": case.loss})
    made = registry.get("scipy").compile(torch_only, plan(torch_only, "scipy"))
    truth = solves.compiled("decay", "scipy", "default", "native").solve(1e-6, 1e-8)
    assert relative_error(made.solve(1e-6, 1e-8).arrays, truth.arrays) < 1e-12
    assert made.settings(1e-6, 1e-8)["forward"]["engine"] == "torch"


@pytest.mark.parametrize("engine", ["jax", "torch"])
def test_every_engine_of_scipy_gives_the_same_gradient(engine):
    for name in ("latent", "flow"):
        outcome = solves.record(name, f"scipy:{engine}", "default", "matched", 1e-6)
        truth = solves.record(name, "scipy", "default", "matched", 1e-6)
        assert relative_error(outcome.gradient.arrays, truth.gradient.arrays) < 1e-12
        assert outcome.forward.counts == truth.forward.counts


def test_an_unknown_engine_is_a_mistake():
    with pytest.raises(UserError, match=r"got 'scipy:fortran', expected scipy:ENGINE with one of numpy, jax, torch"):
        registry.get("scipy:fortran")
    with pytest.raises(UserError, match=r"got 'diffrax:xla', expected 'diffrax', which has no engines"):
        registry.get("diffrax:xla")


def test_an_unknown_backend_is_a_mistake():
    with pytest.raises(UserError, match=r"got 'torchode', expected one of diffrax, julia, scipy, torchdiffeq"):
        registry.get("torchode")


def test_field_params_may_be_named():
    case = solves.problem("latent")
    named = case.replace(name="named", field_params=("field", "decoder"))
    made = registry.get("scipy").compile(named, plan(named, "scipy"))
    assert made.system.used == ("decoder", "field")
    truth = solves.compiled("latent", "scipy", "default", "native").solve(1e-8, 1e-10)
    assert relative_error(made.solve(1e-8, 1e-10).arrays, truth.arrays) < 1e-6


def test_data_may_hold_integers_and_parameters_may_be_nested(backend):
    def field(t, y, params, data):
        return -params["rates"][0]["k"] * y * data["count"]

    def loss(ys, params, data):
        return (ys**2).sum()

    problem = Problem(
        "nested", field, loss, {"rates": [{"k": np.array(0.5)}]}, np.array([1.0, 2.0]), (0.0, 1.0),
        data={"count": np.array(2)},
    )  # fmt: skip
    gradient = registry.get(backend).compile(problem, plan(problem, backend)).solve(1e-8, 1e-10)
    # loss = |y0|^2 (1 + exp(-2)), and y = y0 exp(-2 k t)
    assert gradient.params["rates/0/k"] == pytest.approx(-4 * 5 * np.exp(-2.0), rel=1e-6)


def test_what_is_forgotten_is_not_missed(backend):
    """After `forget`, a Compiled that was solved once compiles nothing anew."""
    forget = getattr(registry.get(backend), "forget", None)
    if forget is None:
        pytest.skip("it keeps nothing")
    made = registry.get(backend).compile(solves.problem("decay"), plan(solves.problem("decay"), backend))
    before = made.solve(1e-6, 1e-8)
    compile_s = made.compile_s
    forget()
    after = made.solve(1e-6, 1e-8)
    assert made.compile_s == compile_s
    np.testing.assert_array_equal(before.params["rate"], after.params["rate"])
