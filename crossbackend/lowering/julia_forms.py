"""How Julia writes what depends on shapes and types: the second column of the operations that the rules make.

A NumPy array of shape (a, b, c) is a Julia array of size (c, b, a): the same memory. So axes count from the other end,
and `A @ B` is `B * A`.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from crossbackend.lowering.nodes import ATOM, PASS, PRODUCT, Form, Node

TYPES = {"b": "Bool", "i": "Int64", "u": "Int64"}


def type_name(dtype: Any) -> str:
    """Return Julia's element type: every integer is an Int64."""
    dtype = np.dtype(dtype)
    return TYPES.get(dtype.kind) or dtype.name.capitalize()


def array_type(shape: tuple[int, ...], dtype: Any) -> str:
    """Return the type of an array of a shape; without axes, of a number."""
    name = type_name(dtype)
    return (
        name
        if not shape
        else {1: f"Vector{{{name}}}", 2: f"Matrix{{{name}}}"}.get(len(shape), f"Array{{{name}, {len(shape)}}}")
    )


def sizes(shape: tuple[int, ...]) -> str:
    """Return a shape as Julia's size: reversed."""
    return str(tuple(reversed(shape)))


def dimension(axis: int, rank: int) -> int:
    """Return Julia's dimension, from 1, of NumPy's axis."""
    return rank - axis


def dims(axes: tuple[int, ...], rank: int) -> str:
    """Return Julia's dimensions of NumPy's axes: a number or a tuple."""
    found = sorted(dimension(axis, rank) for axis in axes)
    return str(found[0]) if len(found) == 1 else f"({', '.join(map(str, found))})"


def shaped(source: str, shape: tuple[int, ...]) -> str:
    """Return the source of an array in another shape, that of a single element where the shape has no axes."""
    if not shape:
        return f"{source}[1]"
    return f"vec({source})" if len(shape) == 1 else f"reshape({source}, {sizes(shape)})"


def reshaped(old: tuple[int, ...], new: tuple[int, ...]) -> Form:
    """Return the form of a reshape."""
    if not old:
        return Form(f"fill({{0}}, {sizes(new)})")
    return Form(shaped("{0}", new), needs=0 if new else ATOM)


def packed(shape: tuple[int, ...], dtype: Any) -> Form:
    """Return the form of an array made of numbers."""
    places = ", ".join(f"{{{i}}}" for i in range(int(np.prod(shape, dtype=int))))
    return Form(f"{type_name(dtype)}[{places}]" if len(shape) == 1 else shaped(f"{type_name(dtype)}[{places}]", shape))


def converted(kind: str, name: str) -> Any:
    """Return the form of a conversion to a kind of number; nothing where it is one already."""

    def form(node: Node) -> tuple[Form, tuple[Node, ...]]:
        old = node.args[0].dtype
        same = old == np.float64 if kind == "f" else old.kind in {"i": "iu", "b": "b"}[kind]
        return PASS if same else Form(f"{name}({{0}})"), node.args

    return form


def turned(order: tuple[int, ...]) -> Form:
    """Return the form of a transpose to the axes `order`."""
    rank = len(order)
    if rank == 2:
        return Form("permutedims({0})")
    new = [dimension(order[rank - d], rank) for d in range(1, rank + 1)]
    return Form(f"permutedims({{0}}, ({', '.join(map(str, new))}))")


def leaf(argument: str, name: str, shape: tuple[int, ...], dtype: Any) -> Form:
    """Return the form that reads an array of an argument: a dictionary from names."""
    return fixed(f"rt.leaf({argument}, {quoted(name)}, {array_type(shape, dtype)})")


def fixed(source: str) -> Form:
    """Return the form of source without arguments."""
    return Form(source.replace("{", "{{").replace("}", "}}"))


def empty(shape: tuple[int, ...], dtype: Any) -> Form:
    """Return the form of a new array that something fills."""
    return fixed(f"{array_type(shape, dtype)}(undef, {sizes(shape)})")


def quoted(text: str) -> str:
    """Return a string as source."""
    return '"' + re.sub(r'(["\\$])', r"\\\1", text) + '"'


def joined(count: int, axis: int, rank: int) -> Form:
    """Return the form of a concatenation."""
    places = ", ".join(f"{{{i}}}" for i in range(count))
    return Form(f"vcat({places})" if rank == 1 else f"rt.join(({places}), {dimension(axis, rank)})")


def stacked(count: int, axis: int, shape: tuple[int, ...], dtype: Any) -> Form:
    """Return the form of a concatenation along a new axis."""
    if len(shape) == 1:
        return packed(shape, dtype)
    places = "".join(f"{{{i}}}, " for i in range(count))
    return Form(f"rt.stack(({places.strip()}), {dimension(axis, len(shape))})")


def index(parts: list[str], needs: tuple[int, ...] | int = ATOM) -> Form:
    """Return the form of an index of one source per NumPy axis."""
    return Form(f"{{0}}[{', '.join(reversed(parts))}]", needs=needs)


