"""The vector field as torchdiffeq calls it, and one that counts and hears of every step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from crossbackend.backends.contract import Watch, max_abs
from crossbackend.dense import DenseStep
from crossbackend.norms import rms
from crossbackend.ratios import Meter

Options = dict[str, Any]


class Field:
    """The vector field as torchdiffeq calls it: a dict state is a tuple in sorted order, t stays in [lo, hi]."""

    def __init__(self, compiled: Any, lo: float = -math.inf, hi: float = math.inf) -> None:
        self.of, self.lo, self.hi = compiled, lo, hi

    def __call__(self, t: Any, y: Any) -> Any:
        """Return dy/dt."""
        if self.lo != -math.inf or self.hi != math.inf:
            t = t.clamp(self.lo, self.hi)
        bound = self.of.bound
        dy = bound.field(t, self.of.to_state(y), bound.params, bound.data)
        return self.of.from_state(dy)

    def heard(self, options: Options, adjoint_options: Options | None) -> tuple[Options, Options | None]:
        """Return the options of both passes as the library shall get them: here as they are."""
        return options, adjoint_options


class WatchedField(Field):
    """A Field that counts its evaluations and hears of every step, in both passes.

    torchdiffeq calls the methods named `callback_...` with `(t0, y0, dt)`; those ending in `_adjoint` in the
    backward pass, with t0 in the problem's time and dt positive.
    """

    def __init__(self, compiled: Any, watched: Watched, *clip: float) -> None:
        super().__init__(compiled, *clip)
        self.watched = watched

    def __call__(self, t: Any, y: Any) -> Any:
        """Return dy/dt, counted."""
        dy = super().__call__(t, y)
        state, slope = flat(y), flat(dy)
        self.watched.now.field(float(t.detach()), max_abs(state), bool(np.isfinite(slope).all()))
        if self.of.direct:
            self._count_pull(float(t.detach()), max_abs(state), dy)
        self.watched.dense.stage(slope)
        return dy

    def _count_pull(self, t: float, y_max: float, dy: Any) -> None:
        """Have autograd tell when it comes back through this evaluation: once, whatever the entries of the state."""
        told: list[bool] = []

        def hook(gradient: Any) -> None:
            if not told:
                told.append(True)
                self.watched.backward.field(t, y_max, bool(gradient.isfinite().all()))

        for part in dy if isinstance(dy, tuple) else (dy,):
            if part.requires_grad:
                part.register_hook(hook)

    def heard(self, options: Options, adjoint_options: Options | None) -> tuple[Options, Options | None]:
        """Return the options with norms that give the same numbers and keep what they were given.

        The library has no place to listen to its own norms, so these are written out as callables.
        """
        of, (forward, backward) = self.of, self.watched.meters
        inherited = {name: value for name, value in options.items() if name != "norm"}
        adjoint = inherited if adjoint_options is None else adjoint_options
        norm = options.get("norm") or library_state_norm
        adjoint_norm = adjoint.get("norm")
        if not callable(adjoint_norm):
            adjoint_norm = library_adjoint_norm(len(of.layout.names), seminorm=adjoint_norm == "seminorm")
        return (
            {**options, "norm": self.watched.listen(norm, forward, of.forward_blocks)},
            {**adjoint, "norm": self.watched.listen(adjoint_norm, backward, of.backward_blocks)},
        )

    def callback_accept_step(self, t0: Any, y0: Any, dt: Any) -> None:
        """Note an accepted forward step."""
        del y0
        self.watched.forward.step(*_ends(t0, dt), True, self.watched.last())

    def callback_reject_step(self, t0: Any, y0: Any, dt: Any) -> None:
        """Note a rejected forward step."""
        del y0
        self.watched.forward.step(*_ends(t0, dt), False, self.watched.last())

    def callback_step_adjoint(self, t0: Any, y0: Any, dt: Any) -> None:
        """Note that an attempt begins."""
        del t0, y0, dt
        self.watched.dense.begin()

    def callback_accept_step_adjoint(self, t0: Any, y0: Any, dt: Any) -> None:
        """Note an accepted backward step; one that reaches the interval's start gives the reconstructed y there."""
        seen = {**self.watched.last(), "rms_a_y": float(rms(flat(y0[2])))}
        self.watched.backward_step(float(t0), float(t0 - dt), flat(y0[1]), seen)

    def callback_reject_step_adjoint(self, t0: Any, y0: Any, dt: Any) -> None:
        """Note a rejected backward step."""
        seen = {**self.watched.last(), "rms_a_y": float(rms(flat(y0[2])))}
        self.watched.backward.step(float(t0), float(t0 - dt), False, seen)
        self.watched.dense.reject()


