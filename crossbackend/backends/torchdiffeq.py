"""torchdiffeq: `odeint_adjoint` with dopri5, through documented options and callbacks.

What its users should know (torchdiffeq 0.2.5): `adjoint_options=dict(norm="seminorm")` drops every forward option
from the backward pass, so the options are repeated here; a_t is always integrated and both of its own norms see it
when the field depends on t; the solver steps past the last output time and interpolates, unless `step_t` cuts it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from crossbackend import norms, ops, tree
from crossbackend.backends.contract import (
    THROUGH_STEPS,
    Settings,
    SolveStopped,
    by_name,
    decline_common,
    direct_settings,
    failed,
    max_abs,
    pieces,
    plan_norm,
    reconstruction,
)
from crossbackend.backends.torchdiffeq_recording import Field, Watched, WatchedField, flat
from crossbackend.backends.torchdiffeq_training import TorchStepper
from crossbackend.backends.training import Optimiser, Stepper
from crossbackend.bound import Bound
from crossbackend.hairer import first_step
from crossbackend.norms import Norm
from crossbackend.plan import Plan
from crossbackend.problem import Problem
from crossbackend.ratios import Meter
from crossbackend.record import Gradient, Outcome, Status
from crossbackend.snapping import snap

OWN = {"default": norms.NAMED["mixed-t"], "seminorm": norms.NAMED["mixed-seminorm-t"]}
"""The library's own adjoint norms, with a block for every entry of a tuple."""


