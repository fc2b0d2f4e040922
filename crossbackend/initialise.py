"""Initial parameters drawn by NumPy, so that every library starts from the same numbers.

The distribution is that of `torch.nn.Linear` and `torch.nn.Conv2d` (torch 2.x): weights and biases uniform in
[-1 / sqrt(fan_in), 1 / sqrt(fan_in)].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Layer = dict[str, np.ndarray]


def linear(rng: np.random.Generator, inputs: int, outputs: int) -> Layer:
    """Return a dense layer `x @ w + b`: `w` of shape (inputs, outputs), `b` of shape (outputs,)."""
    bound = 1.0 / math.sqrt(inputs)
    return {"w": rng.uniform(-bound, bound, (inputs, outputs)), "b": rng.uniform(-bound, bound, outputs)}


def mlp(rng: np.random.Generator, sizes: Sequence[int]) -> list[Layer]:
    """Return the dense layers between consecutive sizes, first to last."""
    return [linear(rng, inputs, outputs) for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True)]


def conv2d(rng: np.random.Generator, channels: int, out_channels: int, kernel: int = 3) -> Layer:
    """Return a convolution: `w` of shape (out_channels, channels, kernel, kernel), `b` of shape (out_channels,)."""
    bound = 1.0 / math.sqrt(channels * kernel * kernel)
    shape = (out_channels, channels, kernel, kernel)
    return {"w": rng.uniform(-bound, bound, shape), "b": rng.uniform(-bound, bound, out_channels)}
