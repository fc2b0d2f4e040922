"""The contract of `crossbackend.backends.training`, for both backends that train."""

import math
from functools import cache

import numpy as np
import pytest

from crossbackend import registry, tree
from crossbackend.backends.training import Optimiser, SolveFailed
from tests.train import small

pytest.importorskip("torch")
pytest.importorskip("jax")
pytest.importorskip("optax")

ADAMS = {
    "adam": Optimiser("adam", 1e-2), "adam, decay": Optimiser("adam", 1e-2, 0.3),
    "adamw": Optimiser("adamw", 1e-2, 0.3),
}  # fmt: skip
DRIVEN = small.driven()
CELLS = [("default", "native"), ("mixed-seminorm", "matched")]
TRACED = []


def _traced(t, y, params, data):
    TRACED.append(1)
    return DRIVEN.vector_field(t, y, params, data)


def batches(count, seed=0):
    rng = np.random.default_rng(seed)
    return [small.batch(rng) for _ in range(count)]


@cache
def made(backend, norm, stepping):
    problem = DRIVEN.replace(vector_field=_traced)
    return registry.get(backend).stepper(problem, small.plan(backend, norm, stepping), ADAMS["adam"])


def begin(backend, norm="default", stepping="native", optimiser="adam"):
    """A fresh stepper whose solves are compiled once in a session, whatever the optimiser."""
    stepper = made(backend, norm, stepping)
    if backend == "diffrax":
        from crossbackend.backends.diffrax_training import optax_of

        stepper.optimiser = optax_of(ADAMS[optimiser])
        stepper._programs.pop("update", None)
    else:
        stepper.settings = ADAMS[optimiser]
    stepper.start(DRIVEN.params)
    return stepper


@cache
def recorded(backend, norm, stepping):
    """Parameters after one step, the next batch, and what the recorder says of it."""
    stepper = begin(backend, norm, stepping)
    first, second = batches(2, seed=3)
    stepper.step(first)
    plan = small.plan(backend, norm, stepping)
    problem = DRIVEN.replace(params=stepper.params(), data=second)
    return problem.params, second, registry.get(backend).compile(problem, plan).record(plan.rtol, plan.atol)


def adam(params, gradients, optimiser):
    """Return parameters, m and v after Adam (Kingma, Ba, 2015) or AdamW (Loshchilov, Hutter, 2019), step by step."""
    rate, decay = optimiser.learning_rate, optimiser.weight_decay
    x, m, v = params, [0 * p for p in params], [0 * p for p in params]
    for count in range(1, 100):
        g = gradients(x)
        if optimiser.name == "adam":
            g = [a + decay * b for a, b in zip(g, x, strict=True)]
        m = [0.9 * a + 0.1 * b for a, b in zip(m, g, strict=True)]
        v = [0.999 * a + 0.001 * b * b for a, b in zip(v, g, strict=True)]
        moves = [a / (1 - 0.9**count) / (np.sqrt(b / (1 - 0.999**count)) + 1e-8) for a, b in zip(m, v, strict=True)]
        shrink = 1 - rate * decay if optimiser.name == "adamw" else 1.0
        x = [shrink * a - rate * b for a, b in zip(x, moves, strict=True)]
        yield x


@cache
def by_hand(name):
    """The parameters after every one of five steps, by NumPy, with gradients of torchdiffeq under matched stepping."""
    data = iter(batches(5))

    def gradients(x):
        params = tree.rebuild(DRIVEN.params, x)
        plan = small.plan("torchdiffeq", *CELLS[1])
        compiled = registry.get("torchdiffeq").compile(DRIVEN.replace(params=params, data=next(data)), plan)
        return list(compiled.solve(plan.rtol, plan.atol).params.values())

    steps = adam(tree.values(DRIVEN.params), gradients, ADAMS[name])
    return [next(steps) for _ in range(5)]


