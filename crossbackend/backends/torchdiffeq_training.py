"""Training on torchdiffeq: `odeint_adjoint`, torch.optim, and counts through callbacks."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from crossbackend import ops, tree
from crossbackend.backends.torchdiffeq_recording import Field
from crossbackend.backends.training import Counts, Optimiser, SolveFailed, Step


class CountedField(Field):
    """A Field that counts evaluations and attempts: torchdiffeq calls its `callback_...` methods."""

    def __init__(self, compiled: Any, counts: Counts, *clip: float) -> None:
        super().__init__(compiled, *clip)
        self.counts = counts

    def __call__(self, t: Any, y: Any) -> Any:
        """Return dy/dt, counted."""
        self.counts.evaluated()
        return super().__call__(t, y)

    def callback_accept_step(self, t0: Any, _: Any, dt: Any) -> None:
        """Note an accepted step."""
        self.counts.attempted(float(t0), float(t0 + dt), True)

    def callback_reject_step(self, t0: Any, _: Any, dt: Any) -> None:
        """Note a rejected step."""
        self.counts.attempted(float(t0), float(t0 + dt), False)

    def callback_accept_step_adjoint(self, t0: Any, _: Any, dt: Any) -> None:
        """Note an accepted step of the backward solve, which goes down in t."""
        self.counts.attempted(float(t0), float(t0 - dt), True)

    def callback_reject_step_adjoint(self, t0: Any, _: Any, dt: Any) -> None:
        """Note a rejected step of the backward solve."""
        self.counts.attempted(float(t0), float(t0 - dt), False)


class TorchStepper:
    """Trains the leaves of a compiled plan in place.

    Parameters
    ----------
    compiled : TorchCompiled
    optimiser : Optimiser
    """

    compile_s = 0.0

    def __init__(self, compiled: Any, optimiser: Optimiser) -> None:
        self.compiled, self.settings = compiled, optimiser
        self.counts = Counts()
        self.optimiser = self._fresh()

    def _fresh(self) -> Any:
        import torch

        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.settings.name]
        return kind(self.compiled.leaves, lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay)

    def _solve(self, call: Any) -> Any:
        try:
            return call()
        except AssertionError as error:  # torchdiffeq reports an underflow and a state that is not finite by assert
            raise SolveFailed(str(error)) from error

    def step(self, data: Any) -> Step:
        """Take one step on a batch."""
        compiled, plan, counts = self.compiled, self.compiled.plan, self.counts
        compiled.bound.data = compiled.bound.convert(data)
        counts.reset()
        marks, solved = [time.perf_counter()], []

        def turn(ys: Any, _: Any) -> None:
            compiled.synchronise()
            marks.append(time.perf_counter())
            solved.append(ys)
            counts.now = 1

        def solve() -> Any:
            return compiled.tensors(lambda *clip: CountedField(compiled, counts, *clip), plan.rtol, plan.atol, turn)

        try:
            loss, _, gradient = self._solve(solve)
        except SolveFailed:
            if not solved or self._differentiable(solved[0]):
                raise
            loss, gradient = math.nan, []  # the solver gave up on an adjoint that was never finite
        marks.append(time.perf_counter())
        if math.isfinite(loss) and all(bool(g.isfinite().all()) for g in gradient):
            for leaf, g in zip(compiled.leaves, gradient, strict=True):
                leaf.grad = g
            self.optimiser.step()
            compiled.synchronise()
        else:
            loss = math.nan
        began, turned, ended = marks
        return Step.of(float(loss), counts, (turned - began, ended - turned, time.perf_counter() - began))

    def _differentiable(self, ys: Any) -> bool:
        """Whether the loss and its derivative by the solution are finite."""
        import torch

        compiled, bound = self.compiled, self.compiled.bound
        state = tree.map_leaves(lambda leaf: leaf.detach().requires_grad_(True), compiled.to_state(ys))
        loss = bound.loss(state, bound.params, bound.data)
        found = torch.autograd.grad(loss, tree.values(state), allow_unused=True)
        return math.isfinite(float(loss.detach())) and all(g is None or bool(g.isfinite().all()) for g in found)

    def predict(self, data: Any) -> tuple[float, Any]:
        """Return the loss and ys by a forward solve alone."""
        import torch

        compiled, plan = self.compiled, self.compiled.plan
        bound = compiled.bound
        bound.data = bound.convert(data)
        with torch.no_grad():
            y0 = compiled.from_state(bound.initial(bound.params, bound.data))
            ys, _ = self._solve(lambda: compiled.integrate(lambda *c: Field(compiled, *c), y0, plan.rtol, plan.atol))
            ys = compiled.to_state(ys)
            loss = bound.loss(ys, bound.params, bound.data)
        return float(loss), tree.map_leaves(ops.to_numpy, ys)

    def params(self) -> Any:
        """Return the parameters as NumPy arrays."""
        return tree.map_leaves(ops.to_numpy, self.compiled.bound.params)

    def start(self, params: Any) -> None:
        """Begin anew from these parameters, with a fresh optimiser."""
        self._fill(tree.values(params))
        self.optimiser = self._fresh()

    def _fill(self, arrays: Any) -> None:
        import torch

        with torch.no_grad():
            for leaf, array in zip(self.compiled.leaves, arrays, strict=True):
                leaf.copy_(self.compiled.bound.convert(np.asarray(array)))

    def state(self) -> dict[str, np.ndarray]:
        """Return parameters and the optimiser's state by name."""
        named = dict(zip(self.compiled.bound.names, self.compiled.leaves, strict=True))
        found = {f"params/{name}": ops.to_numpy(leaf) for name, leaf in named.items()}
        for name, leaf in named.items():
            for key, value in self.optimiser.state[leaf].items():
                found[f"optimiser/{name}/{key}"] = ops.to_numpy(value)
        return found

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        import torch

        names = self.compiled.bound.names
        self.start(tree.rebuild(self.compiled.bound.params, [state[f"params/{name}"] for name in names]))
        for name, leaf in zip(names, self.compiled.leaves, strict=True):
            head = f"optimiser/{name}/"
            mine = {key.removeprefix(head): value for key, value in state.items() if key.startswith(head)}
            if mine:
                # The count of steps stays on the CPU and keeps its dtype; moments go where the parameter is.
                self.optimiser.state[leaf] = {
                    key: torch.as_tensor(value.copy()) if key == "step" else self.compiled.bound.convert(value)
                    for key, value in mine.items()
                }
