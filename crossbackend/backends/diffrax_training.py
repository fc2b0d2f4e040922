"""Training on diffrax: BacksolveAdjoint and optax, compiled once for all batches, one host callback an attempt."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from crossbackend import ops, tree
from crossbackend.backends.diffrax_recording import Eyes
from crossbackend.backends.training import Counts, Optimiser, SolveFailed, Step

STAGES = 6
"""Evaluations of an attempt of Dopri5; a seventh is the last accepted step's, unless a solve or a jump begins here."""
FIRST_STEP = 2
"""Evaluations of Hairer's rule for a first step."""


@cache
def counting() -> Any:
    """Return a controller that tells a host callback of every attempt, made when diffrax is first needed.

    The callback is given (t0, t1, accepted, evaluations): how many an attempt takes follows from where it begins, so
    that the field itself need not call back. diffrax evaluates f at t0 again in every attempt from a solve's start or
    from a jump on, until one is accepted (0.7.2: `made_jump` stays as it is after a rejection). `restarts` are the
    times at which BacksolveAdjoint begins anew with the last interval's controller state; `first` is what choosing a
    first step costs.
    """
    import diffrax
    import jax
    import jax.numpy as jnp

    abstract: Any = diffrax.AbstractAdaptiveStepSizeController

    class Counting(abstract):
        inner: Any
        first: int
        restarts: Any
        note: Callable[[Any, Any, Any, Any], None]

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
            return Counting(self.inner.wrap(direction), self.first, self.restarts, self.note)

        def init(self, terms: Any, t0: Any, *args: Any) -> Any:
            t1, state = self.inner.init(terms, t0, *args)
            begins = jnp.asarray(True)
            return t1, (state, jnp.asarray(t0), begins, begins, begins)

        def adapt_step_size(self, t0: Any, t1: Any, *args: Any) -> Any:
            *others, (state, expected, fresh, begins, went_on) = args
            begins = begins | (went_on & jnp.any(t0 == self.restarts))
            fresh = fresh | begins | (t0 != expected)  # ClipStepSizeController steps over a jump by itself
            accepted, t0_next, t1_next, jumped, state, result = self.inner.adapt_step_size(t0, t1, *others, state)
            jax.debug.callback(self.note, t0, t1, accepted, STAGES + fresh + begins * self.first)
            state = state, t0_next, fresh & ~accepted, jnp.zeros_like(begins), accepted
            return accepted, t0_next, t1_next, jumped, state, result

    return Counting


def optax_of(optimiser: Optimiser) -> Any:
    """Return the optax transformation that does what torch.optim's optimiser of the name does."""
    import optax

    rate, decay = optimiser.learning_rate, optimiser.weight_decay
    if optimiser.name == "adamw":
        return optax.adamw(rate, weight_decay=decay)
    return optax.chain(optax.add_decayed_weights(decay), optax.adam(rate)) if decay else optax.adam(rate)


