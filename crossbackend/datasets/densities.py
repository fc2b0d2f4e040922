"""Samples of two-dimensional densities on which normalising flows are tried out."""

from __future__ import annotations

import numpy as np


def moons(n: int, rng: np.random.Generator, noise: float = 0.1) -> np.ndarray:
    """Return samples of two half circles that interlock.

    Parameters
    ----------
    n : int
        Samples; each half circle has the same probability.
    rng : numpy.random.Generator
    noise : float, default 0.1
        Standard deviation around the half circles, which have radius 1.

    Returns
    -------
    array, shape (n, 2)
        One half circle arches over the origin, the other hangs below (1, 0.5).
    """
    angle = rng.uniform(0.0, np.pi, n)
    lower = rng.integers(0, 2, n)
    arch = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    points = np.where(lower[:, None] == 1, np.array([1.0, 0.5]) - arch, arch)
    return points + noise * rng.normal(size=(n, 2))


def pinwheel(n: int, rng: np.random.Generator, arms: int = 5, twist: float = 0.25) -> np.ndarray:
    """Return samples of a pinwheel: Gaussian arms around a circle, turned the further the more.

    Parameters
    ----------
    n : int
        Samples; each arm has the same probability.
    rng : numpy.random.Generator
    arms : int, default 5
    twist : float, default 0.25
        A sample at distance r along its arm is turned by twist * exp(r) radians.

    Returns
    -------
    array, shape (n, 2)
        Twice the turned samples: r has mean 1 and standard deviation 0.3, the distance from the arm's axis 0 and 0.1.

    References
    ----------
    Johnson, Duvenaud, Wiltschko, Datta, Adams, Composing graphical models with neural networks (2016), section 5.
    """
    along, across = 1.0 + 0.3 * rng.normal(size=n), 0.1 * rng.normal(size=n)
    turn = 2 * np.pi * rng.integers(0, arms, n) / arms + twist * np.exp(along)
    cos, sin = np.cos(turn), np.sin(turn)
    return 2 * np.stack([cos * along - sin * across, sin * along + cos * across], axis=-1)


def eight_gaussians(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return samples of eight equal Gaussians, standard deviation 0.35, evenly spaced on a circle of radius 2.8.

    Parameters
    ----------
    n : int
        Samples; each Gaussian has the same probability.
    rng : numpy.random.Generator

    Returns
    -------
    array, shape (n, 2)
    """
    angle = np.pi / 4 * rng.integers(0, 8, n)
    centre = 2.8 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return centre + 0.35 * rng.normal(size=(n, 2))
