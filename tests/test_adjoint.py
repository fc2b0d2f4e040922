"""The equations of docs/adjoint.md against numbers that know nothing of them: finite differences, closed forms.

The tests stand in the order of the page; the numbers in brackets are its equations.
"""

import importlib
import math
import re
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from crossbackend import norms, ops, registry
from crossbackend.augmented import Augmented
from crossbackend.backends.contract import pieces
from crossbackend.backends.scipy_solver import NormRK45, advance
from crossbackend.interpolating import Interpolating
from crossbackend.plan import Plan
from crossbackend.problem import Problem
from crossbackend.record import relative_error
from tests import cases
from tests.backends.test_seminorm import rotation

PAGE = Path(__file__).parents[1] / "docs" / "adjoint.md"
TEXT = PAGE.read_text(encoding="utf-8")
TIGHT = {"method": "DOP853", "rtol": 1e-13, "atol": 1e-15}
H = 1e-3
"""Step of finite differences of solutions, which are good to about 1e-13."""


# Problems.


def _decaying_field(t, y, params, data):
    return -params["rate"] * y


def _half_square_at_the_end(ys, params, data):
    return 0.5 * ops.namespace(ys).sum(ys[-1, ...] ** 2)


def decaying(rate=0.7, ts=(0.0, 1.5)):
    """An autonomous field with y(t) = 2 exp(-rate (t - t0)), and a loss of y(T) alone."""
    params, y0 = {"rate": np.array(rate)}, np.array([2.0])
    return Problem("decaying", _decaying_field, _half_square_at_the_end, params, y0, ts)


def _drift_field(t, y, params, data):
    return params["slope"] + 0 * y


def _drift_loss(ys, params, data):
    xp = ops.namespace(ys)
    return 0.5 * xp.sum(data["weights"] * xp.sum(ys**2, axis=1)) + xp.sum(data["c"] * params["slope"])


def drift():
    """Straight lines, which every solver finds exactly; y0 and the loss depend on parameters, and outputs weigh."""
    params = {"slope": np.array([0.5, -2.0]), "start": np.array([1.0, 3.0])}
    data = {"weights": np.array([2.0, 1.0, -0.5, 3.0]), "c": np.array([10.0, 20.0])}
    ts = (0.0, 0.5, 1.25, 2.0)
    return Problem("drift", _drift_field, _drift_loss, params, lambda params, data: params["start"] * 1.0, ts, data)


def _diluted_field(t, y, params, data):
    xp = ops.namespace(y)
    return xp.stack([2 * y[1], -2 * y[0], 2 * y[3], -2 * y[2]]) * (1 + 0.01 * xp.mean(params["many"]))


def diluted():
    """Four states, and a hundred parameters whose adjoints hardly move."""
    total = lambda ys, params, data: ops.namespace(ys).sum(ys[-1, ...])  # noqa: E731
    y0 = np.array([1.0, 0.5, -1.0, 2.0])
    return Problem("diluted", _diluted_field, total, {"many": np.zeros(100)}, y0, (0.0, 4.0))


def zero_initialised():
    """A time-dependent network whose last layer starts at zero, as is common: y and a_y stand still, a_params not."""
    network = cases.forced(2)
    return network.replace(params={**network.params, "w2": np.zeros((8, 2))}, ts=(0.0, 4.0))


MAKERS = {
    "forced": partial(cases.forced, 3),
    "flow": cases.flow,
    "latent": cases.latent,
    "piecewise": cases.piecewise,
    "decaying": decaying,
}


@cache
def augmented(name):
    """Return the augmented system of a problem with a_t."""
    return Augmented(MAKERS[name](), with_time=True)


# What the tests compute for themselves.


def forward(system, ts, y0):
    """Return y at the times given, shape (len(ts), n), each piece between breakpoints on its own side of the field."""
    field, y, at = system.function("field"), y0, {ts[0]: y0}
    for start, end, lo, hi in pieces(system.problem.replace(ts=ts)):
        y = solve_ivp(partial(_inside, field, lo, hi), (start, end), y, **TIGHT).y[:, -1]
        at[end] = y
    return np.stack([at[t] for t in ts])


def _inside(field, lo, hi, t, y):
    return field(min(max(t, lo), hi), y)


