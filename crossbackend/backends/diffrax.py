"""diffrax: `diffeqsolve` with Dopri5, PIDController and BacksolveAdjoint, compiled once for a sweep of tolerances.

What its users should know (diffrax 0.7.2): `dt0=None` does not select a first step but takes 0.01, on every
restart; the default adjoint norm is one RMS over (y, a_y, args, terms), which every float leaf in `args` dilutes,
so `args` holds the leaves that the field uses and data are captured as constants; its `adjoint_rms_seminorm` is
one RMS over (y, a_y), not the paper's maximum.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from crossbackend import norms, ops, tree
from crossbackend.backends.contract import (
    Settings,
    by_name,
    decline_common,
    direct_settings,
    failed,
    max_abs,
    pieces,
    plan_norm,
    reconstruction,
)
from crossbackend.backends.diffrax_data import as_integers
from crossbackend.backends.diffrax_recording import Eyes, Watched, bits, controllers, flat, telling
from crossbackend.backends.diffrax_through_steps import through_steps
from crossbackend.backends.diffrax_training import DiffraxStepper
from crossbackend.backends.training import Optimiser, Stepper
from crossbackend.bound import Bound
from crossbackend.plan import Plan
from crossbackend.problem import Problem
from crossbackend.ratios import Meter
from crossbackend.record import MAX_STEPS, Gradient, Outcome, Status
from crossbackend.snapping import snap

DIRECT_MAX_STEPS = 4096
"""diffrax's own default, which the gradient `direct` keeps: it stores checkpoints in proportion to its root."""


