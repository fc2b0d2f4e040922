"""Tracing: a function of named pytrees becomes a jaxpr in float64, and its leaves get readable names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Leaf:
    """One array of an argument or of the result.

    Attributes
    ----------
    name : str
        Readable and valid in Python: `params_layer0_weight`.
    access : str
        How it is read from the argument: `params["layer0"]["weight"]`.
    shape, dtype
        As traced.
    used : bool
        Whether it reaches an output.
    """

    name: str
    access: str
    shape: tuple[int, ...]
    dtype: np.dtype
    used: bool


@dataclass(frozen=True, eq=False)
class Traced:
    """A traced function.

    Attributes
    ----------
    jaxpr : jax.extend.core.ClosedJaxpr
        Without dead code; its inputs are the leaves with `used`, in order.
    arguments : dict of name to tuple of Leaf
        Every leaf of every argument, in JAX's order.
    trees : dict of name to nested containers of int
        Each argument's structure, the leaves numbered.
    result : nested containers of int
        The result's structure, the leaves numbered.
    static : frozenset of str
        Arguments that `Program.bind` takes.
    """

    jaxpr: Any
    arguments: dict[str, tuple[Leaf, ...]]
    trees: dict[str, Any]
    result: Any
    static: frozenset[str]

    def used_leaves(self, name: str) -> tuple[bool, ...]:
        """Return, per leaf of an argument in JAX's order, whether it reaches an output."""
        return tuple(leaf.used for leaf in self.arguments[name])

    def uses(self, name: str) -> Any:
        """Return an argument's structure with a bool per leaf: whether it reaches an output."""
        return rebuild(self.trees[name], self.used_leaves(name))

    @property
    def digest_text(self) -> str:
        """The jaxpr without memory addresses, a SHA-256 of every captured constant, the structure in and out."""
        hashes = [hashlib.sha256(np.ascontiguousarray(c).tobytes()).hexdigest() for c in self.jaxpr.consts]
        names = [(leaf.access, leaf.shape, leaf.used) for leaves in self.arguments.values() for leaf in leaves]
        return "\n".join(
            [
                re.sub(r"0x[0-9a-f]+", "0x", str(self.jaxpr)),
                *hashes,
                repr(names),
                repr(self.result),
                repr(sorted(self.static)),
            ]
        )


def trace(function: Callable[..., Any], args: Mapping[str, Any], *, static: Collection[str] = ()) -> Traced:
    """Trace `function(**args)` once, in float64.

    Parameters
    ----------
    function : callable
        Takes the arguments by name and returns a pytree of arrays; runs on `jax.numpy` arrays.
    args : mapping of name to pytree
        NumPy arrays or scalars in dicts, lists and tuples; only structure, shapes and kinds (float, int, bool) matter.
    static : collection of str
        Arguments that do not change between calls of a bound function.

    Raises
    ------
    ValueError
        A name in `static` is no argument, or a container is neither dict, list nor tuple.
    """
    import jax
    from jax.interpreters import partial_eval

    unknown = set(static) - set(args)
    if unknown:
        raise ValueError(f"static names {sorted(unknown)} are not among the arguments {list(args)}")
    flat, trees, counts = [], {}, {}
    for name, value in args.items():
        leaves, tree = jax.tree_util.tree_flatten(value)
        flat += [as_double(leaf) for leaf in leaves]
        trees[name] = plain(jax.tree_util.tree_unflatten(tree, range(len(leaves))), name)
        counts[name] = (len(leaves), tree)

    box: list[Any] = []

    def run(*leaves: Any) -> list[Any]:
        rest, named = list(leaves), {}
        for name, (count, tree) in counts.items():
            named[name] = jax.tree_util.tree_unflatten(tree, rest[:count])
            del rest[:count]
        out, tree = jax.tree_util.tree_flatten(function(**named))
        box[:] = [jax.tree_util.tree_unflatten(tree, range(len(out)))]
        return out

    with jax.enable_x64(True):
        closed = jax.make_jaxpr(run)(*flat)
    silent = closed.jaxpr.replace(eqns=[e for e in closed.jaxpr.eqns if e.primitive.name != "debug_callback"])
    jaxpr, used = partial_eval.dce_jaxpr(silent, [True] * len(closed.jaxpr.outvars))
    closed = drop_constants(jaxpr, closed.consts)
    arguments, marks = {}, iter(zip(flat, used, strict=True))
    for name in args:
        places = dict(sorted(paths(trees[name], name, name)))
        arguments[name] = tuple(
            Leaf(*places[i], leaf.shape, leaf.dtype, bool(mark))
            for i, (leaf, mark) in enumerate(next(marks) for _ in range(counts[name][0]))
        )
    return Traced(closed, arguments, trees, plain(box[0], "the result"), frozenset(static))


def drop_constants(jaxpr: Any, consts: Any) -> Any:
    """Return the closed jaxpr without the captured constants that nothing reads any more."""
    from jax.extend.core import ClosedJaxpr

    read = {id(v) for eqn in jaxpr.eqns for v in eqn.invars} | {id(v) for v in jaxpr.outvars}
    kept = [(var, const) for var, const in zip(jaxpr.constvars, consts, strict=True) if id(var) in read]
    return ClosedJaxpr(jaxpr.replace(constvars=[var for var, _ in kept]), [const for _, const in kept])


def as_double(leaf: Any) -> np.ndarray:
    """Return a leaf as an array of float64, int64 or bool."""
    array = np.asarray(leaf)
    if array.dtype.kind == "f":
        return array.astype(np.float64)
    return array


def plain(tree: Any, where: str) -> Any:
    """Return a structure in dicts with sorted keys, lists and tuples.

    Raises
    ------
    ValueError
        There is another container in it.
    """
    if isinstance(tree, dict):
        return {key: plain(tree[key], where) for key in sorted(tree)}
    if isinstance(tree, list):
        return [plain(child, where) for child in tree]
    if isinstance(tree, tuple):
        return tuple(plain(child, where) for child in tree)
    if tree is None or isinstance(tree, int):
        return tree
    raise ValueError(f"{where}: a {type(tree).__name__} is neither dict, list nor tuple")


def paths(tree: Any, name: str, access: str) -> list[tuple[int, tuple[str, str]]]:
    """Return (number, (readable name, source that reads it)) of every leaf."""
    if tree is None:
        return []
    if isinstance(tree, int):
        return [(tree, (name, access))]
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return [
        found
        for key, child in pairs
        for found in paths(child, f"{name}_{identifier(key)}", f"{access}[{key!r}]".replace("'", '"'))
    ]


def identifier(key: Any) -> str:
    """Return a key as part of a Python name."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in str(key))


def rebuild(tree: Any, leaves: Any) -> Any:
    """Return a structure of numbered leaves with `leaves[number]` in their places."""
    if isinstance(tree, dict):
        return {key: rebuild(child, leaves) for key, child in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(rebuild(child, leaves) for child in tree)
    return None if tree is None else leaves[tree]
