"""The double pendulum against its Lagrangian, written in positions of the masses, and the windows made of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import solve_ivp

from crossbackend import UserError
from crossbackend.datasets import acrobot, acrobot_field, energy, pendulum, simulate

PAIR = arrays(float, 2, elements=st.floats(-6, 6))


def lagrangian(q, v, sign=-1):
    """T - V (T + V by sign 1) from the positions of the centres of mass; any of q and v may be complex."""
    first, both, turned = q[0], q[0] + q[1], v[0] + v[1]
    velocity1 = 0.5 * v[0] * np.array([np.cos(first), np.sin(first)])
    velocity2 = v[0] * np.array([np.cos(first), np.sin(first)]) + 0.5 * turned * np.array([np.cos(both), np.sin(both)])
    kinetic = 0.5 * (np.sum(velocity1**2) + np.sum(velocity2**2) + v[0] ** 2 + turned**2)
    height1, height2 = -0.5 * np.cos(first), -np.cos(first) - 0.5 * np.cos(both)
    return kinetic + sign * 9.8 * (height1 + height2)


def slope(function, at):
    """Exact derivatives by complex steps."""
    return np.array([function(at + 1e-30j * axis).imag / 1e-30 for axis in np.eye(2)])


def momentum(q, v):
    return slope(lambda moved: lagrangian(q, moved), v)


@given(PAIR, PAIR, PAIR)
def test_lagrange_equations(q, v, u):
    """d/dt (dL/dv) = dL/dq + u, where dL/dv is linear in v."""
    a = acrobot_field(q, v, u)
    rest = momentum(q, np.zeros(2))
    eps = 1e-5
    drift = (momentum(q + eps * v, v) - momentum(q - eps * v, v)) / (2 * eps)
    np.testing.assert_allclose(drift + momentum(q, a) - rest, slope(lambda moved: lagrangian(moved, v), q) + u,
                               rtol=1e-6, atol=1e-6)  # fmt: skip


@given(PAIR, PAIR)
def test_energy(q, v):
    assert energy(q, v) == pytest.approx(lagrangian(q, v, sign=1), abs=1e-12 * 400)


def test_energy_at_rest():
    states = np.array([[0.0, 0.0], [np.pi, 0.0], [0.0, np.pi]])
    np.testing.assert_allclose(energy(states, np.zeros((3, 2))), [-19.6, 19.6, -9.8], atol=1e-12)


@given(PAIR, PAIR, PAIR)
def test_power_is_torque_times_velocity(q, v, u):
    """dE/dt = u . q' for every state, by complex steps through the energy."""
    a = acrobot_field(q, v, u)
    step = 1e-30j
    power = energy(q + step * v, v + step * a).imag / 1e-30
    assert power == pytest.approx(u @ v, abs=1e-9)


@pytest.mark.parametrize("torque", [(0.0, 0.0), (1.5, -2.0)])
def test_energy_of_a_simulation(rng, torque):
    """E - u . q is constant where the torques are, zero ones among them."""
    u = np.broadcast_to(torque, (5, 2))
    q, v = rng.uniform(-3, 3, (2, 5, 2))
    before = energy(q, v) - (u * q).sum(axis=-1)
    moved, faster = simulate(q, v, u, dt=2.0)
    np.testing.assert_allclose(energy(moved, faster) - (u * moved).sum(axis=-1), before, atol=1e-8)
    assert np.abs(moved - q).max() > 0.5


def test_rest_stays_at_rest_and_small_swings_are_the_linear_ones():
    for q in ([0.0, 0.0], [np.pi, 0.0], [np.pi, -np.pi]):
        np.testing.assert_allclose(acrobot_field(np.array(q), np.zeros(2), np.zeros(2)), 0, atol=1e-13)
    small = 1e-7 * np.array([1.0, -2.0])
    mass, stiffness = np.array([[4.5, 1.75], [1.75, 1.25]]), 9.8 * np.array([[2.0, 0.5], [0.5, 0.5]])
    expected = -np.linalg.solve(mass, stiffness @ small)
    np.testing.assert_allclose(acrobot_field(small, np.zeros(2), np.zeros(2)), expected, rtol=1e-9)


@given(PAIR, PAIR, PAIR)
def test_mirrored(q, v, u):
    np.testing.assert_allclose(acrobot_field(-q, -v, -u), -acrobot_field(q, v, u), rtol=1e-12, atol=1e-12)


def test_simulate_takes_one_or_many(rng):
    q, v, u = rng.uniform(-2, 2, (3, 4, 2))
    many = simulate(q, v, u)
    for index in range(4):
        one = simulate(q[index], v[index], u[index])
        np.testing.assert_allclose(one[0], many[0][index], atol=1e-10)
        np.testing.assert_allclose(one[1], many[1][index], atol=1e-10)
    steps = simulate(*simulate(q, v, u, 0.02), u, 0.03)
    np.testing.assert_allclose(steps[0], many[0], atol=1e-10)


@pytest.fixture(scope="module")
def made():
    return acrobot(20, seed=3)