class TorchCompiled:
    """A sweep on torchdiffeq: leaves that require gradients, and the options of both passes."""

    def __init__(self, problem: Problem, plan: Plan) -> None:
        started = time.perf_counter()
        self.problem, self.plan = problem, plan
        self.bound = Bound(problem, "torch", plan.dtype, plan.device)
        for leaf in tree.values(self.bound.params):
            leaf.requires_grad_(True)
        self.leaves = tree.values(self.bound.params)
        flags = self.bound.field_leaves()
        self.used_names = tuple(n for n, flag in zip(self.bound.names, flags, strict=True) if flag)
        self.used = tuple(leaf for leaf, flag in zip(self.leaves, flags, strict=True) if flag)
        self.layout = tree.Layout(tree.map_leaves(ops.to_numpy, self._initial()))
        self.is_array = self.layout.names == ("",)
        self.norm = plan_norm(problem, plan)
        self.measured = self.norm or replace(OWN[plan.norm], per_entry=not self.is_array)
        self.matched = plan.stepping == "matched"
        self.chained = self.matched and bool(problem.inner_breakpoints())
        self.direct = plan.gradient == "direct"
        self.call = self._odeint if self.direct else self._odeint_adjoint
        self.compile_s = time.perf_counter() - started

    def _initial(self) -> Any:
        return self.bound.initial(self.bound.params, self.bound.data)

    def to_state(self, y: Any) -> Any:
        """Return torchdiffeq's state as the problem's: a tuple becomes the dict."""
        return y if self.is_array else tree.rebuild(self.layout.like, list(y))

    def from_state(self, y: Any) -> Any:
        """Return the problem's state as torchdiffeq's: an array alone, or a tuple in sorted order."""
        return y if self.is_array else tuple(tree.values(y))

    def times(self, ts: Any) -> Any:
        """Return times as a tensor of the plan's dtype and device."""
        return self.bound.convert(np.asarray(ts, dtype=np.float64))

    # Norms and options, as the library takes them.

    def forward_blocks(self, state: Any) -> dict[str, Any]:
        """Return the blocks of the forward state, an array or a tuple."""
        return norms.named({"y": dict(zip(self.layout.names, _tuple(state), strict=True))})

    def backward_blocks(self, state: Any) -> dict[str, Any]:
        """Return the blocks of the backward state (a_t, *y, *a_y, *a_params)."""
        entries, n = self.layout.names, len(self.layout.names)
        time_part, *rest = state
        parts = {
            "y": dict(zip(entries, rest[:n], strict=True)),
            "a_y": dict(zip(entries, rest[n : 2 * n], strict=True)),
            "a_params": dict(zip(self.used_names, rest[2 * n :], strict=True)),
            "a_t": {"": time_part},
        }
        return norms.named(parts)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the backward state's blocks, in order."""
        state = dict(zip(self.layout.names, self.layout.shapes, strict=True))
        params = dict(zip(self.used_names, (tuple(leaf.shape) for leaf in self.used), strict=True))
        return norms.named({"y": state, "a_y": state, "a_params": params, "a_t": {"": ()}})

    def forward_norm(self) -> Callable[[Any], Any] | None:
        """Return the norm of the forward pass, None for the library's own."""
        return None if self.norm is None else self._callable(self.norm.forward(), self.forward_blocks)

    def backward_norm(self) -> Callable[[Any], Any] | None:
        """Return the norm over (a_t, *y, *a_y, *a_params), None for the library's own."""
        return None if self.norm is None else self._callable(self.norm, self.backward_blocks)

    def _callable(self, norm: Norm, blocks: Callable[[Any], dict[str, Any]]) -> Callable[[Any], Any]:
        import torch

        integrals, snapped = self.problem.integrals, self.matched

        def measure(state: Any) -> Any:
            value = norms.evaluate(norm, blocks(state), torch, integrals)
            return snap(value, torch) if snapped else value

        return measure

    def options(self, ts: Any) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Return `options` and `adjoint_options` of one call over the times `ts`.

        `adjoint_options` is None where the library shall inherit the forward ones, as it does by default.
        """
        forward: dict[str, Any] = {}
        if self.plan.first_step is not None:
            forward["first_step"] = self.plan.first_step
        if self.matched:
            backward = {**forward, "norm": self.backward_norm(), "step_t": ts}
            return {**forward, "norm": self.forward_norm(), "step_t": ts[-1:]}, backward
        inner = [b for b in self.problem.inner_breakpoints() if self.problem.ts[0] < b < self.problem.ts[-1]]
        if inner:
            forward["jump_t"] = self.times(inner)
        if self.norm is not None:
            return {**forward, "norm": self.forward_norm()}, {**forward, "norm": self.backward_norm()}
        return forward, {**forward, "norm": "seminorm"} if self.plan.norm == "seminorm" else None

    # Solving.

    def _odeint_adjoint(self, field: Field, y0: Any, ts: Any, rtol: float, atol: float) -> Any:
        from torchdiffeq import odeint_adjoint

        options, adjoint_options = field.heard(*self.options(ts))
        return odeint_adjoint(
            field, y0, ts, rtol=rtol, atol=atol, method="dopri5", options=options,
            adjoint_options=adjoint_options, adjoint_params=self.used,
        )  # fmt: skip

    def _odeint(self, field: Field, y0: Any, ts: Any, rtol: float, atol: float) -> Any:
        """Solve by `odeint`, whose steps autograd goes back through: the gradient `direct`."""
        from torchdiffeq import odeint

        options, _ = field.heard(*self.options(ts))
        if self.matched and self.plan.first_step is None:
            # The library differentiates the first step that it chooses; diffrax does not.
            options["first_step"] = self._first_step(field, y0, ts, rtol, atol)
        return odeint(field, y0, ts, rtol=rtol, atol=atol, method="dopri5", options=options)

    def _first_step(self, field: Field, y0: Any, ts: Any, rtol: float, atol: float) -> float:
        """Return Hairer's first step from ts[0] under the plan's norm, a number."""
        import torch

        norm = self.forward_norm()
        assert norm is not None

        def measure(flat: np.ndarray) -> float:
            return float(norm(self._state_of(flat)))

        def slope(t: float, y: np.ndarray) -> np.ndarray:
            return flat(field(self.times(t), self._state_of(y)))

        with torch.no_grad():
            t0, start = float(ts[0]), flat(y0)
            return first_step(slope, t0, start, slope(t0, start), 1.0, rtol, atol, measure, math.inf)

    def _state_of(self, vector: np.ndarray) -> Any:
        """Return a flat vector as torchdiffeq's state."""
        parts = tree.values(self.layout.unravel(vector))
        tensors = tuple(self.bound.convert(np.asarray(part)) for part in parts)
        return tensors[0] if self.is_array else tensors

    def integrate(self, make: Callable[..., Field], y0: Any, rtol: float, atol: float) -> tuple[Any, dict[float, Any]]:
        """Return ys, leading axis len(ts), and, of a chain of solves, the state by stored time."""
        import torch

        ts = self.problem.ts
        if not self.chained:
            return self.call(make(), y0, self.times(ts), rtol, atol), {}
        y, at = y0, {ts[0]: _tuple(y0)}
        for start, end, lo, hi in pieces(self.problem):
            out = self.call(make(lo, hi), y, self.times([start, end]), rtol, atol)
            y = out[-1] if self.is_array else tuple(part[-1] for part in out)
            at[end] = _tuple(y)
        stacked = tuple(torch.stack([at[t][k] for t in ts]) for k in range(len(self.layout.names)))
        return (stacked[0] if self.is_array else stacked), at

    def tensors(
        self, make: Callable[..., Field], rtol: float, atol: float, turn: Callable[[Any, Any], None]
    ) -> tuple[Any, list[Any], list[Any]]:
        """Return the loss and its gradient by y0 and by every parameter leaf, as the library's tensors.

        Solves forward, calls `turn(ys, stored)`, solves backward, and chains the initial state's derivative.
        """
        initial = self._initial()
        y0_leaves = [leaf.detach().clone().requires_grad_(True) for leaf in tree.values(initial)]
        y0 = y0_leaves[0] if self.is_array else tuple(y0_leaves)
        ys, stored = self.integrate(make, y0, rtol, atol)
        turn(ys, stored)
        loss = self.bound.loss(self.to_state(ys), self.bound.params, self.bound.data)
        wanted = [*y0_leaves, *self.leaves]
        found = _gradients(loss, wanted, None)
        of_y0, of_params = found[: len(y0_leaves)], found[len(y0_leaves) :]
        parts = [leaf for leaf in tree.values(initial) if leaf.requires_grad]
        if parts:
            weights = [g for leaf, g in zip(tree.values(initial), of_y0, strict=True) if leaf.requires_grad]
            of_initial = _gradients(parts, self.leaves, weights)
            of_params = [a + b for a, b in zip(of_params, of_initial, strict=True)]
        self.synchronise()
        return loss.detach(), of_y0, of_params

    def synchronise(self) -> None:
        """Wait until the device has done what it was given."""
        if self.plan.device == "cuda":
            import torch

            torch.cuda.synchronize()

    def _gradient(
        self, make: Callable[..., Field], rtol: float, atol: float, turn: Callable[[Any, Any], None]
    ) -> Gradient:
        loss, of_y0, of_params = self.tensors(make, rtol, atol, turn)
        gradient = dict(zip(self.layout.names, map(ops.to_numpy, of_y0), strict=True))
        return Gradient(float(loss), gradient, dict(zip(self.bound.names, map(ops.to_numpy, of_params), strict=True)))

    def solve(self, rtol: float, atol: float) -> Gradient:
        """Run bare."""
        return self._gradient(lambda *clip: Field(self, *clip), rtol, atol, _nothing)

    def record(self, rtol: float, atol: float) -> Outcome:
        """Run once, counted."""
        y0 = tree.map_leaves(ops.to_numpy, self._initial())
        ts = self.problem.ts
        times = sorted({*ts, *self.problem.inner_breakpoints()}) if self.chained else list(ts)
        watched = Watched(max_abs(self.layout.ravel(y0)), times, self._meters())
        seen: dict[str, Any] = {}

        def turn(ys: Any, stored: dict[float, Any]) -> None:
            seen["ys"] = by_name(tree.map_leaves(ops.to_numpy, self.to_state(ys)))
            # Not in the timed run: one call stores y at the output times alone.
            stored = stored or {t: tuple(part[i] for part in _tuple(ys)) for i, t in enumerate(ts)}
            seen["stored"] = {t: flat(parts) for t, parts in stored.items()}
            watched.turn()

        try:
            gradient = self._gradient(lambda *clip: WatchedField(self, watched, *clip), rtol, atol, turn)
        except (SolveStopped, AssertionError) as error:
            # torchdiffeq reports an underflow and a state that is not finite by assert.
            backward = None if watched.now is watched.forward else watched.backward
            return failed(watched.forward, backward, seen.get("ys"), str(error))
        error = reconstruction(seen["stored"], watched.back)
        steps = watched.forward.steps(), watched.backward.steps()
        return Outcome(Status.OK, "", gradient, seen["ys"], *steps, error)

    def _meters(self) -> tuple[Meter, Meter]:
        shapes, integrals = self.shapes(), self.problem.integrals
        states = {name: shape for name, shape in shapes.items() if name.split("/", 1)[0] == "y"}
        return Meter(self.measured.forward(), states, integrals), Meter(self.measured, shapes, integrals)

    def settings(self, rtol: float, atol: float) -> Settings:
        """Return the effective settings of both passes."""
        first = f"{self.plan.first_step:g}" if self.plan.first_step is not None else "Hairer"
        inner = self.problem.inner_breakpoints()
        common = {
            "solver": "dopri5",
            "rtol": rtol,
            "atol": atol,
            "error_estimate": "Shampine",
            "first_step": first,
            "after_acceptance": "factor in [1, 10]",
            "accept": "ratio <= 1",
            "ratio_snapped": self.matched,
            "ends": "clipped by step_t" if self.matched else "overshoots and interpolates",
            "breakpoints": ("chain of solves" if self.chained else "jump_t") if inner else "none",
        }
        norm = self.measured
        forward = {**common, "norm": norm.forward().describe()}
        forward["outputs"] = "one solve per piece" if self.chained else "dense output"
        if self.direct:
            return {"forward": forward, "backward": direct_settings(rtol, atol, "autograd, every step's graph kept")}
        backward = {**common, "norm": norm.describe(), "across": norm.across_blocks}
        return {"forward": forward, "backward": {**backward, "outputs": "restart at every output", "a_t": True}}


