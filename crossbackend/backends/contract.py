"""What a backend must do. `tests/backends/test_contract.py` holds every registered one to it.

1. `declines(problem, plan)` says in one sentence why a plan cannot be run, or None. It runs and
   compiles nothing.
2. `compile(problem, plan)` makes one Compiled for a whole sweep: rtol and atol are arguments of its calls, and a
   second tolerance compiles nothing. Counting and solving may be two programs; each is compiled when first asked for.
3. `Compiled.record` runs the plan once, counting evaluations inside the field and noting every step attempted with
   its error ratio, block by block, as the norm itself was handed the error (`ratios.Meter`); calls of the norm for a
   first step are no attempts. It never raises for a failed solve: the Outcome carries a status. Recording moves
   neither a step nor a gradient.
4. `Compiled.solve` runs the bare plan, as a user of the library would, and returns when the result is there.
5. `Compiled.settings` states the effective settings of both passes, as the library got them.
6. `forget()`, which a backend may have, frees what its library keeps of programs compiled so far; Compiled that has
   been solved once stays usable and compiles nothing anew.
7. A backend that runs a program beside Python says so: `programs()` gives its versions by name (None for one that is
   not there), `program_advice()` what to do then, `processes()` the numbers of the processes at work for this one.
8. A backend with a GPU says how much memory its library takes there: `device_memory(plan)` is a context that gives a
   function, to be called at its end, which returns the largest number of bytes held meanwhile, or None; where the
   plan's device is the CPU the context gives None.
9. The library's own solver and adjoint do the work, through documented arguments and small subclasses.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np

from crossbackend import norms, ratios, tree
from crossbackend.norms import Norm
from crossbackend.plan import Plan
from crossbackend.problem import Problem
from crossbackend.record import MAX_STEPS, Gradient, Outcome, Status, Steps

Settings = dict[str, dict[str, Any]]
THROUGH_STEPS = 64
"""Steps that a reference by differentiation through the steps takes at least."""
_NOTHING: Mapping[str, float] = MappingProxyType({})


@runtime_checkable
class Compiled(Protocol):
    """A plan made callable, for every tolerance of its sweep.

    Attributes
    ----------
    compile_s : float
        Seconds spent so far on tracing, printing and compiling the bare plan.
    """

    compile_s: float

    def record(self, rtol: float, atol: float) -> Outcome:
        """Run once, counting and noting steps."""
        ...

    def solve(self, rtol: float, atol: float) -> Gradient:
        """Run bare and return once the arrays are there. Raises what the library raises."""
        ...

    def settings(self, rtol: float, atol: float) -> Settings:
        """Return `{"forward": {...}, "backward": {...}}` as the library gets them."""
        ...


@runtime_checkable
class Backend(Protocol):
    """A library that solves plans.

    Attributes
    ----------
    name : str
        As a plan names it.
    library : {"torch", "jax"}
        The array library that the problem's functions are called with.
    distributions : tuple of str
        Installed packages whose versions its records depend on.
    """

    name: str
    library: str
    distributions: tuple[str, ...]

    def declines(self, problem: Problem, plan: Plan) -> str | None:
        """Return why the plan cannot be run, or None."""
        ...

    def compile(self, problem: Problem, plan: Plan) -> Compiled:
        """Return the plan's sweep made callable."""
        ...


class SolveStopped(Exception):
    """Raised inside a solver by a Watch that has seen enough; never reaches a user."""


class Watch:
    """Sees every evaluation and every step of one pass, counts them, and classifies a failure.

    All backends feed the same class, so that the same failure gets the same status everywhere: `nan_in_field` if f
    was not finite at a finite y since the last accepted step; else `diverged` if max|y| > 1e8 (1 + max|y0|);
    else `step_underflow` if a step attempted was under 10 ulp of t; else `max_steps`.

    Parameters
    ----------
    y0_max : float
        max|y0| of the forward solve.
    span : tuple of float
        Start and end of the problem's interval, whatever the direction of the pass.
    max_steps : int, optional
        Attempts allowed; `MAX_STEPS` by default.

    Attributes
    ----------
    parts : Counter
        Evaluations by kind, where a backend tells kinds apart: see `record.Steps`.
    """

    def __init__(self, y0_max: float, span: tuple[float, float], max_steps: int | None = None) -> None:
        self.limit = 1e8 * (1.0 + y0_max)
        self.span, self.max_steps = span, MAX_STEPS if max_steps is None else max_steps
        self.parts: Counter[str] = Counter()
        self.nfe = 0
        self.t0: list[float] = []
        self.t1: list[float] = []
        self.accepted: list[bool] = []
        self.seen: list[Mapping[str, float]] = []
        self.t_min, self.t_max = math.inf, -math.inf
        self.y_max = 0.0
        self.nan_at: float | None = None
        self.small_at: float | None = None

    def field(self, t: float, y_max: float, finite: bool) -> None:
        """Note one evaluation: max|y| (NaN or infinite for a state that is not finite) and whether f is finite."""
        self.nfe += 1
        self.t_min, self.t_max = min(self.t_min, t), max(self.t_max, t)
        if not finite and math.isfinite(y_max):
            self.nan_at = t
        if not math.isnan(y_max):
            self.y_max = max(self.y_max, y_max)

    def step(self, t0: float, t1: float, accepted: bool, seen: Mapping[str, float] = _NOTHING) -> None:
        """Note one attempt in the problem's time, with what was seen of its error (`ratios.Meter.seen`).

        Raises
        ------
        SolveStopped
            Once the step has underflown or the attempts have run out, so that no library crawls on.
        """
        self.t0.append(t0)
        self.t1.append(t1)
        self.accepted.append(accepted)
        self.seen.append(seen)
        if accepted and t1 != t0:
            self.nan_at = None
        if math.isnan(t1):  # a first step chosen from a field that is NaN
            raise SolveStopped
        if not accepted and abs(t1 - t0) < 10 * np.spacing(abs(t0)):
            self.small_at = t0
            raise SolveStopped
        if len(self.t0) >= self.max_steps:
            raise SolveStopped

    def steps(self) -> Steps:
        """Return the steps noted."""
        t_range = (self.t_min, self.t_max) if self.t_min <= self.t_max else None
        return Steps(
            np.array(self.t0), np.array(self.t1), np.array(self.accepted, dtype=bool), self.nfe,
            ratios.arrays(self.seen), t_range, self.y_max, dict(self.parts),
        )  # fmt: skip

    def status(self) -> tuple[Status, str]:
        """Classify a failed solve, with a message that says where."""
        where = self.t0[-1] if self.t0 else self.span[0]
        if self.nan_at is not None:
            return Status.NAN_IN_FIELD, f"the field is not finite at t = {self.nan_at:.6g}, where y is finite"
        if self.y_max > self.limit:
            return Status.DIVERGED, f"max|y| reached {self.y_max:.3g} near t = {where:.6g}"
        if len(self.t0) >= self.max_steps:
            return Status.MAX_STEPS, f"{self.max_steps} steps reached t = {where:.6g}"
        return Status.STEP_UNDERFLOW, f"the step fell under 10 ulp of t at t = {where:.6g}"