def loss_to_go(system, t, y, ys, solver=None):
    """Return (2): the loss of a solution that starts in y at t, the outputs up to t as they were.

    `solver` is the system that integrates, `system` the one whose loss is taken: theta may move in one alone.
    """
    later = [time for time in system.problem.ts if time > t]
    kept = ys[: len(ys) - len(later)]
    return system.loss(np.concatenate([kept, forward(solver or system, (t, *later), y)[1:]]))[0]


def backwards(system, ys, of_ys, t):
    """Return (y, a_y, a_params, a_t) at t by integrating (5) to (7) and (9) from T, with the jumps (8)."""
    n, ts = system.layout.size, system.problem.ts
    field, adjoint = system.function("field"), system.function("adjoint")
    z = np.zeros(system.size)
    for i in range(len(ts) - 1, 0, -1):
        if ts[i] <= t:
            break
        z[:n] = ys[i]
        z[n : 2 * n] += of_ys[i]
        z[-1] -= of_ys[i] @ field(ts[i], ys[i])
        z = solve_ivp(adjoint, (ts[i], max(t, ts[i - 1])), z, **TIGHT).y[:, -1]
    return z


def parts(system, z):
    """Return y, a_y, a_params, a_t of an augmented state."""
    n = system.layout.size
    return z[:n], z[n : 2 * n], z[2 * n : -1], z[-1]


def used(system, flat):
    """Return the entries of a flat parameter vector that the field uses."""
    named = zip(system.param_names, system.params_layout.slices, strict=True)
    return np.concatenate([flat[at] for name, at in named if name in system.used])


def central(function, h=H):
    """Return the derivative of a function of one number at 0, by differences of order 4."""
    return (8 * (function(h) - function(-h)) - (function(2 * h) - function(-2 * h))) / (12 * h)


def solved(name):
    """Return a problem's augmented system, ys and dloss/dys."""
    system = augmented(name)
    ys = forward(system, system.problem.ts, system.y0())
    return system, ys, system.loss(ys)[1]


# The adjoint equations.


@pytest.mark.parametrize("t", [0.4, 1.3])
def test_the_loss_to_go_is_constant_along_a_trajectory(t):
    """(4), in the last interval and in one before it, and along no other curve."""
    system, ys, _ = solved("forced")
    whole = system.loss(ys)[0]
    i = sum(time <= t for time in system.problem.ts) - 1
    y = forward(system, (system.problem.ts[i], t), ys[i])[-1]
    assert loss_to_go(system, t, y, ys) == pytest.approx(whole, rel=1e-12)
    assert abs(loss_to_go(system, t, 1.01 * y, ys) - whole) > 1e-4 * whole


@pytest.mark.parametrize("t", [0.4, 1.3])
def test_the_adjoints_are_the_derivatives_of_the_loss_to_go(t, rng):
    """(3) by finite differences is what (5), (6), (7) and the jumps (8) give, on both sides of an output."""
    system, ys, of_ys = solved("forced")
    y, a_y, a_params, a_t = parts(system, backwards(system, ys, of_ys, t))
    v = rng.standard_normal(y.shape)
    assert central(lambda h: loss_to_go(system, t, y + h * v, ys)) == pytest.approx(a_y @ v, rel=1e-7)
    assert central(lambda h: loss_to_go(system, t + h, y, ys)) == pytest.approx(a_t, rel=1e-7)
    w = rng.standard_normal(system.params_layout.size)
    moved = central(lambda h: loss_to_go(system, t, y, ys, solver=system.moved(h * w)))
    assert moved == pytest.approx(a_params @ used(system, w), rel=1e-7)


@pytest.mark.parametrize("name", ["forced", "flow", "latent"])
def test_each_right_hand_side_is_a_derivative_of_the_field(name, rng):
    """(5), (6), (7) and (9): the augmented field against finite differences of the vector field."""
    system, t, h = augmented(name), 0.37, 1e-6
    z = rng.standard_normal(system.size)
    y, a_y, _, _ = parts(system, z)
    field = system.function("field")
    of_y, of_a_y, of_params, of_t = parts(system, system.function("adjoint")(t, z))
    np.testing.assert_allclose(of_y, field(t, y), rtol=1e-14)
    jacobian = np.stack([central(lambda s, e=e: field(t, y + s * e), h) for e in np.eye(y.size)], axis=1)
    np.testing.assert_allclose(of_a_y, -a_y @ jacobian, rtol=1e-7, atol=1e-8)
    assert of_t == pytest.approx(-a_y @ central(lambda s: field(t + s, y), h), rel=1e-7, abs=1e-8)
    for _ in range(3):
        v = rng.standard_normal(system.params_layout.size)
        along = central(lambda s, v=v: system.moved(s * v).function("field")(t, y), h)
        assert used(system, v) @ of_params == pytest.approx(-a_y @ along, rel=1e-7, abs=1e-8)


