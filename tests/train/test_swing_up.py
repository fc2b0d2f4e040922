"""Control by a learned model: gradients by hand, the shaped energy, and the pendulum that stands up."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crossbackend import initialise
from crossbackend.datasets import energy
from crossbackend.load import load
from crossbackend.train import swing_up

gallery = cache(lambda: load("symoden"))
PAIR = arrays(float, 2, elements=st.floats(-6, 6))


@given(st.integers(0, 20), st.lists(st.integers(1, 7), max_size=3), arrays(float, 4, elements=st.floats(-3, 3)))
def test_the_slope_of_a_network_is_its_finite_difference(seed, hidden, x):
    layers = initialise.mlp(np.random.default_rng(seed), (4, *hidden, 1))
    h = 1e-5
    wanted = [
        (swing_up.value(layers, x + h * e)[0] - swing_up.value(layers, x - h * e)[0]) / (2 * h) for e in np.eye(4)
    ]
    np.testing.assert_allclose(swing_up.slope(layers, x), wanted, atol=1e-9)


@given(st.integers(0, 20), arrays(float, 4, elements=st.floats(-3, 3)))
def test_a_network_is_the_gallerys(seed, x):
    layers = initialise.mlp(np.random.default_rng(seed), (4, 6, 5, 3))
    network = gallery().vector_field.__globals__["network"]
    np.testing.assert_allclose(swing_up.value(layers, x), network(layers, x[None])[0], rtol=1e-13, atol=1e-14)


def test_far_from_0_nothing_overflows():
    layers = initialise.mlp(np.random.default_rng(0), (4, 6, 1))
    big = [{name: 1e5 * leaf for name, leaf in layer.items()} for layer in layers]
    assert np.isfinite(swing_up.value(big, np.ones(4))).all()
    assert np.isfinite(swing_up.slope(big, np.ones(4))).all()


def separate(a, b, push):
    """Return V = -a cos q1 - b cos q2 and a constant g, as networks without a hidden layer."""
    return {
        "V": [{"w": np.array([[-a], [-b], [0.0], [0.0]])}],
        "g": [{"w": np.zeros((4, 4)), "b": np.array(push, float)}],
    }


@given(PAIR, PAIR)
def test_the_torque_turns_a_known_potential_round_and_damps(q, velocity):
    push = np.array([[2.0, 1.0], [0.5, -1.5]])
    u = swing_up.torque(separate(14.7, 4.9, push.ravel()), q, velocity)
    np.testing.assert_allclose(push @ u, 2 * np.array([14.7, 4.9]) * np.sin(q) - velocity, atol=1e-10)


@given(st.integers(0, 9), PAIR, PAIR)
def test_the_torque_of_networks_is_twice_the_force_less_the_velocity(seed, q, velocity):
    rng = np.random.default_rng(seed)
    params = {"V": initialise.mlp(rng, (4, 6, 6, 1)), "g": initialise.mlp(rng, (4, 5, 4))}

    def at(q, part):
        return swing_up.value(params[part], np.concatenate([np.cos(q), np.sin(q)]))

    h = 1e-5
    force = np.array([(at(q + h * e, "V") - at(q - h * e, "V"))[0] / (2 * h) for e in np.eye(2)])
    u = swing_up.torque(params, q, velocity)
    push = at(q, "g").reshape(2, 2)
    wanted = 2 * force - velocity
    np.testing.assert_allclose(push @ u, wanted, atol=1e-7 * np.linalg.cond(push) * max(1, np.abs(wanted).max()))


@given(st.integers(-3, 3), st.integers(-3, 3))
def test_upright_is_upright_whatever_the_turns(first, second):
    upright = np.array([np.pi + 2 * np.pi * first, 2 * np.pi * second])
    assert swing_up.distance(upright, np.zeros(2)) == pytest.approx(0, abs=1e-12)
    assert swing_up.distance(upright + np.array([0.1, -0.2]), np.array([0.05, 0])) == pytest.approx(0.2)
    assert swing_up.distance(upright, np.array([0.0, -3.0])) == 3.0
    assert swing_up.distance(upright - [np.pi, 0], np.zeros(2)) == pytest.approx(np.pi)


def of_the_pendulum(_, x):
    """dV/dx of the simulated pendulum, V = -9.8 (1.5 cos q1 + 0.5 cos(q1 + q2)), hung a little askew."""
    c1, c2, s1, s2 = x
    return -4.9 * np.array([3 + c2, c1, -s2 + 0.02, -s1])


def test_with_the_true_potential_the_pendulum_stands_up(monkeypatch):
    monkeypatch.setattr(swing_up, "slope", of_the_pendulum)
    found = swing_up.simulate(separate(0, 0, np.eye(2).ravel()), steps=1200)
    q, velocity, u = found["control/q"], found["control/velocity"], found["control/u"]
    assert (len(found["control/t"]), q.shape, velocity.shape, u.shape) == (1201, (1201, 2), (1201, 2), (1200, 2))
    np.testing.assert_allclose(found["control/t"], 0.05 * np.arange(1201))
    np.testing.assert_array_equal([q[0], velocity[0]], 0)
    assert swing_up.distance(q[400], velocity[400]) < 0.5  # it swings for a while
    assert swing_up.distance(q[-1], velocity[-1]) < 0.1
    assert energy(q[-1], velocity[-1]) == pytest.approx(19.6, abs=0.1)


def test_a_motion_that_runs_away_ends_before_it(monkeypatch):
    ran = []
    monkeypatch.setattr(swing_up, "torque", lambda *_: ran.append(1) or np.full(2, 1.0 if len(ran) < 4 else np.nan))
    found = swing_up.simulate({}, steps=9)
    assert {name: len(leaf) for name, leaf in found.items()} == {
        "control/t": 4, "control/q": 4, "control/velocity": 4, "control/u": 3,
    }  # fmt: skip
    monkeypatch.setattr(swing_up, "torque", lambda *_: np.array([2e4, 0.0]))
    found = swing_up.simulate({}, steps=9)
    assert {name: leaf.shape for name, leaf in found.items()} == {
        "control/t": (1,), "control/q": (1, 2), "control/velocity": (1, 2), "control/u": (0, 2),
    }  # fmt: skip
