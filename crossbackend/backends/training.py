"""What a backend does that can train: one optimiser step at a time, counted, on batches of one shape.

A backend that has `stepper(problem, plan, optimiser) -> Stepper` can be named after `crossbackend train --backend`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

Attempt = tuple[float, float, bool]


@dataclass(frozen=True)
class Optimiser:
    """A gradient descent that torch.optim and optax both have, with equal defaults otherwise (betas 0.9 and 0.999).

    Attributes
    ----------
    name : {"adam", "adamw"}
        `adam` adds the weight decay to the gradient, `adamw` takes it off the parameters (Loshchilov and Hutter, 2019).
    learning_rate, weight_decay : float
    """

    name: str
    learning_rate: float
    weight_decay: float = 0.0


@dataclass
class Counts:
    """Evaluations and attempts of both passes, counted as the solver runs: a cheap counter, no second solve.

    `now` is the pass under way, 0 forward and 1 backward.
    """

    now: int = 0
    nfe: list[int] = field(default_factory=lambda: [0, 0])
    rejected: list[int] = field(default_factory=lambda: [0, 0])
    attempts: tuple[list[Attempt], list[Attempt]] = field(default_factory=lambda: ([], []))

    def reset(self) -> None:
        """Begin a forward pass from nothing."""
        self.now, self.nfe, self.rejected, self.attempts = 0, [0, 0], [0, 0], ([], [])

    def evaluated(self, times: int = 1) -> None:
        """Note evaluations of the vector field."""
        self.nfe[self.now] += times

    def attempted(self, t0: float, t1: float, accepted: bool) -> None:
        """Note an attempted step, in the problem's time."""
        self.rejected[self.now] += not accepted
        self.attempts[self.now].append((t0, t1, accepted))


@dataclass(frozen=True)
class Step:
    """One optimiser step.

    Attributes
    ----------
    loss : float
        Before the step.
    nfe, rejected : tuple of int
        Evaluations and rejected steps, forward and backward.
    seconds : tuple of float
        Forward solve with the loss; backward solve; all, the optimiser included. Without compilation.
    attempts : tuple of list of (t0, t1, accepted)
        Forward and backward, in the problem's time, to single precision.
    """

    loss: float
    nfe: tuple[int, int]
    rejected: tuple[int, int]
    seconds: tuple[float, float, float]
    attempts: tuple[list[Attempt], list[Attempt]]

    @classmethod
    def of(cls, loss: float, counts: Counts, seconds: tuple[float, float, float]) -> Step:
        """Return a step with what was counted."""
        nfe, rejected = counts.nfe, counts.rejected
        return cls(loss, (nfe[0], nfe[1]), (rejected[0], rejected[1]), seconds, counts.attempts)


class SolveFailed(Exception):
    """A solve of a training step that the library gave up; the text is the library's."""


class Stepper(Protocol):
    """Parameters and an optimiser's state in one library.

    Attributes
    ----------
    compile_s : float
        Seconds spent so far on tracing and compiling; batches of one shape compile once.
    """

    compile_s: float

    def step(self, data: Any) -> Step:
        """Take one step on a batch: the problem's data, NumPy arrays of the first batch's shapes.

        The parameters are left as they were where the loss or a gradient is not finite.

        Raises
        ------
        SolveFailed
        """
        ...

    def predict(self, data: Any) -> tuple[float, Any]:
        """Return the loss and ys, of the state's structure, NumPy arrays, by a forward solve alone.

        Raises
        ------
        SolveFailed
        """
        ...

    def params(self) -> Any:
        """Return the parameters, NumPy arrays in the problem's structure."""
        ...

    def start(self, params: Any) -> None:
        """Begin anew from these parameters, with a fresh optimiser; nothing is compiled again."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Return everything that the next step depends on, by name."""
        ...

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` returned: the next steps are the same to the last bit on the same machine."""
        ...
