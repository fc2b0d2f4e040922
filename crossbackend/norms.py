"""Norms that measure the error of a step, over the named blocks of the augmented state.

The backward solve of the continuous adjoint integrates y, a_y (adjoint of the state), a_params (adjoint of the
parameters) and, in torchdiffeq, a_t (adjoint of time) at once. Which of them the step-size controller may see is
the norm's business: Kidger, Chen, Lyons, *"Hey, that's not an ODE"*, ICML 2021, section 3, leave a_params out,
for it feeds back into nothing.

A norm is *within* a block the root mean square (RMS), and *across* blocks a maximum or one RMS over the
concatenation, with a weight per block; weight 0 leaves a block out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from crossbackend.snapping import snap_float

Blocks = Mapping[str, Any]
"""Error over scale by block: `y` or `y/NAME`, `a_y` or `a_y/NAME`, `a_params/NAME`, `a_t`."""

GROUPS = ("y", "a_y", "a_params", "a_t")
NATIVE = ("default", "seminorm")
"""Names that mean the library's own norm under native stepping."""


@dataclass(frozen=True)
class Norm:
    """A norm over named blocks.

    Parameters
    ----------
    name : str
    across : {"max", "pooled"}
        `max` of the blocks' RMS, or one RMS over all entries seen.
    weights : mapping of str to float
        Weight by group (`y`, `a_y`, `a_params`, `a_t`) or by single block (`a_params/mlp/w`), which wins.
        A group that is not named has weight 0.
    function : callable, optional
        `function(blocks) -> scalar` over the blocks, in place of weights. It must use array-API calls only.
    without_integrals : bool
        Leave the problem's declared integrals out of y and a_y, on both passes.
    per_entry : bool
        Take every entry of a dict state for a block of its own, as torchdiffeq does with a tuple; otherwise `rms y`
        is over the whole state.
    """

    name: str
    across: str = "max"
    weights: Mapping[str, float] = field(default_factory=dict)
    function: Callable[[Blocks], Any] | None = None
    without_integrals: bool = False
    per_entry: bool = False

    @property
    def sees_time(self) -> bool:
        """Whether the norm measures a_t, which only some backends integrate."""
        return self.weights.get("a_t", 0.0) != 0.0

    @property
    def across_blocks(self) -> str:
        """How the blocks become one number: `max`, `pooled`, or `callable` for a function."""
        return self.across if self.function is None else "callable"

    def weight(self, block: str) -> float:
        """Return the weight of a block."""
        if block in self.weights:
            return float(self.weights[block])
        return float(self.weights.get(block.split("/", 1)[0], 0.0))

    def sees(self, block: str, integrals: Sequence[str] = ()) -> bool:
        """Whether the norm may look at a block, given the problem's declared integrals."""
        group, _, entry = block.partition("/")
        if self.without_integrals and group in ("y", "a_y") and entry in integrals:
            return False
        return self.function is not None or self.weight(block) != 0.0

    def block(self, name: str) -> str:
        """Return the block that one array belongs to: the entries of a state are one, each parameter's a its own."""
        group = name.split("/", 1)[0]
        return group if group in ("y", "a_y") and not self.per_entry else name

    def forward(self) -> Norm:
        """Return the norm of the forward pass: rms y, without the integrals where this norm leaves them out."""
        return replace(self, name=f"{self.name}, forward", across="max", weights={"y": 1.0}, function=None)

    def describe(self) -> str:
        """Return the norm as a formula, for the settings of a record."""
        if self.function is not None:
            return f"{getattr(self.function, '__name__', 'callable')}(blocks)"
        shown = {"y": "rms y", "a_y": "rms a_y", "a_params": "rms of each a_params", "a_t": "|a_t|"}
        if self.per_entry:
            shown |= {"y": "rms of each y", "a_y": "rms of each a_y"}
        if self.across == "pooled":
            shown |= {"a_params": "a_params", "y": "y", "a_y": "a_y", "a_t": "a_t"}
        terms = [
            (shown.get(block, f"rms {block}") if weight == 1 else f"{weight:g} {shown.get(block, block)}")
            for block, weight in sorted(self.weights.items(), key=lambda item: _order(item[0]))
            if weight
        ]
        joined = ", ".join(terms)
        text = f"max({joined})" if self.across == "max" and len(terms) > 1 else joined
        text = f"rms({joined})" if self.across == "pooled" else text
        return f"{text} without integrals" if self.without_integrals else text


