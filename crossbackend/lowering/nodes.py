"""The graph that is printed: nodes (one expression each) in blocks (one indented piece of source each).

A node sits in the outermost block in which all its arguments are known, so whatever depends on static arguments alone
ends up in the `bind_` function and whatever does not change in a loop ends up before it. Equal nodes are made once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# How strongly an expression binds, as in Python's grammar; an argument that binds less gets parentheses.
TEST, COMPARE, SUM, PRODUCT, UNARY, ATOM = 1, 3, 5, 6, 7, 10

FOLD_LIMIT = 4096  # constants of more elements are computed once in bind_ instead of being stored


@dataclass(frozen=True)
class Form:
    """How Julia writes one operation.

    Attributes
    ----------
    template : str
        Source with `{0}`, `{1}`... for the arguments; `~` stands where the operation takes a dot on arrays.
    binds : int
        Strength of the whole expression.
    needs : tuple of int or int
        Strength each argument must have to stand without parentheses.
    """

    template: str
    binds: int = ATOM
    needs: tuple[int, ...] | int = 0

    @property
    def elementwise(self) -> bool:
        """Whether it is applied to every element, so that dotted expressions around it fuse with it."""
        return "~" in self.template

    def strength(self, position: int) -> int:
        """Strength that the argument at `position` must have."""
        return self.needs if isinstance(self.needs, int) else self.needs[position]


PASS = Form("{0}")  # nothing is done in Julia: the argument stands for the result


@dataclass(frozen=True)
class Op:
    """How one operation is written.

    Attributes
    ----------
    template : str
        NumPy's (or Python's) source with `{0}`, `{1}`... for the arguments.
    binds : int
        Strength of the whole expression.
    needs : tuple of int or int
        Strength each argument must have to stand without parentheses.
    raises : bool
        Whether Python floats raise where NumPy gives inf or nan.
    fresh : bool
        Whether an array result owns new memory. Otherwise it is a view of the first argument where the template
        starts with it, and may be anything elsewhere.
    word : str
        First part of the name of a variable that holds the result.
    julia : Form or function or None
        How Julia writes it; or a function of the node that returns its form and the arguments that this takes.
    """

    template: str
    binds: int = ATOM
    needs: tuple[int, ...] | int = 0
    raises: bool = False
    fresh: bool = True
    word: str = "value"
    julia: Form | Callable[[Node], tuple[Form, tuple[Node, ...]]] | None = None

    def strength(self, position: int) -> int:
        """Strength that the argument at `position` must have."""
        return self.needs if isinstance(self.needs, int) else self.needs[position]


def infix(sign: str, word: str, binds: int, *, raises: bool = False) -> Op:
    """Return the operation `a sign b`, left-associative."""
    needs = (binds + 1 if binds == COMPARE else binds, binds + 1)
    julia = Form(f"{{0}} ~{sign} {{1}}", binds, needs)
    return Op(f"{{0}} {sign} {{1}}", binds, needs, raises=raises, word=word, julia=julia)


def call(name: str, count: int = 1, word: str = "", *, julia: str, raises: bool = False, fresh: bool = True) -> Op:
    """Return the operation `name(a, b, ...)`, which Julia calls `julia` (with a `~` where it takes a dot)."""
    arguments = ", ".join(f"{{{i}}}" for i in range(count))
    word = word or name.rpartition(".")[2]
    return Op(f"{name}({arguments})", raises=raises, fresh=fresh, word=word, julia=Form(f"{julia}({arguments})"))


def index_source(parts: list[str]) -> str:
    """Return `[a, b]` without trailing full slices."""
    while parts and parts[-1] == ":":
        parts = parts[:-1]
    return f"[{', '.join(parts)}]"


@dataclass(frozen=True)
class Cut:
    """One axis of a slice as source: its first place and itself, NumPy's and Julia's."""

    first: str
    source: str
    julia_first: str
    julia: str


@dataclass(eq=False)
class Block:
    """One piece of source with its own indentation.

    Attributes
    ----------
    parent : Block or None
        The block around it.
    pinned : bool
        Nodes made while this block is open stay in it (a branch that may not be taken).
    """

    parent: Block | None = None
    pinned: bool = False
    nodes: list[Node] = field(default_factory=list)
    known: dict[Any, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.depth: int = 0 if self.parent is None else self.parent.depth + 1


@dataclass(eq=False)
class Node:
    """One expression.

    Attributes
    ----------
    op : Op
        How it is written.
    args : tuple of Node
        Its arguments.
    shape, dtype
        Of the value at run time. The shape may be smaller than the traced one where NumPy broadcasts by itself.
    block : Block
        Where it is computed.
    cell : bool
        A Python scalar (a float, an int or a bool) rather than an array or a NumPy scalar.
    literal : object
        The value where it is known while printing (a Python scalar, or an array), else None.
    hint : str
        Wanted variable name.
    note : object
        What a later step wants to know: of a slice, a `Cut` per axis; of an element, its index; of a loop, the
        `Statement`.
    pieces : object
        Of a padding and of a sum of them, what stands where: see `paddings`.
    """

    op: Op
    args: tuple[Node, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    block: Block
    cell: bool = False
    literal: Any = None
    hint: str = ""
    note: Any = None
    pieces: Any = None

    @property
    def fresh(self) -> bool:
        """Whether the array is new memory that nothing else refers to, views of such memory included."""
        if self.op.fresh:
            return not self.cell
        is_view = self.op.template.startswith("{0}") and bool(self.args)
        return is_view and self.args[0].fresh and self.args[0].block is self.block


@dataclass(eq=False)
class Value:
    """A traced array: as one node whose shape broadcasts to `shape`, or as one node per element.

    Attributes
    ----------
    array : Node or None
        The whole.
    cells : object array of Node of shape `shape`, or None
        The elements.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    array: Node | None = None
    cells: np.ndarray | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def literal(self) -> np.ndarray | None:
        """Return the array where it is known while printing (possibly a broadcast view), else None."""
        if self.cells is not None:
            if not all(cell.literal is not None for cell in self.cells.flat):
                return None
            flat = [cell.literal for cell in self.cells.flat]
            return np.array(flat, dtype=self.dtype).reshape(self.shape)
        assert self.array is not None
        if self.array.literal is None:
            return None
        return np.broadcast_to(np.asarray(self.array.literal, self.dtype), self.shape)


LITERAL = Op("", word="const", fresh=False)
NAME = Op("", word="name", fresh=False)
ELEMENT = Op("", word="item", fresh=False)

Namer = Callable[[Node], str]
