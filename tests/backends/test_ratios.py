"""What is recorded of a step is what the library's own controller acted on, and recording it changes nothing."""

import math

import numpy as np
import pytest

from crossbackend import ops, registry, snapping
from crossbackend.backends.scipy_solver import NormRK45
from crossbackend.plan import Plan
from tests.backends import solves

NORMS = ["default", "seminorm", "mixed", "mixed-seminorm", "pooled", "pooled-seminorm"]
OWN = {
    "torchdiffeq": {"default": ("max", True, True), "seminorm": ("max", False, True)},
    "diffrax": {"default": ("pooled", True, False), "seminorm": ("pooled", False, False)},
    "scipy": {"default": ("pooled", True, False), "seminorm": ("pooled", False, False)},
    "julia": {"default": ("pooled", True, False), "seminorm": ("pooled", False, False)},
}
"""What each library's own norm is: across blocks, whether it sees a_params, whether it sees a_t."""


def rule(backend, norm, stepping):
    """Return (across, sees a_params, sees a_t) of a plan's backward norm, by its definition alone."""
    if stepping == "native" and norm in ("default", "seminorm"):
        return OWN[backend][norm]
    name = {"default": "mixed", "seminorm": "mixed-seminorm"}.get(norm, norm)
    return ("pooled" if name.startswith("pooled") else "max"), "seminorm" not in name, False


def assembled(seen, sizes, across, params, time):
    """Put the recorded blocks together by the norm's definition: the ratio that the controller must have seen."""
    names = ["y", "a_y", *(["a_params"] if params else []), *(["a_t"] if time else [])]
    ratios = np.stack([seen[f"ratio_{name}"] for name in names])
    if across == "max":
        return ratios.max(axis=0)
    weights = np.array([sizes[name] for name in names], dtype=float)[:, None]
    return np.sqrt((weights * ratios**2).sum(axis=0) / weights.sum())


def factor(backend, stepping, ratio, accepted, after_rejection):
    """Return the factor from one attempt's step to the next one's, by the library's published controller."""
    wanted = 10.0 if ratio == 0 else 0.9 * ratio**-0.2
    if backend in ("scipy", "julia") and stepping == "native":
        grown = min(10.0, wanted)
        return (min(1.0, grown) if after_rejection else grown) if accepted else max(0.2, wanted)
    if accepted:
        return min(10.0, max(1.0, wanted))
    return max(0.2, wanted) if backend != "diffrax" else min(0.9, max(0.2, wanted))


@pytest.mark.parametrize("stepping", ["native", "matched"])
@pytest.mark.parametrize("norm", NORMS)
def test_decisions_and_steps_follow_from_the_recorded_blocks(backend, norm, stepping):
    """The blocks, put together by the norm's definition, accept and reject as the library did and give its steps."""
    sizes = {"y": 8, "a_y": 8, "a_params": 24 + 8 + 16, "a_t": 1}
    outcome = solves.record("forced:2", backend, norm, stepping, 1e-6)
    steps = outcome.backward
    ratio = assembled(steps.seen, sizes, *rule(backend, norm, stepping))
    if stepping == "matched":
        ratio = np.array([snapping.snap_float(float(r)) for r in ratio])
    np.testing.assert_allclose(steps.seen["ratio"], ratio, rtol=1e-12)
    accepts = ratio <= 1 if backend == "torchdiffeq" else ratio < 1
    np.testing.assert_array_equal(steps.accepted, accepts)
    assert 0 < np.count_nonzero(~accepts) < len(accepts)
    lengths, clipped = np.abs(steps.t1 - steps.t0), np.abs(steps.t1 - 0.0) < 1e-12
    for k in range(len(lengths) - 1):
        if not clipped[k + 1]:  # the last step ends where the interval does
            rejected_before = k > 0 and not steps.accepted[k - 1]
            expected = lengths[k] * factor(backend, stepping, ratio[k], steps.accepted[k], rejected_before)
            assert lengths[k + 1] == pytest.approx(expected, rel=1e-9), k


def test_forward_decisions_follow_too(backend):
    steps = solves.record("forced:8", backend, "default", "native", 1e-6).forward
    assert set(steps.seen) == {"ratio", "ratio_y"}
    np.testing.assert_allclose(steps.seen["ratio"], steps.seen["ratio_y"], rtol=1e-12)
    accepts = steps.seen["ratio_y"] <= 1 if backend == "torchdiffeq" else steps.seen["ratio_y"] < 1
    np.testing.assert_array_equal(steps.accepted, accepts)