@pytest.mark.slow
def test_jumps_at_the_outputs_and_the_total_gradient(backend):
    """(8) and (10) in every library, where both are known: straight lines."""
    problem = drift()
    slope, start = problem.params["slope"], problem.params["start"]
    ts, w = np.array(problem.ts), problem.data["weights"]
    of_ys = w[:, None] * (start + slope * ts[:, None])
    plan = Plan("drift", backend, "mixed", "native", 1e-6, 1e-8)
    gradient = registry.get(backend).compile(problem, plan).solve(1e-6, 1e-8)
    np.testing.assert_allclose(gradient.y0[""], of_ys.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(gradient.params["start"], of_ys.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(gradient.params["slope"], ts @ of_ys + problem.data["c"], rtol=1e-12)


# Time.


@pytest.mark.parametrize("t", [0.0, 0.4, 1.0, 1.3])
def test_a_t_is_minus_a_y_times_the_field(t):
    """(11), a_t and a_y each integrated by itself: a consequence of (4), and no definition."""
    system, ys, of_ys = solved("forced")
    y, a_y, _, a_t = parts(system, backwards(system, ys, of_ys, t))
    assert abs(a_t) > 0.01
    assert a_t == pytest.approx(-a_y @ system.function("field")(t, y), rel=1e-10)


@pytest.mark.parametrize("name", ["forced", "latent", "piecewise", "decaying"])
def test_time_gradient_is_the_derivative_in_every_output_time(name):
    """(12) against the loss with one output time moved at a time."""
    system, ys, of_ys = solved(name)
    ts, y0 = np.array(system.problem.ts), system.y0()

    def moved(i, h):
        times = ts + h * np.eye(len(ts))[i]
        return system.loss(forward(system, tuple(times.tolist()), y0))[0]

    differences = [central(partial(moved, i)) for i in range(len(ts))]
    a_y0 = np.concatenate([a.ravel() for a in Interpolating(system.problem).gradient()[0].y0.values()])
    found = system.time_gradient(ys, of_ys, a_y0)
    np.testing.assert_allclose(found, differences, rtol=1e-7, atol=1e-9)
    assert np.min(np.abs(found)) > 1e-4


def torchdiffeqs(problem, rtol, *, time):
    """Return dL/dt by `odeint_adjoint` (None unless `time` asks for it), and a_t at every backward step's start."""
    import torch
    from torchdiffeq import odeint_adjoint

    params = {name: torch.tensor(leaf, requires_grad=True) for name, leaf in problem.params.items()}
    ts = torch.tensor(problem.ts, dtype=torch.float64, requires_grad=time)
    seen = []

    class Field:
        def __call__(self, t, y):
            return problem.vector_field(t, y, params, None)

        def callback_accept_step_adjoint(self, t0, y0, dt):
            seen.append(float(y0[0]))

    # Steps end on the outputs: interpolation is of a lower order.
    ys = odeint_adjoint(
        Field(), torch.tensor(problem.initial), ts, rtol=rtol, atol=rtol / 100, method="dopri5",
        options={"step_t": ts.detach()}, adjoint_params=tuple(params.values()),
    )  # fmt: skip
    problem.loss(ys, params, None).backward()
    return None if ts.grad is None else ts.grad.numpy(), seen


@pytest.mark.parametrize("make", [lambda: cases.forced(3), decaying], ids=["forced", "decaying"])
def test_time_gradient_is_torchdiffeqs(make):
    """(12) against the gradient that `odeint_adjoint` gives for its t: the same signs, the same jumps of a_t."""
    problem = make()
    found, _ = torchdiffeqs(problem, 1e-11, time=True)
    system = Augmented(problem)
    ys = forward(system, problem.ts, system.y0())
    a_y0 = Interpolating(problem).gradient()[0].y0[""].ravel()
    np.testing.assert_allclose(found, system.time_gradient(ys, system.loss(ys)[1], a_y0), rtol=1e-9)


def test_the_sign_of_a_t_at_the_end():
    """a_t(T) = -dL/dT: with the sign that equation (2) of the paper prints, its dL/dtau = a_t(tau) is wrong.

    The field is autonomous, so that a_t is constant by (7): a_t(tau) = a_t(T). The loss depends on T - tau alone, so
    that dL/dtau = -dL/dT, and dL/dT is not zero.
    """
    rate, length = 0.7, 1.5
    of_end = -rate * 4.0 * math.exp(-2 * rate * length)  # L = 2 exp(-2 rate (T - tau))
    system, ys, of_ys = solved("decaying")
    *_, a_t = parts(system, backwards(system, ys, of_ys, 1.5 - 1e-9))
    assert a_t == pytest.approx(-of_end, rel=1e-8)
    *_, a_t = parts(system, backwards(system, ys, of_ys, 0.0))
    assert a_t == pytest.approx(-of_end, rel=1e-10)
    assert system.problem.ts == (0.0, length)
    a_y0 = of_ys[-1] * math.exp(-rate * length)
    np.testing.assert_allclose(system.time_gradient(ys, of_ys, a_y0), [-of_end, of_end], rtol=1e-10)


def test_the_time_gradients_add_up_to_the_integral():
    """(13): where a_t starts at 0 and does not jump, it ends as the sum of all dL/dt_i."""
    system, ys, of_ys = solved("forced")
    n, ts = system.layout.size, system.problem.ts
    z = np.zeros(system.size)
    for i in (2, 1):
        z[:n] = ys[i]
        z[n : 2 * n] += of_ys[i]
        z = solve_ivp(system.function("adjoint"), (ts[i], ts[i - 1]), z, **TIGHT).y[:, -1]
    _, a_y, _, integral = parts(system, z)
    assert abs(integral) > 0.01
    assert system.time_gradient(ys, of_ys, a_y + of_ys[0]).sum() == pytest.approx(integral, rel=1e-9)


def test_the_integral_for_a_t_misses_what_a_breakpoint_adds():
    """(14): df/dt is zero wherever it exists, dL/dt_i do not add up to zero, and the jumps of f are the difference."""
    system, ys, of_ys = solved("piecewise")
    field, adjoint = system.function("field"), system.function("adjoint")
    assert adjoint(0.5, np.ones(system.size))[-1] == 0.0
    truth, _ = Interpolating(system.problem).gradient()
    jumps = 0.0
    for b in system.problem.breakpoints:
        y = forward(system, (0.0, b), system.y0())[-1]
        of_go = [central(lambda h, b=b, y=y, e=e: loss_to_go(system, b, y + h * e, ys)) for e in np.eye(y.size)]
        jumps += np.array(of_go) @ (field(b + 1e-9, y) - field(b - 1e-9, y))
    assert abs(jumps) > 0.01
    assert system.time_gradient(ys, of_ys, truth.y0[""]).sum() == pytest.approx(jumps, rel=1e-8)


def test_torchdiffeqs_a_t_jumps_only_where_t_requires_its_gradient():
    """It is integrated either way; asked for dL/dt it holds (11), otherwise the integral of (7) from zero."""
    problem = cases.forced(2)
    system = Augmented(problem)
    ys = forward(system, problem.ts, system.y0())
    of_end = system.loss(ys)[1][-1] @ system.function("field")(2.0, ys[-1])
    _, asked = torchdiffeqs(problem, 1e-8, time=True)
    _, unasked = torchdiffeqs(problem, 1e-8, time=False)
    assert asked[0] == pytest.approx(-of_end, rel=1e-6)
    assert unasked[0] == 0.0
    assert abs(unasked[-1]) > 0.01
    assert len(asked) != len(unasked)  # the scale of a_t is another one, and torchdiffeq's own norm sees it


@pytest.mark.parametrize("which", ["t0", "t1", "ts"])
def test_diffrax_gives_no_time_gradient(which):
    import diffrax
    import jax
    import jax.numpy as jnp

    def last(time):
        times = {"t0": 0.0, "t1": 1.0, "ts": jnp.array([0.5, 1.0]), which: time}
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -y), diffrax.Dopri5(), times["t0"], times["t1"], 0.1, jnp.ones(1),
            saveat=diffrax.SaveAt(ts=times["ts"]), adjoint=diffrax.BacksolveAdjoint(),
        )  # fmt: skip
        return solution.ys[-1, 0]

    with pytest.raises(RuntimeError, match="Unexpected tangent"):
        jax.grad(last)({"t0": 0.0, "t1": 1.0, "ts": jnp.array([0.5, 1.0])}[which])


