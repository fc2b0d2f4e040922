"""The printed program: `lower` makes it from traced functions, `Program.bind` makes its functions callable."""

from __future__ import annotations

import hashlib
import keyword
import linecache
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crossbackend import tree
from crossbackend.lowering import julia_forms as forms
from crossbackend.lowering import scalars
from crossbackend.lowering.builder import UNPACK, Builder
from crossbackend.lowering.flat import Flattener
from crossbackend.lowering.nodes import ELEMENT, NAME, PASS, Form, Node, Op, Value
from crossbackend.lowering.primitives import KNOWN, Walk
from crossbackend.lowering.trace import Leaf, Traced, rebuild
from crossbackend.lowering.writer import Writer

# Names that the printed source uses itself.
RESERVED = {*keyword.kwlist, "np", "rt", "special", "floats", "constants", *vars(scalars.PYTHON)}

HEADER = '''"""{title}: printed by crossbackend.lowering from the jaxpr of {names}.

Each bind_ function takes what does not change between calls and returns the function of the rest.
Arrays are NumPy's; values of a few elements are Python floats, taken apart by `unpack`. Where Python raises and NumPy
gives inf or nan, the caller runs the same lines again with floats=NUMPY (crossbackend.lowering.scalars).
"""
'''


@dataclass(frozen=True, eq=False)
class Program:
    """NumPy source of some traced functions.

    Attributes
    ----------
    source : str
        A Python module. It reads big constants from a global `constants`.
    constants : dict of name to array
        The big constants.
    careful : frozenset of str
        Functions that may raise on Python floats and are then run again on NumPy's.
    statics : dict of name to tuple of str
        The static arguments of each function, in order.
    """

    source: str
    constants: dict[str, np.ndarray]
    careful: frozenset[str]
    statics: dict[str, tuple[str, ...]]
    namespace: dict[str, Any] = field(default_factory=dict, repr=False)

    def bind(self, name: str, **static_args: Any) -> Callable[..., Any]:
        """Return a function of the dynamic arguments, by position in the order of the trace.

        What depends on static arguments and constants alone is computed here, once. The arrays of `static_args` must
        not be changed afterwards. The function returns new arrays (the array itself where the result is one leaf),
        changes no argument, raises for no value and emits no NumPy warning.

        Raises
        ------
        KeyError
            There is no such function.
        TypeError
            The static arguments are not those of the trace.
        """
        if name not in self.statics:
            raise KeyError(f"{name!r} is not among the program's functions {list(self.statics)}")
        if set(static_args) != set(self.statics[name]):
            raise TypeError(f"{name} has the static arguments {list(self.statics[name])}, got {list(static_args)}")
        make = self.module()[f"bind_{name}"]
        with np.errstate(all="ignore"):
            if name not in self.careful:
                return make(**static_args)
            try:
                fast = make(**static_args)
            except (ArithmeticError, ValueError):
                return np.errstate(all="ignore")(make(**static_args, floats=scalars.NUMPY))
        return guarded(fast, lambda: make(**static_args, floats=scalars.NUMPY))

    def module(self) -> dict[str, Any]:
        """Return the namespace of the executed source; tracebacks show its lines."""
        if not self.namespace:
            digest = hashlib.sha256(self.source.encode()).hexdigest()[:12]
            file = f"<lowered {' '.join(self.statics)} {digest}>"
            linecache.cache[file] = (len(self.source), None, self.source.splitlines(keepends=True), file)
            self.namespace["constants"] = self.constants
            exec(compile(self.source, file, "exec"), self.namespace)
        return self.namespace