def test_shapes(made):
    assert made.train.shape == (9 * 14 * 25, 8, 8)
    assert made.validation.shape == made.test.shape == (9 * 3 * 25, 8, 8)
    np.testing.assert_allclose(made.times, [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35], atol=1e-15)


def test_channels(made):
    for part in (made.train, made.validation, made.test):
        np.testing.assert_allclose(part[..., :2] ** 2 + part[..., 2:4] ** 2, 1, atol=1e-12)
        assert (np.abs(part[..., 4]) <= 4 * np.pi).all()
        assert (np.abs(part[..., 5]) <= 9 * np.pi).all()
        first = part[:, 0, 6:]
        np.testing.assert_array_equal(part[..., 6:], np.broadcast_to(first[:, None], part[..., 6:].shape))
        assert len(np.unique(first, axis=0)) == 9
    np.testing.assert_array_equal(made.train[:: 14 * 25, 0, 6:], pendulum.CONTROLS)


def test_windows_follow_one_another(made):
    for part in (made.train, made.test):
        paths = part.reshape(-1, 25, 8, 8)
        np.testing.assert_array_equal(paths[:, 1:, :-1], paths[:, :-1, 1:])
    starts = np.concatenate([p.reshape(-1, 25, 64)[:, 0] for p in (made.train, made.validation, made.test)])
    assert len(np.unique(starts, axis=0)) == 9 * 20


def test_initial_states(made):
    first = made.train.reshape(-1, 25, 8, 8)[:, 0, 0]
    angles = np.arctan2(first[:, 2:4], first[:, :2])
    assert (np.abs(first[:, 4:6]) <= 3.14).all()
    for values in (angles, first[:, 4:6]):
        assert np.abs(values).max() > 3
        assert abs(values.mean()) < 0.5


def test_windows_solve_the_equations(made, rng):
    """One window in thirty, solved anew by another method in pieces of its own."""
    for window in made.train[rng.choice(len(made.train), 5, replace=False)]:
        q, v, u = np.arctan2(window[0, 2:4], window[0, :2]), window[0, 4:6], window[0, 6:]
        field = lambda _, s, u=u: np.concatenate([s[2:], acrobot_field(s[:2], s[2:], u)])  # noqa: E731
        y = solve_ivp(
            field, (0, made.times[-1]), np.concatenate([q, v]), "LSODA", made.times, rtol=1e-11, atol=1e-11
        ).y.T
        np.testing.assert_allclose(np.concatenate([np.cos(y[:, :2]), np.sin(y[:, :2]), y[:, 2:]], axis=1),
                                   window[:, :6], atol=1e-7)  # fmt: skip


def test_too_fast_is_drawn_again(monkeypatch):
    """With limits that most trajectories break, none that breaks them is left, and the others are kept."""
    before = acrobot(8, seed=1)
    monkeypatch.setattr(pendulum, "LIMITS", (5.0, 6.0))
    after = acrobot(8, seed=1)
    for part in (after.train, after.validation, after.test):
        assert (np.abs(part[..., 4]) <= 5).all()
        assert (np.abs(part[..., 5]) <= 6).all()
    slow = (np.abs(before.train.reshape(-1, 25, 8, 8)[..., 4:6]) <= (5, 6)).all(axis=(1, 2, 3))
    assert 0 < slow.sum() < len(slow)
    same = np.isclose(before.train, after.train, atol=1e-8).reshape(-1, 25 * 64).all(axis=1)
    np.testing.assert_array_equal(same, slow)


def test_seed():
    np.testing.assert_array_equal(acrobot(7, seed=5).train, acrobot(7, seed=5).train)
    assert not np.array_equal(acrobot(7, seed=5).train, acrobot(7, seed=6).train)


def test_cache(tmp_path, monkeypatch):
    folder = tmp_path / "new" / "cache"
    first = acrobot(7, cache=folder)
    (kept,) = folder.iterdir()
    real = pendulum._windows
    monkeypatch.setattr(pendulum, "_windows", None)
    np.testing.assert_array_equal(acrobot(7, cache=folder).test, first.test)
    monkeypatch.setattr(pendulum, "_windows", real)
    acrobot(8, cache=folder)
    acrobot(7, seed=1, cache=folder)
    monkeypatch.setattr(pendulum, "GRAVITY", 9.81)
    acrobot(7, cache=folder)
    assert len(list(folder.iterdir())) == 4
    assert kept.exists()


def test_the_papers_numbers():
    made = acrobot()
    assert len(made.train) == 20_025
    assert -(-len(made.train) // 256) == 79
    assert (len(made.validation), len(made.test)) == (4_275, 4_500)


@pytest.mark.parametrize("wrong", [6, 0, -3, 7.0, True, "8", None])
def test_too_few_trajectories(wrong):
    with pytest.raises(UserError, match=r"acrobot: trajectories: got .*, expected a whole number, at least 7"):
        acrobot(wrong)


def test_all_mistakes_at_once():
    with pytest.raises(UserError, match="acrobot: seed: got -1, expected a whole number, at least 0") as caught:
        acrobot(2, seed=-1)
    assert len(caught.value.mistakes) == 2


def test_cache_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cache: got .*file .*, expected a folder to write to"):
        acrobot(7, cache=tmp_path / "file")
