"""Products, sums and what else combines elements along axes: dot_general, reductions, running sums, convolution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from crossbackend.lowering import julia_forms as forms
from crossbackend.lowering.builder import Builder
from crossbackend.lowering.flat import Equation
from crossbackend.lowering.maths_cells import LOGIC, extreme
from crossbackend.lowering.moves_arrays import only, transpose
from crossbackend.lowering.nodes import ATOM, PRODUCT, Form, Node, Op, Value, infix

MATMUL = Op("{0} @ {1}", PRODUCT, (PRODUCT, PRODUCT + 1), word="dot", julia=forms.product)
OUTER = infix("*", "outer", PRODUCT)


def dims_of(eqn: Equation) -> tuple[tuple[int, ...], ...]:
    """Return (left contracted, right contracted, left batch, right batch) axes of a dot_general."""
    (left, right), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    return tuple(tuple(int(d) for d in dims) for dims in (left, right, left_batch, right_batch))


def array_dot(b: Builder, eqn: Equation, x: Value, y: Value) -> list[Value]:
    """Contract two arrays: `a @ b` after the transposes it needs, which are views."""
    left, right, left_batch, right_batch = dims_of(eqn)
    out = eqn.outputs[0]
    m, n = b.full(x), b.full(y)
    left_free = tuple(d for d in range(len(x.shape)) if d not in left + left_batch)
    right_free = tuple(d for d in range(len(y.shape)) if d not in right + right_batch)
    if not left:
        return only(eqn, outer(b, eqn, m, n, left_batch, right_batch, left_free, right_free))
    if not (left_batch or left_free or right_free) and len(left) == 1:
        return only(eqn, b.node(MATMUL, (m, n), (), out.dtype))
    m = transpose(b, m, left_batch + left_free + left)
    n = transpose(b, n, right_batch + right + right_free)
    batch = tuple(x.shape[d] for d in left_batch)
    rows = tuple(x.shape[d] for d in left_free)
    columns = tuple(y.shape[d] for d in right_free)
    inner = math.prod(x.shape[d] for d in left)
    m_shape: tuple[int, ...] = (*batch, math.prod(rows), inner) if rows or batch else (inner,)
    n_shape: tuple[int, ...] = (*batch, inner, math.prod(columns)) if columns or batch else (inner,)
    m, n = b.reshape(m, m_shape), b.reshape(n, n_shape)
    shape = (*batch, *m_shape[len(batch) : -1], *n_shape[len(batch) + 1 :])
    return only(eqn, b.reshape(b.node(MATMUL, (m, n), shape, out.dtype), out.shape))


def outer(b: Builder, eqn: Equation, m: Node, n: Node, *dims: tuple[int, ...]) -> Node:
    """Return the product of every element with every other: one broadcast multiplication."""
    left_batch, right_batch, left_free, right_free = dims
    out = eqn.outputs[0]
    m = transpose(b, m, left_batch + left_free)
    n = transpose(b, n, right_batch + right_free)
    m = b.reshape(m, m.shape + (1,) * len(right_free))
    if left_free:
        lead = n.shape[: len(right_batch)]
        target = lead + (1,) * len(left_free) + n.shape[len(right_batch) :]
        n = b.reshape(n, target) if lead else n
    return b.node(OUTER, (m, n), out.shape, out.dtype)


def cell_dot(b: Builder, eqn: Equation, x: Value, y: Value) -> list[Value]:
    """Contract cells: a sum of products per element."""
    left, right, left_batch, right_batch = dims_of(eqn)
    out = eqn.outputs[0]
    left_free = tuple(d for d in range(len(x.shape)) if d not in left + left_batch)
    right_free = tuple(d for d in range(len(y.shape)) if d not in right + right_batch)
    batch = math.prod(x.shape[d] for d in left_batch)
    inner = math.prod(x.shape[d] for d in left)
    m = b.cells(x).transpose(left_batch + left_free + left).reshape(batch, -1, inner)
    n = b.cells(y).transpose(right_batch + right_free + right).reshape(batch, -1, inner)
    cells = np.empty((batch, m.shape[1], n.shape[1]), object)
    for k, i, j in np.ndindex(cells.shape):
        total = b.multiply(m[k, i, 0], n[k, j, 0])
        for at in range(1, inner):
            total = b.add(total, b.multiply(m[k, i, at], n[k, j, at]))
        cells[k, i, j] = total
    return [Value(out.shape, out.dtype, cells=cells.reshape(out.shape))]


# --- reductions ---

EMPTY = {"reduce_max": -math.inf, "reduce_min": math.inf}
# name -> (NumPy's method, Julia's function)
METHODS = {
    "reduce_sum": ("sum", "sum"),
    "reduce_prod": ("prod", "prod"),
    "reduce_max": ("max", "maximum"),
    "reduce_min": ("min", "minimum"),
    "reduce_and": ("all", "all"),
    "reduce_or": ("any", "any"),
}


def array_reduce(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Combine the elements along axes."""
    axes = tuple(int(a) for a in eqn.params["axes"])
    out = eqn.outputs[0]
    if not axes:
        return only(eqn, b.array(x))
    node = b.full(x)
    if all(x.shape[axis] == 1 for axis in axes) and x.shape != ():
        return only(eqn, b.reshape(node, out.shape))
    if not x.size and eqn.name in EMPTY:
        return only(eqn, b.literal(np.full(out.shape, EMPTY[eqn.name]), out.dtype))
    inside = "" if len(axes) == len(x.shape) else (str(axes[0]) if len(axes) == 1 else str(axes))
    if eqn.name in ("reduce_sum", "reduce_prod") and out.dtype in (np.int32, np.uint32):
        inside += ("" if not inside else ", ") + f"dtype=np.{out.dtype.name}"
    method, julia = METHODS[eqn.name]
    op = Op(f"{{0}}.{method}({inside})", needs=ATOM, word=method, julia=forms.reduced(julia, axes, x.shape, out.shape))
    return only(eqn, b.node(op, (node,), out.shape, out.dtype))