def _ends(t0: Any, dt: Any) -> tuple[float, float]:
    """Return the ends of a step, off the graph: autograd goes through a first step that the library has chosen."""
    return float(t0.detach()), float((t0 + dt).detach())


def library_state_norm(state: Any) -> Any:
    """Return torchdiffeq's own norm of a state: RMS, the largest over the entries of a tuple."""
    return max([_library_rms(part) for part in (state if isinstance(state, (tuple, list)) else [state])])


def library_adjoint_norm(entries: int, *, seminorm: bool) -> Callable[[Any], Any]:
    """Return torchdiffeq's default adjoint norm, or its `"seminorm"`, as a callable over (a_t, *y, *a_y, *a_params).

    In the library's own operations and order, so that its numbers come out to the last bit
    (`handle_adjoint_norm_` in torchdiffeq 0.2.5; `tests/backends/test_ratios.py` holds it to that).

    Parameters
    ----------
    entries : int
        Entries of the state.
    seminorm : bool
        Leave the parameters out.
    """

    def measure(state: Any) -> Any:
        a_t, *rest = state
        parts = [a_t.abs(), library_state_norm(rest[:entries]), library_state_norm(rest[entries : 2 * entries])]
        params = rest[2 * entries :]
        if not seminorm:
            parts.append(library_state_norm(params) if params else 0.0)
        return max(parts)

    return measure


def _library_rms(part: Any) -> Any:
    return part.abs().pow(2).mean().sqrt()


class Watched:
    """What a counting run sees: two Watches, and the reverse solve's y at the stored times.

    Parameters
    ----------
    y0_max : float
    times : list of float
        Stored times, increasing: the backward pass reaches them from the last but one down.
    meters : tuple of Meter
        Of the forward and of the backward pass.
    """

    def __init__(self, y0_max: float, times: list[float], meters: tuple[Meter, Meter]) -> None:
        span = (times[0], times[-1])
        self.meters = meters
        self._last: tuple[Meter, Any, Any] | None = None
        self.forward, self.backward = Watch(y0_max, span), Watch(y0_max, span)
        self.now = self.forward
        self.dense = DenseStep()
        self.targets = times[-2::-1]
        self.back: dict[float, np.ndarray] = {}

    def turn(self) -> None:
        """Begin the backward pass."""
        self.now, self.dense = self.backward, DenseStep()

    def listen(
        self, norm: Callable[[Any], Any], meter: Meter, blocks: Callable[[Any], dict[str, Any]]
    ) -> Callable[[Any], Any]:
        """Return the norm that also keeps what it is given; the last of it is the attempt that a callback tells of.

        Calls for a first step come before any attempt and are overwritten.
        """
        import torch

        def measure(state: Any) -> Any:
            value = norm(state)
            self._last = meter, value, meter.read(blocks(state), torch)
            return value

        return measure

    def last(self) -> dict[str, float]:
        """Return what the norm was last given, as the numbers of one attempt."""
        assert self._last is not None
        meter, value, numbers = self._last
        return meter.seen(float(getattr(value, "data", value)), numbers.detach().cpu().numpy())

    def backward_step(self, t0: float, t1: float, y0: np.ndarray, seen: dict[str, float]) -> None:
        """Note an accepted step of the backward pass."""
        self.backward.step(t0, t1, True, seen)
        target = self.targets[len(self.back)]
        if t1 <= target + 4 * np.spacing(max(abs(target), abs(t0))):  # t1 = t0 - dt carries a rounding error
            self.back[target] = self.dense.evaluate(t0, t1, y0, target)
            self.dense = DenseStep()


def flat(state: Any) -> np.ndarray:
    """Return a tensor or tuple of tensors as one flat NumPy vector."""
    parts = state if isinstance(state, tuple) else (state,)
    return np.concatenate([part.detach().cpu().numpy().astype(np.float64).reshape(-1) for part in parts])
