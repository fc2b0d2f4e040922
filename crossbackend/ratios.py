"""Whose error it was: each block's share of a step's error ratio, from what the norm itself is handed.

A step of the backward solve is accepted where its error ratio, `norm(error / scale)`, is not above 1 (Kidger, Chen,
Lyons, ICML 2021, equations 4 and 5). A recording run keeps of every attempt

    ratio             what the step-size controller was given (rounded under matched stepping)
    ratio_y, ratio_a_y, ratio_a_params, ratio_a_t
                      the norm's own rule within a block, weights left out: RMS, the largest of a group's blocks;
                      also of blocks that the norm does not see
    ratio_state       the norm over (y, a_y) alone: at most 1 where the step was good enough for what is an ODE
    share_y, ...      the norm with every other group at zero, over the norm: the largest names the group that decided.
                      Under a pooled norm their squares sum to 1; under a maximum the largest is 1
    rms_a_y           rms of a_y itself where the attempt began, to be held against atol

A rejected attempt with `ratio_state <= 1` is the paper's *spurious* rejection (section 2.2); an accepted one with
`ratio_state > 1` is its mirror image, *masked*: dilution by many parameters let an error of the state pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from crossbackend.norms import GROUPS, Blocks, Norm, combine

STATE = ("y", "a_y")
RATIOS = ("ratio", *(f"ratio_{group}" for group in GROUPS), "ratio_state", "rms_a_y")
SHARES = tuple(f"share_{group}" for group in GROUPS)
SEEN = (*RATIOS, *SHARES)
"""Names of what a step may carry, as in a record's arrays."""


class Meter:
    """Takes a step's error apart by blocks, beside the norm that measures it.

    `read` runs where the norm runs and hands out one small vector; `seen` turns it into the numbers of one step.

    Parameters
    ----------
    norm : Norm
        The plan's norm, or the library's own as one.
    shapes : mapping of str to tuple of int
        Every block's name and shape, in the order that the blocks are handed in.
    integrals : sequence of str
        State entries declared integrals.
    """

    def __init__(self, norm: Norm, shapes: Mapping[str, tuple[int, ...]], integrals: Sequence[str] = ()) -> None:
        self.norm, self.integrals = norm, tuple(integrals)
        self.sizes = {name: math.prod(shape) for name, shape in shapes.items()}
        present = {name.split("/", 1)[0] for name, size in self.sizes.items() if size}
        self.groups = tuple(group for group in GROUPS if group in present)
        self._alone = {g: replace(norm, weights={g: 1.0}, function=None) for g in self.groups}

    def read(self, blocks: Blocks, xp: Any) -> Any:
        """Return sums of squares by block and, of a callable norm, its values by group; shape (k,).

        Parameters
        ----------
        blocks : mapping of str to array
            Error over scale by block, all of `shapes`, in their order.
        xp : module
            `numpy`, `torch` or `jax.numpy`.
        """
        return xp.stack([*(xp.sum(array * array) for array in blocks.values()), *self._called(blocks, xp)])

    def _called(self, blocks: Blocks, xp: Any) -> list[Any]:
        """Return a callable norm's value, its value over (y, a_y) alone, and with all groups but one at zero."""
        function = self.norm.function
        if function is None:
            return []
        seen = {name: array for name, array in blocks.items() if self.norm.sees(name, self.integrals)}
        zeros = {name: xp.zeros_like(array) for name, array in seen.items()}
        state = state_alone(seen, xp)
        only = [{n: a if _group(n) == group else zeros[n] for n, a in seen.items()} for group in self.groups]
        return [function(seen), function(state), *(function(part) for part in only)]

    def seen(self, ratio: float, numbers: np.ndarray) -> dict[str, float]:
        """Return what is kept of one attempt.

        Parameters
        ----------
        ratio : float
            What the controller was given.
        numbers : ndarray, shape (k,)
            What `read` returned.
        """
        squares = {name: float(number) for name, number in zip(self.sizes, numbers, strict=False)}
        found = {"ratio": float(ratio)}
        for group, alone in self._alone.items():
            found[f"ratio_{group}"] = self._value(alone, squares, self.groups)
        if "a_y" not in self.groups:
            return found
        if self.norm.function is None:
            whole = self._value(self.norm, squares, self.groups)  # `ratio` may be rounded
            state = self._value(self.norm, squares, STATE)
            parts = [self._value(self.norm, squares, self.groups, only=group) for group in self.groups]
        else:
            whole, state, *parts = (float(number) for number in numbers[len(self.sizes) :])
        found["ratio_state"] = state
        for group, part in zip(self.groups, parts, strict=True):
            found[f"share_{group}"] = part / whole if whole > 0 else 0.0
        return found

    def _value(
        self, norm: Norm, squares: Mapping[str, float], groups: Iterable[str], *, only: str | None = None
    ) -> float:
        """Return a norm over some groups, those other than `only` at zero."""
        kept = {
            name: np.float64(square if only in (None, _group(name)) else 0.0)
            for name, square in squares.items()
            if self.sizes[name] and _group(name) in groups and norm.sees(name, self.integrals)
        }
        with np.errstate(all="ignore"):  # a failed step's error may be infinite
            value = combine(norm, kept, self.sizes, np)
        return 0.0 if value is None else float(value)


def state_alone(blocks: Blocks, xp: Any) -> dict[str, Any]:
    """Return the blocks of y and a_y; a function that asks for another one by its name is given zeros."""
    return _OrZeros({name: array for name, array in blocks.items() if _group(name) in STATE}, blocks, xp)


class _OrZeros(dict[str, Any]):
    """The blocks of the state; in place of another one that is asked for by its name there are zeros."""

    def __init__(self, blocks: Mapping[str, Any], every: Blocks, xp: Any) -> None:
        super().__init__(blocks)
        self._every, self._xp = every, xp

    def __missing__(self, name: str) -> Any:
        return self._xp.zeros_like(self._every[name])


def _group(name: str) -> str:
    return name.split("/", 1)[0]


def arrays(seen: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Return what attempts carry as arrays of shape (n,): ratios in float64, shares in float32.

    Attempts that carry nothing (a plug-in that records no ratios) give no arrays.
    """
    names = [name for name in SEEN if seen and name in seen[0]]
    return {
        name: np.array([row.get(name, math.nan) for row in seen], np.float32 if name in SHARES else np.float64)
        for name in names
    }


def decided(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return, for every attempt, the index in `norms.GROUPS` of the group that decided its ratio; -1 for none.

    Parameters
    ----------
    arrays : mapping of str to ndarray, shape (n,)
        With the shares; groups without one decide nothing.
    """
    there = [(index, arrays[name]) for index, name in enumerate(SHARES) if name in arrays]
    if not there:
        return np.full(len(arrays.get("ratio", ())), -1)
    shares = np.nan_to_num(np.stack([share for _, share in there]), nan=0.0)
    which = np.array([index for index, _ in there])[np.argmax(shares, axis=0)]
    return np.where(np.max(shares, axis=0) > 0, which, -1)