# Backsolve.


def spied(problem, norm):
    """Run SciPy's backend, and return its Outcome and every (t, z) that the augmented field was evaluated at."""
    compiled = registry.get("scipy").compile(problem, Plan(problem.name, "scipy", norm, "native", 1e-5, 1e-7))
    bare, seen = compiled.system.function, []

    def function(name):
        if name != "adjoint":
            return bare(name)

        def adjoint(t, z):
            seen.append((float(t), z.copy()))
            return bare(name)(t, z)

        return adjoint

    compiled.system.function = function
    return compiled.record(1e-5, 1e-7), seen


def test_y_is_reset_and_a_y_jumps_at_every_output():
    """(8) and (9) in SciPy's backward pass; a_t, which no one asked to be dL/dt, starts at zero."""
    problem = cases.forced(3)
    outcome, seen = spied(problem, "mixed-t")
    ys = outcome.ys[""].reshape(3, -1)
    of_ys = Augmented(problem).loss(ys)[1]
    n = ys.shape[1]
    (_, first), *_ = seen
    np.testing.assert_array_equal(first[:n], ys[2])
    np.testing.assert_array_equal(first[n : 2 * n], of_ys[2])
    np.testing.assert_array_equal(first[2 * n :], 0.0)
    # The last stage of the interval's last step and the restart are both at t_1 = 1.
    arrived, restarted = [z for t, z in seen if t == 1.0][-2:]
    np.testing.assert_array_equal(restarted[:n], ys[1])
    assert 0 < np.max(np.abs(arrived[:n] - ys[1])) < 1e-4  # the reconstruction error, which is forgotten here
    np.testing.assert_allclose(restarted[n : 2 * n] - arrived[n : 2 * n], of_ys[1], atol=1e-12)
    np.testing.assert_allclose(restarted[2 * n :], arrived[2 * n :], atol=1e-12)  # carried on


