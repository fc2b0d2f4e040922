"""Mathematics of the small values: on Python floats, and once more on NumPy floats.

A value of few elements is printed as Python floats, which are many times faster than arrays of that size. But Python
raises where NumPy gives inf or nan (`1.0 / 0.0`, `math.exp(800.0)`, `math.sqrt(-1.0)`). So every printed function that
may raise takes its scalar mathematics as an argument: it runs with `PYTHON`, and where that raises an `ArithmeticError`
or a `ValueError` it runs again with `NUMPY`, the same lines on `np.float64`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from crossbackend.lowering import runtime


def sign(x: float) -> float:
    """Return -1.0, 0.0, 1.0 or nan."""
    return math.copysign(1.0, x) if x else x


def sign_int(x: int) -> int:
    """Return -1, 0 or 1."""
    return (x > 0) - (x < 0)


def cbrt(x: float) -> float:
    """Return the real cube root (math.cbrt: infinite and nan included)."""
    return math.cbrt(x)


def divide_int(a: int, b: int) -> int:
    """Divide integers towards zero."""
    quotient = abs(a) // abs(b)
    return -quotient if (a < 0) != (b < 0) else quotient


def remainder_int(a: int, b: int) -> int:
    """Return the remainder with the dividend's sign."""
    return int(math.fmod(a, b)) if abs(a) < 1 << 53 > abs(b) else a - b * divide_int(a, b)


def round_away(x: float) -> float:
    """Round to the nearest integer, halves away from zero."""
    return math.copysign(float(math.floor(abs(x) + 0.5)) if abs(x) < 2.0**52 else abs(x), x)


def logistic(x: float) -> float:
    """Return 1 / (1 + exp(-x)); exp never overflows."""
    if x >= 0.0:
        return 1.0 / (1.0 + math.exp(-x))
    e = math.exp(x)
    return e / (1.0 + e) if e else 0.0


def order(x: float) -> tuple[float, float]:
    """Return a key that sorts floats in the total order."""
    if math.isnan(x):
        return math.copysign(2.0, x), 0.0
    if math.isinf(x):
        return math.copysign(1.0, x), 0.0
    return 0.0, x


def lt_to(a: float, b: float) -> bool:
    """Return a < b in the total order of floats: -0 before 0, nan last."""
    if a < b or b < a:
        return a < b
    return bool(runtime.lt_to(np.float64(a), np.float64(b)))


def le_to(a: float, b: float) -> bool:
    """Return a <= b in the total order of floats."""
    if a < b or b < a:
        return a < b
    return bool(runtime.le_to(np.float64(a), np.float64(b)))


def unpack_numpy(x: np.ndarray) -> Any:
    """Return nested lists of NumPy scalars, as `tolist` gives Python's."""
    return list(x) if x.ndim == 1 else [unpack_numpy(row) for row in x]


def special(name: str) -> Callable[..., Any]:
    """Return a function of scipy.special, imported at its first call."""

    @functools.cache
    def found() -> Callable[..., Any]:
        import scipy.special

        return getattr(scipy.special, name)

    def run(*args: Any) -> Any:
        return found()(*args)

    return run


def round_even(x: float) -> float:
    """Round to the nearest integer, halves to even."""
    return float(round(x))


def whole(function: Callable[[float], int]) -> Callable[[float], float]:
    """Return `function` with a float for its integer."""
    return lambda x: float(function(x))


def as_int(x: float) -> int:
    """Truncate; raises on nan and inf, and on what an int32 does not hold."""
    n = int(x)
    if -2147483648 <= n <= 2147483647:
        return n
    raise OverflowError


def as_unsigned(x: float) -> int:
    """Truncate; raises on nan and inf, and on what an unsigned int32 does not hold."""
    n = int(x)
    if 0 <= n <= 4294967295:
        return n
    raise OverflowError


NAMES = "exp expm1 log log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh sqrt atan2 nextafter".split()
NUMPY_NAMES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "atan2": "arctan2"}
NUMPY_NAMES |= {"asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh"}

SAME = {
    "maximum": lambda a, b: b if a <= b or b != b else a,
    "minimum": lambda a, b: b if a >= b or b != b else a,
    "logistic": logistic,
    "lt_to": lt_to,
    "le_to": le_to,
    "erf_inv": special("erfinv"),
    "digamma": special("digamma"),
}

PYTHON = SimpleNamespace(
    unpack=np.ndarray.tolist,
    as_float=float,
    as_int64=as_int,
    as_int32=as_int,
    as_uint32=as_unsigned,
    floor=whole(math.floor),
    ceil=whole(math.ceil),
    round_even=round_even,
    round_away=round_away,
    sign=sign,
    sign_int=sign_int,
    divide_int=divide_int,
    remainder_int=remainder_int,
    fmod=math.fmod,
    power=math.pow,
    cbrt=cbrt,
    is_finite=math.isfinite,
    erf=math.erf,
    erfc=math.erfc,
    lgamma=math.lgamma,
    **{name: getattr(math, name) for name in NAMES},
    **SAME,
)

NUMPY = SimpleNamespace(
    unpack=unpack_numpy,
    as_float=np.float64,
    as_int64=lambda x: int(runtime.to_int(x, np.int64)),
    as_int32=lambda x: int(runtime.to_int(x, np.int32)),
    as_uint32=lambda x: int(runtime.to_int(x, np.uint32)),
    floor=np.floor,
    ceil=np.ceil,
    round_even=np.rint,
    round_away=runtime.round_away,
    sign=np.sign,
    sign_int=np.sign,
    divide_int=runtime.divide_int,
    remainder_int=runtime.remainder_int,
    fmod=np.fmod,
    power=lambda a, b: np.power(np.float64(a), b),
    cbrt=np.cbrt,
    is_finite=np.isfinite,
    erf=special("erf"),
    erfc=special("erfc"),
    lgamma=special("gammaln"),
    **{name: getattr(np, NUMPY_NAMES.get(name, name)) for name in NAMES},
    **SAME,
)
