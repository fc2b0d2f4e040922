"""The fully actuated double pendulum: the equations of motion, and trajectories under constant torques.

Two links of mass 1 and length 1, their centres of mass at half the length, moment of inertia 1 about them, a motor in
each joint. q1 is the first link's angle from hanging down, q2 the second's relative to the first; q = (0, 0) hangs,
q = (pi, 0) stands upright. With

    M11 = 3.5 + cos q2,  M12 = 1.25 + 0.5 cos q2,  M22 = 1.25,
    V(q) = -g (1.5 cos q1 + 0.5 cos(q1 + q2)),

Lagrange's equations of q' M(q) q' / 2 - V(q) under the torques u are

    M(q) q'' + 0.5 sin q2 (-(2 q1' + q2') q2', q1'^2) + dV/dq = u.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from crossbackend.datasets import cache as stored
from crossbackend.datasets.folder import writable
from crossbackend.errors import Mistake, raise_all

GRAVITY = 9.8
DT = 0.05
POINTS, WINDOW = 32, 8
CONTROLS = ((0, 0), (0, 1), (0, -1), (0, 2), (0, -2), (1, 0), (-1, 0), (2, 0), (-2, 0))
START = 3.14
"""Initial angles and velocities are uniform in [-START, START]."""
LIMITS = (4 * np.pi, 9 * np.pi)
"""A trajectory that is faster at one of its points is drawn again."""
_TOLERANCE = 1e-12
_FEWEST = 7
"""Of so many trajectories a control, each part gets one."""


@dataclass(frozen=True, eq=False)
class Acrobot:
    """Windows of trajectories of the double pendulum.

    Attributes
    ----------
    times : array, shape (8,)
        0, 0.05 .. 0.35 s: those of every window, counted from its start.
    train, validation, test : array, shape (windows, 8, 8)
        Windows, times, channels (cos q1, cos q2, sin q1, sin q2, q1', q2', u1, u2), in float64, rad/s and N m. By
        control, then by trajectory, then by start; a trajectory lies in one part.
    """

    times: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def acrobot_field(q: np.ndarray, velocity: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return the angular accelerations of the double pendulum.

    Parameters
    ----------
    q, velocity, u : array, shape (..., 2)
        Angles in rad, angular velocities in rad/s and torques in N m, of the first and the second joint. They
        broadcast.

    Returns
    -------
    array, shape (..., 2)
        In rad/s^2.

    References
    ----------
    Sutton, Barto, Reinforcement Learning (1998), section 11.3, with a torque on either joint; Kidger, Chen, Lyons
    (2021), section 3.3.
    """
    q1, q2 = q[..., 0], q[..., 1]
    v1, v2 = velocity[..., 0], velocity[..., 1]
    m11, m12, m22 = _mass(q2)
    coriolis, second = 0.5 * np.sin(q2), 0.5 * GRAVITY * np.sin(q1 + q2)
    force1 = u[..., 0] + coriolis * (2 * v1 + v2) * v2 - 1.5 * GRAVITY * np.sin(q1) - second
    force2 = u[..., 1] - coriolis * v1**2 - second
    determinant = m11 * m22 - m12**2
    return np.stack([m22 * force1 - m12 * force2, m11 * force2 - m12 * force1], axis=-1) / determinant[..., None]


