"""What diffrax is made to say: controllers that show their steps, and the host's side of their callbacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from crossbackend import tree
from crossbackend.backends.contract import SolveStopped, Watch
from crossbackend.ratios import Meter


@cache
def controllers() -> SimpleNamespace:
    """Return the two PIDController subclasses, made when diffrax is first needed.

    `Hairer` chooses the first step by Hairer's rule with its own norm, or takes a given one. `Watching` shows every
    attempt to a host callback: `inner` is the controller it wraps, `look(error, y0)` the vector that the callback is
    given of what the inner controller's norm was handed.
    """
    import diffrax
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    from jax import lax

    # As Any: equinox makes dataclasses of these, and diffrax declares attributes that its own classes override.
    controller: Any = diffrax.PIDController
    abstract: Any = diffrax.AbstractAdaptiveStepSizeController

    class Hairer(controller):
        first: Any = None

        def init(
            self, terms: Any, t0: Any, t1: Any, y0: Any, dt0: Any, args: Any, func: Any, error_order: Any
        ) -> tuple[Any, Any]:
            if dt0 is None:
                dt0 = self._first(terms, t0, y0, args, error_order)
            return super().init(terms, t0, t1, y0, dt0, args, func, error_order)

        def _first(self, terms: Any, t0: Any, y0: Any, args: Any, error_order: Any) -> Any:
            if self.first is not None:
                return jnp.asarray(self.first, jnp.result_type(t0))
            # contr(0, 1) carries the direction of time, which `terms.vf` ignores; it works for AdjointTerm too.
            control = terms.contr(jnp.zeros_like(t0), jnp.ones_like(t0))
            slope = lambda t, y: terms.vf_prod(t, y, args, control)  # noqa: E731
            map2 = jax.tree_util.tree_map
            f0 = slope(t0, y0)
            scale = map2(lambda y: self.atol + jnp.abs(y) * self.rtol, y0)
            d0, d1 = self.norm(map2(jnp.divide, y0, scale)), self.norm(map2(jnp.divide, f0, scale))
            tiny = (d0 < 1e-5) | (d1 < 1e-5)
            h0 = jnp.where(tiny, 1e-6, 0.01 * d0 / jnp.where(tiny, 1.0, d1))
            f1 = slope(t0 + h0, map2(lambda y, f: y + h0 * f, y0, f0))
            d2 = self.norm(map2(lambda a, b, s: (a - b) / s, f1, f0, scale)) / h0
            largest = jnp.maximum(d1, d2)
            flat = largest <= 1e-15
            power = (0.01 / jnp.where(flat, 1.0, largest)) ** (1 / self._get_error_order(error_order))
            h1 = jnp.where(flat, jnp.maximum(1e-6, h0 * 1e-3), power)
            # The step size is no part of the gradient, here as everywhere in diffrax.
            return lax.stop_gradient(jnp.minimum(100 * h0, h1))

    class Watching(abstract):
        inner: Any
        note: Callable[..., None]
        look: Callable[..., Any]

        @property
        def rtol(self) -> Any:
            return self.inner.rtol

        @property
        def atol(self) -> Any:
            return self.inner.atol

        @property
        def norm(self) -> Any:
            return self.inner.norm

        def wrap(self, direction: Any) -> Any:
            return Watching(self.inner.wrap(direction), self.note, self.look)

        def init(self, *args: Any) -> Any:
            return self.inner.init(*args)

        def adapt_step_size(
            self, t0: Any, t1: Any, y0: Any, y1_candidate: Any, args: Any, y_error: Any, error_order: Any, state: Any
        ) -> Any:
            seen = []

            def norm(error: Any) -> Any:
                value = self.inner.norm(error)
                seen.append((value, self.look(error, y0)))  # while tracing: once, whatever the steps taken
                return value

            inner = eqx.tree_at(lambda controller: controller.norm, self.inner, norm)
            out = inner.adapt_step_size(t0, t1, y0, y1_candidate, args, y_error, error_order, state)
            ((ratio, numbers),) = seen
            y1 = y1_candidate[0] if isinstance(y1_candidate, tuple) else y1_candidate
            shown = bits((t0, t1, ratio, numbers)), bits(jax.tree_util.tree_leaves(y1))
            jax.debug.callback(self.note, out[0], *shown[0], *shown[1])
            return out

    return SimpleNamespace(Hairer=Hairer, Watching=Watching)


@dataclass(frozen=True)
class Eyes:
    """How a program that counts sees: `field(t, y, dy)` at every evaluation or none, a wrapper for each controller.

    `pulled(t, dy)`, or none, returns dy and is told when the gradient comes back through it.
    """

    field: Callable[[Any, Any, Any], None] | None
    controllers: tuple[Callable[[Any], Any], Callable[[Any], Any]]
    pulled: Callable[[Any, Any], Any] | None = None


def telling(tell: Callable[[Any, Any], None]) -> Callable[[Any, Any], Any]:
    """Return a function (t, dy) -> dy that calls `tell(t, finite)` on the host for every cotangent of dy."""
    import jax
    import jax.numpy as jnp

    @jax.custom_vjp
    def same(t: Any, dy: Any) -> Any:
        del t
        return dy

    def forward(t: Any, dy: Any) -> tuple[Any, Any]:
        return dy, t

    def backward(t: Any, cotangent: Any) -> tuple[Any, Any]:
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in tree.values(cotangent)]))
        jax.debug.callback(tell, *bits([t]), finite)
        return jnp.zeros_like(t), cotangent

    same.defvjp(forward, backward)
    return same


class Watched:
    """What a counting run sees; its methods are the host callbacks, bound into the compiled program once.

    A later run of the same program calls `reset` first.

    Parameters
    ----------
    times : list of float
        Stored times, increasing.
    meters : tuple of Meter
        Of the forward and of the backward pass.
    max_steps : int, optional
        Attempts allowed: see `Watch`.
    """

    def __init__(self, times: list[float], meters: tuple[Meter, Meter], max_steps: int | None = None) -> None:
        self.times, self.meters, self.max_steps = times, meters, max_steps
        self.reset(0.0)

    def reset(self, y0_max: float) -> None:
        """Forget everything and begin a forward pass."""
        span = (self.times[0], self.times[-1])
        self.forward, self.backward = (Watch(y0_max, span, self.max_steps) for _ in range(2))
        self.now = self.forward
        self.targets = self.times[-2::-1]
        self.back: dict[float, np.ndarray] = {}
        self.stopped = False

    def field(self, t: Any, y_max: Any, finite: Any) -> None:
        """Note one evaluation."""
        self.now.field(float(floats(t)), float(floats(y_max)), bool(finite))

    def forward_or_again(self, t: Any, y_max: Any, finite: Any) -> None:
        """Note one evaluation of the forward pass, or one that the way back through its steps makes again."""
        if self.now is self.forward:
            self.field(t, y_max, finite)
        else:
            self.backward.parts["recomputed"] += 1

    def pulled(self, t: Any, finite: Any) -> None:
        """Note that the gradient came back through one evaluation."""
        self.backward.field(float(floats(t)), 0.0, bool(finite))

    def forward_step(self, accepted: Any, t0: Any, t1: Any, ratio: Any, numbers: Any, *y1: Any) -> None:
        """Note an attempt of the forward pass; the way back through its steps, which repeats them, is none."""
        del y1
        if self.now is not self.forward:
            return
        seen = self.meters[0].seen(float(floats(ratio)), floats(numbers))
        self._step(self.forward, float(floats(t0)), float(floats(t1)), bool(accepted), seen)

    def backward_step(self, accepted: Any, t0: Any, t1: Any, ratio: Any, numbers: Any, *y1: Any) -> None:
        """Note an attempt of the backward pass, whose times arrive negated; rms a_y ends the numbers."""
        start, end = -float(floats(t0)), -float(floats(t1))
        *squares, rms_a_y = floats(numbers)
        seen = self.meters[1].seen(float(floats(ratio)), np.array(squares)) | {"rms_a_y": float(rms_a_y)}
        self._step(self.backward, start, end, bool(accepted), seen)
        if not accepted or len(self.back) == len(self.targets):
            return
        target = self.targets[len(self.back)]
        if end <= target + 1e-13 * max(abs(target), abs(start)):  # diffrax ends within 100 ulp
            self.back[target] = flat([floats(leaf) for leaf in y1])

    def _step(self, watch: Watch, t0: float, t1: float, accepted: bool, seen: dict[str, float]) -> None:
        try:
            watch.step(t0, t1, accepted, seen)
        except SolveStopped:
            self.stopped = True
            raise


def bits(arrays: Any) -> list[Any]:
    """Return float64 arrays as pairs of 32-bit words.

    A host callback runs in a thread where x64 is not switched on, and would be handed float32.
    """
    import jax.numpy as jnp
    from jax import lax

    return [lax.bitcast_convert_type(a, jnp.uint32) if a.dtype == jnp.float64 else a for a in map(jnp.asarray, arrays)]


def floats(words: Any) -> np.ndarray:
    """Return what `bits` packed."""
    array = np.asarray(words)
    return array.view(np.float64)[..., 0] if array.dtype == np.uint32 else array


def flat(state: Any) -> np.ndarray:
    """Return a state as one flat NumPy vector."""
    return np.concatenate([np.asarray(leaf, dtype=np.float64).reshape(-1) for leaf in tree.values(state)])