def test_a_tuple_state_is_measured_as_torchdiffeq_does():
    """The largest over the entries of a tuple, not one RMS over the state."""
    steps = solves.record("flow", "torchdiffeq", "default", "native", 1e-8).backward
    np.testing.assert_allclose(
        steps.seen["ratio"], assembled(steps.seen, {}, "max", params=True, time=True), rtol=1e-12
    )
    whole = solves.record("flow", "torchdiffeq", "mixed-t", "native", 1e-8).backward
    assert len(whole.t0) != len(steps.t0) or not np.allclose(whole.t1, steps.t1)


def test_integrals_that_a_norm_leaves_out_are_left_out_of_its_blocks(backend):
    out = solves.record("flow", backend, "mixed-integrals", "native", 1e-6).backward
    np.testing.assert_allclose(out.seen["ratio"], assembled(out.seen, {}, "max", params=True, time=False), rtol=1e-12)


def test_calls_for_a_first_step_are_no_attempts(backend):
    """A norm that counts its calls is called three times more for every chosen first step, and those are not kept."""
    if backend == "julia":
        pytest.skip("it runs what was printed of the norm, which calls nothing in Python")
    calls, restarts = [], 7

    def counting(blocks):
        if backend == "diffrax":  # its norm is traced once and run many times
            import jax

            jax.debug.callback(lambda: calls.append(1))
        else:
            calls.append(1)
        return sum(abs(block).max() for block in blocks.values())

    problem = solves.problem("forced", 8).replace(norms={"counting": counting})
    stepping = "matched" if backend == "diffrax" else "native"  # natively it chooses no first step
    made = registry.get(backend).compile(problem, Plan("forced8", backend, "counting", stepping, 1e-5, 1e-7))
    made.solve(1e-5, 1e-7)
    bare = len(calls)
    steps = made.record(1e-5, 1e-7).backward
    assert len(steps.seen["ratio"]) == len(steps.t0) == bare - 3 * restarts
    assert len(calls) > 2 * bare  # the meter asks the callable for its parts as well


def test_recording_keeps_the_steps_of_the_untouched_torchdiffeq():
    """`odeint_adjoint` with its own norms, heard by its documented callbacks alone: the same steps, bit by bit."""
    import torch
    from torchdiffeq import odeint_adjoint

    from crossbackend.bound import Bound

    for name, options in (("default", None), ("seminorm", {"norm": "seminorm"})):
        for case in ("forced:2", "flow"):
            problem = solves.compiled(case, "torchdiffeq", name, "native").problem
            bound = Bound(problem, "torch")
            leaves = tuple(leaf.requires_grad_(True) for leaf in bound.params.values())
            y0 = bound.initial(bound.params, bound.data)
            keys = sorted(y0) if isinstance(y0, dict) else None
            state = tuple(y0[k] for k in keys) if keys else y0
            untouched = _Heard(bound, keys)
            ts = torch.tensor(problem.ts, dtype=torch.float64)
            ys = odeint_adjoint(
                untouched, state, ts, rtol=1e-6, atol=1e-8, method="dopri5", adjoint_params=leaves,
                adjoint_options=options,
            )  # fmt: skip
            loss = bound.loss(dict(zip(keys, ys, strict=True)) if keys else ys, bound.params, bound.data)
            loss.backward()
            steps = solves.record(case, "torchdiffeq", name, "native", 1e-6).backward
            np.testing.assert_array_equal([t0 for t0, _, _ in untouched.attempts], steps.t0)
            np.testing.assert_array_equal([t0 - dt for t0, dt, _ in untouched.attempts], steps.t1)
            np.testing.assert_array_equal([kept for _, _, kept in untouched.attempts], steps.accepted)


class _Heard:
    """A field that hears of the backward attempts by torchdiffeq's documented callbacks."""

    def __init__(self, bound, keys):
        self.bound, self.keys, self.attempts = bound, keys, []

    def __call__(self, t, y):
        state = dict(zip(self.keys, y, strict=True)) if self.keys else y
        dy = self.bound.field(t, state, self.bound.params, self.bound.data)
        return tuple(dy[k] for k in self.keys) if self.keys else dy

    def callback_accept_step_adjoint(self, t0, y0, dt):
        self.attempts.append((float(t0), float(dt), True))

    def callback_reject_step_adjoint(self, t0, y0, dt):
        self.attempts.append((float(t0), float(dt), False))