def _nothing(ys: Any, stored: Any) -> None:
    """Turn to the backward pass without looking."""
    del ys, stored


def _tuple(state: Any) -> tuple[Any, ...]:
    return tuple(state) if isinstance(state, (tuple, list)) else (state,)


def _gradients(outputs: Any, inputs: list[Any], weights: Any) -> list[Any]:
    """Return the gradient for every input, zeros where the outputs do not depend on it."""
    import torch

    outputs_list = outputs if isinstance(outputs, list) else [outputs]
    if not any(out.requires_grad for out in outputs_list):
        return [torch.zeros_like(leaf) for leaf in inputs]
    found = torch.autograd.grad(outputs_list, inputs, grad_outputs=weights, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(inputs, found, strict=True)]


class TorchdiffeqBackend:
    """torchdiffeq on the CPU or a CUDA device."""

    name = "torchdiffeq"
    library = "torch"
    distributions = ("torchdiffeq", "torch")

    def declines(self, problem: Problem, plan: Plan) -> str | None:
        """Return why not: a missing port, a matched cell in float32, a GPU that is not there."""
        if plan.device == "cuda":
            import torch

            if not torch.cuda.is_available():
                return "no CUDA device is available to torch"
        return decline_common(problem, plan, "torch", ("backsolve", "direct"))

    @contextmanager
    def device_memory(self, plan: Plan) -> Iterator[Callable[[], int | None] | None]:
        """Watch the most that torch's allocator holds on the GPU."""
        if plan.device != "cuda":
            yield None
            return
        import torch

        torch.cuda.reset_peak_memory_stats()
        yield lambda: int(torch.cuda.max_memory_allocated())

    def stepper(self, problem: Problem, plan: Plan, optimiser: Optimiser) -> Stepper:
        """Return what trains the problem's parameters."""
        return TorchStepper(TorchCompiled(problem, plan), optimiser)

    def compile(self, problem: Problem, plan: Plan) -> TorchCompiled:
        """Convert the arrays; torch compiles nothing."""
        return TorchCompiled(problem, plan)

    def through_steps(self, problem: Problem, rtol: float, atol: float) -> Gradient:
        """Return the gradient by differentiating through the steps of dopri8: for the reference, not a contestant."""
        from torchdiffeq import odeint

        compiled = TorchCompiled(problem, Plan(problem.name, self.name, "default", "matched", rtol, atol))
        compiled.chained = True  # no step crosses an output time or a breakpoint

        def call(field: Field, y0: Any, ts: Any, rtol: float, atol: float) -> Any:
            # Where y stands still its error asks for no steps, and the derivative would be as blind as the steps.
            longest = (problem.ts[-1] - problem.ts[0]) / THROUGH_STEPS
            options = {"step_t": ts[-1:], "max_step": longest}
            return odeint(field, y0, ts, rtol=rtol, atol=atol, method="dopri8", options=options)

        compiled.call = call
        return compiled.solve(rtol, atol)


backend = TorchdiffeqBackend()
