"""Elementwise primitives on whole arrays, which NumPy broadcasts by itself."""

from __future__ import annotations

import numpy as np

from crossbackend.lowering import julia_forms as forms
from crossbackend.lowering import paddings
from crossbackend.lowering.builder import DIVIDE, Builder, is_number
from crossbackend.lowering.flat import Equation
from crossbackend.lowering.maths_cells import (
    BITS,
    CHOOSE,
    COMPARISONS,
    FLOATS,
    IDENTITY,
    INTEGERS,
    LOGIC,
    ROUND,
    SHIFTS,
    one,
    power,
)
from crossbackend.lowering.nodes import ATOM, TEST, Form, Node, Op, Value, call

WHERE = call("np.where", 3, julia="ifelse~")


def array_elementwise(b: Builder, eqn: Equation, *values: Value) -> Value:
    """Apply an elementwise primitive to whole arrays."""
    nodes = [b.array(value) for value in values]
    out = eqn.outputs[0]
    node = whole(b, eqn, nodes, [value.dtype for value in values], out.dtype)
    return Value(out.shape, out.dtype, node)


def shape_of(nodes: list[Node]) -> tuple[int, ...]:
    """Return the shape that NumPy gives the result of an elementwise operation."""
    return np.broadcast_shapes(*(node.shape for node in nodes))


def whole(b: Builder, eqn: Equation, nodes: list[Node], kinds: list[np.dtype], dtype: np.dtype) -> Node:
    """Return the array expression of an elementwise primitive."""
    name = eqn.name
    shape = shape_of(nodes)
    if all(node.cell for node in nodes) and dtype != np.float32:
        return one(b, eqn, nodes, dtype)
    if name in IDENTITY:
        return nodes[0]
    if name == "convert_element_type":
        return convert_array(b, nodes[0], dtype)
    if name == "select_n":
        return select_array(b, nodes, dtype)
    if name in ("and", "or", "xor", "not"):
        return logic_array(b, name, nodes, kinds[0], dtype)
    if kinds[0].kind in "iu" and name in ("div", "rem"):
        return b.node(INTEGERS[name][0], nodes, shape, dtype)
    if name == "clamp":
        low = b.node(FLOATS["max"][0], (nodes[1], nodes[0]), shape_of(nodes[:2]), dtype)
        return b.node(FLOATS["min"][0], (low, nodes[2]), shape, dtype)
    if name in ("square", "integer_pow"):
        return power(b, nodes[0], 2 if name == "square" else eqn.params["y"], dtype)
    simple = neutral(name, nodes, shape)
    if simple is not None:
        return simple
    joined = paddings.add(b, nodes, shape, dtype) if name in ("add", "add_any") else None
    if joined is not None:
        return joined
    if name == "rsqrt":
        root = b.node(FLOATS["sqrt"][0], nodes, shape, dtype)
        return b.node(DIVIDE, (b.literal(1.0, dtype), root), shape, dtype)
    if name == "exp2":
        return b.node(call("np.exp2", julia="exp2~"), nodes, shape, dtype)
    if name == "round":
        return b.node(ROUND[int(eqn.params["rounding_method"])][0], nodes, shape, dtype)
    op = COMPARISONS.get(name) or SHIFTS.get(name) or FLOATS[name][0]
    return b.node(op, nodes, shape, dtype)


def neutral(name: str, nodes: list[Node], shape: tuple[int, ...]) -> Node | None:
    """Return the other operand where one is a literal that changes nothing (x + 0, x * 1, x / 1), else None."""
    if name not in ("add", "add_any", "sub", "mul", "div"):
        return None
    element = 0 if name in ("add", "add_any", "sub") else 1
    if is_number(nodes[1], element) and nodes[0].shape == shape:
        return nodes[0]
    if name in ("add", "add_any", "mul") and is_number(nodes[0], element) and nodes[1].shape == shape:
        return nodes[1]
    return None


def convert_array(b: Builder, node: Node, dtype: np.dtype) -> Node:
    """Return an array in another dtype; floats are truncated to integers."""
    if node.dtype == dtype:
        return node
    if dtype == np.bool_:
        return b.node(COMPARISONS["ne"], (node, b.literal(0, node.dtype)), node.shape, dtype)
    if node.dtype.kind == "f" and dtype.kind in "iu":
        op = Op(f"rt.to_int({{0}}, np.{dtype.name})", word="int", julia=forms.truncated(dtype))
        return b.node(op, (node,), node.shape, dtype)
    julia = Form(f"{forms.type_name(dtype)}~({{0}})")
    if node.cell:
        op = Op(f"np.{dtype.name}({{0}})", word=dtype.name, julia=julia)
    else:
        op = Op(f"{{0}}.astype(np.{dtype.name})", needs=ATOM, word=dtype.name, julia=julia)
    return b.node(op, (node,), node.shape, dtype)


def select_array(b: Builder, nodes: list[Node], dtype: np.dtype) -> Node:
    """Return `cases[which]` element by element; a bool chooses between the first (False) and the second."""
    which, *cases = nodes
    if len(cases) == 1:
        return cases[0]
    if which.dtype == np.bool_:
        if (
            which.literal is not None
            and which.shape == ()
            and cases[1 if which.literal else 0].shape == shape_of(cases)
        ):
            return cases[1 if which.literal else 0]
        same = cases[0].shape == cases[1].shape and cases[0].cell == cases[1].cell
        if which.shape == () and same and cases[0].literal is None and cases[1].literal is None:
            op = Op(CHOOSE.template, TEST, CHOOSE.needs, fresh=False, word="chosen", julia=CHOOSE.julia)
            return b.node(op, (which, cases[1], cases[0]), cases[0].shape, dtype, cell=cases[0].cell)
        return b.node(WHERE, (which, cases[1], cases[0]), shape_of(nodes), dtype)
    out = cases[-1]
    for i in reversed(range(len(cases) - 1)):
        test = b.node(COMPARISONS["le"], (which, b.literal(i, which.dtype)), which.shape, np.bool_, cell=which.cell)
        out = b.node(WHERE, (test, cases[i], out), shape_of([test, cases[i], out]), dtype)
    return out


def logic_array(b: Builder, name: str, nodes: list[Node], kind: np.dtype, dtype: np.dtype) -> Node:
    """Return and, or, xor, not: of truth values, or of the bits of integers."""
    shape = shape_of(nodes)
    if kind == np.bool_:
        return b.node(LOGIC[name][0], nodes, shape, dtype)
    return b.node(BITS[name], nodes, shape, dtype)
