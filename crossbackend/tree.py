"""Nested dicts and lists of arrays, and the flat names their leaves carry in records.

A leaf's name is the path to it joined by `/`: `{"mlp": [{"w": W}]}` has the leaf `mlp/0/w`. Dict keys are
visited in sorted order, which is also JAX's, so that every backend sees the leaves in one order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield `(name, leaf)` in order. A bare array has the empty name; `None` has no leaves."""
    if tree is None:
        return
    if isinstance(tree, Mapping):
        pairs = [(str(key), tree[key]) for key in sorted(tree)]
    elif isinstance(tree, (list, tuple)):
        pairs = [(str(index), item) for index, item in enumerate(tree)]
    else:
        yield prefix, tree
        return
    for key, item in pairs:
        yield from leaves(item, f"{prefix}/{key}" if prefix else key)


def flatten(tree: Any) -> dict[str, Any]:
    """Return the leaves of `tree` by name, in order."""
    return dict(leaves(tree))


def values(tree: Any) -> list[Any]:
    """Return the leaves of `tree` in order."""
    return [leaf for _, leaf in leaves(tree)]


def rebuild(like: Any, new: Sequence[Any]) -> Any:
    """Return a tree of the structure of `like` whose leaves are `new`, in order.

    Mappings come back as plain dicts and tuples as lists, so that any library can be handed the result.
    """
    remaining = iter(new)
    return _rebuild(like, remaining)


def _rebuild(like: Any, remaining: Iterator[Any]) -> Any:
    if like is None:
        return None
    if isinstance(like, Mapping):
        filled = {key: _rebuild(like[key], remaining) for key in sorted(like)}
        return {key: filled[key] for key in like}
    if isinstance(like, (list, tuple)):
        return [_rebuild(item, remaining) for item in like]
    return next(remaining)


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """Return the tree with `function` applied to every leaf."""
    return rebuild(tree, [function(leaf) for leaf in values(tree)])


def structure(tree: Any) -> str:
    """Describe a tree in a few words for an error: `{position: (3,), velocity: (3,)}`."""
    if tree is None:
        return "None"
    if isinstance(tree, Mapping):
        return "{" + ", ".join(f"{key}: {structure(tree[key])}" for key in sorted(tree)) + "}"
    if isinstance(tree, (list, tuple)):
        return "[" + ", ".join(structure(item) for item in tree) + "]"
    shape = getattr(tree, "shape", None)
    return f"{type(tree).__name__} {tree!r}" if shape is None else str(tuple(int(n) for n in shape))


class Layout:
    """Where the entries of a state (an array or a dict of arrays) stand in one flat vector.

    Parameters
    ----------
    like : array or dict of arrays
        A state; only its structure and shapes are kept.

    Attributes
    ----------
    names : tuple of str
        Leaf names in order; `("",)` for a bare array.
    shapes : tuple of tuple of int
        One shape a leaf.
    slices : tuple of slice
        Where each leaf stands in the flat vector.
    size : int
        Length of the flat vector.
    """

    def __init__(self, like: Any) -> None:
        flat = flatten(like)
        self.like = map_leaves(lambda _: 0, like)
        self.names = tuple(flat)
        self.shapes = tuple(tuple(int(n) for n in np.shape(leaf)) for leaf in flat.values())
        sizes = [int(np.prod(shape, dtype=int)) for shape in self.shapes]
        ends = np.cumsum([0, *sizes])
        self.slices = tuple(slice(int(a), int(b)) for a, b in zip(ends[:-1], ends[1:], strict=True))
        self.size = int(ends[-1])

    def ravel(self, tree: Any) -> np.ndarray:
        """Return the tree's NumPy leaves as one flat float64 vector, shape (size,)."""
        parts = [np.asarray(leaf, dtype=np.float64).reshape(-1) for leaf in values(tree)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def unravel(self, flat: Any) -> Any:
        """Return the tree for a flat vector; leading axes of `flat` (..., size) are kept.

        Works for any library's array, since it only slices and reshapes.
        """
        lead = tuple(flat.shape[:-1])
        parts = [
            flat[..., where].reshape((*lead, *shape)) for where, shape in zip(self.slices, self.shapes, strict=True)
        ]
        return rebuild(self.like, parts)
