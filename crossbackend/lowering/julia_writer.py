"""From the graph to Julia's source: the same lines in the same order as the NumPy program, written in Julia.

Dotted operations that stand inside each other run as one loop, so expressions of arrays may be longer than NumPy's; but
only where all have one shape: a smaller one would be computed again for every element.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from crossbackend.lowering.control import RESULT, STATEMENT, Arm, Assign, Statement, Store
from crossbackend.lowering.julia_forms import array_type, number, shaped, sizes, type_name
from crossbackend.lowering.nodes import ATOM, ELEMENT, NAME, PASS, TEST, UNARY, Block, Form, Node
from crossbackend.lowering.writer import INLINE_CELLS, INLINE_CONSTANT, INLINE_PACKED, Writer

INLINE_ARRAYS = 70  # characters of an expression of arrays that stands inside another
DOTTED = 30  # loops over elements beyond which each is compiled by itself: one function of many takes minutes
COPIED = ("part", "turned", "reversed")  # views in NumPy, new arrays in Julia
KEYWORDS = (
    "baremodule begin break catch const continue do else elseif end export false finally for function global if import "
    "let local macro module quote return struct true try using while where in isa abstract mutable primitive type"
)
BASE = (
    "abs all any asinh atan cbrt ceil copy cosh exp exp2 expm1 fill floor ifelse isfinite iszero max maximum min "
    "minimum permutedims prod reshape round sign sinh sum tanh transpose undef vcat vec xor rem nothing constants rt "
    "Array Bool Dict Float32 Float64 Inf Int64 Matrix NaN Vector"
)
TAKEN = {*KEYWORDS.split(), *BASE.split()}


class JuliaWriter(Writer):
    """Prints one function in Julia.

    Parameters
    ----------
    name : str
        Of the function; big constants are named after it.
    constants : dict of name to array
        Where big constants go.
    """

    def __init__(self, name: str, constants: dict[str, np.ndarray], taken: Iterable[str]) -> None:
        super().__init__(name, constants, {*TAKEN, *taken})
        self.forms: dict[Node, tuple[Form, tuple[Node, ...]]] = {}
        self.mentions: Counter[Node] = Counter()
        self.many = False

    # --- what is written, and what it reads ---

    def form(self, node: Node) -> Form:
        """Return how Julia writes a node."""
        return self.written(node)[0]

    def args(self, node: Node) -> tuple[Node, ...]:
        """Return what a node reads in Julia, without what only NumPy needs on the way."""
        return self.written(node)[1]

    def written(self, node: Node) -> tuple[Form, tuple[Node, ...]]:
        """Return a node's form and what it reads."""
        if node not in self.forms:
            form, args = PASS, node.args
            if node.op is ELEMENT:
                places = ", ".join(str(i + 1) for i in reversed(node.note))
                form = Form(f"{{0}}[{places}]", needs=ATOM)
            elif callable(node.op.julia):
                form, args = node.op.julia(node)
            elif node.op.julia is not None:
                form = node.op.julia
            else:
                assert not node.op.template, f"{node.op.template} has no Julia form"
            self.forms[node] = form, tuple(self.source(arg) for arg in args)
        return self.forms[node]

    def source(self, node: Node) -> Node:
        """Return the node that stands for one that does nothing in Julia."""
        while node.op.template and node.literal is None:
            if self.written(node)[0] is not PASS and not self.needless(node):
                break
            node = node.args[0]
        return node

    def needless(self, node: Node) -> bool:
        """Tell whether a node copies what is a new array in Julia already and has no other reader."""
        if node.op.word != "copied" or node.args[0].op.word not in COPIED:
            return False
        return node.args[0].block is node.block and self.mentions[node.args[0]] == 1

    def mark(self, outputs: Iterable[Node]) -> None:
        """Find all that the outputs need, and who reads what."""
        outputs = list(outputs)
        todo, seen = list(outputs), set(outputs)
        while todo:
            for arg in todo.pop().args:
                self.mentions[arg] += 1
                if arg not in seen:
                    seen.add(arg)
                    todo.append(arg)
        super().mark([self.source(node) for node in outputs])
        self.many = sum(map(self.is_dotted, self.live)) > DOTTED

    def inlined(self, node: Node) -> bool:
        """Tell whether a node stands inside the only expression that reads it."""
        if node.op in (STATEMENT, NAME) or node in self.names:
            return False
        readers = self.readers.get(node, [])
        if len(readers) != 1 or (readers[0] is not None and readers[0].block is not node.block):
            return False
        reader = readers[0]
        if reader is not None:
            if reader.op is STATEMENT:
                return False
            form, args = self.written(reader)
            if form.template.count(f"{{{args.index(node)}}}") != 1:
                return False
            if form.elementwise and node.shape not in ((), reader.shape) and self.form(node).elementwise:
                return False
            if reader.op.word == "packed" and len(self.expression(node)) > INLINE_PACKED:
                return False
        limit = INLINE_CELLS if node.cell else INLINE_ARRAYS
        return len(self.expression(node)) <= limit

    # --- expressions ---

    def text(self, node: Node, needs: int = 0) -> str:
        """Return what stands for a node inside an expression that needs a certain strength."""
        node = self.source(node)
        if node.literal is not None:
            text = self.constant(node)
            return f"({text})" if text.startswith("-") and needs > UNARY else text
        if node in self.names:
            return self.names[node]
        if node.op is RESULT:
            return self.names[node.args[1]]
        text = self.expression(node)
        return f"({text})" if self.form(node).binds < needs else text

    def expression(self, node: Node) -> str:
        """Return a node's own expression, with dots where it works on arrays."""
        form, args = self.written(node)
        template = form.template.replace("~", "." if node.shape else "")
        return template.format(*(self.text(arg, form.strength(i)) for i, arg in enumerate(args)))

    def constant(self, node: Node) -> str:
        """Return a literal as source; an array by the name of a variable of the bind_ function."""
        if not node.shape:
            return typed(node.literal, node.dtype)
        return super().constant(node)

    def array_source(self, name: str, value: np.ndarray) -> str:
        """Return the source of a constant array; a big one is looked up in `constants`."""
        kind = array_type(value.shape, value.dtype)
        if not value.size:
            return f"{kind}(undef, {sizes(value.shape)})"
        if (value == value.flat[0]).all():
            return f"fill({typed(value.flat[0], value.dtype)}, {sizes(value.shape)})"
        if value.size <= INLINE_CONSTANT:
            row = ", ".join(typed(item, value.dtype) for item in value.flat)
            return f"[{row}]" if value.ndim == 1 else shaped(f"[{row}]", value.shape)
        key = f"{self.function}_{name}"
        self.constants[key] = value
        return f'rt.leaf(constants, "{key}", {kind})'

    def line(self, node: Node) -> str:
        """Return the line that computes a node; truth values go to an array of bytes, not to Julia's packed bits."""
        source = self.expression(node)
        comment = f"  # {node.shape}" if node.shape else ""
        if node.dtype == np.bool_ and self.is_dotted(node):
            source = f"rt.mask({sizes(node.shape)}) .= {source}"
        if self.many:
            source = self.apart(node, source)
        return f"{self.assign_name(node)} = {source}{comment}"

    def is_dotted(self, node: Node) -> bool:
        """Tell whether a node is a loop over the elements of arrays, written with dots."""
        return node.shape != () and node.literal is None and self.form(node).elementwise

    def apart(self, node: Node, source: str) -> str:
        """Return an expression as a call that is compiled by itself, where it is written with dots.

        What a loop or a branch assigns is handed in: captured, a variable that is assigned twice would be boxed.
        """
        todo, dotted, moving = [node], False, {}
        while todo:
            part = todo.pop()
            dotted = dotted or self.is_dotted(part)
            for arg in self.args(part):
                if arg.literal is None and arg not in self.names and arg.op is not RESULT:
                    todo.append(arg)
                elif arg.op in (NAME, RESULT) and arg.block.parent is not None:
                    moving[self.text(arg)] = None
        if not dotted:
            return source
        names = ", ".join(moving)
        head = names if len(moving) == 1 else f"({names})"
        return f"rt.apart({', '.join([f'{head} -> {source}', *moving])})"

    # --- names ---

    def assign_name(self, node: Node) -> str:
        """Name a node; the elements of an array by their places in Julia."""
        if node.op is ELEMENT and node.hint and node not in self.names:
            array = self.source(node.args[0]).hint
            self.names[node] = self.new_name("_".join([array, *(str(i + 1) for i in reversed(node.note))]))
        return super().assign_name(node)

    # --- lines ---

    def lines(self, block: Block) -> list[str]:
        """Return the lines of a block, without its indentation."""
        out: list[str] = []
        for node in block.nodes:
            if node not in self.live or node.op is NAME or node in self.names:
                continue
            if isinstance(node.note, Statement):
                out += self.statement(node.note)
            elif node.op is RESULT:
                out += self.result(node)
            elif self.source(node) is node and not self.inlined(node):
                out.append(self.line(node))
        return out

    def result(self, node: Node) -> list[str]:
        """Return the line that gives what a statement left a name of its own, before the inner function reads it.

        A variable that is assigned twice would be boxed there.
        """
        if node.block.parent is not None:
            return []
        variable = self.names[node.args[1]]
        return [f"{self.assign_name(node)} = {variable}"]

    def statement(self, statement: Statement) -> list[str]:
        """Return the lines of a loop or a branch."""
        return [*super().statement(statement), "end"]

    def arm(self, arm: Arm) -> list[str]:
        """Return the lines of one block of a statement."""
        out = [arm.julia.format(*(self.text(node, TEST + 3) for node in arm.reads))]
        inner = self.lines(arm.block)
        if arm.leave is not None:
            inner += [f"{self.text(arm.leave, TEST + 1)} || break"]
        if arm.second is not None:
            inner += self.lines(arm.second)
        for step in arm.last:
            inner += self.step(step)
        return out + ["    " + line for line in inner]

    def step(self, step: Assign | Store) -> list[str]:
        """Return the line of an assignment."""
        if isinstance(step, Store):
            rank = len(step.rows.shape) - 1
            dot, value = ("." if rank else ""), self.text(step.value)
            return [f"{self.text(step.rows)}[{':, ' * rank}{self.text(step.index)}] {dot}= {value}"]
        targets = ", ".join(self.text(node) for node in step.targets)
        return [f"{targets} = {', '.join(map(self.carried, step.sources))}"]

    def carried(self, node: Node) -> str:
        """Return what leaves a function or becomes of a variable; comparisons give packed bits, of another type."""
        text = self.text(node)
        return f"Array{{Bool}}({text})" if node.shape and node.dtype == np.bool_ else text


def typed(value: Any, dtype: np.dtype) -> str:
    """Return a number of a type as source."""
    text = number(np.asarray(value, dtype).item() if dtype.kind != "f" else float(value))
    return f"{type_name(dtype)}({text})" if dtype == np.float32 else text
