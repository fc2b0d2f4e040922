"""Two-dimensional samples against their densities' moments."""

import numpy as np
import pytest

from crossbackend.datasets import eight_gaussians, moons, pinwheel

N = 20_000


@pytest.mark.parametrize("density", [moons, pinwheel, eight_gaussians])
def test_shape_and_seed(density):
    first, again, other = (density(50, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first.shape == (50, 2)
    assert first.dtype == np.float64
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert density(0, np.random.default_rng(0)).shape == (0, 2)


def test_moons_lie_on_half_circles(rng):
    points = moons(N, rng, noise=0.0)
    up = np.isclose(np.hypot(*points.T), 1) & (points[:, 1] >= -1e-12)
    down = np.isclose(np.hypot(*(points - [1, 0.5]).T), 1) & (points[:, 1] <= 0.5 + 1e-12)
    assert (up | down).all()
    assert abs(up.mean() - 0.5) < 0.02
    # Half circles have their centre 2 / pi above, and below, that of the circle.
    np.testing.assert_allclose(points.mean(axis=0), [0.5, 0.25], atol=0.02)


def test_moons_noise(rng):
    """The mean squared distance from the origin of the upper moon alone would be 1 + 2 s^2."""
    bare, noisy = (moons(N, np.random.default_rng(4), noise=s) for s in (0.0, 0.2))
    np.testing.assert_allclose((noisy - bare).std(axis=0), 0.2, rtol=0.03)


def test_eight_gaussians(rng):
    points = eight_gaussians(N, rng)
    centres = 2.8 * np.exp(0.25j * np.pi * np.arange(8))
    away = points[:, 0, None] + 1j * points[:, 1, None] - centres
    nearest = np.abs(away).argmin(axis=1)
    np.testing.assert_allclose(np.bincount(nearest) / N, 0.125, atol=0.01)
    # Over all: E|x|^2 = 2.8^2 + 2 0.35^2, and no direction is preferred.
    assert np.sum(points**2) / N == pytest.approx(2.8**2 + 2 * 0.35**2, rel=0.01)
    np.testing.assert_allclose(np.cov(points.T), np.eye(2) * (2.8**2 / 2 + 0.35**2), atol=0.1)


def test_pinwheel_untwisted_arms(rng):
    """Without the twist the arms point at multiples of 72°, and each is the same Gaussian."""
    points = pinwheel(N, rng, twist=0.0)
    arm = np.rint(np.arctan2(points[:, 1], points[:, 0]) / (2 * np.pi / 5)) % 5
    turned = (points[:, 0] + 1j * points[:, 1]) * np.exp(-2j * np.pi * arm / 5)
    np.testing.assert_allclose(np.bincount(arm.astype(int)) / N, 0.2, atol=0.015)
    assert turned.real.mean() == pytest.approx(2, abs=0.03)
    assert turned.real.std() == pytest.approx(0.6, abs=0.03)
    assert turned.imag.std() == pytest.approx(0.2, abs=0.03)


def test_pinwheel_twist_turns_by_the_exponential_of_the_distance():
    straight, twisted = (pinwheel(N, np.random.default_rng(2), twist=twist) for twist in (0.0, 0.25))
    straight, twisted = (points[:, 0] + 1j * points[:, 1] for points in (straight, twisted))
    np.testing.assert_allclose(np.abs(twisted), np.abs(straight), rtol=1e-12)
    turn = np.angle(twisted / straight) % (2 * np.pi)
    arm = np.exp(-2j * np.pi * np.rint(np.angle(straight) / (2 * np.pi / 5)) / 5)
    ordinary = (np.abs(np.angle(straight * arm)) < 0.3) & (np.abs(straight) > 1.2)  # surely of that arm
    along = (straight * arm).real / 2
    np.testing.assert_allclose(turn[ordinary], 0.25 * np.exp(along[ordinary]), atol=1e-9)