def test_an_error_of_y_grows_backwards_as_the_solution_contracts():
    """(15) in closed form, and that outputs bound it: y is reset there."""
    rate, length, moved = 5.0, 4.0, 1e-9
    system = Augmented(decaying(rate, (0.0, length)))
    z = np.array([2 * math.exp(-rate * length) + moved, 1.0, 0.0])
    back = solve_ivp(system.function("adjoint"), (length, 0.0), z, **TIGHT).y[0, -1]
    assert back - 2.0 == pytest.approx(moved * math.exp(rate * length), rel=1e-4)
    errors = {}
    for count in (2, 9):
        problem = decaying(rate, np.linspace(0.0, length, count))
        plan = Plan(problem.name, "scipy", "mixed", "native", 1e-8, 1e-10)
        errors[count] = registry.get("scipy").compile(problem, plan).record(1e-8, 1e-10).reconstruction_error
    assert errors[2] == pytest.approx(1.5e-3, rel=0.05)
    assert errors[9] == pytest.approx(7.9e-9, rel=0.05)


# Not an ODE.


@pytest.mark.parametrize("name", ["forced", "flow"])
def test_the_jacobian_of_the_augmented_field_is_block_triangular(name, rng):
    """(16): nothing depends on a_params or a_t, dy/dt not on a_y; the ODE's blocks are df/dy and its transpose."""
    system, t = augmented(name), 0.37
    n, adjoint = system.layout.size, system.function("adjoint")
    z = rng.standard_normal(system.size)
    base = adjoint(t, z)
    pushed = z.copy()
    pushed[2 * n :] = 1e6 * rng.standard_normal(system.size - 2 * n)
    np.testing.assert_array_equal(adjoint(t, pushed), base)
    jacobian = np.stack([central(lambda s, e=e: adjoint(t, z + s * e), 1e-6) for e in np.eye(2 * n, system.size)], 1)
    of_y, of_a_y = jacobian[:, :n], jacobian[:, n:]
    np.testing.assert_array_equal(of_a_y[:n], 0.0)
    np.testing.assert_allclose(of_a_y[n : 2 * n], -of_y[:n].T, atol=1e-7)
    assert all(np.any(np.abs(of_a_y[start:stop]) > 0.01) for start, stop in ((n, 2 * n), (2 * n, system.size - 1)))