def energy(q: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """Return kinetic plus potential energy in J: -19.6 where it hangs at rest, 19.6 where it stands.

    Parameters
    ----------
    q, velocity : array, shape (..., 2)

    Returns
    -------
    array, shape (...)
    """
    v1, v2 = velocity[..., 0], velocity[..., 1]
    m11, m12, m22 = _mass(q[..., 1])
    kinetic = 0.5 * (m11 * v1**2 + 2 * m12 * v1 * v2 + m22 * v2**2)
    return kinetic - GRAVITY * (1.5 * np.cos(q[..., 0]) + 0.5 * np.cos(q[..., 0] + q[..., 1]))


def _mass(q2: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the entries 11, 12 and 22 of the mass matrix."""
    return 3.5 + np.cos(q2), 1.25 + 0.5 * np.cos(q2), 1.25


def simulate(q: np.ndarray, velocity: np.ndarray, u: np.ndarray, dt: float = DT) -> tuple[np.ndarray, np.ndarray]:
    """Return angles and velocities after an interval with constant torques.

    Parameters
    ----------
    q, velocity, u : array, shape (..., 2)
        As `acrobot_field` takes them, of one shape.
    dt : float, default 0.05
        In seconds.

    Returns
    -------
    tuple of two arrays, shape (..., 2)
        Angles (not brought back into a range) and velocities, at relative and absolute tolerance 1e-12.
    """
    end = _solve(np.asarray(q, float), np.asarray(velocity, float), np.asarray(u, float), np.array([0.0, dt]))[-1]
    return end[..., :2], end[..., 2:]


def _solve(q: np.ndarray, velocity: np.ndarray, u: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return (q, velocity) at the times, shape (times, ..., 4); all pendulums take the same steps."""
    from scipy.integrate import solve_ivp

    start = np.concatenate([q, velocity], axis=-1)

    def slope(_: float, flat: np.ndarray) -> np.ndarray:
        state = flat.reshape(start.shape)
        speed = state[..., 2:]
        return np.concatenate([speed, acrobot_field(state[..., :2], speed, u)], axis=-1).ravel()

    solved = solve_ivp(slope, (times[0], times[-1]), start.ravel(), "DOP853", times, rtol=_TOLERANCE, atol=_TOLERANCE)
    if not solved.success:
        raise ArithmeticError(f"the double pendulum could not be solved: {solved.message}")
    return solved.y.T.reshape(len(times), *start.shape)


def acrobot(trajectories: int = 128, seed: int = 0, cache: str | os.PathLike[str] | None = None) -> Acrobot:
    """Return windows of simulated trajectories, each under one of nine constant pairs of torques.

    Torques (0, 0), (0, ±1), (0, ±2), (±1, 0), (±2, 0) N m; 32 points a trajectory, every 0.05 s; initial angles and
    velocities uniform in [-3.14, 3.14]; drawn again where |q1'| > 4 pi or |q2'| > 9 pi at a point. Of each control's
    trajectories 70 % are for training and 15 % for validation, both rounded down, the rest for the test; a window is
    8 consecutive points.

    Parameters
    ----------
    trajectories : int, default 128
        For each control, at least 7.
    seed : int, default 0
    cache : path, optional
        Folder that keeps the result (15 MB by default); made where it is missing. None keeps nothing.

    Returns
    -------
    Acrobot
        With the default 20 025 windows for training, 4 275 for validation and 4 500 for the test.

    Raises
    ------
    UserError
        Too few trajectories, a negative seed, or a cache that cannot be written.

    References
    ----------
    Kidger, Chen, Lyons (2021), section 3.3, after Zhong, Dey, Chakraborty, Symplectic ODE-Net (ICLR 2020).
    """
    raise_all(
        [Mistake(f"acrobot: {name}", repr(value), f"a whole number, at least {least}")
         for name, value, least in (("trajectories", trajectories, _FEWEST), ("seed", seed, 0))
         if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least]
    )  # fmt: skip
    if cache is None:
        return Acrobot(**_windows(int(trajectories), int(seed)))
    settings = {"format": 1, "trajectories": int(trajectories), "seed": int(seed), "gravity": GRAVITY, "dt": DT,
                "points": POINTS, "window": WINDOW, "controls": CONTROLS, "start": START, "limits": LIMITS,
                "tolerance": _TOLERANCE}  # fmt: skip
    keep = writable("cache", cache, "Name another folder by cache=, or None.")
    file = keep / f"acrobot-{stored.key(settings)}.npz"
    return Acrobot(**stored.kept(file, lambda: _windows(int(trajectories), int(seed))))


def _windows(trajectories: int, seed: int) -> dict[str, np.ndarray]:
    """Return the arrays of an `Acrobot`."""
    drawn = _trajectories(trajectories, seed)
    first, second = 70 * trajectories // 100, 15 * trajectories // 100
    parts = np.split(drawn, [first, first + second], axis=1)
    names = ("train", "validation", "test")
    cut = {name: _cut(part) for name, part in zip(names, parts, strict=True)}
    return {"times": DT * np.arange(WINDOW), **cut}


def _cut(paths: np.ndarray) -> np.ndarray:
    """Return all windows of trajectories of shape (controls, trajectories, points, channels)."""
    views = np.lib.stride_tricks.sliding_window_view(paths, WINDOW, axis=2)
    return np.ascontiguousarray(np.moveaxis(views, -1, -2).reshape(-1, WINDOW, paths.shape[-1]))


def _trajectories(number: int, seed: int) -> np.ndarray:
    """Return trajectories within the limits of velocity, shape (9, number, 32, 8)."""
    rngs = [np.random.default_rng([seed, index]) for index in range(len(CONTROLS))]
    times = DT * np.arange(POINTS)
    found = np.empty((len(CONTROLS), number, POINTS, 8))
    control, slot = (axis.ravel() for axis in np.indices((len(CONTROLS), number)))
    while control.size:
        start = np.array([rngs[index].uniform(-START, START, 4) for index in control])
        u = np.array(CONTROLS, float)[control]
        state = np.moveaxis(_solve(start[:, :2], start[:, 2:], u, times), 0, 1)
        q, velocity = state[..., :2], state[..., 2:]
        held = np.broadcast_to(u[:, None], velocity.shape)
        found[control, slot] = np.concatenate([np.cos(q), np.sin(q), velocity, held], axis=-1)
        again = (np.abs(velocity) > LIMITS).any(axis=(1, 2))
        control, slot = control[again], slot[again]
    return found