def _order(block: str) -> tuple[int, str]:
    return GROUPS.index(block.split("/", 1)[0]), block


_ALL = {"y": 1.0, "a_y": 1.0, "a_params": 1.0}
_SEMI = {"y": 1.0, "a_y": 1.0}

NAMED: dict[str, Norm] = {
    norm.name: norm
    for norm in (
        Norm("mixed", "max", _ALL),
        Norm("mixed-t", "max", {**_ALL, "a_t": 1.0}),
        Norm("mixed-seminorm", "max", _SEMI),
        Norm("mixed-seminorm-t", "max", {**_SEMI, "a_t": 1.0}),
        Norm("pooled", "pooled", _ALL),
        Norm("pooled-seminorm", "pooled", _SEMI),
    )
}
OF_BACKSOLVE = ("seminorm", *NAMED)
"""Norms that differ from `default` in what they make of backsolve's blocks: no other gradient tells them apart."""
MATCHED = {"default": "mixed", "seminorm": "mixed-seminorm"}
"""What the native names mean under matched stepping."""


def names() -> tuple[str, ...]:
    """Return every norm a plan can name without a problem's own."""
    return (*NATIVE, *NAMED, *(f"{name}-integrals" for name in NAMED))


def resolve(name: str, stepping: str, own: Mapping[str, Any] | None = None) -> Norm | None:
    """Return the norm that a plan names.

    Parameters
    ----------
    name : str
        `default`, `seminorm`, one of `names()`, or one of the problem's own norms.
    stepping : {"native", "matched"}
    own : mapping, optional
        The problem's `norms`: name to weights (with an optional key `across`), or name to callable.

    Returns
    -------
    Norm or None
        None where the plan asks for the library's own norm.

    Raises
    ------
    KeyError
        For a name nobody defines.
    """
    if own and name in own:
        return custom(name, own[name])
    if name in NATIVE:
        if stepping == "native":
            return None
        name = MATCHED[name]
    if name.endswith("-integrals"):
        base = NAMED[name.removesuffix("-integrals")]
        return Norm(name, base.across, base.weights, without_integrals=True)
    return NAMED[name]


def custom(name: str, definition: Any) -> Norm:
    """Return the norm for a problem's own entry: a callable, or weights with an optional `across`."""
    without = name.endswith("-integrals")
    if callable(definition):
        return Norm(name, function=definition, without_integrals=without)
    weights = dict(definition)
    across = weights.pop("across", "max")
    return Norm(name, across, weights, without_integrals=without)


def rms(array: Any, xp: Any = np) -> Any:
    """Return the root mean square of all entries; 0 for an empty array."""
    size = math.prod(array.shape)
    if size == 0:
        return xp.zeros((), dtype=array.dtype)
    return xp.sqrt(xp.sum(array * array) / size)


def evaluate(norm: Norm, blocks: Blocks, xp: Any, integrals: Sequence[str] = ()) -> Any:
    """Return the norm of named blocks of error over scale.

    `rms y` and `rms a_y` are over the whole state: the entries of a dict state are concatenated first.

    Parameters
    ----------
    norm : Norm
    blocks : mapping of str to array
        Arrays of one library, any shapes.
    xp : module
        `numpy`, `torch` or `jax.numpy`.
    integrals : sequence of str
        State entries declared integrals; a norm `without_integrals` does not see them.

    Returns
    -------
    scalar array
    """
    blocks = {name: array for name, array in blocks.items() if norm.sees(name, integrals)}
    if norm.function is not None:
        return norm.function(blocks)
    sizes = {name: math.prod(array.shape) for name, array in blocks.items()}
    squares = {name: xp.sum(array * array) for name, array in blocks.items() if sizes[name]}
    return combine(norm, squares, sizes, xp)


