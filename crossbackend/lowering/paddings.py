"""Sums of paddings with zeros that lie side by side, as the derivatives of slices are: joined, not filled and added.

A slice's vector-Jacobian product is a padding, and what several slices of one array give is added up. Where the parts
lie side by side and cover the whole, their sum is a concatenation, exactly: every entry is one part's plus zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossbackend.lowering import julia_forms as forms
from crossbackend.lowering.builder import ADD, Builder, is_number
from crossbackend.lowering.nodes import Form, Node, Op

Widths = tuple[tuple[int, ...], ...]
"""Of each axis (low, high, interior)."""


@dataclass(frozen=True)
class Pieces:
    """What a sum is made of.

    Attributes
    ----------
    axis : int
        Along which the parts lie.
    parts : tuple of (start, stop, node)
        In order of their starts; zeros elsewhere.
    rest : Node or None
        What else is added, of the sum's whole shape.
    """

    axis: int
    parts: tuple[tuple[int, int, Node], ...]
    rest: Node | None = None


def pad(b: Builder, node: Node, fill: Node, widths: Widths, shape: tuple[int, ...]) -> Node:
    """Return a padded array, which remembers where its own entries are."""
    julia = Form(f"rt.pad({{0}}, {{1}}, {widths[::-1]})")
    op = Op(f"rt.pad({{0}}, {{1}}, {widths})", word="padded", julia=julia)
    made = b.node(op, (node, fill), shape, node.dtype)
    padded = [axis for axis, triple in enumerate(widths) if triple != (0, 0, 0)]
    outside = all(low >= 0 and high >= 0 and inside == 0 for low, high, inside in widths)
    if len(padded) == 1 and outside and is_number(fill, 0) and 0 not in node.shape and made.literal is None:
        low, high, _ = widths[padded[0]]
        made.pieces = Pieces(padded[0], ((low, shape[padded[0]] - high, node),))
    return made


def add(b: Builder, nodes: list[Node], shape: tuple[int, ...], dtype: np.dtype) -> Node | None:
    """Return the sum of two arrays of which one at least is made of paddings, None where nothing is known of it."""
    first, second = nodes
    merged = _merged(b, first, second) if first.shape == second.shape == shape else None
    if merged is None or first.dtype != dtype or second.dtype != dtype:
        return None
    if _covers(merged, shape):
        joined = join(b, [node for _, _, node in merged.parts], merged.axis, shape, dtype)
        return joined if merged.rest is None else b.node(ADD, (merged.rest, joined), shape, dtype)
    made = b.node(ADD, nodes, shape, dtype)
    if made.literal is None:
        made.pieces = merged
    return made


def _merged(b: Builder, first: Node, second: Node) -> Pieces | None:
    """Return what a sum is made of; None where it is not known, or the order of additions would matter."""
    a, c = first.pieces, second.pieces
    if a is None and c is None:
        return None
    if a is None:
        return _with_rest(c, first)
    if c is None:
        return _with_rest(a, second)
    if a.axis != c.axis or None not in (a.rest, c.rest):
        return None
    rest = a.rest if c.rest is None else c.rest
    places = {(start, stop): node for start, stop, node in a.parts}
    for start, stop, node in c.parts:
        known = places.get((start, stop))
        if known is not None and rest is not None:  # (rest + a) + b is not rest + (a + b)
            return None
        places[start, stop] = node if known is None else b.node(ADD, (known, node), node.shape, node.dtype)
    return Pieces(a.axis, tuple((*where, places[where]) for where in sorted(places)), rest)


def _with_rest(pieces: Pieces, rest: Node) -> Pieces | None:
    return Pieces(pieces.axis, pieces.parts, rest) if pieces.rest is None else None


def _covers(pieces: Pieces, shape: tuple[int, ...]) -> bool:
    ends = [0, *(stop for _, stop, _ in pieces.parts)]
    starts = [*(start for start, _, _ in pieces.parts), shape[pieces.axis]]
    return ends == starts


def join(b: Builder, nodes: list[Node], axis: int, shape: tuple[int, ...], dtype: np.dtype) -> Node:
    """Return arrays joined along an axis."""
    places = ", ".join(f"{{{i}}}" for i in range(len(nodes)))
    where = f", {axis}" if axis else ""
    op = Op(f"np.concatenate(({places}){where})", word="joined", julia=forms.joined(len(nodes), axis, len(shape)))
    return b.node(op, nodes, shape, dtype)