class DiffraxCompiled:
    """A sweep on diffrax: rtol and atol are traced, so one compilation serves every tolerance.

    The bare program is one jitted function. The counting program is two, forward and backward, so that the two
    passes can be told apart; it is compiled only when `record` is called.
    """

    def __init__(self, problem: Problem, plan: Plan) -> None:
        started = time.perf_counter()
        self.problem, self.plan = problem, plan
        with self.context():
            self.bound = Bound(problem, "jax", plan.dtype, plan.device)
            self.flags = self.bound.field_leaves()
        self.used_names = tuple(n for n, flag in zip(self.bound.names, self.flags, strict=True) if flag)
        self.norm = plan_norm(problem, plan)
        self.matched, self.direct = plan.stepping == "matched", plan.gradient == "direct"
        self.max_steps = DIRECT_MAX_STEPS if self.direct else MAX_STEPS
        self.chained = self.matched and bool(problem.inner_breakpoints())
        times = sorted({*problem.ts, *problem.inner_breakpoints()}) if self.chained else list(problem.ts)
        self.measured = self.norm or norms.NAMED["pooled-seminorm" if plan.norm == "seminorm" else "pooled"]
        with self.context():
            y0 = self.bound.initial(self.bound.params, self.bound.data)
            self.layout = tree.Layout(tree.map_leaves(ops.to_numpy, y0))
            self.watched = Watched(times, self._meters(), DIRECT_MAX_STEPS if self.direct else None)
            self._programs(ops.jit)
        self.compile_s = time.perf_counter() - started
        self._compiled: Any = None
        self._tolerances: tuple[Any, Any] = None, None

    @contextmanager
    def context(self) -> Iterator[None]:
        """Compute in the plan's precision and on its device, whatever JAX's defaults are."""
        import jax

        place = jax.devices("gpu" if self.plan.device == "cuda" else "cpu")[0]
        with ops.precision("jax", self.plan.dtype), jax.default_device(place):
            yield

    # Norms, as the library takes them.

    def forward_blocks(self, y: Any) -> dict[str, Any]:
        """Return the blocks of the forward state."""
        return norms.named({"y": tree.flatten(y)})

    def backward_blocks(self, state: Any) -> dict[str, Any]:
        """Return the blocks of (y, a_y, a_args, a_terms)."""
        y, a_y, a_args, _ = state
        leaves = tree.values(a_args)[: len(self.used_names)]
        named = dict(zip(self.used_names, leaves, strict=True))
        return norms.named({"y": tree.flatten(y), "a_y": tree.flatten(a_y), "a_params": named})

    def forward_norm(self) -> Callable[[Any], Any] | None:
        """Return the norm of the forward pass over y, None for the library's own."""
        return None if self.norm is None else self._callable(self.norm.forward(), self.forward_blocks)

    def backward_norm(self) -> Callable[[Any], Any] | None:
        """Return the norm over (y, a_y, a_args, a_terms), None for the library's default."""
        if self.norm is not None:
            return self._callable(self.norm, self.backward_blocks)
        if self.plan.norm == "seminorm":
            import diffrax

            return diffrax.adjoint_rms_seminorm
        return None

    def _callable(self, norm: norms.Norm, blocks: Callable[[Any], dict[str, Any]]) -> Callable[[Any], Any]:
        import jax.numpy as jnp

        integrals, snapped = self.problem.integrals, self.matched

        def measure(state: Any) -> Any:
            value = norms.evaluate(norm, blocks(state), jnp, integrals)
            return snap(value, jnp) if snapped else value

        return measure

    def _meters(self) -> tuple[Meter, Meter]:
        shapes = dict(zip(self.layout.names, self.layout.shapes, strict=True))
        params = {name: leaf.shape for name, leaf in tree.leaves(self.bound.params) if name in self.used_names}
        own, integrals = self.measured, self.problem.integrals
        backward = norms.named({"y": shapes, "a_y": shapes, "a_params": params})
        return Meter(own.forward(), norms.named({"y": shapes}), integrals), Meter(own, backward, integrals)

    def _look_forward(self, error: Any, y0: Any) -> Any:
        import jax.numpy as jnp

        del y0
        return self.watched.meters[0].read(self.forward_blocks(error), jnp)

    def _look_backward(self, error: Any, y0: Any) -> Any:
        import jax.numpy as jnp

        a_y = jnp.concatenate([jnp.ravel(leaf) for leaf in tree.values(y0[1])])
        numbers = self.watched.meters[1].read(self.backward_blocks(error), jnp)
        return jnp.concatenate([numbers, norms.rms(a_y, jnp)[None]])

    def _controller(self, norm: Callable[[Any], Any] | None, rtol: Any, atol: Any, watching: Any) -> Any:
        import diffrax

        own: dict[str, Any] = {} if norm is None else {"norm": norm}
        if self.matched or self.plan.first_step is not None:
            made = controllers().Hairer(rtol=rtol, atol=atol, first=self.plan.first_step, **own)
        else:
            made = diffrax.PIDController(rtol=rtol, atol=atol, **own)
        inner = [b for b in self.problem.inner_breakpoints() if self.problem.ts[0] < b < self.problem.ts[-1]]
        made = made if watching is None else watching(made)
        if inner and not self.matched:
            return diffrax.ClipStepSizeController(made, jump_ts=self._times(inner))
        return made

    def _times(self, ts: Any) -> Any:
        return self.bound.convert(np.asarray(ts, dtype=np.float64))

    # The programs.

    def _merge(self, params: Any, used: Any) -> Any:
        mine = iter(used)
        merged = [next(mine) if flag else leaf for leaf, flag in zip(tree.values(params), self.flags, strict=True)]
        return tree.rebuild(params, merged)

    def solution(self, y0: Any, used: Any, data: Any, rtol: Any, atol: Any, eyes: Any = None) -> Any:
        """Return ys by the library, leading axis len(ts), and the states at every stored time.

        Parameters
        ----------
        y0, data : as the problem's
        used : list of arrays
            The parameter leaves that the field uses.
        rtol, atol : 0-d arrays
        eyes : Eyes, optional
            Sees evaluations and attempts. None for the bare program.
        """
        if self.chained:
            return self._solve_chain(y0, used, data, rtol, atol, eyes)
        ts = self._times(self.problem.ts)
        ys = self._diffeqsolve(ts[0], ts[-1], y0, (used, None), ts[1:], data, rtol, atol, eyes)
        return ys, ys

    def _diffeqsolve(
        self, t0: Any, t1: Any, y0: Any, args: Any, ts: Any, data: Any, rtol: Any, atol: Any, eyes: Any
    ) -> Any:
        import diffrax

        notes = (None, None) if eyes is None else eyes.controllers
        forward = self._controller(self.forward_norm(), rtol, atol, notes[0])
        adjoint = self._adjoint(rtol, atol, notes[1])
        saveat = diffrax.SaveAt(t0=True, ts=ts) if ts is not None else diffrax.SaveAt(t1=True)
        integers, floats = (None, lambda _: data) if data is self.bound.data else as_integers(data)
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(partial(self._field, data_of=floats, eyes=eyes)), diffrax.Dopri5(), t0, t1, None, y0,
            (*args, integers),
            saveat=saveat, stepsize_controller=forward, adjoint=adjoint, max_steps=self.max_steps,
        )  # fmt: skip
        return solution.ys

    def _adjoint(self, rtol: Any, atol: Any, watching: Any) -> Any:
        import diffrax

        if self.direct:
            return diffrax.RecursiveCheckpointAdjoint()
        norm = self.backward_norm()
        if norm is None and watching is None:  # untouched, it takes the forward controller for the backward solve
            return diffrax.BacksolveAdjoint()
        return diffrax.BacksolveAdjoint(stepsize_controller=self._controller(norm, rtol, atol, watching))

    def _field(self, t: Any, y: Any, args: Any, *, data_of: Callable[[Any], Any], eyes: Any) -> Any:
        import jax.numpy as jnp

        used, clip, integers = args
        if clip is not None:
            t = jnp.clip(t, *clip)
        dy = self.bound.field(t, y, self._merge(self.bound.params, used), data_of(integers))
        if eyes is not None and eyes.field is not None:
            eyes.field(t, y, dy)
        if eyes is not None and eyes.pulled is not None:
            dy = eyes.pulled(t, dy)
        return dy

    def _eyes(self) -> Eyes:
        """Return what the counting program sees with."""
        import jax
        import jax.numpy as jnp

        def look(t: Any, y: Any, dy: Any) -> None:
            leaves = [jnp.max(jnp.abs(leaf)) for leaf in tree.values(y) if leaf.size]
            y_max = jnp.max(jnp.stack(leaves))
            finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in tree.values(dy)]))
            note = self.watched.forward_or_again if self.direct else self.watched.field
            jax.debug.callback(note, *bits((t, y_max)), finite)

        watching = controllers().Watching
        forward = partial(watching, note=self.watched.forward_step, look=self._look_forward)
        backward = partial(watching, note=self.watched.backward_step, look=self._look_backward)
        return Eyes(look, (forward, backward), telling(self.watched.pulled) if self.direct else None)

    def _solve_chain(self, y0: Any, used: Any, data: Any, rtol: Any, atol: Any, eyes: Any) -> Any:
        """Chain one-interval solves by `lax.scan`, split at outputs and breakpoints."""
        import jax
        import jax.numpy as jnp

        chain = pieces(self.problem)

        def piece(y: Any, row: Any) -> tuple[Any, Any]:
            args = used, (row[2], row[3])
            out = self._diffeqsolve(row[0], row[1], y, args, None, data, rtol, atol, eyes)
            y = jax.tree_util.tree_map(lambda leaf: leaf[0], out)
            return y, y

        _, ends = jax.lax.scan(piece, y0, self._times(chain))
        stored = jax.tree_util.tree_map(lambda a, b: jnp.concatenate([a[None], b]), y0, ends)
        index = np.array([self.watched.times.index(t) for t in self.problem.ts])
        return jax.tree_util.tree_map(lambda leaf: leaf[index], stored), stored

    def _programs(self, jit: Callable[..., Any]) -> None:
        """Make the jitted functions; nothing is compiled before their first call."""

        def bare(params: Any, rtol: Any, atol: Any) -> Any:
            (loss, _, _), kept = self.forward(params, self.bound.data, rtol, atol)
            return loss, self.backward(kept)

        def counting(params: Any, rtol: Any, atol: Any) -> Any:
            return self.forward(params, self.bound.data, rtol, atol, self._eyes())

        self._bare = jit(bare)
        self._counting = jit(counting), jit(self.backward)

    def used(self, params: Any) -> list[Any]:
        """Return the leaves that the field uses."""
        return [leaf for leaf, flag in zip(tree.values(params), self.flags, strict=True) if flag]

    def forward(self, params: Any, data: Any, rtol: Any, atol: Any, eyes: Any = None) -> Any:
        """Return (loss, ys, stored states) and what the backward pass needs; to be traced."""
        import jax

        y0, pull_initial = jax.vjp(lambda p: self.bound.initial(p, data), params)
        solve = partial(self.solution, data=data, rtol=rtol, atol=atol, eyes=eyes)
        ys, pull_solve, stored = jax.vjp(solve, y0, self.used(params), has_aux=True)
        loss, pull_loss = jax.vjp(lambda ys, p: self.bound.loss(ys, p, data), ys, params)
        of_ys, direct = pull_loss(loss * 0 + 1)
        return (loss, ys, stored), (pull_initial, pull_solve, of_ys, direct)

    def backward(self, kept: Any) -> Any:
        """Return the gradient by y0 and by the parameters; to be traced."""
        import jax

        pull_initial, pull_solve, of_ys, direct = kept
        of_y0, of_used = pull_solve(of_ys)
        (of_initial,) = pull_initial(of_y0)
        add = jax.tree_util.tree_map
        through_field = self._merge(tree.map_leaves(lambda leaf: leaf * 0, direct), of_used)
        return of_y0, add(lambda a, b, c: a + b + c, direct, of_initial, through_field)

    def tolerances(self, rtol: float, atol: float) -> tuple[Any, Any]:
        """Return the tolerances as arrays, which the programs are compiled for once; the last two are kept."""
        if self._tolerances[0] != (rtol, atol):  # on a small problem making them takes an eighth of a solve
            made = self.bound.convert(np.float64(rtol)), self.bound.convert(np.float64(atol))
            self._tolerances = (rtol, atol), made
        return self._tolerances[1]

    def _result(self, loss: Any, of_y0: Any, of_params: Any) -> Gradient:
        arrays = by_name(tree.map_leaves(ops.to_numpy, of_y0)), by_name(tree.map_leaves(ops.to_numpy, of_params))
        return Gradient(float(loss), *arrays)

    def solve(self, rtol: float, atol: float) -> Gradient:
        """Run bare; the first call compiles."""
        with self.context():
            tolerances = self.tolerances(rtol, atol)
            if self._compiled is None:
                started = time.perf_counter()
                self._compiled = self._bare.lower(self.bound.params, *tolerances).compile()
                self.compile_s += time.perf_counter() - started
            loss, (of_y0, of_params) = self._compiled(self.bound.params, *tolerances)
            return self._result(loss, of_y0, of_params)

    def record(self, rtol: float, atol: float) -> Outcome:
        """Run once, counted."""
        import jax

        watched, ys = self.watched, None
        with self.context():
            y0 = self.bound.initial(self.bound.params, self.bound.data)
            watched.reset(max_abs(flat(y0)))
            forward, backward = self._counting
            try:
                (loss, ys, stored), kept = jax.block_until_ready(
                    forward(self.bound.params, *self.tolerances(rtol, atol))
                )
                jax.effects_barrier()
                watched.now = watched.backward
                of_y0, of_params = jax.block_until_ready(backward(kept))
                jax.effects_barrier()
            except Exception as error:
                if not watched.stopped and "max_steps" not in str(error):
                    raise
                last = None if watched.now is watched.forward else watched.backward
                found = None if ys is None else by_name(tree.map_leaves(ops.to_numpy, ys))
                return failed(watched.forward, last, found)
            gradient = self._result(loss, of_y0, of_params)
            rows = np.stack([flat(tree.map_leaves(lambda a, i=i: a[i], stored)) for i in range(len(watched.times))])
            error = reconstruction(dict(zip(watched.times, rows, strict=True)), watched.back)
            steps = watched.forward.steps(), watched.backward.steps()
            return Outcome(Status.OK, "", gradient, by_name(tree.map_leaves(ops.to_numpy, ys)), *steps, error)

    def settings(self, rtol: float, atol: float) -> Settings:
        """Return the effective settings of both passes."""
        inner = self.problem.inner_breakpoints()
        if self.plan.first_step is not None:
            first = f"{self.plan.first_step:g}"
        else:
            first = "Hairer" if self.matched else "0.01, at every restart"
        common = {
            "solver": "Dopri5",
            "rtol": rtol,
            "atol": atol,
            "error_estimate": "Shampine",
            "first_step": first,
            "after_acceptance": "factor in [1, 10]",
            "accept": "ratio < 1",
            "ratio_snapped": self.matched,
            "ends": "clipped to the interval",
            "breakpoints": ("chain of solves" if self.chained else "jump_ts") if inner else "none",
            "max_steps": self.max_steps,
        }
        norm = self.measured
        forward = {**common, "norm": norm.forward().describe()}
        forward["outputs"] = "one solve per piece" if self.chained else "dense output"
        if self.direct:
            how = "RecursiveCheckpointAdjoint, as many checkpoints as it chooses for max_steps"
            return {"forward": forward, "backward": direct_settings(rtol, atol, how)}
        backward = {**common, "norm": norm.describe(), "across": norm.across_blocks}
        return {"forward": forward, "backward": {**backward, "outputs": "restart at every output", "a_t": False}}