def combine(norm: Norm, squares: Mapping[str, Any], sizes: Mapping[str, int], xp: Any) -> Any:
    """Return a norm by weights from the sum of squares of every array that it sees; None where it sees nothing.

    Parameters
    ----------
    norm : Norm
    squares : mapping of str to scalar array
        Sums of squares by name, empty arrays left out.
    sizes : mapping of str to int
        Entries by name.
    xp : module
    """
    merged: dict[tuple[str, float], list[str]] = {}
    for name in squares:
        merged.setdefault((norm.block(name), norm.weight(name)), []).append(name)
    if norm.across == "pooled" and merged:
        total = sum(weight * weight * sum(squares[n] for n in names) for (_, weight), names in merged.items())
        return xp.sqrt(total / sum(sizes[name] for name in squares))
    result = None
    for (_, weight), names in merged.items():
        value = xp.sqrt(sum(squares[name] for name in names) / sum(sizes[name] for name in names))
        value = value if weight == 1.0 else weight * value
        result = value if result is None else xp.maximum(result, value)
    return result


def named(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return blocks by full name from leaves by group: `{"a_params": {"w": a}}` gives `{"a_params/w": a}`.

    The empty leaf name is the bare group, as for a state that is one array.
    """
    return {
        f"{group}/{name}" if name else group: array for group, leaves in parts.items() for name, array in leaves.items()
    }


def flat(
    norm: Norm, shapes: Mapping[str, tuple[int, ...]], *, snapped: bool = False, integrals: Sequence[str] = ()
) -> Callable[[np.ndarray], float]:
    """Return the norm as a function of one flat NumPy vector that holds the blocks one after the other.

    Parameters
    ----------
    norm : Norm
    shapes : mapping of str to tuple of int
        Every block's name and shape in the order they stand in, left-out ones too.
    snapped : bool
        Round the result by `snap`, for matched stepping.
    integrals : sequence of str
        State entries declared integrals.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    ends = np.cumsum([0, *sizes.values()]).tolist()
    where = {name: slice(a, b) for name, a, b in zip(shapes, ends[:-1], ends[1:], strict=True)}
    where = {name: at for name, at in where.items() if norm.sees(name, integrals)}
    if norm.function is not None:
        function = norm.function

        def called(vector: np.ndarray) -> float:
            value = float(function({name: vector[at].reshape(shapes[name]) for name, at in where.items()}))
            return snap_float(value) if snapped else value

        return called
    groups = _flat_groups(norm, where, sizes)

    def weighted(vector: np.ndarray) -> float:
        if norm.across == "pooled":
            total = sum(w * w * float(np.dot(vector[at], vector[at])) for w, _, ats in groups for at in ats)
            value = math.sqrt(total / sum(size for _, size, _ in groups))
        else:
            value = 0.0
            for w, size, ats in groups:
                square = sum(float(np.dot(vector[at], vector[at])) for at in ats)
                root = w * math.sqrt(square / size)
                value = root if root > value or root != root else value  # a NaN must not be lost in the maximum
                if value != value:
                    break
        return snap_float(value) if snapped else value

    return weighted


def _flat_groups(
    norm: Norm, where: Mapping[str, slice], sizes: Mapping[str, int]
) -> list[tuple[float, int, list[slice]]]:
    """Return (weight, size, slices) per block seen; neighbouring slices of one block are merged."""
    merged: dict[tuple[str, float], list[str]] = {}
    for name in where:
        if sizes[name]:
            key = name.split("/", 1)[0] if norm.across == "pooled" else norm.block(name)
            merged.setdefault((key, norm.weight(name)), []).append(name)
    groups = []
    for (_, weight), members in merged.items():
        slices: list[slice] = []
        for name in members:
            if slices and slices[-1].stop == where[name].start:
                slices[-1] = slice(slices[-1].start, where[name].stop)
            else:
                slices.append(where[name])
        groups.append((weight, sum(sizes[name] for name in members), slices))
    return groups
