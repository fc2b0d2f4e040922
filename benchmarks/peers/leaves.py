"""Which parameters a field uses: a user knows, and hands the adjoint those alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crossbackend import tree
from crossbackend.bound import Bound
from crossbackend.problem import Problem


def of_field(problem: Problem, library: str) -> tuple[bool, ...]:
    """Return for every leaf whether the field uses it."""
    return Bound(problem, library).field_leaves()


def merger(params: Any, flags: tuple[bool, ...]) -> Callable[[Any], Any]:
    """Return what puts the leaves that are used back into the tree of all."""

    def merge(used: Any) -> Any:
        mine = iter(used)
        return tree.rebuild(
            params, [next(mine) if flag else leaf for leaf, flag in zip(tree.values(params), flags, strict=True)]
        )

    return merge
