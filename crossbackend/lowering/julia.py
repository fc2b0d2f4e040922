"""The printed Julia source: `lower_julia` makes it from the same traces, by the same rules, as the NumPy program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossbackend.lowering.builder import Builder
from crossbackend.lowering.flat import Flattener
from crossbackend.lowering.julia_forms import quoted
from crossbackend.lowering.julia_writer import TAKEN, JuliaWriter
from crossbackend.lowering.nodes import Node
from crossbackend.lowering.primitives import KNOWN, Walk
from crossbackend.lowering.program import arguments, finish
from crossbackend.lowering.trace import Traced, rebuild

HEADER = """\
# {title}: printed by crossbackend from the traces of {names}.
#
# Each bind_ function takes what does not change between calls, as dictionaries from names, and returns the function of
# the rest. Shapes in comments are NumPy's: an array of shape (a, b, c) is here one of size (c, b, a), the same memory,
# so that `A @ B` is `B * A`. Values of a few elements are numbers. `rt` is CrossBackend.Arrays; nothing throws for any
# value: where NumPy gives nan or inf, so does this.
"""
APART = """\
# In a long function `rt.apart(() -> ...)` compiles a line by itself: the whole in one piece would take minutes.
"""


@dataclass(frozen=True, eq=False)
class JuliaProgram:
    """Julia source of some traced functions.

    Attributes
    ----------
    source : str
        Definitions of `bind_NAME(static arguments..., constants)`, to be included where `rt` is CrossBackend.Arrays.
    constants : dict of name to array
        The big constants, which the source reads from `constants`.
    statics : dict of name to tuple of str
        The static arguments of each function, in order.
    """

    source: str
    constants: dict[str, np.ndarray]
    statics: dict[str, tuple[str, ...]]


def lower_julia(functions: Mapping[str, Traced], *, title: str = "") -> JuliaProgram:
    """Print traced functions as one piece of Julia source.

    Raises
    ------
    UnsupportedPrimitive
        A function uses primitives without a rule; all of that function are named.
    ValueError
        The name of a function or of an argument is one that the source itself uses.
    """
    parts, constants = [], {}
    for name, traced in functions.items():
        wrong = [word for word in (name, *traced.arguments) if word in TAKEN or not word.isidentifier()]
        if wrong:
            raise ValueError(f"{name}: {wrong} cannot name a function or an argument of the printed source")
        parts.append(printed(name, traced, constants))
    header = HEADER.format(title=title or "Julia program", names=", ".join(functions))
    header += APART if any("rt.apart(" in part for part in parts) else ""
    statics = {name: tuple(a for a in traced.arguments if a in traced.static) for name, traced in functions.items()}
    return JuliaProgram("\n".join([header, *parts]), constants, statics)


def printed(name: str, traced: Traced, constants: dict[str, np.ndarray]) -> str:
    """Return the source of one function."""
    flat = Flattener(KNOWN).run(traced.jaxpr)
    builder = Builder()
    inputs, leaves = arguments(builder, traced)
    outputs = Walk(builder).run(flat, inputs)
    results = finish(builder, outputs)
    writer = JuliaWriter(name, constants, {name, *traced.arguments})
    writer.mark(results)
    for node, leaf in leaves:
        if leaf.access in traced.arguments and leaf.access not in traced.static:
            writer.names[node] = leaf.access
    return assemble(name, traced, builder, writer, results)


def assemble(name: str, traced: Traced, b: Builder, writer: JuliaWriter, results: list[Node]) -> str:
    """Return the source of a bind_ function around the function."""
    outer = writer.lines(b.bind)
    inner = writer.lines(b.body)
    inner.append(f"return {result(rebuild(traced.result, [writer.carried(node) for node in results]))}")
    static = [a for a in traced.arguments if a in traced.static]
    dynamic = [a for a in traced.arguments if a not in traced.static]
    lines = [f"function bind_{name}({', '.join([*static, 'constants'])})"]
    lines += ["    " + line for line in [*described(traced, static), *writer.declared, *outer]]
    lines += ["", f"    function {name}({', '.join(dynamic)})"]
    lines += ["        " + line for line in [*described(traced, dynamic), *inner]]
    lines += ["    end", "", f"    return {name}", "end"]
    return "\n".join(line if line.strip() else "" for line in lines) + "\n"


def described(traced: Traced, names: list[str]) -> list[str]:
    """Return a comment per used leaf: how it is read, its shape, its dtype."""
    return [
        f"# {leaf.access}: {leaf.shape or 'scalar'} {leaf.dtype.name}"
        for argument in names
        for leaf in traced.arguments[argument]
        if leaf.used
    ]


def result(tree: Any) -> str:
    """Return nested containers of source as Julia's: a dictionary as one from strings, lists and tuples as tuples."""
    if isinstance(tree, dict):
        pairs = ", ".join(f"{quoted(str(key))} => {result(child)}" for key, child in tree.items())
        return f"Dict{{String, Any}}({pairs})"
    if isinstance(tree, list | tuple):
        return "(" + ", ".join(result(child) for child in tree) + ("," if len(tree) == 1 else "") + ")"
    return "nothing" if tree is None else str(tree)
