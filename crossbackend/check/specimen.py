"""The problem on which the self-test plants its faults: its field depends on t, its loss reads every output time."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossbackend import ops
from crossbackend.problem import Problem

STATES, SIZE, WIDTH = 4, 2, 6


def vector_field(t: Any, y: Any, params: Any, data: Any) -> Any:  # noqa: ARG001
    """Return a small network of the state, driven by a clock, shape (states, size)."""
    xp = ops.namespace(y)
    hidden = xp.tanh(y @ params["w_in"] + xp.sin(3.0 * t) * params["clock"])
    return hidden @ params["w_out"] - 0.2 * y


def loss(ys: Any, params: Any, data: Any) -> Any:
    """Return the mean square distance of a read-out to targets at every output time."""
    xp = ops.namespace(ys)
    return xp.mean((ys @ params["read"] - data["targets"]) ** 2)


def specimen() -> Problem:
    """Return the problem: four states of two entries on [0, 2], five output times, four leaves of parameters."""
    rng = np.random.default_rng(11)
    ts = [0.0, 0.5, 1.0, 1.5, 2.0]
    return Problem(
        "specimen", vector_field, loss,
        {
            "w_in": rng.normal(size=(SIZE, WIDTH)),
            "clock": rng.normal(size=WIDTH),
            "w_out": rng.normal(size=(WIDTH, SIZE)) / 2,
            "read": rng.normal(size=SIZE),
        },
        rng.normal(size=(STATES, SIZE)), ts, {"targets": rng.normal(size=(len(ts), STATES))},
        source="made for the self-test of `crossbackend check`",
    )  # fmt: skip
