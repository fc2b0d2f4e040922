"""The table of primitives, and the walk that applies it to a flat jaxpr.

`ARRAYS` and `CELLS` map a primitive's name to a rule `(builder, equation, *values) -> values`. Each operation that a
rule makes says how NumPy writes it and how Julia does, so both printers share the rules and the walk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crossbackend.lowering.builder import Builder
from crossbackend.lowering.choose import Choice
from crossbackend.lowering.contraction import ARRAY_CONTRACTION, CELL_CONTRACTION
from crossbackend.lowering.control import cond, scan, while_loop
from crossbackend.lowering.flat import Flat, Var
from crossbackend.lowering.indexing import ARRAY_INDEXING, CELL_INDEXING
from crossbackend.lowering.maths_arrays import array_elementwise
from crossbackend.lowering.maths_cells import ELEMENTWISE, cell_elementwise
from crossbackend.lowering.moves_arrays import ARRAY_STRUCTURE
from crossbackend.lowering.moves_cells import CELL_STRUCTURE
from crossbackend.lowering.nodes import Value

Rule = Callable[..., Any]

ARRAYS: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, array_elementwise),
    **ARRAY_STRUCTURE,
    **ARRAY_CONTRACTION,
    **ARRAY_INDEXING,
}
CELLS: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, cell_elementwise),
    **CELL_STRUCTURE,
    **CELL_CONTRACTION,
    **CELL_INDEXING,
}
CONTROL: dict[str, Rule] = {"scan": scan, "cond": cond, "while": while_loop}
KNOWN = {*ARRAYS, *CONTROL}


class Walk:
    """Applies the rules to flat bodies; loops and branches come back here for theirs.

    Parameters
    ----------
    builder : Builder
        Where the nodes go.
    """

    def __init__(self, builder: Builder) -> None:
        self.builder = builder

    def run(self, flat: Flat, inputs: list[Value]) -> list[Value]:
        """Return the outputs of a body for the given inputs."""
        static = {v for v, value in zip(flat.inputs, inputs, strict=True) if self.is_static(value)}
        apart = {v for v, value in zip(flat.inputs, inputs, strict=True) if value.cells is not None}
        on_cells = Choice(flat, CELLS, static, apart).run()
        env: dict[Var, Value] = dict(zip(flat.inputs, inputs, strict=True))
        for eqn in flat.equations:
            values = [self.read(env, var) for var in eqn.inputs]
            if eqn.name in CONTROL:
                out = CONTROL[eqn.name](self, eqn, *values)
            else:
                out = (CELLS if eqn in on_cells else ARRAYS)[eqn.name](self.builder, eqn, *values)
            env.update(zip(eqn.outputs, [out] if isinstance(out, Value) else out, strict=True))
        return [self.read(env, var) for var in flat.outputs]

    def read(self, env: dict[Var, Value], var: Var) -> Value:
        """Return the value of a variable."""
        if var not in env:
            assert var.constant is not None
            env[var] = self.builder.constant(var.constant)
        return env[var]

    def is_static(self, value: Value) -> bool:
        """Tell whether a value is known before the first call."""
        nodes = list(value.cells.flat) if value.cells is not None else [value.array]
        return all(node is None or node.block is self.builder.bind for node in nodes)
