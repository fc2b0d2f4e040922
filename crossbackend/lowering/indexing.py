"""Indexing by computed positions: dynamic slices, gather and scatter in XLA's sense.

What is a plain `x[i]` or a take along one axis is printed as such; the rest calls the runtime.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from crossbackend.lowering import julia_forms as forms
from crossbackend.lowering import runtime
from crossbackend.lowering.builder import Builder
from crossbackend.lowering.flat import Equation
from crossbackend.lowering.maths_cells import CHOOSE, extreme
from crossbackend.lowering.moves_arrays import cut, only
from crossbackend.lowering.moves_cells import moved
from crossbackend.lowering.nodes import ATOM, SUM, TEST, Cut, Form, Node, Op, Value, index_source

# The modes of jax.lax.GatherScatterMode, by name.
CLIPPING = {"CLIP", "PROMISE_IN_BOUNDS", "ONE_HOT"}


def mode_of(eqn: Equation) -> str:
    """Return the name of a gather's or scatter's mode."""
    return eqn.params["mode"].name


def clamped(b: Builder, start: Node, high: int) -> Node:
    """Return a start index moved into [0, high]."""
    start = b.cell(start)
    zero, top = b.literal(0, start.dtype), b.literal(high, start.dtype)
    if start.literal is not None:
        return b.literal(min(max(start.literal, 0), high), start.dtype)
    if high == 0:
        return zero
    return extreme(b, "min", extreme(b, "max", start, zero, start.dtype), top, start.dtype)


def window(b: Builder, node: Node, starts: list[Node], sizes: tuple[int, ...]) -> Node:
    """Return the piece of shape `sizes` at `starts`; a later squeeze makes `x[i]` of it."""
    starts = [clamped(b, start, n - size) for start, n, size in zip(starts, node.shape, sizes, strict=True)]
    if all(start.literal is not None for start in starts):
        return cut(b, node, tuple(slice(s.literal, s.literal + k, 1) for s, k in zip(starts, sizes, strict=True)))
    note, args = [], [node]
    for start, n, size in zip(starts, node.shape, sizes, strict=True):
        at = start.literal
        if at is not None:
            text = ":" if size == n else f"{at}:{at + size}"
            note.append(Cut(str(at), text, str(at + 1), forms.span(slice(at, at + size), n)))
        else:
            first = f"{{{len(args)}}}"
            args.append(start)
            note.append(Cut(first, f"{first}:{first} + {size}", f"{first} + 1", f"{first} + 1:{first} + {size}"))
    needs = (ATOM, *[SUM] * (len(args) - 1))
    source, julia = index_source([cut.source for cut in note]), forms.index([cut.julia for cut in note], needs)
    op = Op(f"{{0}}{source}", needs=needs, fresh=False, word="part", julia=julia)
    return b.node(op, args, sizes, node.dtype, note=note)


def array_dynamic_slice(b: Builder, eqn: Equation, x: Value, *starts: Value) -> list[Value]:
    """Cut out a piece at computed starts."""
    if b.array(x).shape == ():
        return only(eqn, b.array(x))
    sizes = tuple(int(n) for n in eqn.params["slice_sizes"])
    return only(eqn, window(b, b.full(x), [b.array(start) for start in starts[: len(sizes)]], sizes))


def array_dynamic_update(b: Builder, eqn: Equation, x: Value, piece: Value, *starts: Value) -> list[Value]:
    """Write a piece at computed starts into a copy."""
    nodes = [b.array(start) for start in starts]
    places = ", ".join(f"{{{i + 2}}}" for i in range(len(nodes)))
    comma = "," if len(nodes) == 1 else ""
    turned = ", ".join(f"{{{i + 2}}}" for i in reversed(range(len(nodes))))
    julia = Form(f"rt.update({{0}}, {{1}}, ({turned}{comma}))")
    op = Op(f"rt.update({{0}}, {{1}}, ({places}{comma}))", word="updated", julia=julia)
    whole = b.full(x)
    return only(eqn, b.node(op, (whole, b.full(piece), *nodes), whole.shape, whole.dtype))


def fill_of(eqn: Equation, dtype: np.dtype) -> Any:
    """Return what stands for an element outside, as JAX has it; None where the index is moved inside."""
    if mode_of(eqn) in CLIPPING:
        return None
    fill = eqn.params.get("fill_value")
    if fill is not None:
        return fill
    if dtype.kind == "f":
        return math.nan
    if dtype.kind == "b":
        return True
    limits = np.iinfo(dtype)
    return int(limits.max) if dtype.kind == "u" else int(limits.min)


def batch_map(numbers: Any, operand: str, indices: str) -> tuple[tuple[int, int], ...]:
    """Return pairs (operand axis, index axis) of the axes that are walked together."""
    return tuple(
        (int(a), int(i)) for a, i in zip(getattr(numbers, operand, ()), getattr(numbers, indices, ()), strict=True)
    )


def ints(values: Any) -> tuple[int, ...]:
    """Return a tuple of Python integers."""
    return tuple(int(v) for v in values)


def gather_facts(eqn: Equation, dtype: np.dtype) -> dict[str, Any]:
    """Return the keywords of `runtime.gather`."""
    numbers = eqn.params["dimension_numbers"]
    return {
        "window": ints(eqn.params["slice_sizes"]),
        "offset": ints(numbers.offset_dims),
        "collapsed": ints(numbers.collapsed_slice_dims),
        "start_map": ints(numbers.start_index_map),
        "batch_map": batch_map(numbers, "operand_batching_dims", "start_indices_batching_dims"),
        "fill": fill_of(eqn, dtype),
    }


def keywords(facts: dict[str, Any], plain: dict[str, Any]) -> str:
    """Return facts as keyword arguments in source, without those that are as in `plain`."""
    return ", ".join(f"{k}={number(v)}" for k, v in facts.items() if k not in plain or plain[k] != v)


def number(value: Any) -> str:
    """Return a Python value as source."""
    if isinstance(value, float) and not math.isfinite(value):
        return "np.nan" if math.isnan(value) else ("np.inf" if value > 0 else "-np.inf")
    return repr(value.item() if isinstance(value, np.generic) else value)


def array_gather(b: Builder, eqn: Equation, x: Value, start: Value) -> list[Value]:
    """Gather: `x[i]`, a take along one axis, or the general form."""
    facts = gather_facts(eqn, x.dtype)
    out = eqn.outputs[0]
    node = b.full(x)
    if len(start.shape) == 1 and not facts["batch_map"]:
        return only(eqn, single(b, eqn, node, start, facts))
    taken = take(b, eqn, node, start, facts)
    if taken is not None:
        return only(eqn, taken)
    source = f"rt.gather({{0}}, {{1}}, {keywords(facts, {'batch_map': (), 'fill': None})})"
    op = Op(source, word="gathered", julia=forms.gathered(facts, x.shape, start.shape, out.shape))
    return only(eqn, b.node(op, (node, b.full(start)), out.shape, out.dtype))


def single(b: Builder, eqn: Equation, node: Node, start: Value, facts: dict[str, Any]) -> Node:
    """Return one window: a slice at a computed place, with the fill where it is not inside."""
    cells = list(b.cells(start))
    zero = b.literal(0, start.dtype)
    starts = [zero] * len(node.shape)
    for axis, cell in zip(facts["start_map"], cells, strict=True):
        starts[axis] = cell
    piece = window(b, node, starts, facts["window"])
    out = eqn.outputs[0]
    if piece.note is not None and facts["collapsed"]:
        piece = b.pick(piece, set(facts["collapsed"]))
    elif piece.shape != out.shape:
        piece = b.reshape(piece, out.shape)
    if facts["fill"] is None:
        return piece
    inside: Node | None = None
    for axis, cell in zip(facts["start_map"], cells, strict=True):
        high = node.shape[axis] - facts["window"][axis]
        op = Op(f"0 <= {{0}} <= {high}", TEST, 4, word="inside", julia=Form(f"0 <= {{0}} <= {high}", TEST, 4))
        test = b.scalar(op, (cell,), np.bool_)
        op = Op("{0} and {1}", TEST, (4, 4), julia=Form("{0} && {1}", TEST, (4, 4)))
        inside = test if inside is None else b.scalar(op, (inside, test), np.bool_)
    if inside is None or inside.literal is True:
        return piece
    fill = b.literal(np.full(out.shape, facts["fill"], out.dtype), out.dtype)
    op = Op(CHOOSE.template, TEST, CHOOSE.needs, fresh=False, word="taken", julia=CHOOSE.julia)
    return b.node(op, (inside, piece, fill), out.shape, out.dtype)


def take(b: Builder, eqn: Equation, node: Node, start: Value, facts: dict[str, Any]) -> Node | None:
    """Return a take along one axis, or None where the gather is something else."""
    if facts["batch_map"] or len(facts["start_map"]) != 1 or facts["collapsed"] != facts["start_map"]:
        return None
    (axis,) = facts["start_map"]
    rank = len(start.shape) - 1
    out = eqn.outputs[0]
    layout = tuple(d for d in range(len(out.shape)) if not axis <= d < axis + rank)
    whole = all(size == n for d, (size, n) in enumerate(zip(facts["window"], node.shape, strict=True)) if d != axis)
    if facts["offset"] != layout or not whole:
        return None
    index = b.reshape(b.full(start), start.shape[:-1])
    if facts["fill"] is None:
        julia = Form(f"rt.take({{0}}, {{1}}, {forms.dimension(axis, len(node.shape))})")
        op = Op(f'{{0}}.take({{1}}, {axis}, mode="clip")', needs=(ATOM, 0), word="taken", julia=julia)
    else:
        source = f"rt.take_fill({{0}}, {{1}}, {axis}, {number(facts['fill'])})"
        op = Op(source, word="taken", julia=forms.taken(axis, len(node.shape), facts["fill"]))
    return b.node(op, (node, index), out.shape, out.dtype)


def cell_gather(b: Builder, eqn: Equation, x: Value, start: Value) -> list[Value]:
    """Gather cells at known places."""
    places = np.arange(1, x.size + 1).reshape(x.shape)
    known = start.literal()
    assert known is not None
    facts = gather_facts(eqn, x.dtype)
    fill = facts["fill"]
    found = runtime.gather(places, known, **{**facts, "fill": None if fill is None else 0})
    flat = [None if fill is None else b.literal(fill, x.dtype), *b.cells(x).flat]
    cells = np.empty(found.shape, object)
    for index, place in np.ndenumerate(found):
        cells[index] = flat[place]
    return moved(eqn, cells)


def cell_dynamic_slice(b: Builder, eqn: Equation, x: Value, *starts: Value) -> list[Value]:
    """Cut cells out at known starts."""
    known = [start.literal() for start in starts[: len(x.shape)]]
    return moved(
        eqn, runtime.dynamic_slice(b.cells(x), [int(k) for k in known if k is not None], eqn.params["slice_sizes"])
    )


def cell_dynamic_update(b: Builder, eqn: Equation, x: Value, piece: Value, *starts: Value) -> list[Value]:
    """Write cells at known starts."""
    known = [start.literal() for start in starts]
    return moved(eqn, runtime.update(b.cells(x), b.cells(piece), [int(k) for k in known if k is not None]))


HOW = {
    "scatter": "set",
    "scatter-add": "add",
    "scatter_add": "add",
    "scatter-sub": "subtract",
    "scatter_sub": "subtract",
    "scatter-mul": "multiply",
    "scatter_mul": "multiply",
    "scatter-min": "minimum",
    "scatter_min": "minimum",
    "scatter-max": "maximum",
    "scatter_max": "maximum",
}


def scatter_facts(eqn: Equation) -> dict[str, Any]:
    """Return the keywords of `runtime.scatter`."""
    numbers = eqn.params["dimension_numbers"]
    return {
        "how": HOW[eqn.name],
        "window": ints(numbers.update_window_dims),
        "inserted": ints(numbers.inserted_window_dims),
        "start_map": ints(numbers.scatter_dims_to_operand_dims),
        "batch_map": batch_map(numbers, "operand_batching_dims", "scatter_indices_batching_dims"),
        "clip": mode_of(eqn) in CLIPPING,
    }


def array_scatter(b: Builder, eqn: Equation, x: Value, start: Value, updates: Value) -> list[Value]:
    """Scatter into a copy."""
    out = eqn.outputs[0]
    facts = keywords(scatter_facts(eqn), {"batch_map": (), "clip": False})
    julia = forms.scattered(scatter_facts(eqn), x.shape, start.shape, updates.shape)
    op = Op(f"rt.scatter({{0}}, {{1}}, {{2}}, {facts})", word="scattered", julia=julia)
    return only(eqn, b.node(op, (b.full(x), b.full(start), b.full(updates)), out.shape, out.dtype))


def cell_scatter(b: Builder, eqn: Equation, x: Value, start: Value, updates: Value) -> list[Value]:
    """Scatter cells to known places (set and add), one update after the other."""
    known = start.literal()
    assert known is not None
    facts = {**scatter_facts(eqn), "how": "add"}
    flat = list(b.cells(x).flat)
    zeros = np.zeros(x.shape, np.int64)
    for index in np.ndindex(updates.shape):
        mark = np.zeros(updates.shape, np.int64)
        mark[index] = 1
        for place in np.flatnonzero(runtime.scatter(zeros, known, mark, **facts)):
            cell: Any = b.cells(updates)[index]
            flat[place] = cell if eqn.name == "scatter" else b.add(flat[place], cell)
    cells = np.empty(x.size, object)
    cells[:] = flat
    return moved(eqn, cells)


ARRAY_INDEXING = {
    "dynamic_slice": array_dynamic_slice,
    "dynamic_update_slice": array_dynamic_update,
    "gather": array_gather,
    **dict.fromkeys(HOW, array_scatter),
}
# On cells these need known places, after the first input (the array) and, in a scatter, before the last (the updates).
CELL_INDEXING = {
    "dynamic_slice": cell_dynamic_slice,
    "dynamic_update_slice": cell_dynamic_update,
    "gather": cell_gather,
    "scatter": cell_scatter,
    "scatter-add": cell_scatter,
    "scatter_add": cell_scatter,
}
PLACES = {
    "dynamic_slice": slice(1, None),
    "dynamic_update_slice": slice(2, None),
    "gather": slice(1, 2),
    "scatter": slice(1, 2),
    "scatter-add": slice(1, 2),
    "scatter_add": slice(1, 2),
}
