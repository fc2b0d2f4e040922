"""Primitives that move elements about, on cells: the same movement of an object array, and nothing at run time."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossbackend.lowering import runtime
from crossbackend.lowering.builder import Builder
from crossbackend.lowering.flat import Equation
from crossbackend.lowering.nodes import Value


def moved(eqn: Equation, cells: np.ndarray) -> list[Value]:
    """Return cells as the equation's only output."""
    return [Value(out.shape, out.dtype, cells=cells.reshape(out.shape)) for out in eqn.outputs]


def cell_broadcast(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Broadcast cells."""
    shape, dims = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    return moved(eqn, np.broadcast_to(b.cells(x).reshape(spaced(x.shape, shape, dims)), shape))


def spaced(old: tuple[int, ...], new: tuple[int, ...], dims: Any) -> tuple[int, ...]:
    """Return the shape with ones where a broadcast adds axes."""
    out = [1] * len(new)
    for size, axis in zip(old, dims, strict=True):
        out[int(axis)] = size
    return tuple(out)


def cell_reshape(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Reshape (after a permutation, where there is one), squeeze or expand cells."""
    order = eqn.params.get("dimensions") if eqn.name == "reshape" else None
    return moved(eqn, b.cells(x).transpose(order) if order is not None else b.cells(x))


def cell_transpose(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Permute the axes of cells."""
    return moved(eqn, b.cells(x).transpose(eqn.params["permutation"]))


def cell_concatenate(b: Builder, eqn: Equation, *xs: Value) -> list[Value]:
    """Join cells along an axis."""
    return moved(eqn, np.concatenate([b.cells(x) for x in xs], eqn.params["dimension"]))


def cell_stack(b: Builder, eqn: Equation, *xs: Value) -> list[Value]:
    """Join cells along a new axis."""
    return moved(eqn, np.stack([b.cells(x) for x in xs], eqn.params["axis"]))


def cell_pad(b: Builder, eqn: Equation, x: Value, fill: Value) -> list[Value]:
    """Pad cells."""
    widths = [tuple(int(n) for n in triple) for triple in eqn.params["padding_config"]]
    return moved(eqn, padded(b.cells(x), b.cells(fill)[()], widths))


def padded(x: np.ndarray, fill: Any, widths: Any) -> np.ndarray:
    """Pad an object array."""
    places = runtime.pad(np.arange(1, x.size + 1).reshape(x.shape), 0, widths)
    flat = [fill, *x.flat]
    out = np.empty(places.shape, object)
    for index, place in np.ndenumerate(places):
        out[index] = flat[place]
    return out


def slices(eqn: Equation) -> tuple[slice, ...]:
    """Return the slices of a `slice` equation."""
    starts, limits = eqn.params["start_indices"], eqn.params["limit_indices"]
    strides = eqn.params["strides"] or (1,) * len(starts)
    return tuple(slice(int(a), int(z), int(s)) for a, z, s in zip(starts, limits, strides, strict=True))


def cell_slice(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Cut a piece out of cells."""
    return moved(eqn, b.cells(x)[slices(eqn)])


def cell_rev(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Turn axes of cells round."""
    return moved(eqn, np.flip(b.cells(x), eqn.params["dimensions"]))


def cell_tile(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Repeat cells along every axis."""
    return moved(eqn, np.tile(b.cells(x), eqn.params["reps"]))


def cell_iota(b: Builder, eqn: Equation) -> list[Value]:
    """Count along an axis."""
    out = eqn.outputs[0]
    cells = np.empty(out.shape, object)
    for index in np.ndindex(out.shape):
        cells[index] = b.literal(index[eqn.params["dimension"]], out.dtype)
    return moved(eqn, cells)


def cell_split(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Cut cells into pieces along an axis."""
    cuts = np.cumsum(eqn.params["sizes"])[:-1]
    pieces = np.split(b.cells(x), cuts, eqn.params["axis"])
    return [Value(out.shape, out.dtype, cells=piece) for out, piece in zip(eqn.outputs, pieces, strict=True)]


def cell_unstack(b: Builder, eqn: Equation, x: Value) -> list[Value]:
    """Cut cells into slices along an axis."""
    rows = np.moveaxis(b.cells(x), eqn.params["axis"], 0)
    out = []
    for var, row in zip(eqn.outputs, rows, strict=True):
        cells = np.empty(var.shape, object)
        cells[...] = row
        out.append(Value(var.shape, var.dtype, cells=cells))
    return out


CELL_STRUCTURE = {
    "broadcast_in_dim": cell_broadcast,
    "reshape": cell_reshape,
    "squeeze": cell_reshape,
    "expand_dims": cell_reshape,
    "transpose": cell_transpose,
    "concatenate": cell_concatenate,
    "stack": cell_stack,
    "pad": cell_pad,
    "slice": cell_slice,
    "rev": cell_rev,
    "tile": cell_tile,
    "iota": cell_iota,
    "split": cell_split,
    "unstack": cell_unstack,
}
