"""RK45 with a norm of one's own, natively and with the step rules of torchdiffeq and diffrax."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.integrate import RK45

from crossbackend.backends.contract import Watch
from crossbackend.hairer import first_step
from crossbackend.norms import Norm, rms
from crossbackend.ratios import Meter

Function = Callable[[float, np.ndarray], np.ndarray]
NormFunction = Callable[[np.ndarray], float]
Look = Callable[[np.ndarray, float, np.ndarray], dict[str, float]]


class SolveFailed(Exception):
    """SciPy gave up; its words."""


class NormRK45(RK45):
    """RK45 whose error is measured by a given norm and whose attempts are shown to a Watch.

    Parameters
    ----------
    *args, **kwargs
        As `scipy.integrate.RK45`.
    block_norm : callable, optional
        `block_norm(error over scale, shape (n,)) -> float`; SciPy's own RMS where it is None. The first step is
        chosen with the same norm.
    given_step : float, optional
        First step, cut to the interval.
    watch : Watch, optional
    look : callable, optional
        `look(error over scale, ratio, y) -> dict`: what the Watch keeps of an attempt.
    """

    def __init__(
        self,
        *args: Any,
        block_norm: NormFunction | None = None,
        given_step: float | None = None,
        watch: Watch | None = None,
        look: Look | None = None,
        **kwargs: Any,
    ) -> None:
        self.block_norm, self.watch, self.look = block_norm, watch, look
        t0, t_bound = args[1], args[3]
        length = abs(t_bound - t0)
        if given_step is not None:
            kwargs["first_step"] = min(given_step, length)
        elif block_norm is not None:
            kwargs["first_step"] = length  # a placeholder: chosen below, from the f(t0, y0) computed meanwhile
        super().__init__(*args, **kwargs)
        # As it was given: RK45 wraps it to count calls and to convert lists, which on a small field is a tenth of a
        # solve. What comes here returns new float64 arrays, and is counted by a Watch.
        self.fun = args[0]
        if block_norm is not None and given_step is None:
            self.h_abs = self._first_step(length)

    def _first_step(self, length: float) -> float:
        assert self.block_norm is not None
        return first_step(
            self.fun, self.t, self.y, self.f, self.direction, self.rtol, self.atol, self.block_norm, length
        )

    def _estimate_error_norm(self, K: np.ndarray, h: float, scale: np.ndarray) -> float:
        error = self._estimate_error(K, h) / scale
        if self.block_norm is None:  # SciPy's own RMS to the last bit, without what `linalg.norm` does beside it
            self.error = np.sqrt(error.dot(error)) / error.size**0.5
        else:
            self.error = self.block_norm(error)
        if self.watch is not None:
            seen = {} if self.look is None else self.look(self._error_seen(K, h, scale), self.error, self.y)
            self.watch.step(float(self.t), float(self.t + h), bool(self.error < 1), seen)
        return self.error

    def _error_seen(self, K: np.ndarray, h: float, scale: np.ndarray) -> np.ndarray:
        """Return what `look` is given: the error of an attempt over its scale."""
        return self._estimate_error(K, h) / scale


class MatchedRK45(NormRK45):
    """NormRK45 with the error estimate and the step rule of torchdiffeq and diffrax."""

    E = -RK45.E / 1.5

    def _first_step(self, length: float) -> float:
        del length  # they do not clip it
        return super()._first_step(math.inf)

    def _step_impl(self) -> Any:
        ok, message = super()._step_impl()
        if ok and self.h_previous is not None:  # a factor in [1, 10] after acceptance, whatever was rejected before
            factor = 10.0 if self.error == 0 else min(10.0, max(1.0, 0.9 * self.error**-0.2))
            self.h_abs = abs(self.h_previous) * factor
        return ok, message


def advance(
    fun: Function, t0: float, t1: float, y0: np.ndarray, method: type[NormRK45], options: dict[str, Any]
) -> np.ndarray:
    """Step a SciPy solver from t0 to t1 and return y(t1).

    Raises
    ------
    SolveFailed
        With SciPy's message.
    """
    solver = method(fun, t0, y0, t1, **options)
    for _ in steps(solver):
        pass
    return solver.y


def steps(solver: NormRK45) -> Iterator[None]:
    """Step a solver to its end, and yield after each accepted step.

    Raises
    ------
    SolveFailed
        With SciPy's message.
    """
    while solver.status == "running":
        message = solver.step()
        if solver.status == "failed":
            raise SolveFailed(message)
        yield


def look(norm: Norm, shapes: Mapping[str, tuple[int, ...]], integrals: Sequence[str], a_y: slice | None) -> Look:
    """Return what takes the error of an attempt apart by blocks: see `ratios`.

    Parameters
    ----------
    norm : Norm
    shapes : mapping of str to tuple of int
        Every block's name and shape, in the order in which they stand in the error.
    integrals : sequence of str
        State entries declared integrals.
    a_y : slice or None
        Where a_y stands in the state, None in the forward pass.
    """
    meter = Meter(norm, shapes, integrals)
    where, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape)
        where[name] = (slice(start, end), shape)

    def seen(error: np.ndarray, ratio: float, y: np.ndarray) -> dict[str, float]:
        blocks = {name: error[at].reshape(shape) for name, (at, shape) in where.items()}
        found = meter.seen(ratio, meter.read(blocks, np))
        return found if a_y is None else {**found, "rms_a_y": float(rms(y[a_y]))}

    return seen
