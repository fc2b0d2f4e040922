"""Loops and branches: `scan`, `while` and `cond` become Python's `for`, `while` and `if`.

Each is a statement: a node with blocks of its own. What it gives are variables that the statement assigns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from crossbackend.lowering.builder import Builder
from crossbackend.lowering.choose import small
from crossbackend.lowering.flat import Equation, Var
from crossbackend.lowering.julia_forms import empty
from crossbackend.lowering.nodes import ATOM, PASS, Block, Form, Node, Op, Value

if TYPE_CHECKING:
    from crossbackend.lowering.primitives import Walk

CARRIED = 8  # elements of a carried value that stays apart as Python floats
STATEMENT = Op("", word="statement", fresh=False)
RESULT = Op("", word="result", fresh=False)
ROWS = Op("unpack({0})", word="list", julia=PASS)  # a vector whose elements a loop reads one by one


@dataclass
class Assign:
    """One or more variables and what they become: `a, b = x, y`."""

    targets: list[Node]
    sources: list[Node]


@dataclass
class Store:
    """One row of an output of a loop: `rows[i] = value`."""

    rows: Node
    index: Node
    value: Node


@dataclass
class Arm:
    """A block of a statement: its head (a template, and Julia's), what it reads, and what stands at the block's end."""

    head: str
    julia: str
    reads: list[Node]
    block: Block
    last: list[Assign | Store] = field(default_factory=list)
    leave: Node | None = None  # `if not leave: break` before `second`
    second: Block | None = None


@dataclass
class Statement:
    """What a statement node holds: assignments before it, its arms, and the variables that it leaves."""

    before: list[Assign]
    arms: list[Arm]
    variables: list[Node]


def is_apart(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Tell whether a carried value is kept as cells."""
    return small(shape, dtype) and int(np.prod(shape)) <= CARRIED


def variables(b: Builder, shape: tuple[int, ...], dtype: np.dtype, hint: str, block: Block) -> Value:
    """Return a value made of new variables: one per element where it is small, else one array."""
    if not is_apart(shape, dtype):
        return Value(shape, dtype, b.name(hint, shape, dtype, block))
    cells = np.empty(shape, object)
    for index in np.ndindex(shape):
        cells[index] = b.name("_".join([hint, *map(str, index)]), (), dtype, block, cell=True)
    return Value(shape, dtype, cells=cells)


def parts(b: Builder, value: Value, like: Value) -> list[Node]:
    """Return the nodes of `value` in the representation of `like`."""
    if like.cells is not None:
        return list(b.cells(value).flat)
    return [b.full(value)]


def nodes_of(value: Value) -> list[Node]:
    """Return the variables of a value."""
    return list(value.cells.flat) if value.cells is not None else [value.array] if value.array is not None else []


def close(statement: Statement, reads: list[Node], home: Block) -> Node:
    """Add a statement to the block around its own blocks."""
    node = Node(STATEMENT, tuple(reads), (), np.dtype(object), home, note=statement)
    home.nodes.append(node)
    return node


def results(statement: Node, values: list[Value]) -> list[Value]:
    """Return values that a later node may read: the statement's variables, after it."""
    out = []
    for value in values:
        made = [
            Node(RESULT, (statement, var), var.shape, var.dtype, statement.block, var.cell, hint=var.hint)
            for var in nodes_of(value)
        ]
        statement.block.nodes.extend(made)
        if value.cells is None:
            out.append(Value(value.shape, value.dtype, made[0]))
        else:
            cells = np.empty(value.cells.size, object)
            cells[:] = made
            out.append(Value(value.shape, value.dtype, cells=cells.reshape(value.shape)))
    return out


def home_of(b: Builder, values: list[Value]) -> Block:
    """Return the block of a new statement that reads these values."""
    nodes = [node for value in values for node in nodes_of(value)]
    return b.home(nodes)


def row_of(b: Builder, x: Value, index: Node) -> Value:
    """Return one step's row of a scanned input; of a vector as a Python scalar."""
    whole, shape = b.full(x), x.shape[1:]
    hint = f"{whole.hint}_i" if whole.hint else ""
    if shape == () and small((), x.dtype):
        rows = b.node(ROWS, (whole,), x.shape, x.dtype)
        cell = b.node(row_op(1), (rows, index), (), x.dtype, cell=True, hint=hint)
        return Value((), x.dtype, cells=np.array(cell, object).reshape(()))
    return Value(shape, x.dtype, b.node(row_op(len(x.shape)), (whole, index), shape, x.dtype, hint=hint))


def row_op(rank: int) -> Op:
    """Return the operation `x[i]`; Julia's loops count from 1."""
    julia = Form(f"{{0}}[{':, ' * (rank - 1)}{{1}}]", needs=(ATOM, 0))
    return Op("{0}[{1}]", needs=(ATOM, 0), fresh=False, word="row", julia=julia)


def scan(walk: Walk, eqn: Equation, *values: Value) -> list[Value]:
    """Print a scan as a for loop."""
    b, p = walk.builder, eqn.params
    n_consts, n_carry, length = p["num_consts"], p["num_carry"], p["length"]
    consts, inits, xs = values[:n_consts], values[n_consts : n_consts + n_carry], values[n_consts + n_carry :]
    home = home_of(b, list(values))
    loop = Block(home)
    index = b.name("i", (), np.int64, loop, cell=True)
    carried = [variables(b, v.shape, v.dtype, f"carry{i}", loop) for i, v in enumerate(inits)]
    with b.inside(home):
        starts = [node for v, like in zip(inits, carried, strict=True) for node in parts(b, v, like)]
        outs = eqn.outputs[n_carry:]
        rows = [b.name("rows", v.shape, v.dtype, loop) for v in outs]
        empty = [Node(empty_op(v), (), v.shape, v.dtype, home) for v in outs]
    with b.inside(loop):
        steps = [row_of(b, x, index) for x in xs]
        done = walk.run(eqn.bodies[0], [*consts, *carried, *steps])
        nexts = [node for v, like in zip(done, carried, strict=False) for node in parts(b, v, like)]
        stores = [Store(r, index, b.array(v)) for r, v in zip(rows, done[n_carry:], strict=True)]
    targets = [node for v in carried for node in nodes_of(v)]
    count, julia = f"range({length})", f"1:{length}"
    if p["reverse"]:
        count, julia = f"reversed({count})", f"{length}:-1:1"
    last = [*stores, *moves(targets, nexts)]
    arm = Arm(f"for {{0}} in {count}:", f"for {{0}} in {julia}", [index], loop, last)
    before = [Assign([t], [s]) for t, s in zip([*targets, *rows], [*starts, *empty], strict=True)]
    statement = Statement(before, [arm], [index, *targets, *rows])
    reads = [*starts, *nexts, *(s.value for s in stores)]
    made = close(statement, reads, home)
    return results(made, [*carried, *(Value(v.shape, v.dtype, r) for v, r in zip(outs, rows, strict=True))])


def empty_op(var: Var) -> Op:
    """Return the operation that makes an array for the rows of an output."""
    name = "bool_" if var.dtype == np.bool_ else var.dtype.name
    return Op(f"np.empty({var.shape}, np.{name})", julia=empty(var.shape, var.dtype))


def moves(targets: list[Node], sources: list[Node]) -> list[Assign | Store]:
    """Return the assignment at the end of a step, without the variables that stay."""
    pairs = [(t, s) for t, s in zip(targets, sources, strict=True) if t is not s]
    return [Assign([t for t, _ in pairs], [s for _, s in pairs])] if pairs else []


def while_loop(walk: Walk, eqn: Equation, *values: Value) -> list[Value]:
    """Print a while loop."""
    b, p = walk.builder, eqn.params
    n_cond, n_body = p["cond_nconsts"], p["body_nconsts"]
    test_consts, consts, inits = values[:n_cond], values[n_cond : n_cond + n_body], values[n_cond + n_body :]
    home = home_of(b, list(values))
    loop = Block(home)
    second = Block(loop, pinned=True)
    carried = [variables(b, v.shape, v.dtype, f"carry{i}", loop) for i, v in enumerate(inits)]
    with b.inside(home):
        starts = [node for v, like in zip(inits, carried, strict=True) for node in parts(b, v, like)]
    test_body, body = eqn.bodies
    with b.inside(loop):
        (test,) = walk.run(test_body, [*test_consts, *carried])
        leave = b.array(test)
    with b.inside(second):
        done = walk.run(body, [*consts, *carried])
        nexts = [node for v, like in zip(done, carried, strict=True) for node in parts(b, v, like)]
    targets = [node for v in carried for node in nodes_of(v)]
    arm = Arm("while True:", "while true", [], loop, moves(targets, nexts), leave, second)
    statement = Statement([Assign([t], [s]) for t, s in zip(targets, starts, strict=True)], [arm], targets)
    return results(close(statement, [*starts, leave, *nexts], home), carried)


def cond(walk: Walk, eqn: Equation, *values: Value) -> list[Value]:
    """Print branches as if, elif, else."""
    b = walk.builder
    which = b.cell(b.array(values[0]))
    if which.literal is not None:
        chosen = min(max(int(which.literal), 0), len(eqn.bodies) - 1)
        return walk.run(eqn.bodies[chosen], list(values[1:]))
    home = home_of(b, [Value((), which.dtype, which), *values[1:]])
    made = [variables(b, v.shape, v.dtype, "branch", home) for v in eqn.outputs]
    targets = [node for v in made for node in nodes_of(v)]
    arms, reads = [], [which]
    for i, body in enumerate(eqn.bodies):
        block = Block(home, pinned=True)
        with b.inside(block):
            done = walk.run(body, list(values[1:]))
            sources = [node for v, like in zip(done, made, strict=True) for node in parts(b, v, like)]
        head, julia = f"{'if' if i == 0 else 'elif'} {{0}} <= {i}:", f"{'if' if i == 0 else 'elseif'} {{0}} <= {i}"
        if i == len(eqn.bodies) - 1:
            head, julia = "else:", "else"
        arms.append(Arm(head, julia, [which], block, [Assign(targets, sources)] if targets else []))
        reads += sources
    statement = Statement([], arms, targets)
    node = close(statement, reads, home)
    return results(node, made)
