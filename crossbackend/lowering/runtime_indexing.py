"""XLA's indexing in NumPy: dynamic slices, gather and scatter; a printed program reaches them through `runtime`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def update(x: np.ndarray, piece: np.ndarray, starts: Sequence[int]) -> np.ndarray:
    """Return a copy of `x` with `piece` written at `starts`, moved inside where it would stick out."""
    piece = np.asarray(piece)
    out = np.array(x)
    where = []
    for start, n, size in zip(starts, out.shape, piece.shape, strict=True):
        first = min(max(int(start), 0), n - size)
        where.append(slice(first, first + size))
    out[tuple(where)] = piece
    return out


def dynamic_slice(x: np.ndarray, starts: Sequence[int], sizes: Sequence[int]) -> np.ndarray:
    """Return the piece of `x` of shape `sizes` at `starts`, moved inside where it would stick out."""
    where = []
    for start, n, size in zip(starts, x.shape, sizes, strict=True):
        first = min(max(int(start), 0), n - size)
        where.append(slice(first, first + size))
    return x[tuple(where)]


def take_fill(x: np.ndarray, index: np.ndarray, axis: int, fill: float) -> np.ndarray:
    """Take along an axis; `fill` where the index is outside."""
    index = np.asarray(index)
    out = np.take(x, index, axis, mode="clip")
    inside = (index >= 0) & (index < x.shape[axis])
    if inside.all():
        return out
    before, after = (1,) * axis, (1,) * (x.ndim - axis - 1)
    return np.where(inside.reshape(before + index.shape + after), out, np.asarray(fill, x.dtype))


def window_indices(
    shape: tuple[int, ...],
    start: np.ndarray,
    window: tuple[int, ...],
    start_map: tuple[int, ...],
    batch_map: Sequence[tuple[int, int]],
) -> tuple[list[np.ndarray], np.ndarray]:
    """Index arrays of every window of a gather or scatter.

    Parameters
    ----------
    shape : tuple of int
        Of the operand.
    start : array of shape (*batch, len(start_map))
        First index of every window.
    window : tuple of int
        Size of a window along every axis of the operand.
    start_map : tuple of int
        The operand's axis of each column of `start`.
    batch_map : sequence of (operand axis, axis of `start`)
        Axes that are walked together.

    Returns
    -------
    indices : list of integer array, one per axis, that broadcast to (*batch, *window)
        Moved inside the operand.
    inside : bool array of shape (*batch,)
        Whether the window was inside before.
    """
    start = np.asarray(start)
    batch = start.shape[:-1]
    inside = np.ones(batch, bool)
    indices = []
    rank = len(shape)
    for axis in range(rank):
        steps = np.arange(window[axis]).reshape((1,) * (len(batch) + axis) + (-1,) + (1,) * (rank - axis - 1))
        first = np.zeros(batch, np.int64)
        if axis in start_map:
            first = start[..., start_map.index(axis)].astype(np.int64)
            high = shape[axis] - window[axis]
            inside &= (first >= 0) & (first <= high)
            first = np.clip(first, 0, high)
        for operand_axis, start_axis in batch_map:
            if operand_axis == axis:
                sides = (1,) * start_axis, (1,) * (len(batch) - start_axis - 1)
                first = np.broadcast_to(np.arange(shape[axis]).reshape(sides[0] + (-1,) + sides[1]), batch)
        indices.append(first.reshape(batch + (1,) * rank) + steps)
    return indices, inside


def gather(
    x: np.ndarray,
    start: np.ndarray,
    *,
    window: tuple[int, ...],
    offset: tuple[int, ...],
    collapsed: tuple[int, ...],
    start_map: tuple[int, ...],
    batch_map: Sequence[tuple[int, int]] = (),
    fill: float | None = None,
) -> np.ndarray:
    """XLA's gather: one window of `x` per row of `start`; see `window_indices`.

    Parameters
    ----------
    offset : tuple of int
        Where the window's axes go in the result.
    collapsed : tuple of int
        The operand's axes of size 1 that the result drops.
    fill : float or None
        What stands where a window is not inside; None moves the window inside.
    """
    indices, inside = window_indices(x.shape, start, window, start_map, batch_map)
    out = x[tuple(indices)]
    lead = inside.ndim
    if fill is not None and not inside.all():
        out = np.where(inside.reshape(inside.shape + (1,) * x.ndim), out, np.asarray(fill, x.dtype))
    dropped = {*collapsed, *(axis for axis, _ in batch_map)}
    out = out.reshape(inside.shape + tuple(n for axis, n in enumerate(window) if axis not in dropped))
    order = iter(range(lead))
    windows = iter(range(lead, out.ndim))
    return out.transpose([next(windows) if axis in offset else next(order) for axis in range(out.ndim)])


def scatter(
    x: np.ndarray,
    start: np.ndarray,
    updates: np.ndarray,
    *,
    how: str,
    window: tuple[int, ...],
    inserted: tuple[int, ...],
    start_map: tuple[int, ...],
    batch_map: Sequence[tuple[int, int]] = (),
    clip: bool = False,
) -> np.ndarray:
    """XLA's scatter: a copy of `x` with every update written or combined at its window.

    Parameters
    ----------
    how : {"set", "add", "subtract", "multiply", "minimum", "maximum"}
        What happens to the element that is there.
    window : tuple of int
        The axes of `updates` that run over a window; the others run over the rows of `start`.
    inserted : tuple of int
        The operand's axes that the window does not have.
    clip : bool
        Move a window inside; otherwise one that is not inside is dropped.
    """
    out, updates, start = np.array(x), np.asarray(updates), np.asarray(start)
    lead = [axis for axis in range(updates.ndim) if axis not in window]
    updates = updates.transpose(lead + list(window))
    absent = {*inserted, *(axis for axis, _ in batch_map)}
    sizes = iter(updates.shape[len(lead) :])
    full = tuple(1 if axis in absent else next(sizes) for axis in range(out.ndim))
    if start.ndim == 1 and not batch_map and how in ("set", "add"):
        return scatter_one(out, start, updates.reshape(full), how, start_map, clip=clip)
    indices, inside = window_indices(out.shape, start, full, start_map, batch_map)
    values = updates.reshape(inside.shape + full)
    where: tuple[np.ndarray, ...] = tuple(np.broadcast_to(index, values.shape) for index in indices)
    if not clip and not inside.all():
        where, values = tuple(index[inside] for index in where), values[inside]
    if how == "set":
        out[where] = values
    else:
        getattr(np, how).at(out, where, values)
    return out


def scatter_one(
    out: np.ndarray, start: np.ndarray, piece: np.ndarray, how: str, start_map: tuple[int, ...], *, clip: bool
) -> np.ndarray:
    """Write or add one window into `out` itself, through slices, and return it."""
    where = [slice(None)] * out.ndim
    for axis, first in zip(start_map, start.tolist(), strict=True):
        high = out.shape[axis] - piece.shape[axis]
        if not clip and not 0 <= first <= high:
            return out
        first = min(max(first, 0), high)
        where[axis] = slice(first, first + piece.shape[axis])
    for axis in set(range(out.ndim)) - set(start_map):
        where[axis] = slice(0, piece.shape[axis])
    if how == "add":
        out[tuple(where)] += piece
    else:
        out[tuple(where)] = piece
    return out
