"""Primitives that move elements about, on arrays: views where NumPy has one, nothing where broadcasting does it."""

from __future__ import annotations

import math

import numpy as np

from crossbackend.lowering import julia_forms as forms
from crossbackend.lowering import paddings
from crossbackend.lowering.builder import Builder
from crossbackend.lowering.flat import Equation
from crossbackend.lowering.moves_cells import slices, spaced
from crossbackend.lowering.nodes import ATOM, Cut, Form, Node, Op, Value, index_source


def only(eqn: Equation, node: Node) -> list[Value]:
    """Return a node as the equation's only output."""
    return [Value(eqn.outputs[0].shape, eqn.outputs[0].dtype, node)]


def view(template: str, word: str, julia: Form) -> Op:
    """Return the operation of a view of its argument."""
    return Op(template, needs=ATOM, fresh=False, word=word, julia=julia)


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
        return only(eqn, b.pick(node, {int(d) % len(x.shape) for d in eqn.params["dimensions"]}))
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
        return b.node(view("{0}.T", "turned", forms.turned(order)), (node,), shape, node.dtype)
    op = view(f"{{0}}.transpose({', '.join(map(str, order))})", "turned", forms.turned(order))
    return b.node(op, (node,), shape, node.dtype)


def array_concatenate(b: Builder, eqn: Equation, *xs: Value) -> list[Value]:
    """Join arrays along an axis."""
    out = eqn.outputs[0]
    nodes = [b.full(x) for x in xs if x.size]
    if not nodes:
        return only(eqn, b.literal(np.zeros(out.shape), out.dtype))
    if len(nodes) == 1:
        return only(eqn, nodes[0])
    return only(eqn, paddings.join(b, nodes, eqn.params["dimension"], out.shape, out.dtype))


def array_stack(b: Builder, eqn: Equation, *xs: Value) -> list[Value]:
    """Join arrays along a new axis."""
    out = eqn.outputs[0]
    if xs[0].shape == () and all(b.array(x).cell for x in xs):
        return only(eqn, b.pack(np.array([b.array(x) for x in xs], object), out.dtype))
    nodes = [b.full(x) for x in xs]
    if xs[0].shape and len(nodes) > 1:  # np.stack takes three times as long as reshaping and joining
        axis = int(eqn.params["axis"])
        ones = [b.reshape(node, (*node.shape[:axis], 1, *node.shape[axis:])) for node in nodes]
        return only(eqn, paddings.join(b, ones, axis, out.shape, out.dtype))
    places = ", ".join(f"{{{i}}}" for i in range(len(nodes)))
    comma = "," if len(nodes) == 1 else ""
    axis = f", {eqn.params['axis']}" if eqn.params["axis"] else ""
    julia = forms.stacked(len(nodes), eqn.params["axis"], out.shape, out.dtype)
    op = Op(f"np.stack(({places}{comma}){axis})", word="stacked", julia=julia)
    return only(eqn, b.node(op, nodes, out.shape, out.dtype))


def array_pad(b: Builder, eqn: Equation, x: Value, fill: Value) -> list[Value]:
    """Pad an array."""
    widths = tuple(tuple(int(n) for n in triple) for triple in eqn.params["padding_config"])
    if all(triple == (0, 0, 0) for triple in widths):
        return only(eqn, b.array(x))
    out = eqn.outputs[0]
    if all(low <= 0 and high <= 0 and inside == 0 for low, high, inside in widths):
        parts = (slice(-low, n + high, 1) for n, (low, high, _) in zip(x.shape, widths, strict=True))
        return only(eqn, cut(b, b.full(x), tuple(parts)))
    return only(eqn, paddings.pad(b, b.full(x), b.array(fill), widths, out.shape))


def written(part: slice, size: int) -> str:
    """Return a slice as source."""
    start = "" if part.start == 0 else str(part.start)
    stop = "" if part.stop >= size and part.step == 1 else str(part.stop)
    return f"{start}:{stop}" + (f":{part.step}" if part.step != 1 else "")


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
    julia = [forms.span(p, n) for p, n in zip(parts, node.shape, strict=True)]
    note = [Cut(str(p.start), text, str(p.start + 1), j) for p, text, j in zip(parts, source, julia, strict=True)]
    op = view(f"{{0}}{index_source(source)}", "part", forms.index(julia))
    return b.node(op, (node,), shape, node.dtype, note=note)


def array_rev(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Turn axes round."""
    node = b.array(x)
    if node.shape == ():
        return only(eqn, node)
    node = b.full(x)
    parts = ["::-1" if axis in eqn.params["dimensions"] else ":" for axis in range(len(x.shape))]
    julia = forms.index(["end:-1:1" if part == "::-1" else part for part in parts])
    op = view(f"{{0}}{index_source(parts)}", "reversed", julia)
    return only(eqn, b.node(op, (node,), node.shape, node.dtype))


def array_tile(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Repeat an array along every axis."""
    out, reps = eqn.outputs[0], tuple(int(n) for n in eqn.params["reps"])
    if b.array(x).shape == ():
        return only(eqn, b.array(x))
    op = Op(f"np.tile({{0}}, {reps})", word="tiled", julia=Form(f"rt.tile({{0}}, {forms.sizes(reps)})"))
    return only(eqn, b.node(op, (b.full(x),), out.shape, out.dtype))


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
        julia = forms.index([str(i + 1) if at == axis else ":" for at in range(len(x.shape))])
        new = b.node(view(f"{{0}}{index_source(parts)}", "part", julia), (node,), var.shape, var.dtype)
        out.append(Value(var.shape, var.dtype, new))
    return out


def array_empty(b: Builder, eqn: Equation) -> list[Value]:
    """Return what nobody reads (JAX fills the branch that was not taken with it): zeros."""
    out = eqn.outputs[0]
    return [b.constant(np.zeros(out.shape, out.dtype))]


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
