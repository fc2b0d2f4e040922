"""From the graph to source: what is alive, what gets a name, and the lines in order."""

from __future__ import annotations

import builtins
import keyword
import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from crossbackend.lowering.builder import UNPACK
from crossbackend.lowering.control import RESULT, STATEMENT, Arm, Assign, Statement, Store
from crossbackend.lowering.nodes import ATOM, ELEMENT, NAME, TEST, UNARY, Block, Node
from crossbackend.lowering.scalars import PYTHON

INLINE_CELLS = 60  # characters of an expression of Python floats that stands inside another
INLINE_ARRAYS = 40  # the same of arrays, where one operation per line is easier to check
INLINE_PACKED = 16  # the same of an element of an array made of Python floats
INLINE_CONSTANT = 16  # elements of a constant that is printed where it is named
TAKEN = {*keyword.kwlist, *dir(builtins), "np", "rt", "floats", "special", "constants", *vars(PYTHON)}


class Writer:
    """Prints one function.

    Parameters
    ----------
    name : str
        Of the function; big constants are named after it.
    constants : dict of name to array
        Where big constants go.
    """

    def __init__(self, name: str, constants: dict[str, np.ndarray], taken: Iterable[str]) -> None:
        self.function, self.constants = name, constants
        self.names: dict[Node, str] = {}
        self.used: set[str] = {*TAKEN, *taken}
        self.counts: dict[str, int] = {}
        self.live: dict[Node, None] = {}
        self.readers: dict[Node, list[Node | None]] = {}
        self.declared: list[str] = []

    # --- what is alive ---

    def mark(self, outputs: Iterable[Node]) -> None:
        """Find all that the outputs need, and who reads what."""
        todo = []
        for node in outputs:
            self.readers.setdefault(node, []).append(None)
            todo.append(node)
        while todo:
            node = todo.pop()
            if node in self.live:
                continue
            self.live[node] = None
            for arg in self.args(node):
                self.readers.setdefault(arg, []).append(node)
                todo.append(arg)

    def args(self, node: Node) -> tuple[Node, ...]:
        """Return what a node reads."""
        return node.args

    def inlined(self, node: Node) -> bool:
        """Tell whether a node stands inside the only expression that reads it."""
        if node.op in (STATEMENT, UNPACK, ELEMENT, NAME) or node in self.names:
            return False
        readers = self.readers.get(node, [])
        if len(readers) != 1 or (readers[0] is not None and readers[0].block is not node.block):
            return False
        reader = readers[0]
        if reader is not None:
            if reader.op in (STATEMENT, UNPACK) or not reader.op.template:
                return False
            place = next(i for i, arg in enumerate(reader.args) if arg is node)
            if reader.op.word == "packed" and len(self.expression(node)) > INLINE_PACKED:
                return False
            if reader.op.template.count(f"{{{place}}}") != 1:
                return False
        limit = INLINE_CELLS if node.cell else INLINE_ARRAYS
        return len(self.expression(node)) <= limit

    # --- expressions ---

    def text(self, node: Node, needs: int = 0) -> str:
        """Return what stands for a node inside an expression that needs a certain strength."""
        if node.literal is not None:
            text = self.constant(node)
            strength = UNARY if text.startswith("-") else ATOM
            return f"({text})" if strength < needs else text
        if node.op is RESULT:
            return self.names[node.args[1]]
        if node in self.names:
            return self.names[node]
        text = self.expression(node)
        return f"({text})" if node.op.binds < needs else text

    def expression(self, node: Node) -> str:
        """Return a node's own expression."""
        return node.op.template.format(*(self.text(arg, node.op.strength(i)) for i, arg in enumerate(node.args)))

    def constant(self, node: Node) -> str:
        """Return a literal as source; an array by the name of a variable of the bind_ function."""
        value = node.literal
        if not node.shape:
            return scalar(value)
        if node not in self.names:
            name = self.new_name("const")
            self.names[node] = name
            self.declared.append(f"{name} = {self.array_source(name, np.asarray(value))}")
        return self.names[node]

    def array_source(self, name: str, value: np.ndarray) -> str:
        """Return the source of a constant array; a big one is looked up in `constants`."""
        kind = f", np.{'bool_' if value.dtype == np.bool_ else value.dtype.name}"
        if value.size and (value == value.flat[0]).all():
            shape = value.shape if value.ndim > 1 else value.size
            return f"np.full({shape}, {scalar(value.flat[0].item())}{kind})"
        if value.size <= INLINE_CONSTANT and value.size:
            return f"np.array({nested(value)}{'' if value.dtype in (np.float64, np.int64, np.bool_) else kind})"
        key = f"{self.function}_{name}"
        self.constants[key] = value
        return f'constants["{key}"]'

    # --- names ---

    def new_name(self, hint: str) -> str:
        """Return a name nobody has: the hint, or the hint and a number."""
        hint = re.sub(r"\W", "_", hint) or "value"
        if hint not in self.used:
            self.used.add(hint)
            return hint
        while True:
            self.counts[hint] = self.counts.get(hint, 0) + 1
            name = f"{hint}_{self.counts[hint]}"
            if name not in self.used:
                self.used.add(name)
                return name

    def assign_name(self, node: Node) -> str:
        """Name a node."""
        if node not in self.names:
            word = node.hint or f"{node.op.word}_1"
            self.names[node] = self.new_name(word) if node.hint else self.numbered(node.op.word)
        return self.names[node]

    def numbered(self, word: str) -> str:
        """Return `word_1`, `word_2`..."""
        while True:
            self.counts[word] = self.counts.get(word, 0) + 1
            name = f"{word}_{self.counts[word]}"
            if name not in self.used:
                self.used.add(name)
                return name

    # --- lines ---

    def lines(self, block: Block) -> list[str]:
        """Return the lines of a block, without its indentation."""
        out: list[str] = []
        for node in block.nodes:
            if node not in self.live or node.op in (ELEMENT, NAME, RESULT) or node in self.names:
                continue
            if isinstance(node.note, Statement):
                out += self.statement(node.note)
            elif node.op is UNPACK:
                out += self.unpack(node)
            elif not self.inlined(node):
                out.append(self.line(node))
        return out

    def line(self, node: Node) -> str:
        """Return the line that computes a node."""
        source = self.expression(node)
        comment = "" if node.cell or not node.shape else f"  # {node.shape}"
        return f"{self.assign_name(node)} = {source}{comment}"

    def unpack(self, node: Node) -> list[str]:
        """Return the lines that take an array apart."""
        source, out = self.expression(node), []
        readers = [reader for reader in self.readers[node] if reader is not None]
        items = {reader.note: reader for reader in readers if reader.op is ELEMENT}
        if len(items) < len({id(reader) for reader in readers}):
            name = self.assign_name(node)
            out.append(f"{name} = {source}")
            source = name
        if items:
            out.append(f"{self.pattern(items, node.shape, ())} = {source}")
        return out

    def pattern(self, items: dict[Any, Node], shape: tuple[int, ...], index: tuple[int, ...]) -> str:
        """Return the targets of an unpacking: names, and `_` for what nobody reads."""
        if not shape:
            return self.assign_name(items[index]) if index in items else "_"
        inner = [self.pattern(items, shape[1:], (*index, i)) for i in range(shape[0])]
        if not any(key[: len(index)] == index for key in items):
            return "_"
        text = ", ".join(inner) + ("," if len(inner) == 1 else "")
        return f"({text})" if index or len(inner) == 1 else text

    def statement(self, statement: Statement) -> list[str]:
        """Return the lines of a loop or a branch."""
        out = []
        for variable in statement.variables:
            self.assign_name(variable)
        for step in statement.before:
            out += self.step(step)
        for arm in statement.arms:
            out += self.arm(arm)
        return out

    def arm(self, arm: Arm) -> list[str]:
        """Return the lines of one block of a statement."""
        out = [arm.head.format(*(self.text(node, TEST + 3) for node in arm.reads))]
        inner = self.lines(arm.block)
        if arm.leave is not None:
            inner += [f"if not {self.text(arm.leave, ATOM)}:", "    break"]
        if arm.second is not None:
            inner += self.lines(arm.second)
        for step in arm.last:
            inner += self.step(step)
        return out + ["    " + line for line in inner or ["pass"]]

    def step(self, step: Assign | Store) -> list[str]:
        """Return the line of an assignment."""
        if isinstance(step, Store):
            return [f"{self.text(step.rows)}[{self.text(step.index)}] = {self.text(step.value)}"]
        targets = ", ".join(self.text(node) for node in step.targets)
        return [f"{targets} = {', '.join(self.text(node) for node in step.sources)}"]


def scalar(value: Any) -> str:
    """Return a Python scalar as source that gives it back exactly."""
    if isinstance(value, float) and not math.isfinite(value):
        return "np.nan" if math.isnan(value) else ("np.inf" if value > 0 else "-np.inf")
    return repr(value)


def nested(value: np.ndarray) -> str:
    """Return an array as nested lists in source."""
    if value.ndim == 0:
        return scalar(value.item())
    return f"[{', '.join(nested(row) for row in value)}]"
