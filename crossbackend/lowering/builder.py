"""Making nodes: equal ones once, constants folded, arrays taken apart into cells and put together again."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from crossbackend.lowering import julia_forms as forms
from crossbackend.lowering import runtime, scalars
from crossbackend.lowering.nodes import (
    ATOM,
    ELEMENT,
    FOLD_LIMIT,
    LITERAL,
    NAME,
    PASS,
    PRODUCT,
    SUM,
    UNARY,
    Block,
    Form,
    Node,
    Op,
    Value,
    index_source,
    infix,
)
from crossbackend.lowering.plain import is_plain

UNPACK = Op("unpack({0})", word="list", julia=PASS)
AS_FLOAT = Op("as_float({0})", word="float", julia=forms.converted("f", "Float64"))
AS_INT = Op("int({0})", word="int", julia=forms.converted("i", "Int64"))
AS_BOOL = Op("bool({0})", word="bool", julia=forms.converted("b", "!iszero"))
NEGATE = Op("-{0}", UNARY, UNARY, word="neg", julia=Form("~-{0}", UNARY, UNARY))
ADD = infix("+", "add", SUM)
SUBTRACT = infix("-", "sub", SUM)
MULTIPLY = infix("*", "mul", PRODUCT)
DIVIDE = infix("/", "div", PRODUCT, raises=True)

NAMESPACE = {"np": np, "rt": runtime, **vars(scalars.NUMPY)}


class Builder:
    """The graph of one function while it grows.

    Attributes
    ----------
    bind, body : Block
        The outer function (static arguments) and the inner one (the others).
    block : Block
        The innermost open block.
    """

    def __init__(self) -> None:
        self.bind = Block()
        self.body = Block(self.bind)
        self.block = self.body
        self.literals: dict[Any, Node] = {}

    @contextmanager
    def inside(self, block: Block) -> Iterator[Block]:
        """Make `block` the innermost open one."""
        outer, self.block = self.block, block
        try:
            yield block
        finally:
            self.block = outer

    def home(self, args: Iterable[Node]) -> Block:
        """Return the outermost block where all of `args` are known, but not outside a pinned one."""
        depth = max((arg.block.depth for arg in args if arg.literal is None), default=0)
        block = self.block
        while block.depth > depth and not block.pinned and block.parent is not None:
            block = block.parent
        return block

    def node(
        self,
        op: Op,
        args: Sequence[Node],
        shape: tuple[int, ...],
        dtype: Any,
        *,
        cell: bool = False,
        note: Any = None,
        hint: str = "",
    ) -> Node:
        """Return the node of an expression, a known one where there is an equal one, a literal where all is known."""
        args, dtype = tuple(args), np.dtype(dtype)
        if all(arg.literal is not None for arg in args) and op.template and math.prod(shape) <= FOLD_LIMIT:
            return self.fold(op, args, dtype, cell=cell)
        key = (op.template, tuple(id(arg) for arg in args), shape, dtype.str, cell)
        scope: Block | None = self.block
        while scope is not None:
            if key in scope.known:
                return scope.known[key]
            scope = scope.parent
        home = self.home(args)
        new = Node(op, args, shape, dtype, home, cell, note=note, hint=hint)
        home.nodes.append(new)
        home.known[key] = new
        return new

    def fold(self, op: Op, args: tuple[Node, ...], dtype: np.dtype, *, cell: bool) -> Node:
        """Compute an expression of literals while printing."""
        values: dict[str, Any] = {}
        for i, arg in enumerate(args):
            value = arg.literal
            values[f"a{i}"] = np.asarray(value, arg.dtype)[()] if arg.cell or not arg.shape else value
        source = op.template.format(*(f"a{i}" for i in range(len(args))))
        if "special." in source:
            values["special"] = importlib.import_module("scipy.special")
        with np.errstate(all="ignore"):
            result = eval(source, dict(NAMESPACE), values)
        result = np.asarray(result, dtype)
        return self.literal(result.item() if cell else result, dtype)

    def literal(self, value: Any, dtype: Any) -> Node:
        """Return a known value as a node: a Python scalar, or an array of at least one axis."""
        dtype = np.dtype(dtype)
        array = np.asarray(value, dtype)
        key: Any = (array.shape, dtype.str, array.tobytes())
        if key not in self.literals:
            kept = array.item() if array.ndim == 0 and dtype.kind in "fiub" else array
            cell = array.ndim == 0 and dtype.kind in "fiub"
            self.literals[key] = Node(LITERAL, (), array.shape, dtype, self.bind, cell, literal=kept)
        return self.literals[key]

    def constant(self, value: np.ndarray) -> Value:
        """Return a known array as a value; a uniform one as its single element."""
        value = np.asarray(value)
        if value.size and value.dtype.kind in "fiub" and (value.ndim == 0 or (value == value.flat[0]).all()):
            return Value(value.shape, value.dtype, self.literal(value.flat[0], value.dtype))
        return Value(value.shape, value.dtype, self.literal(value, value.dtype))

    def name(self, hint: str, shape: tuple[int, ...], dtype: Any, block: Block, *, cell: bool = False) -> Node:
        """Return a node that stands for a variable which a statement assigns."""
        return Node(NAME, (), shape, np.dtype(dtype), block, cell, hint=hint)

    # --- between the two representations ---

    def cells(self, value: Value) -> np.ndarray:
        """Return the elements of a value as an object array of nodes."""
        if value.cells is not None:
            return value.cells
        node = value.array
        assert node is not None
        known = value.literal()
        out = np.empty(value.shape, object)
        if known is not None:
            for index in np.ndindex(value.shape):
                out[index] = self.literal(known[index], value.dtype)
        elif node.shape == ():
            out[...] = self.cell(node)
        elif node.note is not None and value.size == 1 == math.prod(node.shape):
            out[...] = self.cell(self.pick(node, set(range(len(node.shape)))))
        else:
            small = np.empty(node.shape, object)
            unpacked = self.node(UNPACK, (node,), node.shape, node.dtype)
            for index in np.ndindex(node.shape):
                small[index] = self.element(unpacked, index)
            out[...] = small
        return out

    def element(self, unpacked: Node, index: tuple[int, ...]) -> Node:
        """Return one element of what `unpack` gave."""
        key = ("element", id(unpacked), index)
        home = unpacked.block
        if key not in home.known:
            hint = "_".join([unpacked.args[0].hint, *map(str, index)]) if unpacked.args[0].hint else ""
            node = Node(ELEMENT, (unpacked,), (), unpacked.dtype, home, cell=True, note=index, hint=hint)
            home.known[key] = node
            home.nodes.append(node)
        return home.known[key]

    def cell(self, node: Node) -> Node:
        """Return a 0-d array or NumPy scalar as a Python scalar."""
        if node.cell:
            return node
        convert = {"f": AS_FLOAT, "b": AS_BOOL}.get(node.dtype.kind, AS_INT)
        return self.node(convert, (node,), (), node.dtype, cell=True, hint=node.hint)

    def array(self, value: Value) -> Node:
        """Return a value as one node whose shape broadcasts to the value's."""
        if value.array is not None:
            return value.array
        cells = value.cells
        assert cells is not None
        known = value.literal()
        if known is not None:
            folded = self.constant(known).array
            assert folded is not None
            return folded
        first = cells.flat[0]
        if all(cell is first for cell in cells.flat):
            return first
        return self.pack(cells, value.dtype)

    def pack(self, cells: np.ndarray, dtype: np.dtype) -> Node:
        """Return an array made of cells; the array they were taken from where it is the same one."""
        source = cells.flat[0].args[0] if cells.flat[0].op is ELEMENT else None
        if source is not None and math.prod(source.shape) == cells.size:
            same = zip(cells.flat, np.ndindex(source.shape), strict=True)
            if all(cell.op is ELEMENT and cell.args[0] is source and cell.note == at for cell, at in same):
                return self.reshape(source.args[0], cells.shape)
        places = ", ".join(f"{{{i}}}" for i in range(cells.size))
        natural = dtype in (np.float64, np.int64, np.bool_)
        kind = "" if natural else f", np.{dtype.name}"
        tail = "" if cells.ndim == 1 else f".reshape({', '.join(map(str, cells.shape))})"
        op = Op(f"np.array([{places}]{kind}){tail}", word="packed", julia=forms.packed(cells.shape, dtype))
        return self.node(op, list(cells.flat), cells.shape, dtype)

    def full(self, value: Value) -> Node:
        """Return a value as one array that has exactly the value's shape."""
        node = self.array(value)
        if node.shape == value.shape and (not node.cell or node.literal is not None) and value.shape != ():
            return node
        if value.shape == ():
            return node
        if node.literal is not None and value.size <= FOLD_LIMIT:
            return self.literal(np.broadcast_to(np.asarray(node.literal, value.dtype), value.shape), value.dtype)
        if math.prod(node.shape) == value.size and not node.cell:
            return self.reshape(node, value.shape)
        if node.literal is not None and node.cell:
            name = value.dtype.name if value.dtype != np.bool_ else "bool_"
            op = Op(f"np.full({value.shape}, {{0}}, np.{name})", julia=Form(f"fill({{0}}, {forms.sizes(value.shape)})"))
            return self.node(op, (node,), value.shape, value.dtype)
        julia = Form(f"rt.spread({{0}}, {forms.sizes(value.shape)})")
        op = Op(f"rt.spread({{0}}, {value.shape})", word="spread", julia=julia)
        return self.node(op, (node,), value.shape, value.dtype)

    def reshape(self, node: Node, shape: tuple[int, ...]) -> Node:
        """Return a node's array in another shape."""
        if node.shape == shape:
            return node
        inner = node.args[0] if node.op.word == "reshaped" and node.args else node
        if inner.shape == shape:
            return inner
        source, julia = f"{{0}}.reshape({', '.join(map(str, shape)) or '()'})", forms.reshaped(inner.shape, shape)
        op = Op(source, needs=ATOM, fresh=False, word="reshaped", julia=julia)
        return self.node(op, (inner,), shape, inner.dtype)

    def pick(self, node: Node, axes: set[int]) -> Node:
        """Return what a slice gave without the given axes of size 1: `x[3:4]` becomes `x[3]`."""
        source = [cut.first if axis in axes else cut.source for axis, cut in enumerate(node.note)]
        julia = [cut.julia_first if axis in axes else cut.julia for axis, cut in enumerate(node.note)]
        shape = tuple(n for axis, n in enumerate(node.shape) if axis not in axes)
        needs = node.op.needs
        op = Op(f"{{0}}{index_source(source)}", needs=needs, fresh=False, word="part", julia=forms.index(julia, needs))
        return self.node(op, node.args, shape, node.dtype)

    # --- arithmetic on cells, with the folding that changes no value ---

    def add(self, a: Node, b: Node) -> Node:
        """Return a + b; a literal zero vanishes."""
        if is_number(a, 0):
            return b
        if is_number(b, 0):
            return a
        if b.op is NEGATE:
            return self.scalar(SUBTRACT, (a, b.args[0]), a.dtype)
        if a.op is NEGATE:
            return self.scalar(SUBTRACT, (b, a.args[0]), a.dtype)
        return self.scalar(ADD, (a, b), a.dtype)

    def subtract(self, a: Node, b: Node) -> Node:
        """Return a - b; a literal zero vanishes."""
        if is_number(b, 0):
            return a
        if is_number(a, 0):
            return self.negate(b)
        if b.op is NEGATE:
            return self.scalar(ADD, (a, b.args[0]), a.dtype)
        return self.scalar(SUBTRACT, (a, b), a.dtype)

    def multiply(self, a: Node, b: Node) -> Node:
        """Return a * b; a literal one vanishes (a zero does not: 0 * nan is nan)."""
        if is_number(a, 1):
            return b
        if is_number(b, 1):
            return a
        if is_number(a, -1):
            return self.negate(b)
        if is_number(b, -1):
            return self.negate(a)
        return self.scalar(MULTIPLY, (a, b), a.dtype)

    def divide(self, a: Node, b: Node) -> Node:
        """Return a / b of floats; where both may be Python's in the careful run too, one is made NumPy's."""
        if is_number(b, 1):
            return a
        if b.literal is None and is_plain(a) and is_plain(b):
            b = self.scalar(AS_FLOAT, (b,), b.dtype)
        return self.scalar(DIVIDE, (a, b), a.dtype)

    def negate(self, a: Node) -> Node:
        """Return -a."""
        return a.args[0] if a.op is NEGATE else self.scalar(NEGATE, (a,), a.dtype)

    def scalar(self, op: Op, args: Sequence[Node], dtype: Any) -> Node:
        """Return a node of cells."""
        return self.node(op, args, (), dtype, cell=True)


def is_number(node: Node, value: float) -> bool:
    """Tell whether a node is a literal scalar equal to `value`."""
    return node.literal is not None and node.shape == () and node.literal == value
