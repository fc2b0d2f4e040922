"""A family of problems of any size: a network of one hidden layer, its weights drawn so that all sizes move alike.

    dy/dt = tanh(y W1 + b1) W2 + b2,    t in [0, 1],    loss = mean over outputs, batch and entries of y^2

Entries of y, and of the slopes, are of order one whatever the sizes are, so that the steps stay much the same and a
time grows by what an evaluation costs. Seed 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from crossbackend import Problem, ops
from crossbackend.load import load


@dataclass(frozen=True)
class Sizes:
    """The sizes of a member; its name is `mlp:BATCH,STATE,WIDTH,OUTPUTS`."""

    batch: int = 64
    state: int = 8
    width: int = 32
    outputs: int = 2

    @property
    def name(self) -> str:
        """What `named` takes."""
        return f"mlp:{self.batch},{self.state},{self.width},{self.outputs}"

    @property
    def parameters(self) -> int:
        """Entries of W1, b1, W2 and b2."""
        return 2 * self.state * self.width + self.width + self.state


def vector_field(t: Any, y: Any, params: Any, data: Any) -> Any:  # noqa: ARG001 - a problem's signature
    """Return the network of y, shape (batch, state)."""
    xp = ops.namespace(y)
    return xp.tanh(y @ params["W1"] + params["b1"]) @ params["W2"] + params["b2"]


def loss(ys: Any, params: Any, data: Any) -> Any:  # noqa: ARG001 - a problem's signature
    """Return the mean square of all outputs."""
    return ops.namespace(ys).mean(ys**2)


def member(sizes: Sizes) -> Problem:
    """Return the problem of some sizes."""
    rng = np.random.default_rng(5)
    params = {
        "W1": rng.normal(size=(sizes.state, sizes.width)) / np.sqrt(sizes.state),
        "b1": 0.1 * rng.normal(size=sizes.width),
        "W2": rng.normal(size=(sizes.width, sizes.state)) / np.sqrt(sizes.width),
        "b2": np.zeros(sizes.state),
    }
    y0 = rng.normal(size=(sizes.batch, sizes.state))
    return Problem("mlp", vector_field, loss, params, y0, np.linspace(0.0, 1.0, sizes.outputs))


def named(name: str) -> Problem:
    """Return a member of the family by its name, or a problem of the gallery."""
    kind, _, sizes = name.partition(":")
    return member(Sizes(*map(int, sizes.split(",")))) if kind == "mlp" else load(name)
