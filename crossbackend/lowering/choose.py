"""Which equations are computed on cells (Python floats) and which on arrays.

A NumPy call costs about 0.4 us whatever the size, an operation of Python floats about 0.03 us, taking an array apart
or together 0.1 to 0.6 us (measured, CPython 3.11, NumPy 2.4). So connected groups of equations on small values go to
cells where the sum of these is smaller. Equations of static or constant inputs cost nothing: they run once.
"""

from __future__ import annotations

import math

import numpy as np

from crossbackend.lowering.flat import Equation, Flat, Var
from crossbackend.lowering.indexing import PLACES

LIMIT = 16  # elements of a value that may become cells
PRODUCTS = 64  # multiplications that one small dot product may become
ARRAY_COST = 0.4
COSTS = {
    "reduce_sum": 1.2,
    "reduce_max": 1.5,
    "reduce_min": 1.5,
    "reduce_prod": 1.2,
    "dot_general": 0.8,
    "concatenate": 0.7,
    "stack": 2.5,
    "pad": 3.0,
    "select_n": 1.0,
    "broadcast_in_dim": 0.2,
    "reshape": 0.15,
    "squeeze": 0.15,
    "transpose": 0.1,
    "slice": 0.12,
    "unstack": 0.2,
    "split": 0.2,
    "scatter-add": 15.0,
    "scatter": 15.0,
    "gather": 2.0,
    "sign": 0.4,
    "dynamic_update_slice": 2.0,
}
CELL_COST = 0.03
FREE = {"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "concatenate", "stack", "pad", "slice"}
FREE |= {"rev", "iota", "split", "unstack", *PLACES, "copy", "copy_p", "stop_gradient"}
KINDS = ("f8", "i4", "i8", "u4", "b1")


def small(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Tell whether a value may become cells."""
    return 0 < math.prod(shape) <= LIMIT and dtype.str[1:] in KINDS


class Choice:
    """Decides for one flat body.

    Parameters
    ----------
    flat : Flat
        The body.
    rules : collection of str
        Primitives that have a rule on cells.
    static : set of Var
        Inputs that do not change between calls.
    apart : set of Var
        Inputs that are cells already.
    """

    def __init__(self, flat: Flat, rules: object, static: set[Var], apart: set[Var]) -> None:
        self.flat, self.rules, self.apart = flat, rules, apart
        self.known: set[Var] = set()
        self.static = set(static)
        self.makers: dict[Var, Equation] = {}
        self.readers: dict[Var, list[Equation | None]] = {}
        for eqn in flat.equations:
            self.note(eqn)
        for var in flat.outputs:
            self.readers.setdefault(var, []).append(None)

    def note(self, eqn: Equation) -> None:
        """Remember who makes and reads what, and what is known or static."""
        for var in eqn.inputs:
            self.readers.setdefault(var, []).append(eqn)
            if var.constant is not None:
                self.known.add(var)
        for var in eqn.outputs:
            self.makers[var] = eqn
        if eqn.bodies:
            return
        if all(var in self.known for var in eqn.inputs):
            self.known.update(eqn.outputs)
        if all(var in self.known or var in self.static for var in eqn.inputs):
            self.static.update(eqn.outputs)

    def possible(self, eqn: Equation) -> bool:
        """Tell whether an equation can be computed on cells."""
        if eqn.name not in self.rules:  # type: ignore[operator]
            return False
        if not all(small(v.shape, v.dtype) for v in (*eqn.inputs, *eqn.outputs)):
            return False
        if eqn.name == "dot_general" and products(eqn) > PRODUCTS:
            return False
        return eqn.name not in PLACES or all(v in self.known for v in eqn.inputs[PLACES[eqn.name]])

    def run(self) -> set[Equation]:
        """Return the equations that go to cells."""
        candidates = {eqn for eqn in self.flat.equations if self.possible(eqn)}
        chosen: set[Equation] = set()
        for group in self.groups(candidates):
            if self.gain(group) > 0:
                chosen |= group
        return chosen

    def groups(self, candidates: set[Equation]) -> list[set[Equation]]:
        """Return the candidates in groups that are connected through values."""
        parent = {eqn: eqn for eqn in candidates}

        def root(eqn: Equation) -> Equation:
            while parent[eqn] is not eqn:
                parent[eqn] = parent[parent[eqn]]
                eqn = parent[eqn]
            return eqn

        for var, readers in self.readers.items():
            if var in self.known:
                continue
            near = [eqn for eqn in (*readers, self.makers.get(var)) if eqn is not None and eqn in candidates]
            for eqn in near[1:]:
                parent[root(eqn)] = root(near[0])
        found: dict[Equation, set[Equation]] = {}
        for eqn in self.flat.equations:
            if eqn in candidates:
                found.setdefault(root(eqn), set()).add(eqn)
        return list(found.values())

    def gain(self, group: set[Equation]) -> float:
        """Return the microseconds a call saves with this group on cells."""
        total = 1e-9
        crossing: set[Var] = set()
        for eqn in group:
            if not all(var in self.static for var in eqn.outputs):
                free = eqn.name in FREE or is_reshape(eqn)
                total += 0.15 if is_reshape(eqn) else COSTS.get(eqn.name, ARRAY_COST if eqn.outputs[0].shape else 0.1)
                total -= 0.0 if free else CELL_COST * work(eqn)
            crossing.update(v for v in eqn.inputs if self.makers.get(v) not in group)
            crossing.update(v for v in eqn.outputs if any(r not in group for r in self.readers.get(v, [])))
        for var in crossing:
            if var in self.known or var in self.static or (var in self.apart and self.makers.get(var) is None):
                continue
            if self.makers.get(var) in group:
                total -= 0.3 + 0.03 * math.prod(var.shape) if var.shape else 0.05
            else:
                total -= 0.08 + 0.01 * math.prod(var.shape) if var.shape else 0.03
        return total


def is_reshape(eqn: Equation) -> bool:
    """Tell whether a reduction runs over axes of size 1 alone."""
    return eqn.name.startswith("reduce_") and math.prod(eqn.inputs[0].shape) == math.prod(eqn.outputs[0].shape)


def products(eqn: Equation) -> int:
    """Return how many multiplications a dot product has."""
    (left, _), _ = eqn.params["dimension_numbers"]
    return math.prod(eqn.outputs[0].shape) * math.prod(eqn.inputs[0].shape[int(d)] for d in left)


def work(eqn: Equation) -> int:
    """Return how many scalar operations an equation becomes."""
    if eqn.name == "dot_general":
        return 2 * products(eqn)
    return max(math.prod(v.shape) for v in (*eqn.inputs, *eqn.outputs))