def test_recording_keeps_the_steps_of_the_untouched_scipy():
    """`solve_ivp` with RK45 as it is, over the same augmented field: the same steps, bit by bit."""
    from scipy.integrate import solve_ivp

    made = solves.compiled("forced:2", "scipy", "default", "native")
    outcome, system = solves.record("forced:2", "scipy", "default", "native", 1e-6), made.system
    n = system.layout.size
    forward = solve_ivp(system.function("field"), (0.0, 2.0), system.y0(), rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(forward.t[1:], outcome.forward.t1[outcome.forward.accepted])
    _, of_ys, _ = system.loss(outcome.ys[""].reshape(2, -1))
    z = np.zeros(system.size)
    z[:n], z[n : 2 * n] = outcome.ys[""][-1].ravel(), of_ys[-1]
    backward = solve_ivp(system.function("adjoint"), (2.0, 0.0), z, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(backward.t[1:], outcome.backward.t1[outcome.backward.accepted])
    assert backward.nfev == outcome.backward.nfe


def test_a_watched_rk45_without_a_look_takes_the_same_steps():
    from crossbackend.backends.contract import Watch

    made = solves.compiled("forced:2", "scipy", "mixed", "native")
    norm, field = made.norm_functions["forward"], made.system.function("field")
    ends = []
    for look in (None, made.look("forward")):
        watch = Watch(1.0, (0.0, 2.0))
        solver = NormRK45(
            field, 0.0, made.system.y0(), 2.0, rtol=1e-6, atol=1e-8, block_norm=norm, watch=watch, look=look
        )
        while solver.status == "running":
            solver.step()
        ends.append(watch.steps())
    np.testing.assert_array_equal(ends[0].t1, ends[1].t1)
    assert ends[0].seen == {}
    assert set(ends[1].seen) == {"ratio", "ratio_y"}


def test_recording_keeps_the_steps_of_the_untouched_diffrax():
    """Forward the steps themselves; backward, where the library shows none, evaluations and gradient."""
    import diffrax
    import jax
    import jax.numpy as jnp

    made = solves.compiled("forced:2", "diffrax", "default", "native")
    outcome, bound = solves.record("forced:2", "diffrax", "default", "native", 1e-6), made.bound
    calls = []

    def field(t, y, args):
        jax.debug.callback(lambda: calls.append(1))
        return bound.field(t, y, args, bound.data)

    def loss(params, saveat, adjoint):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field), diffrax.Dopri5(), 0.0, 2.0, None, bound.initial(params, bound.data), params,
            saveat=saveat, stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-8), adjoint=adjoint,
        )  # fmt: skip
        return bound.loss(solution.ys, params, bound.data), solution.ts

    with ops.precision("jax", "float64"):
        every, outputs = diffrax.SaveAt(steps=True), diffrax.SaveAt(t0=True, ts=jnp.array([2.0]))
        _, ts = loss(bound.params, every, diffrax.RecursiveCheckpointAdjoint())
        ends = np.asarray(ts)[np.isfinite(np.asarray(ts))]
        np.testing.assert_allclose(ends, outcome.forward.t1[outcome.forward.accepted], rtol=1e-14)
        jax.effects_barrier()
        calls.clear()
        gradient = jax.grad(lambda p: loss(p, outputs, diffrax.BacksolveAdjoint())[0])(bound.params)
        jax.block_until_ready(gradient)
        jax.effects_barrier()
    assert len(calls) == outcome.forward.nfe + outcome.backward.nfe
    for name, array in gradient.items():
        np.testing.assert_allclose(np.asarray(array), outcome.gradient.params[name], rtol=1e-13, atol=1e-15)


def test_matched_backends_see_the_same_ratios():
    """The same steps have the same errors: block by block, to what rounding leaves of an error estimate."""
    found = [solves.record("forced:8", name, "default", "matched", 1e-5).backward.seen for name in registry.installed()]
    assert len(found) >= 3
    for other in found[1:]:
        for name in ("ratio_y", "ratio_a_y", "ratio_a_params", "ratio_state", "rms_a_y"):
            np.testing.assert_allclose(found[0][name], other[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_rms_a_y_is_that_of_the_adjoint_where_the_attempt_begins(backend):
    outcome = solves.record("decay", backend, "default", "native", 1e-8)
    case = solves.problem("decay")
    steps = outcome.backward
    first = abs(float(outcome.ys[""][-1, 0]))  # the loss is a mean of squares of two values
    assert steps.seen["rms_a_y"][0] == pytest.approx(first, rel=1e-12)
    decay = np.exp(-float(case.params["rate"][0]) * (3.0 - steps.t0))
    np.testing.assert_allclose(steps.seen["rms_a_y"], first * decay, rtol=1e-6)


def test_where_the_field_was_evaluated(backend):
    for stepping, beyond in (("native", backend == "torchdiffeq"), ("matched", False)):
        outcome = solves.record("forced:2", backend, "default", stepping, 1e-4)
        low, high = outcome.forward.t_range[0], outcome.forward.t_range[1]
        assert low == pytest.approx(0.0, abs=1e-12)
        assert (high > 2.0 + 1e-9) is beyond
        assert (outcome.backward.t_range[0] < -1e-9) is beyond
        assert math.isfinite(outcome.backward.y_max)
