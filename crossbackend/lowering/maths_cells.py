"""Elementwise primitives: one table row each, how NumPy writes it and how a Python float does; the rule on cells."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossbackend.lowering.builder import ADD, AS_BOOL, AS_FLOAT, AS_INT, DIVIDE, MULTIPLY, NEGATE, SUBTRACT, Builder
from crossbackend.lowering.flat import Equation
from crossbackend.lowering.julia_forms import truncated
from crossbackend.lowering.nodes import ATOM, COMPARE, TEST, UNARY, Form, Node, Op, Value, call, infix

CHOOSE = Op("{1} if {0} else {2}", TEST, (2, 2, 2), word="chosen", julia=Form("{0} ? {1} : {2}", TEST, (2, 2, 2)))
COMPARISONS = {
    "eq": infix("==", "equal", COMPARE),
    "ne": infix("!=", "differs", COMPARE),
    "lt": infix("<", "less", COMPARE),
    "le": infix("<=", "at_most", COMPARE),
    "gt": infix(">", "more", COMPARE),
    "ge": infix(">=", "at_least", COMPARE),
}
# Julia's signs bind otherwise than Python's: both sides always stand in parentheses there.
BITS = {
    "and": Op("{0} & {1}", 4, (ATOM, ATOM), julia=Form("{0} ~& {1}", 4, ATOM)),
    "or": Op("{0} | {1}", 4, (ATOM, ATOM), julia=Form("{0} ~| {1}", 4, ATOM)),
    "xor": Op("{0} ^ {1}", 4, (ATOM, ATOM), julia=Form("xor~({0}, {1})")),
    "not": Op("~{0}", UNARY, UNARY, julia=Form("xor~({0}, -1)")),
}
SHIFTS = {
    "shift_left": Op("{0} << {1}", 4, (4, 5), word="shifted", julia=Form("rt.shift_left~({0}, {1})")),
    "shift_right_arithmetic": Op("{0} >> {1}", 4, (4, 5), word="shifted", julia=Form("rt.shift_right~({0}, {1})")),
}


def both(array: str, cell: str, julia: str, count: int = 1, *, raises: bool = False, word: str = "") -> tuple[Op, Op]:
    """Return an operation on arrays and on Python floats, from the functions' names in NumPy, Python and Julia."""
    return call(array, count, word, julia=f"{julia}~"), call(cell, count, julia=f"{julia}~", raises=raises)


