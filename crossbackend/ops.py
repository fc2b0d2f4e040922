"""What the array API lacks and vector fields need, dispatched on the array's own library.

A problem's functions find their namespace by `xp = ops.namespace(y)` and call these beside it, and so run as they
are under torch, `jax.numpy` and, where no derivative is asked for, NumPy. Neither torch nor jax is imported until
an array of it is seen.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from functools import cache
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from crossbackend import tree
from crossbackend.errors import Mistake, UserError

_EVERY_BRANCH: ContextVar[bool] = ContextVar("_EVERY_BRANCH", default=False)
"""Whether torch's `switch` runs every branch, so that autograd's graph shows all that the result may depend on."""


def namespace(*arrays: Any) -> Any:
    """Return the array-API namespace of the arrays (of dicts and lists of arrays too)."""
    found = [leaf for array in arrays for leaf in tree.values(array) if hasattr(leaf, "shape")]
    return array_namespace(*found)


def library(*arrays: Any) -> str:
    """Return `torch`, `jax` or `numpy`: the library of the first array found."""
    for array in arrays:
        for leaf in tree.values(array):
            if "torch" in sys.modules and isinstance(leaf, sys.modules["torch"].Tensor):
                return "torch"
            if "jax" in sys.modules and isinstance(leaf, sys.modules["jax"].Array):
                return "jax"
    return "numpy"


def _need_derivatives(what: str, *arrays: Any) -> str:
    name = library(*arrays)
    if name == "numpy":
        expected = "torch or jax arrays, which can be differentiated"
        raise UserError(Mistake(f"ops.{what}", "NumPy arrays", expected, "Let a backend call the field."))
    return name


def grad(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the gradient of a scalar function with respect to its first argument.

    Parameters
    ----------
    function : callable
        `function(x, *others) -> scalar`; x is an array or a dict of arrays.

    Returns
    -------
    callable
        `(x, *others) -> gradient`, of x's structure. Derivatives of it can be taken in turn, so it may stand
        inside a vector field (a Hamiltonian's).
    """

    def gradient(x: Any, *others: Any) -> Any:
        if _need_derivatives("grad", x, *others) == "torch":
            import torch

            return torch.func.grad(function)(x, *others)
        import jax

        return jax.grad(function)(x, *others)

    return gradient


