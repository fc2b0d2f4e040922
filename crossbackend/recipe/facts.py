"""What a recipe must know of a problem, found by running its field in whichever array library is installed."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from crossbackend import ops, tree
from crossbackend.bound import Bound
from crossbackend.errors import Mistake, UserError, raise_all
from crossbackend.problem import LIBRARIES, Problem
from crossbackend.trial import trial

TIMES_TRIED = 16
"""Times at which df/dt is looked at."""


@dataclass(frozen=True)
class Facts:
    """A problem's sizes, and how its field depends on time.

    Attributes
    ----------
    problem : Problem
    layout : tree.Layout
        Of the state.
    used, unused : dict of str to tuple of int
        Shapes of the parameter leaves that the field uses, in order, and of the others.
    follows_time : bool
        Whether df/dt is nonzero at one of the times tried, so that a_t moves.
    time : str
        The same in words.
    """

    problem: Problem
    layout: tree.Layout
    used: dict[str, tuple[int, ...]]
    unused: dict[str, tuple[int, ...]]
    follows_time: bool
    time: str

    @property
    def is_array(self) -> bool:
        """Whether the state is one array."""
        return self.layout.names == ("",)

    @property
    def seen(self) -> tuple[int, ...]:
        """Positions of the state's entries that the norm measures: all but the declared integrals."""
        return tuple(i for i, name in enumerate(self.layout.names) if name not in self.problem.integrals)

    @property
    def breakpoints(self) -> tuple[float, ...]:
        """Breakpoints strictly between the first and the last output time, where a solve must stop."""
        ts = self.problem.ts
        return tuple(b for b in self.problem.inner_breakpoints() if ts[0] < b < ts[-1])

    @property
    def params_size(self) -> int:
        """Number of parameters in the field."""
        return sum(_size(shape) for shape in self.used.values())

    def state(self, group: str, name: str) -> str:
        """Return an entry of a state called `group` as Python: `y`, or `y["z"]`."""
        return group + "".join(f"[{_quoted(key)}]" for key in name.split("/") if key)

    def literal(self, parts: Sequence[str]) -> str:
        """Return a dict state as Python, its entries' values given in order: `{"logp": a, "z": b}`."""
        return _literal(tree.rebuild(self.layout.like, parts))


def find(problem: Problem) -> Facts:
    """Return the facts of a problem, after its functions have been tried.

    Raises
    ------
    UserError
        No library that its functions are given for, a mistake in them, or a state of integrals alone.
    """
    library = _library(problem)
    raise_all(trial(problem, library).mistakes)
    bound = Bound(problem, library, problem.dtype)
    with ops.precision(library, problem.dtype):
        y0 = tree.map_leaves(ops.to_numpy, bound.initial(bound.params, bound.data))
        flags = dict(zip(bound.names, bound.field_leaves(), strict=True))
        follows, reads = _time(bound, y0)
    shapes = {name: tuple(leaf.shape) for name, leaf in tree.leaves(problem.params)}
    used = {name: shape for name, shape in shapes.items() if flags[name]}
    unused = {name: shape for name, shape in shapes.items() if not flags[name]}
    words = "does not depend on t"
    if follows:
        words = "depends on t"
    elif reads or problem.breakpoints:
        words = f"depends on t by jumps alone: df/dt = 0 at the {TIMES_TRIED} times tried"
    facts = Facts(problem, tree.Layout(y0), used, unused, follows, words)
    if not facts.seen:
        where = f"Problem({problem.name!r}).integrals"
        raise UserError(Mistake(where, "every entry of the state", "one entry that is no integral, for the norm"))
    return facts


def _library(problem: Problem) -> str:
    given = [library for library in LIBRARIES if not problem.lacks(library)]
    for library in sorted(given):
        if find_spec(library) is not None:
            return library
    where = f"recipe({problem.name!r})"
    if not given:
        raise UserError(Mistake(where, "functions that no library has all of", "one library that runs all of them"))
    extra = {"jax": "diffrax", "torch": "torchdiffeq"}[given[0]]
    got = f"functions for {' and '.join(given)}, neither installed" if given[1:] else f"{given[0]} not installed"
    raise UserError(Mistake(where, got, "the library that runs them", f"Install crossbackend[{extra}]."))


def _time(bound: Bound, y0: Any) -> tuple[bool, bool]:
    """Tell whether df/dt is nonzero at a time tried, and whether f reads t at all as far as the library shows it."""
    rng = np.random.default_rng(20210719)
    ts = bound.problem.ts
    near = [leaf + 0.05 * (abs(leaf) + 0.1) * rng.uniform(-1, 1, leaf.shape) for leaf in tree.values(y0)]
    y = bound.convert(tree.rebuild(y0, near))
    weights = bound.convert(tree.rebuild(y0, [np.asarray(rng.normal(size=leaf.shape)) for leaf in near]))

    def field(t: Any) -> Any:
        return bound.field(t, y, bound.params, bound.data)

    def slope(t: Any) -> Any:
        return ops.vjp(field, t)[1](weights)[0]

    run = ops.jit(slope) if bound.library == "jax" else slope
    tried = ts[0] + (ts[-1] - ts[0]) * (np.arange(TIMES_TRIED) + rng.uniform(size=TIMES_TRIED)) / TIMES_TRIED
    follows = any(float(ops.to_numpy(run(bound.time(float(t))))) != 0 for t in tried)
    return follows, any(ops.dependence(field, bound.time(ts[0])))


# Text that every part needs.


def comment(*sentences: str) -> str:
    """Return sentences as comment lines of at most 110 characters."""
    return "\n".join(_fill(words, "# ", "# ") for words in sentences)


def row(label: str, words: str) -> str:
    """Return a line of a table as comment lines, what follows the label under itself."""
    return _fill(words, f"# {label:13}", f"# {'':13}")


def _fill(words: str, first: str, others: str) -> str:
    return textwrap.fill(words, 110, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)


def listed(shapes: Mapping[str, Sequence[int]]) -> str:
    """Return leaves with their shapes in one line: `W1 (2, 32), b1 (32,)`."""
    return ", ".join(f"{name or 'params'} {tuple(shape)}" for name, shape in shapes.items())


def plural(count: int, word: str) -> str:
    """Return a count and its word: `1 entry` has its own plural, all others take an s."""
    return f"{count} {word}" + ("" if count == 1 else "s")


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=int))


def _quoted(key: str) -> str:
    return f'"{key}"' if key.isprintable() and '"' not in key and "\\" not in key else repr(key)


def _literal(state: Any) -> str:
    if isinstance(state, Mapping):
        return "{" + ", ".join(f"{_quoted(str(key))}: {_literal(state[key])}" for key in state) + "}"
    return str(state)
