"""What a printed program calls beside NumPy itself: XLA's indexing, padding, convolution and total order.

Every function takes and returns NumPy arrays (or NumPy scalars), changes no argument, and raises for no value.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def spread(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a new array of `shape` filled with `x`, which broadcasts to it."""
    out = np.empty(shape, np.asarray(x).dtype)
    out[...] = x
    return out


def pad(x: np.ndarray, fill: float, widths: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Pad each axis by (low, high, interior) elements of `fill`; negative low and high cut off."""
    x = np.asarray(x)
    inner = [n + max(n - 1, 0) * between for n, (_, _, between) in zip(x.shape, widths, strict=True)]
    shape = tuple(n + low + high for n, (low, high, _) in zip(inner, widths, strict=True))
    out = np.full(shape, fill, x.dtype)
    target, source = [], []
    for n, size, (low, _, between) in zip(x.shape, shape, widths, strict=True):
        step = between + 1
        first = max(0, -(low // step)) if low < 0 else 0
        last = min(n, max(first, (size - low + step - 1) // step))
        source.append(slice(first, last))
        target.append(slice(low + first * step, low + (last - 1) * step + 1, step) if last > first else slice(0, 0))
    out[tuple(target)] = x[tuple(source)]
    return out


def total(x: np.ndarray | np.float64) -> np.ndarray:
    """Map floats to integers in the total order -nan < -inf < ... < -0 < +0 < ... < inf < nan."""
    bits = np.asarray(x, np.float64).view(np.int64)
    return np.where(bits < 0, bits ^ np.int64(0x7FFFFFFFFFFFFFFF), bits)


def lt_to(a: np.ndarray | np.float64, b: np.ndarray | np.float64) -> np.ndarray:
    """Return a < b in the total order of floats."""
    return total(a) < total(b)


def le_to(a: np.ndarray | np.float64, b: np.ndarray | np.float64) -> np.ndarray:
    """Return a <= b in the total order of floats."""
    return total(a) <= total(b)


def to_int(x: np.ndarray, dtype: type) -> np.ndarray:
    """Truncate floats to integers: nan becomes 0 and what is too large the largest integer, as in XLA."""
    limits = np.iinfo(dtype)
    x = np.asarray(x)
    out = np.where(np.isnan(x), 0.0, x)
    low, high = out <= float(limits.min), out >= float(limits.max)
    whole = np.where(low | high, 0.0, out).astype(dtype)
    return np.where(low, limits.min, np.where(high, limits.max, whole)).astype(dtype)[()]


def divide_int(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Divide integers towards zero; -1 (all bits) where the divisor is zero."""
    a, b = np.asarray(a), np.asarray(b)
    safe = np.where(b == 0, 1, b)
    quotient = np.abs(a) // np.abs(safe)
    return np.where(b == 0, -1, np.where((a < 0) != (b < 0), -quotient, quotient)).astype(a.dtype)[()]


def remainder_int(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the remainder with the dividend's sign; the dividend itself where the divisor is zero."""
    a, b = np.asarray(a), np.asarray(b)
    return np.where(b == 0, a, np.fmod(a, np.where(b == 0, 1, b))).astype(a.dtype)[()]


def round_away(x: np.ndarray) -> np.ndarray:
    """Round to the nearest integer, halves away from zero."""
    return np.where(np.abs(x - np.trunc(x)) == 0.5, np.trunc(x) + np.sign(x), np.rint(x))[()]


def logistic(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + np.exp(-x))


def power_int(x: np.ndarray, n: int) -> np.ndarray:
    """Return x ** n of integers."""
    return np.power(x, n)


def accumulate(name: str, x: np.ndarray, axis: int, *, reverse: bool) -> np.ndarray:
    """Run one of add, multiply, maximum, minimum, logaddexp along an axis, from the end where `reverse`."""
    ufunc = getattr(np, name)
    if not reverse:
        return ufunc.accumulate(x, axis)
    return np.flip(ufunc.accumulate(np.flip(x, axis), axis), axis)


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


def conv(
    x: np.ndarray,
    kernel: np.ndarray,
    *,
    strides: tuple[int, ...],
    padding: Sequence[tuple[int, int]],
    x_dilation: tuple[int, ...],
    kernel_dilation: tuple[int, ...],
    groups: int = 1,
    batch_groups: int = 1,
) -> np.ndarray:
    """Correlate `x` of shape (n, c, *space) with `kernel` of shape (out, c / groups, *window).

    Returns
    -------
    array of shape (n / batch_groups, out, *space)
        No flip of the kernel. A dilation puts zeros between the elements of `x` or of the kernel.
    """
    rank = len(strides)
    x = pad(x, 0.0, [(0, 0, 0)] * 2 + [(low, high, d - 1) for (low, high), d in zip(padding, x_dilation, strict=True)])
    kernel = pad(kernel, 0.0, [(0, 0, 0)] * 2 + [(0, 0, d - 1) for d in kernel_dilation])
    size = kernel.shape[2:]
    space = tuple((n - k) // s + 1 if n >= k else 0 for n, k, s in zip(x.shape[2:], size, strides, strict=True))
    n = x.shape[0] // batch_groups
    out = np.zeros((n, kernel.shape[0], *space), x.dtype)
    if 0 in out.shape:
        return out
    windows = sliding_window_view(x, size, tuple(range(2, 2 + rank)))
    windows = windows[(slice(None), slice(None), *(slice(None, None, s) for s in strides))]
    axes = (1, *range(2 + rank, 2 + 2 * rank))
    pieces = max(groups, batch_groups)
    per_out, per_in = kernel.shape[0] // pieces, kernel.shape[1]
    for group in range(pieces):
        outs = slice(group * per_out, (group + 1) * per_out)
        part = windows[:, group * per_in : (group + 1) * per_in] if groups > 1 else windows
        part = part[group * n : (group + 1) * n] if batch_groups > 1 else part
        piece = np.tensordot(part, kernel[outs], (axes, tuple(range(1, 2 + rank))))
        out[:, outs] = np.moveaxis(piece, -1, 1)
    return out