def vjp(function: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """Return `function(*primals)` and the map from a cotangent of it to cotangents of the primals.

    Returns
    -------
    value : as `function` returns
    pullback : callable
        `pullback(cotangent) -> tuple`, one entry a primal.
    """
    if _need_derivatives("vjp", *primals) == "torch":
        import torch

        value, pull = torch.func.vjp(function, *primals)  # type: ignore[misc]
        return value, lambda cotangent: tuple(pull(cotangent))
    import jax

    value, pull = jax.vjp(function, *primals)
    return value, lambda cotangent: tuple(pull(cotangent))


def jvp(function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Return `function(*primals)` and its directional derivative along `tangents`."""
    if _need_derivatives("jvp", *primals) == "torch":
        import torch

        value, tangent = torch.func.jvp(function, tuple(primals), tuple(tangents))  # type: ignore[misc]
        return value, tangent
    import jax

    return jax.jvp(function, tuple(primals), tuple(tangents))


def relu(x: Any) -> Any:
    """Return max(x, 0), entry by entry, with derivative 0 at 0 in every library."""
    xp = namespace(x)
    return xp.where(x > 0, x, xp.zeros_like(x))


def softplus(x: Any) -> Any:
    """Return log(1 + exp(x)), entry by entry, without overflow; its derivative is `sigmoid`, at 0 too."""
    if library(x) == "torch":  # one operation in place of six, and as exact: exp(-40) is below float64's last bit
        import torch

        return torch.nn.functional.softplus(x, threshold=40.0)
    return _jax_softplus()(x) if library(x) == "jax" else _softplus(x)


def _softplus(x: Any) -> Any:
    xp = namespace(x)
    return xp.maximum(x, xp.zeros_like(x)) + xp.log1p(xp.exp(-xp.abs(x)))


@cache
def _jax_softplus() -> Callable[[Any], Any]:
    """Return softplus with its derivative said: JAX's of the formula is twice as long, and -1/2 at 0."""
    import jax
    import jax.numpy as jnp

    made = jax.custom_jvp(lambda x: _softplus(jnp.asarray(x)))  # a derivative's value may be handed in as a float
    made.defjvp(lambda primals, tangents: (made(primals[0]), sigmoid(jnp.asarray(primals[0])) * tangents[0]))
    return made


def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + exp(-x)), entry by entry."""
    xp = namespace(x)
    return 0.5 * (xp.tanh(0.5 * x) + 1.0)


def log_softmax(x: Any) -> Any:
    """Return x minus the log of the sum of exp(x) over the last axis."""
    xp = namespace(x)
    shifted = x - xp.max(x, axis=-1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))


def scan(step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any) -> tuple[Any, Any]:
    """Run `carry, out = step(carry, x)` over the leading axis of `xs`: an encoder's recurrence.

    Parameters
    ----------
    step : callable
        `step(carry, x) -> (carry, out)`; `out` may be None.
    carry : array or nested dict of arrays
    xs : array or nested dict of arrays, leading axis the length

    Returns
    -------
    carry : as given
    outs : as `out`, with a leading axis; None where `out` is None
    """
    if library(xs, carry) == "jax":
        import jax

        return jax.lax.scan(step, carry, xs)
    outs = []
    for index in range(int(tree.values(xs)[0].shape[0])):
        carry, out = step(carry, tree.map_leaves(lambda leaf, i=index: leaf[i], xs))
        outs.append(out)
    if not outs or outs[0] is None:
        return carry, None
    xp = namespace(outs[0])
    stacked = [xp.stack(list(parts)) for parts in zip(*(tree.values(out) for out in outs), strict=True)]
    return carry, tree.rebuild(outs[0], stacked)


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """Return `branches[index](*operands)`: only the chosen function is computed.

    The index is clamped to [0, len(branches) - 1], as by `jax.lax.switch`, which it is under JAX; under torch and
    NumPy the value of the index is looked at. Where the choice changes with t, the problem wants that time among
    its `breakpoints`.

    Parameters
    ----------
    index : int or integer array, shape ()
    branches : sequence of callable
        `branch(*operands)`; all return arrays (or nested dicts or lists of them) of equal shapes and dtypes.
    *operands : arrays or nested dicts or lists of arrays
        What is not among them may be closed over.

    Raises
    ------
    UserError
        No branches, or an index that is no integer scalar.
    """
    _check_switch(index, branches)
    if library(index, *operands) == "jax":
        import jax

        return jax.lax.switch(index, list(branches), *operands)
    if _EVERY_BRANCH.get():
        outs = [branch(*operands) for branch in branches]
        return tree.rebuild(outs[0], [sum(parts) for parts in zip(*map(tree.values, outs), strict=True)])
    return branches[min(max(int(index), 0), len(branches) - 1)](*operands)


def _check_switch(index: Any, branches: Sequence[Callable[..., Any]]) -> None:
    if not len(branches):
        raise UserError(Mistake("ops.switch", "no branches", "at least one"))
    if isinstance(index, int):
        return
    shape, dtype = getattr(index, "shape", None), getattr(index, "dtype", type(index).__name__)
    if shape is None or tuple(shape) != () or not namespace(index).isdtype(dtype, "integral"):
        got = f"an index of dtype {dtype}" + ("" if shape is None else f", shape {tuple(shape)}")
        fix = "Write xp.astype(xp.floor(t), xp.int32)."
        raise UserError(Mistake("ops.switch", got, "an integer, shape ()", fix))


def interpolate(t: Any, knots: Any, coefficients: Any, derivative: int = 0) -> Any:
    """Evaluate a piecewise polynomial at t: the control of a neural CDE.

    On the interval [knots[i], knots[i + 1]) the value is sum_k coefficients[i, k] (t - knots[i])**k; the first
    and the last piece go on outside. At an inner knot the right piece holds, so a derivative that jumps there
    wants the knots among the problem's `breakpoints`.

    Parameters
    ----------
    t : 0-d array
    knots : array, shape (n + 1,)
    coefficients : array, shape (n, degree + 1, ...)
        See `linear_coefficients` and `hermite_coefficients`.
    derivative : {0, 1}
        Give the value, or its derivative with respect to t.

    Returns
    -------
    array, shape (...)
    """
    xp = namespace(knots, coefficients)
    inner = knots[1:-1]
    passed = xp.astype(inner <= t, xp.int32)  # counting beats a search: no loop, and every library has it
    row = xp.reshape(xp.sum(passed, axis=0), (1,))
    s = t - xp.take(knots, row, axis=0)[0]
    piece = xp.take(coefficients, row, axis=0)[0]
    degree = int(piece.shape[0]) - 1
    if derivative == 0:
        value = piece[degree, ...]
        for k in range(degree - 1, -1, -1):
            value = value * s + piece[k, ...]
        return value
    if degree == 0:
        return xp.zeros_like(piece[0, ...])
    value = degree * piece[degree, ...]
    for k in range(degree - 1, 0, -1):
        value = value * s + k * piece[k, ...]
    return value


def linear_coefficients(knots: Any, values: Any) -> np.ndarray:
    """Return the coefficients (n, 2, ...) of the linear interpolation of NumPy `values` (n + 1, ...) at `knots`."""
    knots, values = np.asarray(knots, float), np.asarray(values, float)
    steps = np.diff(knots).reshape(-1, *[1] * (values.ndim - 1))
    return np.stack([values[:-1], np.diff(values, axis=0) / steps], axis=1)


def hermite_coefficients(knots: Any, values: Any) -> np.ndarray:
    """Return the coefficients (n, 4, ...) of the cubic Hermite spline with backward differences.

    The slope at a knot is the backward difference (the first knot takes the forward one), so that the control at
    t depends on no observation after the next knot: Morrill et al., *Neural Controlled Differential Equations
    for Online Prediction Tasks*, 2021.
    """
    knots, values = np.asarray(knots, float), np.asarray(values, float)
    h = np.diff(knots).reshape(-1, *[1] * (values.ndim - 1))
    slope = np.diff(values, axis=0) / h
    left = np.concatenate([slope[:1], slope[:-1]])
    # p(0) = v0, p'(0) = left, p(h) = v1, p'(h) = slope, and v1 - v0 = slope h.
    return np.stack([values[:-1], left, 2 * (slope - left) / h, (left - slope) / h**2], axis=1)


def conv2d(x: Any, weight: Any, stride: int = 1, padding: int = 0) -> Any:
    """Return the cross-correlation of images with a kernel: torch's or JAX's own, in NumPy one matrix product.

    Parameters
    ----------
    x : array, shape (batch, channels, height, width)
    weight : array, shape (out_channels, channels, kernel_height, kernel_width)
    stride, padding : int
        Zero padding on every side.

    Returns
    -------
    array, shape (batch, out_channels, out_height, out_width)
    """
    used = library(x, weight)
    if used == "torch":
        import torch

        return torch.nn.functional.conv2d(x, weight, stride=stride, padding=padding)
    if used == "jax":
        import jax

        around = [(padding, padding)] * 2
        return jax.lax.conv_general_dilated(x, weight, (stride, stride), around)
    xp = namespace(x, weight)
    batch, channels, height, width = (int(n) for n in x.shape)
    out_channels, _, kh, kw = (int(n) for n in weight.shape)
    if padding:
        zeros = xp.zeros((batch, channels, height, padding), dtype=x.dtype)
        x = xp.concat([zeros, x, zeros], axis=3)
        zeros = xp.zeros((batch, channels, padding, width + 2 * padding), dtype=x.dtype)
        x = xp.concat([zeros, x, zeros], axis=2)
    rows, columns = (height + 2 * padding - kh) // stride + 1, (width + 2 * padding - kw) // stride + 1
    patches = [
        x[:, :, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]
        for i in range(kh)
        for j in range(kw)
    ]
    stacked = xp.stack(patches, axis=2)  # (batch, channels, kh * kw, rows, columns)
    columns_first = xp.reshape(stacked, (batch, channels * kh * kw, rows * columns))
    kernel = xp.reshape(weight, (out_channels, channels * kh * kw))
    return xp.reshape(xp.matmul(kernel, columns_first), (batch, out_channels, rows, columns))


def asarray(array: Any, like: str, dtype: str | None = None, device: str = "cpu") -> Any:
    """Return a NumPy array in another library.

    Parameters
    ----------
    array : ndarray
    like : {"numpy", "torch", "jax"}
    dtype : {"float64", "float32"}, optional
        Precision of floating arrays; integers and booleans stay as they are.
    device : str
        As torch names it; JAX takes its default device.
    """
    array = np.asarray(array)
    if dtype is not None and array.dtype.kind == "f":
        array = array.astype(dtype)
    if like == "numpy":
        return np.array(array)
    if like == "torch":
        import torch

        return torch.as_tensor(np.array(array), device=device)
    import jax.numpy as jnp

    return jnp.asarray(array)


def to_numpy(array: Any) -> np.ndarray:
    """Return any library's array as a NumPy array, detached and on the CPU."""
    if library(array) == "torch":
        return array.detach().cpu().numpy().copy()
    return np.array(array)


def dependence(function: Callable[[Any], Any], argument: Any) -> tuple[bool, ...]:
    """Tell which leaves of `argument` the function's result depends on.

    By structure and not by value, so that a gradient which happens to be zero does not count as missing: torch's
    autograd graph, or JAX's jaxpr after dead code is gone.

    Parameters
    ----------
    function : callable
        `function(argument) -> array or nested dict of arrays`.
    argument : nested dict of arrays of torch or JAX

    Returns
    -------
    tuple of bool, one a leaf
    """
    if library(argument) == "torch":
        return _dependence_torch(function, argument)
    import jax
    from jax.interpreters import partial_eval

    jaxpr = jax.make_jaxpr(function)(argument).jaxpr
    _, used = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return tuple(bool(flag) for flag in used)


def _dependence_torch(function: Callable[[Any], Any], argument: Any) -> tuple[bool, ...]:
    import torch

    fresh = [leaf.detach().clone().requires_grad_() for leaf in tree.values(argument)]
    every = _EVERY_BRANCH.set(True)
    try:
        with torch.enable_grad():
            outputs = tree.values(function(tree.rebuild(argument, fresh)))
            total = sum(out.sum() for out in outputs)
    finally:
        _EVERY_BRANCH.reset(every)
    if not fresh or not isinstance(total, torch.Tensor) or not total.requires_grad:
        return (False,) * len(fresh)
    return tuple(g is not None for g in torch.autograd.grad(total, fresh, allow_unused=True))


def precision(like: str, dtype: str) -> AbstractContextManager[Any]:
    """Return a context in which a library computes in `dtype`: JAX needs x64 switched on for float64."""
    if like != "jax":
        return nullcontext()
    import jax

    return jax.enable_x64(dtype == "float64")


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a JAX function compiled."""
    import jax

    return jax.jit(function)