def span(part: slice, size: int) -> str:
    """Return a slice of known bounds, not empty, along an axis of `size` as source."""
    places = range(*part.indices(size))
    if places == range(size):
        return ":"
    if not places:
        return "1:0"
    return f"{places[0] + 1}:{'' if part.step == 1 else f'{part.step}:'}{places[-1] + 1}"


def number(value: Any) -> str:
    """Return a number or nothing as source that gives it back exactly."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Inf" if value > 0 else "-Inf")
    if value is None or isinstance(value, bool):
        return "nothing" if value is None else str(value).lower()
    return repr(value)


def truncated(dtype: Any) -> Form:
    """Return the form of a conversion of floats to integers of a type, by its limits."""
    limits = np.iinfo(dtype)
    return Form(f"rt.to_int~({{0}}, {limits.min}, {min(limits.max, np.iinfo(np.int64).max)})")


def reduced(name: str, axes: tuple[int, ...], shape: tuple[int, ...], out: tuple[int, ...]) -> Form:
    """Return the form of a reduction along axes."""
    if len(axes) == len(shape):
        return Form(f"{name}({{0}})")
    return Form(shaped(f"{name}({{0}}; dims = {dims(axes, len(shape))})", out))


def keywords(**facts: Any) -> str:
    """Return keyword arguments as source."""
    return ", ".join(f"{name} = {value}" for name, value in facts.items())


def taken(axis: int, rank: int, fill: Any) -> Form:
    """Return the form of a take along an axis with a fill outside."""
    return Form(f"rt.take_fill({{0}}, {{1}}, {dimension(axis, rank)}, {number(fill)})")


def pairs(batch: tuple[tuple[int, int], ...], rank: int, lead: int) -> tuple[tuple[int, int], ...]:
    """Return the axes that are walked together as pairs (dimension, position among the `lead` axes of the starts)."""
    return tuple((dimension(axis, rank), dimension(at, lead)) for axis, at in batch)


def gathered(facts: dict[str, Any], shape: tuple[int, ...], start: tuple[int, ...], out: tuple[int, ...]) -> Form:
    """Return the form of a general gather from the keywords of `runtime.gather`."""
    rank = len(shape)
    words = keywords(
        window=sizes(facts["window"]),
        offset=tuple(sorted(dimension(axis, len(out)) for axis in facts["offset"])),
        dropped=tuple(sorted(dimension(a, rank) for a in (*facts["collapsed"], *(a for a, _ in facts["batch_map"])))),
        starts=tuple(dimension(axis, rank) for axis in facts["start_map"]),
        batch=pairs(facts["batch_map"], rank, len(start) - 1),
        fill=number(facts["fill"]),
    )
    return Form(f"rt.gather({{0}}, {{1}}; {words})")


COMBINE = {"set": "rt.second", "add": "+", "subtract": "-", "multiply": "*", "minimum": "min", "maximum": "max"}


def scattered(facts: dict[str, Any], shape: tuple[int, ...], start: tuple[int, ...], updates: tuple[int, ...]) -> Form:
    """Return the form of a scatter from the keywords of `runtime.scatter`."""
    rank = len(shape)
    words = keywords(
        window=tuple(sorted(dimension(axis, len(updates)) for axis in facts["window"])),
        absent=tuple(sorted(dimension(a, rank) for a in (*facts["inserted"], *(a for a, _ in facts["batch_map"])))),
        starts=tuple(dimension(axis, rank) for axis in facts["start_map"]),
        batch=pairs(facts["batch_map"], rank, len(start) - 1),
        clip=number(facts["clip"]),
    )
    return Form(f"rt.scatter({COMBINE[facts['how']]}, {{0}}, {{1}}, {{2}}; {words})")


def convolved(facts: dict[str, Any]) -> Form:
    """Return the form of a convolution from the keywords of `runtime.conv`."""
    turned = {name: value[::-1] if isinstance(value, tuple) else value for name, value in facts.items()}
    return Form(f"rt.conv({{0}}, {{1}}; {keywords(**turned)})")


def product(node: Node) -> tuple[Form, tuple[Node, ...]]:
    """Return the form of `a @ b` for one or two axes: `b * a`, a transposed matrix taken as it lies in memory."""
    a, b = node.args
    if len(a.shape) == len(b.shape) == 1:
        return Form("rt.dot({0}, {1})"), (a, b)
    if len(a.shape) > 2 or len(b.shape) > 2:
        return Form("rt.batched({0}, {1})"), (a, b)
    vector = len(b.shape) == 1
    (first, a), (second, b) = factor(a, 0, turn=vector), factor(b, 1, turn=False)
    if vector:
        return Form(f"{first} * {second}", PRODUCT, (PRODUCT, PRODUCT + 1)), (a, b)
    return Form(f"{second} * {first}", PRODUCT, (PRODUCT + 1, PRODUCT)), (a, b)


def factor(node: Node, place: int, *, turn: bool) -> tuple[str, Node]:
    """Return the source of a factor and what it reads; `turn` transposes it once more."""
    while node.op.word == "turned" and len(node.shape) == 2:
        node, turn = node.args[0], not turn
    return (f"transpose({{{place}}})" if turn else f"{{{place}}}"), node
