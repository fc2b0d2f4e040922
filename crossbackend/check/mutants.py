"""Backends with a fault: a wrapper around a real one, for the self-test. Nothing else of crossbackend knows of them.

They are a plug-in like any other, which `planted` installs for as long as it lasts, here and in worker processes: the
backend `mutant:FAULT` is torchdiffeq, or SciPy where that is not installed, with that fault.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossbackend import ops, registry, tree
from crossbackend.backends.contract import Backend, Compiled, Settings
from crossbackend.check.findings import Cause
from crossbackend.plan import Plan
from crossbackend.problem import Problem
from crossbackend.record import Gradient, Outcome

NAME = "mutant"
HOSTS = ("torchdiffeq", "scipy", "diffrax")


@dataclass(frozen=True)
class Fault:
    """A fault, and what a check that finds it must say.

    Attributes
    ----------
    name, planted : str
        What is done, in a few words.
    cause : Cause
        That the check has to name.
    says : str
        Words that its evidence has to hold.
    problem, plan, gradient : callable, optional
        What the fault makes of the problem, of the plan, of the gradient (its leaves by name in a record).
    """

    name: str
    planted: str
    cause: Cause
    says: str
    problem: Callable[[Problem], Problem] | None = None
    plan: Callable[[Plan], Plan] | None = None
    gradient: Callable[[Gradient], Gradient] | None = None


def _each(given: Any, change: Callable[[Any], Any]) -> Any:
    """Change a function of a problem, given once or per library."""
    return {name: change(f) for name, f in given.items()} if isinstance(given, dict) else change(given)


def _scaled(gradient: Gradient) -> Gradient:
    return Gradient(
        gradient.loss,
        {name: 1.01 * array for name, array in gradient.y0.items()},
        {name: 1.01 * array for name, array in gradient.params.items()},
    )


def _without_a_leaf(gradient: Gradient) -> Gradient:
    largest = max(gradient.params, key=lambda name: float(np.linalg.norm(gradient.params[name])))
    return Gradient(gradient.loss, gradient.y0, gradient.params | {largest: 0 * gradient.params[largest]})


def _time_reversed(problem: Problem) -> Problem:
    def change(f: Callable[..., Any]) -> Callable[..., Any]:
        return lambda t, y, params, data: f(-t, y, params, data)

    return problem.replace(vector_field=_each(problem.vector_field, change))


def _stale(problem: Problem) -> Problem:
    """Return the problem with the parameters of a moment ago: as they were before a small step of an optimiser."""
    rng = np.random.default_rng(3)

    def before(leaf: np.ndarray) -> np.ndarray:
        return leaf + 0.01 * (np.abs(leaf).mean() + 1e-3) * rng.standard_normal(np.shape(leaf))

    return problem.replace(params=tree.map_leaves(before, problem.params))


def _wrong_weight(problem: Problem) -> Problem:
    """Return the problem with one entry of the first leaf that the field uses off by 5 %, in the field alone."""

    def change(f: Callable[..., Any]) -> Callable[..., Any]:
        def changed(t: Any, y: Any, params: Any, data: Any) -> Any:
            leaves = list(tree.values(params))
            flat = ops.namespace(leaves[0]).reshape(leaves[0], (-1,))
            off = [1.05] + [1.0] * (flat.shape[0] - 1)
            factors = ops.namespace(flat).asarray(np.array(off), dtype=flat.dtype)
            leaves[0] = ops.namespace(flat).reshape(flat * factors, leaves[0].shape)
            return f(t, y, tree.rebuild(params, leaves), data)

        return changed

    return problem.replace(vector_field=_each(problem.vector_field, change))


def _late(problem: Problem) -> Problem:
    """Return the problem whose loss is handed the solution one output time late."""

    def change(f: Callable[..., Any]) -> Callable[..., Any]:
        def changed(ys: Any, params: Any, data: Any) -> Any:
            def shift(leaf: Any) -> Any:
                return ops.namespace(leaf).concat([leaf[:1, ...], leaf[:-1, ...]])

            return f(tree.map_leaves(shift, ys), params, data)

        return changed

    return problem.replace(loss=_each(problem.loss, change))


def _weightless(plan: Plan) -> Plan:
    return dataclasses.replace(
        plan, norm=plan.norm.replace("seminorm", "default") if plan.norm == "seminorm" else plan.norm
    )


def _first_step(plan: Plan) -> Plan:
    return dataclasses.replace(plan, first_step=1e-3)


FAULTS = (
    Fault("gradient-scaled", "the gradient is 1 % too large", Cause.MATHEMATICS, "1.01 times", gradient=_scaled),
    Fault(
        "leaf-lost", "the largest leaf's gradient is zero", Cause.MATHEMATICS, "no gradient", gradient=_without_a_leaf
    ),
    Fault("time-reversed", "the field is handed -t", Cause.MATHEMATICS, "vector field", problem=_time_reversed),
    Fault("stale-parameters", "the parameters are those of before", Cause.MATHEMATICS, "parameters", problem=_stale),
    Fault(
        "wrong-weight", "one weight in the field is 5 % off", Cause.MATHEMATICS, "vector field", problem=_wrong_weight
    ),
    Fault("norm-unweighted", "the norm ignores its weights", Cause.SETTINGS, "norm", plan=_weightless),
    Fault("first-step", "the first step is another one", Cause.SETTINGS, "first step", plan=_first_step),
    Fault("output-late", "the loss reads each output one time late", Cause.MATHEMATICS, "output time", problem=_late),
)
"""Every fault of the self-test."""


class MutantCompiled:
    """A plan of the host's, its gradient changed."""

    def __init__(self, host: Compiled, fault: Fault) -> None:
        self.host, self.fault = host, fault

    @property
    def compile_s(self) -> float:
        """The host's."""
        return self.host.compile_s

    def _changed(self, gradient: Gradient) -> Gradient:
        return gradient if self.fault.gradient is None else self.fault.gradient(gradient)

    def record(self, rtol: float, atol: float) -> Outcome:
        """Return the host's outcome with the gradient changed."""
        found = self.host.record(rtol, atol)
        return found if found.gradient is None else dataclasses.replace(found, gradient=self._changed(found.gradient))

    def solve(self, rtol: float, atol: float) -> Gradient:
        """Return the host's gradient, changed."""
        return self._changed(self.host.solve(rtol, atol))

    def settings(self, rtol: float, atol: float) -> Settings:
        """Return the host's settings."""
        return self.host.settings(rtol, atol)


