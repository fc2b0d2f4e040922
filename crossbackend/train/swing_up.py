"""The double pendulum brought from hanging down to upright by a trained Symplectic ODE-Net.

Energy shaping and damping injection (Zhong, Dey, Chakraborty, *Symplectic ODE-Net*, ICLR 2020; the control of Figures
2 and 3 of Kidger, Chen, Lyons, ICML 2021): u = g^T (g g^T)^-1 (2 dV/dq - q') turns the learned potential V into -V,
whose minimum is upright, and takes energy out. Held for 0.05 s at a time, 400 times.
"""

from __future__ import annotations

from typing import Any

import numpy as np

STEPS, DT = 400, 0.05


def simulate(params: Any, steps: int = STEPS) -> dict[str, np.ndarray]:
    """Return the controlled motion, started at rest and hanging down.

    Parameters
    ----------
    params : nested dict
        `V` and `g`, lists of layers; what they are of is (cos q1, cos q2, sin q1, sin q2).

    Returns
    -------
    dict
        `control/t` (n+1,) in s, `control/q` (n+1, 2) in rad, `control/velocity` (n+1, 2) in rad/s and `control/u`
        (n, 2) in N m. Fewer than `steps` where the motion stopped being finite.
    """
    from crossbackend.datasets import simulate as advance

    q, velocity = np.zeros(2), np.zeros(2)
    qs, velocities, us = [q], [velocity], []
    for _ in range(steps):
        u = torque(params, q, velocity)
        if not np.isfinite(u).all() or np.abs(u).max() > 1e4:
            break
        q, velocity = advance(q, velocity, u, DT)
        qs, velocities, us = [*qs, q], [*velocities, velocity], [*us, u]
    return {
        "control/t": DT * np.arange(len(qs)), "control/q": np.array(qs), "control/velocity": np.array(velocities),
        "control/u": np.array(us).reshape(-1, 2),
    }  # fmt: skip


def torque(params: Any, q: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """Return u for angles in rad and velocities in rad/s, shape (2,)."""
    x = np.concatenate([np.cos(q), np.sin(q)])
    of_x = slope(params["V"], x)
    of_q = -np.sin(q) * of_x[:2] + np.cos(q) * of_x[2:]
    push = value(params["g"], x).reshape(2, 2)
    return np.linalg.pinv(push) @ (2 * of_q - velocity)


def distance(q: np.ndarray, velocity: np.ndarray) -> float:
    """Return how far a state is from standing upright at rest: the largest of the angles' and velocities' distances."""
    around = np.abs((q - np.array([np.pi, 0.0]) + np.pi) % (2 * np.pi) - np.pi)
    return float(max(around.max(), np.abs(velocity).max()))


def value(layers: list[dict[str, Any]], x: np.ndarray) -> np.ndarray:
    """Return a softplus network at one point."""
    for layer in layers[:-1]:
        x = np.logaddexp(0.0, x @ layer["w"] + layer["b"])
    return x @ layers[-1]["w"] + layers[-1]["b"]


def slope(layers: list[dict[str, Any]], x: np.ndarray) -> np.ndarray:
    """Return the gradient of a softplus network's one output at a point."""
    kept = []
    for layer in layers[:-1]:
        before = x @ layer["w"] + layer["b"]
        kept.append(0.5 * (np.tanh(0.5 * before) + 1.0))
        x = np.logaddexp(0.0, before)
    back = layers[-1]["w"][:, 0]
    for layer, gate in zip(layers[-2::-1], kept[::-1], strict=True):
        back = layer["w"] @ (gate * back)
    return back
