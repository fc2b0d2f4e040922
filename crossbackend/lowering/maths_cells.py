"""Elementwise primitives: one table row each, how NumPy writes it and how a Python float does; the rule on cells."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossbackend.lowering.builder import ADD, AS_BOOL, AS_FLOAT, DIVIDE, MULTIPLY, NEGATE, SUBTRACT, Builder
from crossbackend.lowering.flat import Equation
from crossbackend.lowering.nodes import ATOM, COMPARE, TEST, Node, Op, Value, call, infix

NOT_CELL = Op("not {0}", 2, 3, word="no")
AND_CELL = Op("{0} and {1}", 2, (3, 3), word="both")
OR_CELL = Op("{0} or {1}", 1, (3, 3), word="either")
XOR_CELL = infix("!=", "differs", COMPARE)
CHOOSE = Op("{1} if {0} else {2}", TEST, (2, 2, 2), word="chosen")
BITS = {
    "and": Op("{0} & {1}", 4, (ATOM, ATOM)),
    "or": Op("{0} | {1}", 4, (ATOM, ATOM)),
    "xor": Op("{0} ^ {1}", 4, (ATOM, ATOM)),
}
COMPARISONS = {
    "eq": infix("==", "equal", COMPARE),
    "ne": infix("!=", "differs", COMPARE),
    "lt": infix("<", "less", COMPARE),
    "le": infix("<=", "at_most", COMPARE),
    "gt": infix(">", "more", COMPARE),
    "ge": infix(">=", "at_least", COMPARE),
}
SHIFTS = {
    "shift_left": infix("<<", "shifted", 4),
    "shift_right_arithmetic": infix(">>", "shifted", 4),
}

# name -> (on arrays, on Python floats); raises: where a Python float raises for what NumPy answers with inf or nan
FLOATS: dict[str, tuple[Op, Op]] = {
    "add": (ADD, ADD),
    "add_any": (ADD, ADD),
    "sub": (SUBTRACT, SUBTRACT),
    "mul": (MULTIPLY, MULTIPLY),
    "div": (DIVIDE, DIVIDE),
    "neg": (NEGATE, NEGATE),
    "max": (call("np.maximum", 2), call("maximum", 2)),
    "min": (call("np.minimum", 2), call("minimum", 2)),
    "pow": (call("np.power", 2), call("power", 2, raises=True)),
    "rem": (call("np.fmod", 2), call("fmod", 2, raises=True)),
    "atan2": (call("np.arctan2", 2), call("atan2", 2)),
    "nextafter": (call("np.nextafter", 2), call("nextafter", 2)),
    "lt_to": (call("rt.lt_to", 2), call("lt_to", 2)),
    "le_to": (call("rt.le_to", 2), call("le_to", 2)),
    "abs": (call("np.abs"), call("abs")),
    "sign": (call("np.sign"), call("sign")),
    "floor": (call("np.floor"), call("floor", raises=True)),
    "ceil": (call("np.ceil"), call("ceil", raises=True)),
    "is_finite": (call("np.isfinite"), call("is_finite")),
    "logistic": (call("rt.logistic"), call("logistic")),
    "sqrt": (call("np.sqrt"), call("sqrt", raises=True)),
    "cbrt": (call("np.cbrt"), call("cbrt")),
    "erf": (call("special.erf"), call("erf")),
    "erfc": (call("special.erfc"), call("erfc")),
    "erf_inv": (call("special.erfinv"), call("erf_inv")),
    "lgamma": (call("special.gammaln"), call("lgamma", raises=True)),
    "digamma": (call("special.digamma"), call("digamma")),
}
ARRAY_NAMES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}
ARRAY_NAMES |= {"asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh"}
for _name in "exp expm1 log log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh".split():
    _raises = _name not in ("tanh", "asinh", "atan")
    FLOATS[_name] = (call(f"np.{ARRAY_NAMES.get(_name, _name)}", word=_name), call(_name, raises=_raises))

ROUND = {0: ("rt.round_away", "round_away"), 1: ("np.rint", "round_even")}

UNARY_BOTH = {"square", "integer_pow", "rsqrt", "exp2", "clamp", "select_n", "not", "and", "or", "xor", "round"}
IDENTITY = {"copy", "copy_p", "stop_gradient", "reduce_precision", "optimization_barrier", "pvary", "real"}
ELEMENTWISE = {*FLOATS, *COMPARISONS, *SHIFTS, *UNARY_BOTH, *IDENTITY, "convert_element_type", "population_count"}
ELEMENTWISE -= {"population_count", "optimization_barrier"}


def cell_elementwise(b: Builder, eqn: Equation, *values: Value) -> Value:
    """Apply an elementwise primitive to every element."""
    out = eqn.outputs[0]
    grids: list[Any] = [np.broadcast_to(b.cells(value), out.shape) for value in values]
    cells = np.empty(out.shape, object)
    for index in np.ndindex(out.shape):
        cells[index] = one(b, eqn, [grid[index] for grid in grids], out.dtype)
    return Value(out.shape, out.dtype, cells=cells)


def power(b: Builder, node: Node, exponent: int, dtype: np.dtype) -> Node:
    """Return an integer power by repeated squaring."""
    if exponent < 0:
        below = power(b, node, -exponent, dtype)
        if node.cell:
            return b.divide(b.literal(1.0, dtype), below)
        return b.node(DIVIDE, (b.literal(1.0, dtype), below), node.shape, dtype)
    if exponent == 0:
        return b.literal(np.ones(node.shape), dtype) if node.shape else b.literal(1, dtype)
    result, square = None, node
    while True:
        if exponent & 1:
            result = square if result is None else b.node(MULTIPLY, (result, square), node.shape, dtype, cell=node.cell)
        exponent >>= 1
        if not exponent:
            assert result is not None
            return result
        square = b.node(MULTIPLY, (square, square), node.shape, dtype, cell=node.cell)


def one(b: Builder, eqn: Equation, cells: list[Node], dtype: np.dtype) -> Node:
    """Return the expression of an elementwise primitive of Python scalars."""
    name = eqn.name
    special = SPECIAL.get(name)
    if special is not None:
        return special(b, eqn, cells, dtype)
    integers = cells[0].dtype.kind in "iu"
    if integers and name in ("div", "rem"):
        op = call("divide_int" if name == "div" else "remainder_int", 2, raises=True)
        return b.scalar(op, cells, dtype)
    if integers and name == "sign":
        return b.scalar(call("sign_int"), cells, dtype)
    if name in ("lt_to", "le_to") and cells[0].dtype.kind != "f":
        return b.scalar(COMPARISONS[name[:2]], cells, dtype)
    if name in ("max", "min"):
        return extreme(b, name, cells[0], cells[1], dtype)
    op = COMPARISONS.get(name) or SHIFTS.get(name) or FLOATS[name][1]
    return b.scalar(op, cells, dtype)


def extreme(b: Builder, name: str, x: Node, y: Node, dtype: np.dtype) -> Node:
    """Return max or min of two scalars; nan wins. A literal bound is written as a comparison."""
    if y.literal is None and x.literal is not None:
        x, y = y, x
    if y.literal is not None and y.literal == y.literal and x.literal is None:
        beyond = b.scalar(COMPARISONS["le" if name == "max" else "ge"], (x, y), np.bool_)
        return b.scalar(CHOOSE, (beyond, y, x), dtype)
    return b.scalar(FLOATS[name][1], (x, y), dtype)


def convert_cell(b: Builder, _eqn: Equation, cells: list[Node], dtype: np.dtype) -> Node:
    """Return a scalar in another dtype."""
    (cell,) = cells
    if cell.dtype == dtype or (cell.dtype.kind in "iu" and dtype.kind in "iu"):
        return cell if cell.literal is None else b.literal(cell.literal, dtype)
    if dtype.kind == "f":
        return b.scalar(AS_FLOAT, (cell,), dtype)
    if dtype == np.bool_:
        return b.scalar(AS_BOOL, (cell,), dtype)
    if cell.dtype.kind == "f":
        return b.scalar(call(f"as_{dtype.name}", word="int", raises=True), (cell,), dtype)
    return b.scalar(call("int"), (cell,), dtype)


def select_cell(b: Builder, _eqn: Equation, cells: list[Node], dtype: np.dtype) -> Node:
    """Return the case that the first scalar chooses."""
    which, *cases = cells
    if which.literal is not None:
        return cases[min(max(int(which.literal), 0), len(cases) - 1)]
    if which.dtype == np.bool_ and len(cases) == 2:
        return cases[0] if cases[0] is cases[1] else b.scalar(CHOOSE, (which, cases[1], cases[0]), dtype)
    out = cases[-1]
    for i in reversed(range(len(cases) - 1)):
        test = b.scalar(COMPARISONS["le"], (which, b.literal(i, which.dtype)), np.bool_)
        out = b.scalar(CHOOSE, (test, cases[i], out), dtype)
    return out


def logic_cell(b: Builder, eqn: Equation, cells: list[Node], dtype: np.dtype) -> Node:
    """Return and, or, xor, not of truth values or of the bits of integers."""
    if dtype != np.bool_:
        return b.scalar(BITS[eqn.name] if eqn.name != "not" else Op("~{0}", 7, 7), cells, dtype)
    op = {"not": NOT_CELL, "and": AND_CELL, "or": OR_CELL, "xor": XOR_CELL}[eqn.name]
    return b.scalar(op, cells, dtype)


def clamp_cell(b: Builder, _eqn: Equation, cells: list[Node], dtype: np.dtype) -> Node:
    """Return a scalar moved between two bounds."""
    low, x, high = cells
    return extreme(b, "min", extreme(b, "max", x, low, dtype), high, dtype)


def rsqrt_cell(b: Builder, _eqn: Equation, cells: list[Node], dtype: np.dtype) -> Node:
    """Return 1 / sqrt(x)."""
    return b.divide(b.literal(1.0, dtype), b.scalar(FLOATS["sqrt"][1], cells, dtype))


def div_cell(b: Builder, _eqn: Equation, cells: list[Node], dtype: np.dtype) -> Node:
    """Return a quotient; of integers towards zero."""
    if dtype.kind in "iu":
        return b.scalar(call("divide_int", 2, raises=True), cells, dtype)
    return b.divide(*cells)


SPECIAL: dict[str, Any] = {
    **dict.fromkeys(IDENTITY, lambda _b, _eqn, cells, _dtype: cells[0]),
    "add": lambda b, _eqn, cells, _dtype: b.add(*cells),
    "add_any": lambda b, _eqn, cells, _dtype: b.add(*cells),
    "sub": lambda b, _eqn, cells, _dtype: b.subtract(*cells),
    "mul": lambda b, _eqn, cells, _dtype: b.multiply(*cells),
    "div": div_cell,
    "neg": lambda b, _eqn, cells, _dtype: b.negate(cells[0]),
    "square": lambda b, _eqn, cells, dtype: power(b, cells[0], 2, dtype),
    "integer_pow": lambda b, eqn, cells, dtype: power(b, cells[0], eqn.params["y"], dtype),
    "rsqrt": rsqrt_cell,
    "exp2": lambda b, _eqn, cells, dtype: b.scalar(
        call("power", 2, raises=True), (b.literal(2.0, dtype), cells[0]), dtype
    ),
    "round": lambda b, eqn, cells, dtype: b.scalar(
        call(ROUND[int(eqn.params["rounding_method"])][1], raises=True), cells, dtype
    ),
    "clamp": clamp_cell,
    "convert_element_type": convert_cell,
    "select_n": select_cell,
    **dict.fromkeys(("and", "or", "xor", "not"), logic_cell),
}