class Mutant:
    """A real backend with a fault."""

    def __init__(self, host: Backend, fault: Fault) -> None:
        self.host, self.fault = host, fault
        self.name = f"{NAME}:{fault.name}"
        self.library, self.distributions = host.library, host.distributions

    def declines(self, problem: Problem, plan: Plan) -> str | None:
        """Return what the host says."""
        return self.host.declines(problem, self._plan(plan))

    def _plan(self, plan: Plan) -> Plan:
        plan = dataclasses.replace(plan, backend=self.host.name)
        return plan if self.fault.plan is None else self.fault.plan(plan)

    def compile(self, problem: Problem, plan: Plan) -> MutantCompiled:
        """Compile what the fault makes of the problem and the plan."""
        changed = problem if self.fault.problem is None else self.fault.problem(problem)
        return MutantCompiled(self.host.compile(changed, self._plan(plan)), self.fault)


class Mutants:
    """The plug-in: `mutant:FAULT` is one of its engines."""

    name, library = NAME, "numpy"
    distributions = ()

    @staticmethod
    def with_engine(name: str) -> Mutant:
        """Return the host with a fault."""
        by_name = {fault.name: fault for fault in FAULTS}
        return Mutant(registry.get(host()), by_name[name])

    def declines(self, problem: Problem, plan: Plan) -> str | None:
        """Decline: without a fault it is no backend."""
        return f"{plan.backend} on {problem.name}: write {NAME}:FAULT"

    def compile(self, problem: Problem, plan: Plan) -> Compiled:
        """Raise: it declines every plan."""
        raise NotImplementedError(self.declines(problem, plan))


backend = Mutants()


def host() -> str:
    """Return the first installed backend of `HOSTS`."""
    return next(name for name in HOSTS if name in registry.installed())


@contextlib.contextmanager
def planted() -> Iterator[None]:
    """Install the plug-in while it lasts: an entry point in a folder on the path, of this process and its workers."""
    with tempfile.TemporaryDirectory(prefix="crossbackend-mutants-") as folder:
        about = Path(folder) / "crossbackend_mutants-0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: crossbackend-mutants\nVersion: 0\n")
        (about / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{NAME} = {__name__}:backend\n")
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = folder if not before else f"{folder}{os.pathsep}{before}"
        sys.path.append(folder)
        registry.get.cache_clear()
        try:
            yield
        finally:
            sys.path.remove(folder)
            registry.get.cache_clear()
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before