def test_a_declared_integral_feeds_back_into_nothing(rng):
    """A flow's log-density moves no derivative, and its adjoint is constant: it has no error to control."""
    system = augmented("flow")
    n, adjoint = system.layout.size, system.function("adjoint")
    where = dict(zip(system.layout.names, system.layout.slices, strict=True))["logp"]
    z = rng.standard_normal(system.size)
    base = adjoint(0.3, z)
    np.testing.assert_array_equal(base[n : 2 * n][where], 0.0)
    pushed = z.copy()
    pushed[where] += 1e6
    np.testing.assert_array_equal(adjoint(0.3, pushed), base)
    pushed = z.copy()
    pushed[n : 2 * n][where] += 1.0
    assert np.max(np.abs(adjoint(0.3, pushed) - base)) > 0.01  # the adjoint itself does feed a_y of the rest


def test_an_error_of_a_params_is_added_once_and_one_of_a_y_propagates():
    """(17): an error put in at T comes out of a_params as it went in, and out of a_y and a_params changed."""
    problem = cases.forced(2)
    system = Augmented(problem)
    n = system.layout.size
    ys = forward(system, problem.ts, system.y0())
    z = np.concatenate([ys[-1], system.loss(ys)[1][-1], np.zeros(system.size - 2 * n)])
    options = {"rtol": 1e-6, "atol": 1e-8}
    semi = norms.flat(norms.NAMED["mixed-seminorm"], system.shapes)

    def back(start):
        return advance(system.function("adjoint"), 2.0, 0.0, start, NormRK45, {**options, "block_norm": semi})

    base, error = back(z), np.zeros(system.size)
    error[2 * n :] = np.linspace(-3.0, 3.0, system.size - 2 * n)
    np.testing.assert_allclose(back(z + error) - base, error, atol=1e-13)
    error = np.zeros(system.size)
    error[n : 2 * n] = 0.1
    came = back(z + error) - base
    assert np.max(np.abs(came[n : 2 * n] - 0.1)) > 0.05
    assert np.max(np.abs(came[2 * n :])) > 0.05


# The error ratio.


@pytest.mark.parametrize("y0", [2.0, -2.0])
def test_the_error_ratio_of_one_step_in_closed_form(y0):
    """(18) and (19) for dy/dt = rate y: the estimate from the two stability polynomials, the scale from |y|."""
    rate, h, rtol, atol = -1.3, 0.4, 1e-3, 1e-5
    x = rate * h
    fifth = sum(x**k / math.factorial(k) for k in range(6)) + x**6 / 600
    fourth = sum(x**k / math.factorial(k) for k in range(5)) + 1097 / 120000 * x**5 + 161 / 120000 * x**6 + x**7 / 24000
    seen = []

    def norm(error):
        seen.append(float(abs(error[0])))
        return 0.5

    solver = NormRK45(
        lambda t, y: rate * y, 0.0, np.array([y0]), 1.0, rtol=rtol, atol=atol, given_step=h, block_norm=norm
    )
    solver.step()
    assert solver.y[0] == pytest.approx(fifth * y0, rel=1e-14)
    scale = atol + rtol * max(abs(y0), abs(fifth * y0))
    assert seen == [pytest.approx(abs((fifth - fourth) * y0) / scale, rel=1e-10)]


SHAPES = {"y": (3,), "a_y": (3,), "a_params/w": (4, 2), "a_params/b": (2,), "a_t": ()}


def random_errors(seed):
    """Return blocks of error over scale whose sizes differ by up to 1e6."""
    rng = np.random.default_rng(seed)
    return {name: 10.0 ** rng.uniform(-3, 3) * rng.standard_normal(shape) for name, shape in SHAPES.items()}


def ratio(name, blocks):
    return float(norms.evaluate(norms.resolve(name, "native"), blocks, np, ("q",)))