def failed(forward: Watch, backward: Watch | None, ys: dict[str, np.ndarray] | None, words: str = "") -> Outcome:
    """Return the outcome of a solve that failed in its last pass."""
    last = forward if backward is None else backward
    status, message = last.status()
    which = "forward" if backward is None else "backward"
    message = f"{which} solve: {message}" + (f" ({words})" if words else "")
    steps = None if backward is None else backward.steps()
    return Outcome(status, message, None, ys, forward.steps(), steps)


def by_name(state: Any) -> dict[str, np.ndarray]:
    """Return a state or a tree of NumPy arrays by leaf name."""
    return {name: np.asarray(leaf) for name, leaf in tree.leaves(state)}


def max_abs(array: np.ndarray) -> float:
    """Return max|array| as a float; 0 for an empty one, NaN or infinity where it is not finite."""
    return float(np.max(np.abs(array))) if array.size else 0.0


def reconstruction(stored: Mapping[float, np.ndarray], back: Mapping[float, np.ndarray]) -> dict[float, float]:
    """Return max|y_back(t) - y(t)| by time, relative to the largest |y| stored.

    Parameters
    ----------
    stored : dict of float to ndarray, shape (n,)
        The forward solution at output times (and at breakpoints between them, in a chain of solves).
    back : dict of float to ndarray, shape (n,)
        The backward solve's y at those times, before it is reset to the stored one.
    """
    scale = max((max_abs(y) for y in stored.values()), default=0.0)
    scale = max(scale, float(np.finfo(np.float64).tiny))
    return {t: max_abs(y - stored[t]) / scale for t, y in back.items()}


def plan_norm(problem: Problem, plan: Plan) -> Norm | None:
    """Return the plan's norm; None for the library's own."""
    return norms.resolve(plan.norm, plan.stepping, problem.norms)


def decline_common(problem: Problem, plan: Plan, library: str, gradients: Sequence[str] = ("backsolve",)) -> str | None:
    """Return the reasons that hold for every backend: a missing port, or a cell that cannot be matched.

    Parameters
    ----------
    problem : Problem
    plan : Plan
    library : {"torch", "jax"}
        The array library that the problem's functions are called with.
    gradients : sequence of str
        Those that the backend can take.
    """
    if plan.gradient not in gradients:
        return f"the gradient {plan.gradient!r} is not available; use {' or '.join(gradients)}"
    missing = problem.lacks(library)
    if missing:
        other = "jax" if library == "torch" else "torch"
        return f"{', '.join(missing)} given for {other} alone: add a {library!r} entry"
    if plan.gradient != "backsolve" and plan.norm not in problem.norms and plan.norm in norms.OF_BACKSOLVE:
        return (
            f"under {plan.gradient} no integral of the parameters is stepped, so {plan.norm!r} would be the norm "
            "default once more"
        )
    if plan.stepping != "matched":
        return None
    if plan.dtype != "float64":
        return "matched stepping needs float64: rounding in float32 moves the steps"
    norm = plan_norm(problem, plan)
    if norm is not None and norm.sees_time:
        return f"the norm {plan.norm!r} sees a_t, which diffrax does not integrate, so its steps cannot be matched"
    return None


def direct_settings(rtol: float, atol: float, how: str) -> dict[str, Any]:
    """Return the settings of a backward pass that solves nothing: the gradient `direct`."""
    none = dict.fromkeys(("solver", "norm", "first_step", "error_estimate", "ends", "breakpoints", "across"), "none")
    return {**none, "rtol": rtol, "atol": atol, "through_steps": how}


def pieces(problem: Problem) -> list[tuple[float, float, float, float]]:
    """Return the chain (start, end, lo, hi) of one-interval solves for matched stepping with breakpoints.

    The interval is split at every output time and breakpoint; the field's t is clipped to [lo, hi], which keeps it
    strictly inside the piece at a breakpoint, so that a field evaluated there takes this piece's side.
    """
    breaks = set(problem.inner_breakpoints())
    times = sorted({*problem.ts, *breaks})
    chain = []
    for start, end in zip(times[:-1], times[1:], strict=True):
        lo = math.nextafter(start, math.inf) if start in breaks else -math.inf
        hi = math.nextafter(end, -math.inf) if end in breaks else math.inf
        chain.append((start, end, lo, hi))
    return chain
