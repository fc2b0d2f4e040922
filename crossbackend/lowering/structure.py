"""Primitives that move elements about: on cells they cost nothing, on arrays they are views where NumPy has one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from crossbackend.lowering import runtime
from crossbackend.lowering.builder import Builder
from crossbackend.lowering.flat import Equation
from crossbackend.lowering.nodes import ATOM, Node, Op, Value

# --- on cells: the same movement of an object array ---


def moved(eqn: Equation, cells: np.ndarray) -> list[Value]:
    """Return cells as the equation's only output."""
    return [Value(out.shape, out.dtype, cells=cells.reshape(out.shape)) for out in eqn.outputs]


def cell_broadcast(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Broadcast cells."""
    shape, dims = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    return moved(eqn, np.broadcast_to(b.cells(x).reshape(spaced(x.shape, shape, dims)), shape))


def spaced(old: tuple[int, ...], new: tuple[int, ...], dims: Any) -> tuple[int, ...]:
    """Return the shape with ones where a broadcast adds axes."""
    out = [1] * len(new)
    for size, axis in zip(old, dims, strict=True):
        out[int(axis)] = size
    return tuple(out)


def cell_reshape(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Reshape (after a permutation, where there is one), squeeze or expand cells."""
    order = eqn.params.get("dimensions") if eqn.name == "reshape" else None
    return moved(eqn, b.cells(x).transpose(order) if order is not None else b.cells(x))


def cell_transpose(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Permute the axes of cells."""
    return moved(eqn, b.cells(x).transpose(eqn.params["permutation"]))


def cell_concatenate(b: Builder, eqn: Equation, *xs: Value) -> list[Value]:
    """Join cells along an axis."""
    return moved(eqn, np.concatenate([b.cells(x) for x in xs], eqn.params["dimension"]))


def cell_stack(b: Builder, eqn: Equation, *xs: Value) -> list[Value]:
    """Join cells along a new axis."""
    return moved(eqn, np.stack([b.cells(x) for x in xs], eqn.params["axis"]))


def cell_pad(b: Builder, eqn: Equation, x: Value, fill: Value) -> list[Value]:
    """Pad cells."""
    widths = [tuple(int(n) for n in triple) for triple in eqn.params["padding_config"]]
    return moved(eqn, padded(b.cells(x), b.cells(fill)[()], widths))


def padded(x: np.ndarray, fill: Any, widths: Any) -> np.ndarray:
    """Pad an object array."""
    places = runtime.pad(np.arange(1, x.size + 1).reshape(x.shape), 0, widths)
    flat = [fill, *x.flat]
    out = np.empty(places.shape, object)
    for index, place in np.ndenumerate(places):
        out[index] = flat[place]
    return out


def slices(eqn: Equation) -> tuple[slice, ...]:
    """Return the slices of a `slice` equation."""
    starts, limits = eqn.params["start_indices"], eqn.params["limit_indices"]
    strides = eqn.params["strides"] or (1,) * len(starts)
    return tuple(slice(int(a), int(z), int(s)) for a, z, s in zip(starts, limits, strides, strict=True))


def cell_slice(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Cut a piece out of cells."""
    return moved(eqn, b.cells(x)[slices(eqn)])


def cell_rev(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Turn axes of cells round."""
    return moved(eqn, np.flip(b.cells(x), eqn.params["dimensions"]))


def cell_tile(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Repeat cells along every axis."""
    return moved(eqn, np.tile(b.cells(x), eqn.params["reps"]))


def cell_iota(b: Builder, eqn: Equation) -> list[Value]:
    """Count along an axis."""
    out = eqn.outputs[0]
    cells = np.empty(out.shape, object)
    for index in np.ndindex(out.shape):
        cells[index] = b.literal(index[eqn.params["dimension"]], out.dtype)
    return moved(eqn, cells)


def cell_split(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Cut cells into pieces along an axis."""
    cuts = np.cumsum(eqn.params["sizes"])[:-1]
    pieces = np.split(b.cells(x), cuts, eqn.params["axis"])
    return [Value(out.shape, out.dtype, cells=piece) for out, piece in zip(eqn.outputs, pieces, strict=True)]


def cell_unstack(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Cut cells into slices along an axis."""
    rows = np.moveaxis(b.cells(x), eqn.params["axis"], 0)
    out = []
    for var, row in zip(eqn.outputs, rows, strict=True):
        cells = np.empty(var.shape, object)
        cells[...] = row
        out.append(Value(var.shape, var.dtype, cells=cells))
    return out


# --- on arrays ---


def only(eqn: Equation, node: Node) -> list[Value]:
    """Return a node as the equation's only output."""
    return [Value(eqn.outputs[0].shape, eqn.outputs[0].dtype, node)]


def view(template: str, word: str) -> Op:
    """Return the operation of a view of its argument."""
    return Op(template, needs=ATOM, fresh=False, word=word)


def without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without its leading ones, which NumPy's broadcasting adds by itself."""
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape


def array_broadcast(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Broadcast: only inner axes are written, NumPy adds the outer ones."""
    shape, dims = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    node = b.array(x)
    if node.shape == ():
        return only(eqn, node)
    lead = (1,) * (len(x.shape) - len(node.shape)) + node.shape
    target = without_ones(spaced(lead, shape, dims))
    if without_ones(node.shape) == target:
        return only(eqn, node if len(node.shape) <= len(shape) else b.reshape(node, target))
    return only(eqn, b.reshape(node, target))


def array_reshape(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Reshape or squeeze; where only leading ones change, NumPy's broadcasting does it."""
    shape = eqn.outputs[0].shape
    order = eqn.params.get("dimensions") if eqn.name == "reshape" else None
    if order is not None and b.array(x).shape != ():
        x = Value(tuple(x.shape[int(d)] for d in order), x.dtype, transpose(b, b.full(x), tuple(int(d) for d in order)))
    node = b.array(x)
    if math.prod(node.shape) == 1 and x.size > 1 and node.cell:
        return only(eqn, node)
    exact = math.prod(node.shape) == x.size
    if exact and without_ones(node.shape) == without_ones(shape) and len(node.shape) <= len(shape):
        return only(eqn, node)
    if eqn.name == "squeeze" and node.note is not None and node.shape == x.shape:
        return only(eqn, pick(b, node, {int(d) % len(x.shape) for d in eqn.params["dimensions"]}))
    return only(eqn, b.reshape(b.full(x) if not node.cell else packed(b, node), shape))


def packed(b: Builder, node: Node) -> Node:
    """Return a Python scalar as an array of one element."""
    cells = np.empty((1,), object)
    cells[0] = node
    return b.pack(cells, node.dtype)


def array_transpose(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Permute axes."""
    if b.array(x).shape == ():
        return only(eqn, b.array(x))
    return only(eqn, transpose(b, b.full(x), tuple(int(p) for p in eqn.params["permutation"])))


def transpose(b: Builder, node: Node, order: tuple[int, ...]) -> Node:
    """Return a node's array with its axes permuted."""
    if order == tuple(range(len(order))):
        return node
    shape = tuple(node.shape[p] for p in order)
    if order == tuple(reversed(range(len(order)))):
        if node.op.template == "{0}.T":
            return node.args[0]
        return b.node(view("{0}.T", "turned"), (node,), shape, node.dtype)
    return b.node(view(f"{{0}}.transpose({', '.join(map(str, order))})", "turned"), (node,), shape, node.dtype)


def array_concatenate(b: Builder, eqn: Equation, *xs: Value) -> list[Value]:
    """Join arrays along an axis."""
    out = eqn.outputs[0]
    nodes = [b.full(x) for x in xs if x.size]
    if not nodes:
        return only(eqn, b.literal(np.zeros(out.shape), out.dtype))
    if len(nodes) == 1:
        return only(eqn, nodes[0])
    places = ", ".join(f"{{{i}}}" for i in range(len(nodes)))
    axis = f", {eqn.params['dimension']}" if eqn.params["dimension"] else ""
    return only(eqn, b.node(Op(f"np.concatenate(({places}){axis})", word="joined"), nodes, out.shape, out.dtype))


def array_stack(b: Builder, eqn: Equation, *xs: Value) -> list[Value]:
    """Join arrays along a new axis."""
    out = eqn.outputs[0]
    if xs[0].shape == () and all(b.array(x).cell for x in xs):
        return only(eqn, b.pack(np.array([b.array(x) for x in xs], object), out.dtype))
    nodes = [b.full(x) for x in xs]
    places = ", ".join(f"{{{i}}}" for i in range(len(nodes)))
    comma = "," if len(nodes) == 1 else ""
    axis = f", {eqn.params['axis']}" if eqn.params["axis"] else ""
    return only(eqn, b.node(Op(f"np.stack(({places}{comma}){axis})", word="stacked"), nodes, out.shape, out.dtype))


def array_pad(b: Builder, eqn: Equation, x: Value, fill: Value) -> list[Value]:
    """Pad an array."""
    widths = tuple(tuple(int(n) for n in triple) for triple in eqn.params["padding_config"])
    if all(triple == (0, 0, 0) for triple in widths):
        return only(eqn, b.array(x))
    out = eqn.outputs[0]
    op = Op(f"rt.pad({{0}}, {{1}}, {widths})", word="padded")
    return only(eqn, b.node(op, (b.full(x), b.array(fill)), out.shape, out.dtype))


def written(part: slice, size: int) -> str:
    """Return a slice as source."""
    start = "" if part.start == 0 else str(part.start)
    stop = "" if part.stop >= size and part.step == 1 else str(part.stop)
    return f"{start}:{stop}" + (f":{part.step}" if part.step != 1 else "")


def index_source(parts: list[str]) -> str:
    """Return `[a, b]` without trailing full slices."""
    while parts and parts[-1] == ":":
        parts = parts[:-1]
    return f"[{', '.join(parts)}]"


def array_slice(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Cut a piece out of an array."""
    if b.array(x).shape == ():
        return only(eqn, b.array(x))
    return only(eqn, cut(b, b.full(x), slices(eqn)))


def cut(b: Builder, node: Node, parts: tuple[slice, ...]) -> Node:
    """Return `node[parts]`; a later squeeze finds in its note where it came from."""
    if all(p.start == 0 and p.stop >= n and p.step == 1 for p, n in zip(parts, node.shape, strict=True)):
        return node
    shape = tuple(len(range(p.start, p.stop, p.step)) for p in parts)
    source = [written(p, n) for p, n in zip(parts, node.shape, strict=True)]
    note = [(str(p.start), text, ()) for p, text in zip(parts, source, strict=True)]
    return b.node(view(f"{{0}}{index_source(source)}", "part"), (node,), shape, node.dtype, note=note)


def pick(b: Builder, node: Node, axes: set[int]) -> Node:
    """Return what a slice gave without the given axes of size 1: `x[3:4]` becomes `x[3]`."""
    source = [first if axis in axes else part for axis, (first, part, _) in enumerate(node.note)]
    shape = tuple(n for axis, n in enumerate(node.shape) if axis not in axes)
    return b.node(view(f"{{0}}{index_source(source)}", "part"), node.args, shape, node.dtype)


def array_rev(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Turn axes round."""
    node = b.array(x)
    if node.shape == ():
        return only(eqn, node)
    node = b.full(x)
    parts = ["::-1" if axis in eqn.params["dimensions"] else ":" for axis in range(len(x.shape))]
    return only(eqn, b.node(view(f"{{0}}{index_source(parts)}", "reversed"), (node,), node.shape, node.dtype))


def array_tile(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Repeat an array along every axis."""
    out, reps = eqn.outputs[0], tuple(int(n) for n in eqn.params["reps"])
    if b.array(x).shape == ():
        return only(eqn, b.array(x))
    return only(eqn, b.node(Op(f"np.tile({{0}}, {reps})", word="tiled"), (b.full(x),), out.shape, out.dtype))


def array_iota(b: Builder, eqn: Equation) -> list[Value]:
    """Count along an axis; NumPy's broadcasting does the others."""
    out = eqn.outputs[0]
    axis = eqn.params["dimension"]
    node = b.literal(np.arange(out.shape[axis]), out.dtype)
    return only(eqn, b.reshape(node, (out.shape[axis],) + (1,) * (len(out.shape) - axis - 1)))


def array_split(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Cut an array into pieces along an axis."""
    node, axis, start, out = b.full(x), eqn.params["axis"], 0, []
    for var, size in zip(eqn.outputs, eqn.params["sizes"], strict=True):
        parts = [slice(0, n, 1) for n in x.shape]
        parts[axis] = slice(start, start + int(size), 1)
        out.append(Value(var.shape, var.dtype, cut(b, node, tuple(parts))))
        start += int(size)
    return out


def array_unstack(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Cut an array into slices along an axis."""
    node, axis = b.full(x), eqn.params["axis"]
    out = []
    for i, var in enumerate(eqn.outputs):
        parts = [str(i) if at == axis else ":" for at in range(len(x.shape))]
        new = b.node(view(f"{{0}}{index_source(parts)}", "part"), (node,), var.shape, var.dtype)
        out.append(Value(var.shape, var.dtype, new))
    return out


def array_empty(b: Builder, eqn: Equation) -> list[Value]:
    """Return what nobody reads (JAX fills the branch that was not taken with it): zeros."""
    out = eqn.outputs[0]
    return [b.constant(np.zeros(out.shape, out.dtype))]


CELL_STRUCTURE = {
    "broadcast_in_dim": cell_broadcast,
    "reshape": cell_reshape,
    "squeeze": cell_reshape,
    "expand_dims": cell_reshape,
    "transpose": cell_transpose,
    "concatenate": cell_concatenate,
    "stack": cell_stack,
    "pad": cell_pad,
    "slice": cell_slice,
    "rev": cell_rev,
    "tile": cell_tile,
    "iota": cell_iota,
    "split": cell_split,
    "unstack": cell_unstack,
}
ARRAY_STRUCTURE = {
    "broadcast_in_dim": array_broadcast,
    "reshape": array_reshape,
    "squeeze": array_reshape,
    "expand_dims": array_reshape,
    "transpose": array_transpose,
    "concatenate": array_concatenate,
    "stack": array_stack,
    "pad": array_pad,
    "slice": array_slice,
    "rev": array_rev,
    "tile": array_tile,
    "iota": array_iota,
    "split": array_split,
    "unstack": array_unstack,
    "empty": array_empty,
    "empty2": array_empty,
}