class DiffraxStepper:
    """Trains the parameters of a compiled plan; forward, backward and update are three programs, compiled once.

    Parameters
    ----------
    compiled : DiffraxCompiled
    optimiser : Optimiser
    """

    def __init__(self, compiled: Any, optimiser: Optimiser) -> None:
        import optax

        self.compiled, self.optimiser = compiled, optax_of(optimiser)
        self.counts = Counts()
        self.compile_s = 0.0
        self._programs: dict[str, Any] = {}
        self._apply = optax.apply_updates
        self.start(compiled.bound.params)

    # The programs, to be traced.

    def _forward(self, params: Any, data: Any, rtol: Any, atol: Any) -> Any:
        plan = self.compiled.plan
        first = FIRST_STEP if plan.stepping == "matched" and plan.first_step is None else 0
        inner_times = self.compiled.bound.convert(
            -np.asarray(self.compiled.problem.ts[1:-1])
        )  # backwards, t is negated
        wraps = [
            lambda inner, at=at: counting()(inner, first, at, self._attempted) for at in (inner_times[:0], inner_times)
        ]
        eyes = Eyes(None, (wraps[0], wraps[1]))
        (loss, _, _), kept = self.compiled.forward(params, data, rtol, atol, eyes)
        return loss, self._finite((loss, kept[2])), kept

    def _attempted(self, t0: Any, t1: Any, accepted: Any, evaluations: Any) -> None:
        """Note an attempt; the times of the backward solve arrive negated."""
        self.counts.evaluated(int(evaluations))
        sign = -1.0 if self.counts.now else 1.0
        self.counts.attempted(sign * float(t0), sign * float(t1), bool(accepted))

    def _predict(self, params: Any, data: Any, rtol: Any, atol: Any) -> Any:
        compiled = self.compiled
        y0 = compiled.bound.initial(params, data)
        ys, _ = compiled.solution(y0, compiled.used(params), data, rtol, atol)
        return compiled.bound.loss(ys, params, data), ys

    def _backward(self, kept: Any) -> Any:
        return self.compiled.backward(kept)[1]

    def _update(self, params: Any, memory: Any, gradient: Any, loss: Any) -> Any:
        import jax
        import jax.numpy as jnp

        finite = self._finite((loss, gradient))
        updates, fresh = self.optimiser.update(gradient, memory, params)
        after = self._apply(params, updates), fresh
        keep = lambda new, old: jnp.where(finite, new, old)  # noqa: E731
        return *jax.tree_util.tree_map(keep, after, (params, memory)), finite

    def _finite(self, arrays: Any) -> Any:
        import jax.numpy as jnp

        return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in tree.values(arrays)]))

    def _run(self, name: str, *args: Any) -> Any:
        """Run a program, compiled when first asked for; wait for its arrays and its callbacks."""
        import jax

        if name not in self._programs:
            started = time.perf_counter()
            self._programs[name] = jax.jit(getattr(self, f"_{name}")).lower(*args).compile()
            self.compile_s += time.perf_counter() - started
        try:
            out = jax.block_until_ready(self._programs[name](*args))
        except Exception as error:
            if "max_steps" not in str(error):
                raise
            words = next(line for line in str(error).splitlines() if "max_steps" in line)
            raise SolveFailed(words.rpartition("Error: ")[2]) from error
        jax.effects_barrier()
        return out

    def step(self, data: Any) -> Step:
        """Take one step on a batch."""
        compiled, plan, counts = self.compiled, self.compiled.plan, self.counts
        with compiled.context():
            batch = compiled.bound.convert(data)
            tolerances = compiled.tolerances(plan.rtol, plan.atol)
            counts.reset()
            before, began = self.compile_s, time.perf_counter()
            loss, finite, kept = self._run("forward", self._params, batch, *tolerances)
            forward = time.perf_counter() - began - (self.compile_s - before)
            if not finite:  # diffrax would try MAX_STEPS steps on an adjoint that is not finite
                return Step.of(math.nan, counts, (forward, 0.0, forward))
            counts.now = 1
            before_backward, turned = self.compile_s, time.perf_counter()
            gradient = self._run("backward", kept)
            backward = time.perf_counter() - turned - (self.compile_s - before_backward)
            self._params, self._memory, finite = self._run("update", self._params, self._memory, gradient, loss)
            everything = time.perf_counter() - began - (self.compile_s - before)
        return Step.of(float(loss) if finite else math.nan, counts, (forward, backward, everything))

    def predict(self, data: Any) -> tuple[float, Any]:
        """Return the loss and ys by a forward solve alone."""
        compiled, plan = self.compiled, self.compiled.plan
        with compiled.context():
            tolerances = compiled.tolerances(plan.rtol, plan.atol)
            loss, ys = self._run("predict", self._params, compiled.bound.convert(data), *tolerances)
            return float(loss), tree.map_leaves(ops.to_numpy, ys)

    def params(self) -> Any:
        """Return the parameters as NumPy arrays."""
        return tree.map_leaves(ops.to_numpy, self._params)

    def start(self, params: Any) -> None:
        """Begin anew from these parameters, with a fresh optimiser."""
        with self.compiled.context():
            self._params = self.compiled.bound.convert(tree.map_leaves(np.asarray, params))
            self._memory = self.optimiser.init(self._params)

    def state(self) -> dict[str, np.ndarray]:
        """Return parameters and the optimiser's state by name."""
        import jax

        named = {f"params/{name}": ops.to_numpy(leaf) for name, leaf in tree.leaves(self._params)}
        leaves = jax.tree_util.tree_leaves(self._memory)
        return named | {f"optimiser/{i:04}": ops.to_numpy(leaf) for i, leaf in enumerate(leaves)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        import jax

        self.start(tree.rebuild(self._params, [state[f"params/{name}"] for name, _ in tree.leaves(self._params)]))
        leaves, structure = jax.tree_util.tree_flatten(self._memory)
        with self.compiled.context():
            stored = [jax.numpy.asarray(state[f"optimiser/{i:04}"]) for i in range(len(leaves))]
        self._memory = jax.tree_util.tree_unflatten(structure, stored)