def guarded(fast: Callable[..., Any], make_careful: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
    """Return `fast`, run again on NumPy floats where Python's raise."""
    careful: list[Callable[..., Any]] = []

    def run(*args: Any) -> Any:
        try:
            return fast(*args)
        except (ArithmeticError, ValueError):
            with np.errstate(all="ignore"):
                if not careful:
                    careful.append(make_careful())
                return careful[0](*args)

    return run


def lower(functions: Mapping[str, Traced]) -> Program:
    """Print traced functions as one NumPy module.

    Raises
    ------
    UnsupportedPrimitive
        A function uses primitives without a rule; all of that function are named.
    ValueError
        The name of a function or of an argument is no Python name, or one that the source itself uses.
    """
    parts, constants, careful = [], {}, set()
    for name, traced in functions.items():
        wrong = [word for word in (name, *traced.arguments) if word in RESERVED or not word.isidentifier()]
        if wrong:
            raise ValueError(f"{name}: {wrong} cannot name a function or an argument of the printed source")
        text, raises = printed(name, traced, constants)
        parts.append(text)
        if raises:
            careful.add(name)
    names = ", ".join(functions)
    body = "\n\n".join(parts)
    imports = ["import numpy as np"]
    if "special." in body:
        imports.append("from scipy import special")
    if "rt." in body or careful or "floats" in body:
        imports.append("")
    if "rt." in body:
        imports.append("from crossbackend.lowering import runtime as rt")
    if "floats" in body:
        imports.append("from crossbackend.lowering.scalars import PYTHON")
    source = HEADER.format(title="NumPy program", names=names) + "\n" + "\n".join(imports) + "\n\n\n" + body
    statics = {name: tuple(a for a in traced.arguments if a in traced.static) for name, traced in functions.items()}
    return Program(source, constants, frozenset(careful), statics)


def printed(name: str, traced: Traced, constants: dict[str, np.ndarray]) -> tuple[str, bool]:
    """Return the source of one function and whether it may raise on Python floats."""
    flat = Flattener(KNOWN).run(traced.jaxpr)
    builder = Builder()
    inputs, leaves = arguments(builder, traced)
    outputs = Walk(builder).run(flat, inputs)
    results = finish(builder, outputs)
    writer = Writer(name, constants, {name, *traced.arguments})
    writer.mark(results)
    for node, leaf in leaves:
        if leaf.access.isidentifier():
            writer.names[node] = leaf.access
    return assemble(name, traced, builder, writer, results)


def arguments(b: Builder, traced: Traced) -> tuple[list[Value], list[tuple[Node, Leaf]]]:
    """Return the values of the used leaves, and each leaf's node. A scalar is made a Python scalar at once."""
    values, leaves = [], []
    for argument, group in traced.arguments.items():
        block = b.bind if argument in traced.static else b.body
        names = {number: name for name, number in tree.leaves(traced.trees[argument])}
        for i, leaf in enumerate(group):
            if not leaf.used:
                continue
            julia = forms.leaf(argument, names[i], leaf.shape, leaf.dtype)
            op = Op(leaf.access, fresh=False, word=leaf.name, julia=julia)
            node = Node(op, (), leaf.shape, leaf.dtype, block, hint=leaf.name)
            block.nodes.append(node)
            leaves.append((node, leaf))
            if leaf.shape == () and leaf.dtype in (np.float64, np.int64, np.bool_):
                values.append(Value((), leaf.dtype, cells=np.array(b.cell(node), object).reshape(())))
            else:
                values.append(Value(leaf.shape, leaf.dtype, node))
    return values, leaves


def finish(b: Builder, outputs: list[Value]) -> list[Node]:
    """Return the nodes of the results: new arrays of the traced shape and dtype, NumPy scalars for no axes."""
    seen: set[Node] = set()
    out = []
    for value in outputs:
        node = b.full(value)
        owner = node
        while not owner.op.fresh and owner.op.template.startswith("{0}"):
            owner = owner.args[0]
        if node.shape == () and (node.cell or node.literal is not None):
            name = "bool_" if value.dtype == np.bool_ else value.dtype.name
            node = added(b, Op(f"np.{name}({{0}})", word="result", julia=PASS), node, value)
        elif node.shape == () and node.op.word == "part":
            pass  # x[3] is a NumPy scalar, which nobody can change
        elif not node.fresh or node.block is not b.body or owner in seen:
            node = added(b, Op("np.array({0})", word="copied", julia=Form("copy({0})")), node, value)
        seen.add(owner)
        out.append(node)
    return out


def added(b: Builder, op: Op, node: Node, value: Value) -> Node:
    """Return a new node at the end of the inner function, never one that is there already."""
    new = Node(op, (node,), value.shape, value.dtype, b.body)
    b.body.nodes.append(new)
    return new


def assemble(name: str, traced: Traced, b: Builder, writer: Writer, results: list[Node]) -> tuple[str, bool]:
    """Return the source of a bind_ function around the function, and whether that may raise."""
    outer = writer.lines(b.bind)
    inner = writer.lines(b.body)
    value = written(rebuild(traced.result, [writer.text(node) for node in results]))
    inner.append(f"return {value}")
    static = [a for a in traced.arguments if a in traced.static]
    dynamic = [a for a in traced.arguments if a not in traced.static]
    live = list(writer.live)
    raises = any(node.cell and node.op.raises for node in live)
    code = "\n".join([*outer, *inner])
    wanted = [word for word in vars(scalars.PYTHON) if re.search(rf"(?<![\w.\"]){word}\(", code)]
    head = [*static, "floats=PYTHON"] if wanted else static
    lines = [f"def bind_{name}({', '.join(head)}):"]
    lines += [f"    # {line}" for line in described(traced, static)]
    if wanted:
        lines.append(f"    {', '.join(wanted)} = {', '.join('floats.' + word for word in wanted)}")
    lines += ["    " + line for line in [*writer.declared, *outer]]
    lines.append("")
    if any(may_warn(node, b) for node in live):
        lines.append('    @np.errstate(all="ignore")')
    lines.append(f"    def {name}({', '.join(dynamic)}):")
    lines += [f"        # {line}" for line in described(traced, dynamic)]
    lines += ["        " + line for line in inner]
    lines += ["", f"    return {name}"]
    return "\n".join(line if line.strip() else "" for line in lines) + "\n", raises and bool(wanted or raises)


def may_warn(node: Node, b: Builder) -> bool:
    """Tell whether a node computes on NumPy arrays at every call (making one out of floats never warns)."""
    if node.cell or node.block is b.bind or node.op in (UNPACK, ELEMENT, NAME) or not node.args:
        return False
    return node.op.fresh and not node.op.template.startswith("np.array(") and node.op.word not in ("result", "joined")


def described(traced: Traced, names: list[str]) -> list[str]:
    """Return a line per used leaf: how it is read, its shape, its dtype."""
    return [
        f"{leaf.access}: {leaf.shape or 'scalar'} {leaf.dtype.name}"
        for argument in names
        for leaf in traced.arguments[argument]
        if leaf.used
    ]


def written(tree: Any) -> str:
    """Return nested containers of source as source."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key!r}: {written(child)}".replace("'", '"', 2) for key, child in tree.items()) + "}"
    if isinstance(tree, tuple):
        return "(" + ", ".join(written(child) for child in tree) + ("," if len(tree) == 1 else "") + ")"
    if isinstance(tree, list):
        return "[" + ", ".join(written(child) for child in tree) + "]"
    return str(tree)
