"""Data that changes from batch to batch, told to diffrax as integers.

diffrax gives every float leaf of `args` an adjoint, which its default norm measures and is diluted by; and a compiled
program cannot close over arrays that are its own arguments. Integers are arguments without an adjoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crossbackend import tree


def as_integers(data: Any) -> tuple[list[Any], Callable[[Any], Any]]:
    """Return the arrays of `data` as integers, bit by bit, and the function that turns them back."""
    import jax.numpy as jnp
    from jax import lax

    leaves = [jnp.asarray(leaf) for leaf in tree.values(data)]
    kinds = [leaf.dtype for leaf in leaves]

    def back(integers: Any) -> Any:
        pairs = zip(integers, kinds, strict=True)
        return tree.rebuild(data, [_bits(leaf, kind) for leaf, kind in pairs])

    def _bits(leaf: Any, kind: Any) -> Any:
        return leaf if leaf.dtype == kind else lax.bitcast_convert_type(leaf, kind)

    floating = [jnp.issubdtype(kind, jnp.floating) for kind in kinds]
    return [
        _bits(leaf, jnp.uint32) if is_float else leaf for leaf, is_float in zip(leaves, floating, strict=True)
    ], back