def free_caches() -> None:
    """Empty the caches of traced and compiled functions; programs compiled ahead of time stay."""
    import equinox as eqx
    import jax

    jax.clear_caches()
    eqx.clear_caches()


class DiffraxBackend:
    """diffrax on JAX's default device, or the GPU."""

    name = "diffrax"
    library = "jax"
    distributions = ("diffrax", "equinox", "jax", "jaxlib")
    training_distributions = ("optax",)

    def declines(self, problem: Problem, plan: Plan) -> str | None:
        """Return why not: no a_t, a missing port, a matched cell in float32, a GPU that is not there."""
        norm = plan_norm(problem, plan)
        if norm is not None and norm.sees_time:
            return f"the norm {plan.norm!r} sees a_t, which diffrax does not integrate"
        if plan.device == "cuda":
            import jax

            if not any(device.platform in ("gpu", "cuda") for device in jax.devices()):
                return "no CUDA device is available to JAX"
        return decline_common(problem, plan, "jax", ("backsolve", "direct"))

    def compile(self, problem: Problem, plan: Plan) -> DiffraxCompiled:
        """Make the jitted functions; the first solve and the first record compile them."""
        return DiffraxCompiled(problem, plan)

    @contextmanager
    def device_memory(self, plan: Plan) -> Iterator[Callable[[], int | None] | None]:
        """Watch the most that JAX holds on the GPU: None where an earlier call of the process held more.

        JAX keeps the highest mark of the whole process (`Device.memory_stats`) and has no way to set it back.
        """
        if plan.device != "cuda":
            yield None
            return
        import jax

        device = jax.devices("gpu")[0]

        def peak() -> int:
            return int((device.memory_stats() or {}).get("peak_bytes_in_use", 0))

        before = peak()
        yield lambda: now if (now := peak()) > before else None

    def stepper(self, problem: Problem, plan: Plan, optimiser: Optimiser) -> Stepper:
        """Return what trains the problem's parameters."""
        return DiffraxStepper(DiffraxCompiled(problem, plan), optimiser)

    def forget(self) -> None:
        """Free JAX's caches: 60 MB of a gallery's sweep, which adds up to gigabytes."""
        free_caches()

    def through_steps(self, problem: Problem, rtol: float, atol: float) -> Gradient:
        """Return the gradient by differentiating through the steps of Dopri8: for the reference, not a contestant."""
        return through_steps(problem, rtol, atol)


backend = DiffraxBackend()