@pytest.mark.parametrize("name", ADAMS)
def test_parameters_under_matched_stepping_are_those_of_adam_by_hand(trainer, name):
    stepper = begin(trainer, *CELLS[1], name)
    for data, wanted in zip(batches(5), by_hand(name), strict=True):
        stepper.step(data)
        for found, other in zip(tree.values(stepper.params()), wanted, strict=True):
            np.testing.assert_allclose(found, other, rtol=0, atol=1e-9)


def test_weight_decay_is_where_the_names_say():
    after = {name: np.concatenate([leaf.ravel() for leaf in by_hand(name)[-1]]) for name in ADAMS}
    for other in ("adam", "adamw"):
        assert np.abs(after["adam, decay"] - after[other]).max() > 1e-3


@pytest.mark.parametrize(("norm", "stepping"), CELLS)
def test_counts_loss_and_gradient_are_those_of_the_recorder(trainer, norm, stepping):
    params, data, outcome = recorded(trainer, norm, stepping)
    stepper = begin(trainer, norm, stepping)
    stepper.start(params)
    gradient = gradients_of(stepper)
    step = stepper.step(data)
    sides = outcome.forward, outcome.backward
    assert step.nfe == tuple(side.nfe for side in sides)
    assert step.rejected == tuple(int((~side.accepted).sum()) for side in sides)
    for attempts, side in zip(step.attempts, sides, strict=True):
        t0, t1, accepted = zip(*attempts, strict=True)
        np.testing.assert_allclose(t0, side.t0, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(t1, side.t1, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(accepted, side.accepted)
    assert step.loss == pytest.approx(outcome.gradient.loss, rel=1e-14)
    for (name, wanted), found in zip(outcome.gradient.params.items(), gradient(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13, err_msg=name)


def test_counting_moves_no_bit_of_the_gradient(trainer):
    params, data, _ = recorded(trainer, "default", "native")
    stepper = begin(trainer)
    stepper.start(params)
    gradient = gradients_of(stepper)
    stepper.step(data)
    for found, wanted in zip(gradient(), bare(stepper, params, data), strict=True):
        np.testing.assert_array_equal(found, wanted)


def gradients_of(stepper):
    """Return a function that tells the gradient of the last step, in the parameters' order."""
    if hasattr(stepper.compiled, "leaves"):
        return lambda: [leaf.grad.numpy() for leaf in stepper.compiled.leaves]
    seen, run = [], stepper._run

    def noting(name, *args):
        out = run(name, *args)
        if name == "backward":
            seen.append([np.array(leaf) for leaf in tree.values(out)])
        return out

    stepper._run = noting

    def last():
        del stepper._run
        return seen[-1]

    return last


def bare(stepper, params, data):
    """Return the gradient of the same plan, uncounted, in the parameters' order."""
    compiled, plan = stepper.compiled, stepper.compiled.plan
    if hasattr(compiled, "leaves"):
        problem = DRIVEN.replace(params=params, data=data)
        return list(registry.get(plan.backend).compile(problem, plan).solve(plan.rtol, plan.atol).params.values())
    import jax

    with compiled.context():
        arrays = compiled.bound.convert(params), compiled.bound.convert(data)
        _, kept = jax.jit(compiled.forward)(*arrays, *compiled.tolerances(plan.rtol, plan.atol))
        return [np.array(leaf) for leaf in tree.values(jax.jit(compiled.backward)(kept)[1])]


def test_predict_is_the_recorders_forward_solve(trainer):
    params, data, outcome = recorded(trainer, "default", "native")
    stepper = begin(trainer)
    stepper.start(params)
    before = stepper.state()
    loss, ys = stepper.predict(data)
    np.testing.assert_allclose(ys, outcome.ys[""], rtol=1e-14, atol=1e-14)
    assert loss == pytest.approx(outcome.gradient.loss, rel=1e-14)
    _same(stepper.state(), before)


def _same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, leaf in wanted.items():
        np.testing.assert_array_equal(found[name], leaf, err_msg=name)
        assert found[name].dtype == leaf.dtype


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_steps_after_a_restore_are_the_same_to_the_last_bit(trainer, name):
    stepper = begin(trainer, *CELLS[1], name)
    data = batches(5)
    for one in data[:2]:
        stepper.step(one)
    kept = stepper.state()
    losses = [stepper.step(one).loss for one in data[2:]]
    end = stepper.state()
    stepper.start(tree.map_leaves(np.zeros_like, DRIVEN.params))
    stepper.step(data[0])
    stepper.restore(kept)
    _same(stepper.state(), kept)
    assert [stepper.step(one).loss for one in data[2:]] == losses
    _same(stepper.state(), end)
    assert any(not np.array_equal(kept[name], leaf) for name, leaf in end.items())


def test_a_state_before_the_first_step_can_be_restored(trainer):
    stepper = begin(trainer)
    (data,) = batches(1)
    kept = stepper.state()
    stepper.step(data)
    end = stepper.state()
    stepper.restore(kept)
    stepper.step(data)
    _same(stepper.state(), end)


def test_start_forgets_the_optimiser(trainer):
    stepper = begin(trainer)
    for data in batches(3):
        stepper.step(data)
    stepper.start(DRIVEN.params)
    for found, wanted in zip(tree.values(stepper.params()), tree.values(DRIVEN.params), strict=True):
        np.testing.assert_array_equal(found, wanted)
    stepper.step(batches(1)[0])
    first = DRIVEN.params["read"] - stepper.params()["read"]
    np.testing.assert_allclose(np.abs(first), 1e-2, rtol=1e-4)  # Adam's first step is the learning rate


def test_batches_of_one_shape_compile_once():
    stepper = begin("diffrax")
    data = batches(3, seed=6)
    stepper.step(data[0])
    stepper.predict(data[0])
    traces, seconds = len(TRACED), stepper.compile_s
    losses = [stepper.step(one).loss for one in data[1:]]
    predicted = [stepper.predict(one)[0] for one in data]
    stepper.start(DRIVEN.params)
    stepper.step(data[0])
    assert traces > 0
    assert (len(TRACED), stepper.compile_s) == (traces, seconds)
    assert len({*losses, *predicted}) == 5, "every batch has a loss of its own"


def test_seconds_are_without_compilation(trainer):
    stepper = begin(trainer)
    step = stepper.step(batches(1)[0])
    forward, backward, everything = step.seconds
    assert min(forward, backward) > 0
    assert forward + backward <= everything < 5


def _with(**changes):
    (data,) = batches(1)
    return data | {name: np.full_like(data[name], value) for name, value in changes.items()}


@pytest.mark.parametrize("changes", [{"size": np.nan}, {"target": np.nan}, {"size": np.inf}], ids=str)
def test_a_loss_that_is_not_finite_leaves_the_parameters_alone(trainer, changes):
    stepper = begin(trainer)
    stepper.step(batches(1)[0])
    before = stepper.state()
    step = stepper.step(_with(**changes))
    assert math.isnan(step.loss)
    assert step.nfe[0] > 0
    _same(stepper.state(), before)
    assert math.isfinite(stepper.step(batches(1)[0]).loss)


def test_a_gradient_that_is_not_finite_leaves_the_parameters_alone(trainer):
    stepper = begin(trainer)
    before = stepper.state()
    assert math.isfinite(stepper.predict(_with(kink=0.0))[0])
    assert math.isnan(stepper.step(_with(kink=0.0)).loss)
    _same(stepper.state(), before)


def test_a_solve_that_the_library_gives_up_is_a_failure_in_its_words(trainer, monkeypatch):
    from crossbackend.backends import diffrax

    monkeypatch.setattr(diffrax, "MAX_STEPS", 20)
    stepper = registry.get(trainer).stepper(DRIVEN, small.plan(trainer), ADAMS["adam"])
    words = {"torchdiffeq": r"^underflow in dt", "diffrax": r"^The maximum number of solver steps was reached\."}
    before = stepper.state()
    for call in (stepper.step, stepper.predict):
        with pytest.raises(SolveFailed, match=words[trainer]):
            call(_with(drive=np.nan))
    _same(stepper.state(), before)