def cell_reduce(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Combine cells one after the other."""
    axes = tuple(int(a) for a in eqn.params["axes"])
    out = eqn.outputs[0]
    kept = tuple(d for d in range(len(x.shape)) if d not in axes)
    rows = b.cells(x).transpose(kept + axes).reshape(math.prod(out.shape), -1)
    combine = {
        "reduce_sum": b.add,
        "reduce_prod": b.multiply,
        "reduce_max": lambda p, q: extreme(b, "max", p, q, out.dtype),
        "reduce_min": lambda p, q: extreme(b, "min", p, q, out.dtype),
        "reduce_and": lambda p, q: b.scalar(LOGIC["and"][1], (p, q), out.dtype),
        "reduce_or": lambda p, q: b.scalar(LOGIC["or"][1], (p, q), out.dtype),
    }[eqn.name]
    cells = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        total = row[0]
        for cell in row[1:]:
            total = combine(total, cell)
        cells[i] = total
    return [Value(out.shape, out.dtype, cells=cells.reshape(out.shape))]


def array_argument(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Return the index of the largest or smallest element along an axis; the first nan counts as such."""
    (axis,) = eqn.params["axes"]
    out = eqn.outputs[0]
    tail = "" if out.dtype == np.int64 else f".astype(np.{out.dtype.name})"
    julia = forms.reduced(f"rt.{eqn.name}", (int(axis),), x.shape, out.shape)
    op = Op(f"{{0}}.{eqn.name}({int(axis)}){tail}", needs=ATOM, word="index", julia=julia)
    return only(eqn, b.node(op, (b.full(x),), out.shape, out.dtype))


# name -> (NumPy's ufunc, its method where there is one, Julia's function)
RUNNING = {
    "cumsum": ("add", "cumsum", "+"),
    "cumprod": ("multiply", "cumprod", "*"),
    "cummax": ("maximum", "", "max"),
    "cummin": ("minimum", "", "min"),
    "cumlogsumexp": ("logaddexp", "", "rt.logaddexp"),
}


def array_running(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Combine along an axis and keep what was reached at every element."""
    ufunc, method, combine = RUNNING[eqn.name]
    axis, reverse = int(eqn.params["axis"]), bool(eqn.params["reverse"])
    node = b.full(x)
    dim = forms.dimension(axis, len(x.shape))
    julia = Form(f"rt.accumulate({combine}, {{0}}, {dim}; reverse = {str(reverse).lower()})")
    if method and not reverse and x.dtype in (np.float64, np.int64):
        op = Op(f"{{0}}.{method}({axis})", needs=ATOM, word=eqn.name, julia=julia)
    else:
        op = Op(f'rt.accumulate("{ufunc}", {{0}}, {axis}, reverse={reverse})', word=eqn.name, julia=julia)
    return only(eqn, b.node(op, (node,), node.shape, node.dtype))


def cell_running(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Combine cells along an axis and keep every step (cumsum and cumprod)."""
    axis, reverse = int(eqn.params["axis"]), bool(eqn.params["reverse"])
    combine = b.add if eqn.name == "cumsum" else b.multiply
    source = np.moveaxis(b.cells(x), axis, 0)
    out = np.empty(source.shape, object)
    order = range(len(source))
    last = None
    for i in reversed(order) if reverse else order:
        for index in np.ndindex(source.shape[1:]):
            out[(i, *index)] = (
                source[(i, *index)] if last is None else combine(out[(last, *index)], source[(i, *index)])
            )
        last = i
    return [Value(x.shape, x.dtype, cells=np.moveaxis(out, 0, axis))]


def array_conv(b: Builder, eqn: Equation, x: Value, kernel: Value) -> list[Value]:
    """Convolve: to (n, c, *space) by views, then one runtime call."""
    p = eqn.params
    numbers = p["dimension_numbers"]
    out = eqn.outputs[0]
    image = transpose(b, b.full(x), tuple(int(d) for d in numbers.lhs_spec))
    window = transpose(b, b.full(kernel), tuple(int(d) for d in numbers.rhs_spec))
    back: list[int] = [0] * len(out.shape)
    for here, there in enumerate(numbers.out_spec):
        back[int(there)] = here
    facts: dict[str, Any] = {
        "strides": tuple(int(s) for s in p["window_strides"]),
        "padding": tuple((int(low), int(high)) for low, high in p["padding"]),
        "x_dilation": tuple(int(s) for s in p["lhs_dilation"]),
        "kernel_dilation": tuple(int(s) for s in p["rhs_dilation"]),
        "groups": int(p["feature_group_count"]),
        "batch_groups": int(p["batch_group_count"]),
    }
    plain = {"groups": 1, "batch_groups": 1}
    keywords = ", ".join(f"{key}={value}" for key, value in facts.items() if plain.get(key) != value)
    shape = tuple(out.shape[int(d)] for d in numbers.out_spec)
    op = Op(f"rt.conv({{0}}, {{1}}, {keywords})", word="conv", julia=forms.convolved(facts))
    node = b.node(op, (image, window), shape, out.dtype)
    return only(eqn, transpose(b, node, tuple(back)))


ARRAY_CONTRACTION = {
    "dot_general": array_dot,
    **dict.fromkeys(METHODS, array_reduce),
    "argmax": array_argument,
    "argmin": array_argument,
    **dict.fromkeys(RUNNING, array_running),
    "conv_general_dilated": array_conv,
}
CELL_CONTRACTION = {
    "dot_general": cell_dot,
    **dict.fromkeys(METHODS, cell_reduce),
    "cumsum": cell_running,
    "cumprod": cell_running,
}