@given(seed=st.integers(0, 2**32 - 1))
def test_a_maximum_norms_seminorm_is_never_the_stricter(seed):
    """(20), for the paper's pair and torchdiffeq's."""
    blocks = random_errors(seed)
    assert ratio("mixed-seminorm", blocks) <= ratio("mixed", blocks) <= ratio("mixed-t", blocks)
    assert ratio("mixed-seminorm", blocks) <= ratio("mixed-seminorm-t", blocks) <= ratio("mixed-t", blocks)


@given(seed=st.integers(0, 2**32 - 1))
def test_a_pooled_norm_is_the_mean_of_its_parts(seed):
    """(21): the seminorm is the stricter where, and only where, the rms of a_params is below it."""
    blocks = random_errors(seed)
    values = np.concatenate([blocks[name].ravel() for name in ("a_params/w", "a_params/b")])
    of_params = np.sqrt(np.mean(values**2))
    whole, semi = ratio("pooled", blocks), ratio("pooled-seminorm", blocks)
    assert whole**2 == pytest.approx((6 * semi**2 + 10 * of_params**2) / 16, rel=1e-12)
    if abs(semi - of_params) > 1e-9 * semi:
        assert (semi > whole) == (of_params < semi)
    assert semi <= math.sqrt(16 / 6) * whole * (1 + 1e-12)


def test_a_pooled_seminorm_may_be_the_stricter():
    """One error of the state, none of the parameters: pooled accepts it, pooled-seminorm does not."""
    blocks = {"y": np.array([2.0]), "a_y": np.zeros(1), "a_params/w": np.zeros(98)}
    assert ratio("pooled", blocks) == pytest.approx(0.2)
    assert ratio("pooled-seminorm", blocks) == pytest.approx(math.sqrt(2))
    assert ratio("mixed", blocks) == ratio("mixed-seminorm", blocks) == pytest.approx(2.0)


def test_leaving_an_integral_out_may_be_the_stricter_too():
    """`rms y` is over the whole state, so that a maximum norm has a pooled part."""
    blocks = {"y/x": np.array([1.2]), "y/q": np.array([0.1]), "a_y/x": np.zeros(1), "a_y/q": np.zeros(1)}
    assert ratio("mixed-seminorm", blocks) < 1 < ratio("mixed-seminorm-integrals", blocks)


def attempts(problem, name, rtol):
    """Return, for every attempt of a reverse solve under a norm, its ratio and the one over (y, a_y) alone."""
    system = Augmented(problem)
    n, ts = system.layout.size, problem.ts
    ys = forward(system, ts, system.y0())
    z = np.concatenate([ys[-1], system.loss(ys)[1][-1], np.zeros(system.size - 2 * n)])
    across = norms.NAMED[name].across
    whole, state = (norms.flat(norms.Norm("", across, weights), system.shapes)
                    for weights in (norms.NAMED[name].weights, {"y": 1.0, "a_y": 1.0}))  # fmt: skip
    seen = []

    def measure(error):
        seen.append((whole(error), state(error)))
        return seen[-1][0]

    options = {"rtol": rtol, "atol": rtol / 100, "block_norm": measure, "given_step": 0.01}
    advance(system.function("adjoint"), ts[-1], ts[0], z, NormRK45, options)
    whole, state = np.array(seen).T
    spurious, masked = (whole >= 1) & (state <= 1), (whole < 1) & (state > 1)
    return {
        "attempts": len(seen),
        "rejected": np.sum(whole >= 1),
        "spurious": np.sum(spurious),
        "masked": np.sum(masked),
    }


def test_spurious_and_masked_attempts_of_real_solves():
    """(22): on one field all rejections are spurious, on another a pooled norm masks most attempts."""
    found = attempts(rotation(), "mixed", 1e-6)
    assert found["spurious"] == found["rejected"] == 12
    assert found["masked"] == 0
    found = attempts(rotation(), "mixed-seminorm", 1e-6)
    assert found["rejected"] > 5
    assert found["spurious"] == found["masked"] == 0
    found = attempts(diluted(), "pooled", 1e-6)
    assert (found["masked"], found["attempts"]) == (29, 39)
    assert attempts(diluted(), "mixed", 1e-6)["masked"] == 0