# name -> (on arrays, on Python scalars)
LOGIC = {
    "not": (call("np.logical_not", word="not", julia="~!"), Op("not {0}", 2, 3, word="no", julia=Form("!({0})"))),
    "and": (
        Op("np.logical_and({0}, {1})", word="and", julia=Form("{0} ~& {1}", 4, ATOM)),
        Op("{0} and {1}", 2, (3, 3), word="both", julia=Form("{0} && {1}", 2, (3, 3))),
    ),
    "or": (
        Op("np.logical_or({0}, {1})", word="or", julia=Form("{0} ~| {1}", 4, ATOM)),
        Op("{0} or {1}", 1, (3, 3), word="either", julia=Form("{0} || {1}", 1, (3, 3))),
    ),
    "xor": (call("np.logical_xor", 2, word="xor", julia="xor~"), infix("!=", "differs", COMPARE)),
}
INTEGERS = {
    "div": both("rt.divide_int", "divide_int", "rt.divide_int", 2, raises=True),
    "rem": both("rt.remainder_int", "remainder_int", "rt.remainder_int", 2, raises=True),
}
ROUND = {
    0: both("rt.round_away", "round_away", "rt.round_away", raises=True),
    1: both("np.rint", "round_even", "round", raises=True),
}
# name -> (on arrays, on Python floats); raises: where a Python float raises for what NumPy answers with inf or nan.
# Julia's own functions where they throw for no value, rt's where they do.
FLOATS: dict[str, tuple[Op, Op]] = {
    "add": (ADD, ADD),
    "add_any": (ADD, ADD),
    "sub": (SUBTRACT, SUBTRACT),
    "mul": (MULTIPLY, MULTIPLY),
    "div": (DIVIDE, DIVIDE),
    "neg": (NEGATE, NEGATE),
    "max": both("np.maximum", "maximum", "max", 2),
    "min": both("np.minimum", "minimum", "min", 2),
    "pow": both("np.power", "power", "rt.power", 2, raises=True),
    "rem": both("np.fmod", "fmod", "rem", 2, raises=True),
    "atan2": both("np.arctan2", "atan2", "atan", 2),
    "nextafter": both("np.nextafter", "nextafter", "rt.nextafter", 2),
    "lt_to": both("rt.lt_to", "lt_to", "rt.lt_to", 2),
    "le_to": both("rt.le_to", "le_to", "rt.le_to", 2),
    "abs": both("np.abs", "abs", "abs"),
    "sign": both("np.sign", "sign", "sign"),
    "floor": both("np.floor", "floor", "floor", raises=True),
    "ceil": both("np.ceil", "ceil", "ceil", raises=True),
    "is_finite": both("np.isfinite", "is_finite", "isfinite"),
    "logistic": both("rt.logistic", "logistic", "rt.logistic"),
    "cbrt": both("np.cbrt", "cbrt", "cbrt"),
    "erf": both("special.erf", "erf", "rt.erf"),
    "erfc": both("special.erfc", "erfc", "rt.erfc"),
    "erf_inv": both("special.erfinv", "erf_inv", "rt.erf_inv"),
    "lgamma": both("special.gammaln", "lgamma", "rt.lgamma", raises=True),
    "digamma": both("special.digamma", "digamma", "rt.digamma"),
    "exp": both("np.exp", "exp", "exp", raises=True),
    "expm1": both("np.expm1", "expm1", "expm1", raises=True),
    "log": both("np.log", "log", "rt.log", raises=True),
    "log1p": both("np.log1p", "log1p", "rt.log1p", raises=True),
    "sqrt": both("np.sqrt", "sqrt", "rt.sqrt", raises=True),
    "sin": both("np.sin", "sin", "rt.sin", raises=True),
    "cos": both("np.cos", "cos", "rt.cos", raises=True),
    "tan": both("np.tan", "tan", "rt.tan", raises=True),
    "asin": both("np.arcsin", "asin", "rt.asin", raises=True, word="asin"),
    "acos": both("np.arccos", "acos", "rt.acos", raises=True, word="acos"),
    "atan": both("np.arctan", "atan", "atan", word="atan"),
    "sinh": both("np.sinh", "sinh", "sinh", raises=True),
    "cosh": both("np.cosh", "cosh", "cosh", raises=True),
    "tanh": both("np.tanh", "tanh", "tanh"),
    "asinh": both("np.arcsinh", "asinh", "asinh", word="asinh"),
    "acosh": both("np.arccosh", "acosh", "rt.acosh", raises=True, word="acosh"),
    "atanh": both("np.arctanh", "atanh", "rt.atanh", raises=True, word="atanh"),
}
SIGN_INT = call("sign_int", julia="sign")

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
    if integers and name in INTEGERS:
        return b.scalar(INTEGERS[name][1], cells, dtype)
    if integers and name == "sign":
        return b.scalar(SIGN_INT, cells, dtype)
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
        op = Op(f"as_{dtype.name}({{0}})", word="int", raises=True, julia=truncated(dtype))
        return b.scalar(op, (cell,), dtype)
    return b.scalar(AS_INT, (cell,), dtype)


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
    return b.scalar(LOGIC[eqn.name][1] if dtype == np.bool_ else BITS[eqn.name], cells, dtype)


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
        return b.scalar(INTEGERS["div"][1], cells, dtype)
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
    "exp2": lambda b, _eqn, cells, dtype: b.scalar(FLOATS["pow"][1], (b.literal(2.0, dtype), cells[0]), dtype),
    "round": lambda b, eqn, cells, dtype: b.scalar(ROUND[int(eqn.params["rounding_method"])][1], cells, dtype),
    "clamp": clamp_cell,
    "convert_element_type": convert_cell,
    "select_n": select_cell,
    **dict.fromkeys(("and", "or", "xor", "not"), logic_cell),
}
