"""What a printed program calls beside NumPy itself: XLA's padding, convolution, total order and indexing.

Every function takes and returns NumPy arrays (or NumPy scalars), changes no argument, and raises for no value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from crossbackend.lowering.runtime_indexing import dynamic_slice, gather, scatter, take_fill, update

__all__ = [
    "accumulate",
    "conv",
    "divide_int",
    "dynamic_slice",
    "gather",
    "le_to",
    "logistic",
    "lt_to",
    "pad",
    "remainder_int",
    "round_away",
    "scatter",
    "spread",
    "take_fill",
    "to_int",
    "update",
]


def spread(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a new array of `shape` filled with `x`, which broadcasts to it."""
    out = np.empty(shape, np.asarray(x).dtype)
    out[...] = x
    return out


def pad(x: np.ndarray, fill: float, widths: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Pad each axis by (low, high, interior) elements of `fill`; negative low and high cut off.

    Where all are 0, `x` itself comes back.
    """
    x = np.asarray(x)
    if not any(any(triple) for triple in widths):
        return x
    shape, target, source = _padded(x.shape, tuple(widths))
    out = np.empty(shape, x.dtype)
    out.fill(fill)
    out[target] = x[source]
    return out


@lru_cache(4096)
def _padded(
    old: tuple[int, ...], widths: tuple[tuple[int, int, int], ...]
) -> tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]:
    """Return the shape after padding, where in it the old entries go, and which of them do.

    A program pads the same shapes again and again, and this takes longer than to move the entries.
    """
    inner = [n + max(n - 1, 0) * between for n, (_, _, between) in zip(old, widths, strict=True)]
    shape = tuple(n + low + high for n, (low, high, _) in zip(inner, widths, strict=True))
    target, source = [], []
    for n, size, (low, _, between) in zip(old, shape, widths, strict=True):
        step = between + 1
        first = max(0, -(low // step)) if low < 0 else 0
        last = min(n, max(first, (size - low + step - 1) // step))
        source.append(slice(first, last))
        target.append(slice(low + first * step, low + (last - 1) * step + 1, step) if last > first else slice(0, 0))
    return shape, tuple(target), tuple(source)


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


def accumulate(name: str, x: np.ndarray, axis: int, *, reverse: bool) -> np.ndarray:
    """Run one of add, multiply, maximum, minimum, logaddexp along an axis, from the end where `reverse`."""
    ufunc = getattr(np, name)
    if not reverse:
        return ufunc.accumulate(x, axis)
    return np.flip(ufunc.accumulate(np.flip(x, axis), axis), axis)


def _by_rows(x: np.ndarray, kernel: np.ndarray, strides: tuple[int, ...], space: tuple[int, ...]) -> np.ndarray:
    """Correlate, where there are fewer places in a window than there are windows: the rows that are copied are long.

    The windows, laid out as (n, c x window, space), are one matrix a member of the batch, and the product stands as it
    is wanted.
    """
    n, c = x.shape[:2]
    along = x.strides[2:]
    steps = (*x.strides[:2], *along, *(a * s for a, s in zip(along, strides, strict=True)))
    windows = as_strided(x, (n, c, *kernel.shape[2:], *space), steps, writeable=False)
    columns = windows.reshape(n, -1, math.prod(space))
    return np.matmul(kernel.reshape(kernel.shape[0], -1), columns).reshape(n, -1, *space)


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
    if groups == batch_groups == 1 and x.shape[1] and 0 < math.prod(size) <= math.prod(space):
        return _by_rows(x, kernel, strides, space)
    windows = sliding_window_view(x, size, tuple(range(2, 2 + rank)))  # type: ignore[call-overload]
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