# What the seminorm may and may not do.


def sweep(problem, backend, norm, rtols):
    """Return the gradient's relative error and the backward evaluations by rtol."""
    truth, _ = Interpolating(problem).gradient()
    compiled = registry.get(backend).compile(problem, Plan(problem.name, backend, norm, "native", 1.0, 1.0))
    found = {}
    for rtol in rtols:
        outcome = compiled.record(rtol, rtol / 100)
        found[rtol] = relative_error(outcome.gradient.arrays, truth.arrays), outcome.backward.nfe
    return found


def test_with_the_seminorm_the_error_falls_with_the_tolerance():
    """It is larger at equal tolerance, and at equal error the saving is smaller than at equal tolerance."""
    rtols = (1e-4, 1e-6, 1e-8)
    full, semi = (sweep(rotation(), "scipy", norm, rtols) for norm in ("mixed", "mixed-seminorm"))
    for rtol in rtols:
        assert 0.65 < semi[rtol][0] / rtol < 1.5
        assert 0.1 < full[rtol][0] / rtol < 0.14
    error, nfe = semi[1e-6]
    assert error / full[1e-6][0] == pytest.approx(6.3, abs=0.2)
    assert 1 - nfe / full[1e-6][1] == pytest.approx(0.28, abs=0.02)
    errors, counts = np.log([[error, nfe] for error, nfe in full.values()]).T
    at_that_error = math.exp(np.interp(-math.log(error), -errors, counts))
    assert at_that_error / nfe - 1 == pytest.approx(0.03, abs=0.02)


@pytest.mark.slow
def test_the_seminorm_is_blind_where_y_and_a_y_stand_still(backend):
    """A last layer of zeros and a field that depends on t: the error is the same at every tolerance."""
    found = sweep(zero_initialised(), backend, "seminorm", (1e-4, 1e-8))
    assert found[1e-4] == pytest.approx(found[1e-8], rel=1e-9)
    wanted = {"scipy": 0.0266, "torchdiffeq": 0.0445, "diffrax": 0.0267, "julia": 0.0266}
    assert found[1e-8][0] == pytest.approx(wanted[backend], rel=0.02)


def test_a_small_weight_sees_what_the_seminorm_does_not():
    """The paper's way of scaling a_params down, and not out: the error follows the tolerance again."""
    problem = zero_initialised().replace(norms={"little": {"y": 1, "a_y": 1, "a_params": 0.01}})
    rtols = (1e-4, 1e-6, 1e-8)
    little, full = (sweep(problem, "scipy", norm, rtols) for norm in ("little", "mixed"))
    assert [error for error, _ in little.values()] == sorted((error for error, _ in little.values()), reverse=True)
    assert little[1e-8][0] < 1e-6
    assert full[1e-8][0] < 1e-8
    assert little[1e-8][1] < full[1e-8][1]


# The page.


def resolve(path):
    """Return what a dotted path names."""
    names = path.split(".")
    for cut in range(len(names), 0, -1):
        try:
            found = importlib.import_module(".".join(names[:cut]))
        except ModuleNotFoundError:
            continue
        for name in names[cut:]:
            found = getattr(found, name)
        return found
    raise ModuleNotFoundError(path)


def test_every_function_that_the_page_names_exists():
    named = set(re.findall(r"`((?:crossbackend|torchdiffeq|diffrax)(?:\.\w+)+)`", TEXT))
    assert len(named) > 10
    for path in sorted(named):
        resolve(path)
    with pytest.raises(AttributeError):
        resolve("crossbackend.augmented.Augmented.nonsense")


def test_every_test_that_the_page_names_exists():
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    assert len(named) > 5
    assert named <= set(globals())


def test_every_link_of_the_page_leads_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", TEXT)
    assert links
    for link in links:
        assert (PAGE.parent / link).exists(), link


def test_equations_are_numbered_in_order_and_each_stands_in_the_table():
    assert "\\tag{1}" in TEXT
    tags = [int(number) for number in re.findall(r"\\tag\{(\d+)\}", TEXT)]
    assert tags == list(range(1, len(tags) + 1))
    rows = re.findall(r"^\| \(([\d), (]+)\) ", TEXT, re.MULTILINE)
    assert {int(number) for row in rows for number in re.findall(r"\d+", row)} == set(tags)
