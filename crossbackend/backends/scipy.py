"""The reference backend: `scipy.integrate.RK45` with our norm on both passes, on the lowered NumPy program.

Native stepping is SciPy's own: its controller, its first step, its error estimate; only the norm is ours where the
plan names one. Matched stepping follows the recipe that makes all three libraries take the same steps: SciPy's
Dormand-Prince estimate is exactly -1.5 times torchdiffeq's and diffrax's (Shampine's), its controller may shrink a
step after accepting it and may not grow one after a rejection, and its first step is clipped to the interval.
"""

from __future__ import annotations

import time

import numpy as np

from crossbackend import norms
from crossbackend.augmented import ENGINES, Augmented
from crossbackend.backends import scipy_along
from crossbackend.backends.contract import (
    Settings,
    SolveStopped,
    decline_common,
    failed,
    plan_norm,
    reconstruction,
)
from crossbackend.backends.scipy_along import AlongSolve
from crossbackend.backends.scipy_gradient import Solve
from crossbackend.backends.scipy_solver import Look, MatchedRK45, NormFunction, NormRK45, SolveFailed, look
from crossbackend.errors import Mistake, UserError
from crossbackend.plan import Plan
from crossbackend.problem import Problem
from crossbackend.record import Gradient, Outcome, Status, gradient_difference


class ScipyCompiled:
    """A sweep on SciPy: the lowered program and the norms of both passes."""

    def __init__(self, problem: Problem, plan: Plan, engine: str) -> None:
        started = time.perf_counter()
        self.problem, self.plan = problem, plan
        self.along = plan.gradient in scipy_along.GRADIENTS
        self.norm = plan_norm(problem, plan) or norms.NAMED["pooled-seminorm" if plan.norm == "seminorm" else "pooled"]
        self.own = plan_norm(problem, plan) is None
        self.backward_norm = scipy_along.backward_norm(plan_norm(problem, plan)) if self.along else self.norm
        functions = scipy_along.BACKWARD[plan.gradient] if self.along else ("adjoint",)
        self.system = Augmented(problem, engine, with_time=self.backward_norm.sees_time, backward=functions)
        self.matched = plan.stepping == "matched"
        self.chained = self.matched and bool(problem.inner_breakpoints())
        self.method = MatchedRK45 if self.matched else NormRK45
        self.params_size = self.system.size - 2 * self.system.layout.size - self.backward_norm.sees_time
        self.params_norm = scipy_along.params_norm(self) if self.along else None
        self.norm_functions = self._norm_functions()
        self.compile_s = time.perf_counter() - started

    def _norm_functions(self) -> dict[str, NormFunction | None]:
        shapes, integrals = self.system.shapes, self.problem.integrals
        states = {name: shape for name, shape in shapes.items() if name.split("/", 1)[0] == "y"}
        build = norms.flat
        own = {"snapped": self.matched, "integrals": integrals}
        # Pooled over all of z, and rms y forward, are what RK45 computes itself: then it is left alone.
        if self.along:
            shapes = {name: shape for name, shape in shapes.items() if name.split("/", 1)[0] == "a_y"}
        backward = None if self.own and self.plan.norm == "default" else build(self.backward_norm, shapes, **own)
        forward = None if self.own else build(self.norm.forward(), states, **own)
        return {"forward": forward, "backward": backward}

    def look(self, which: str) -> Look:
        """Return what takes the error of an attempt apart by blocks: see `ratios`."""
        n, shapes = self.system.layout.size, self.system.shapes
        if which == "forward":
            states = {name: shape for name, shape in shapes.items() if name.split("/", 1)[0] == "y"}
            return look(self.norm.forward(), states, self.problem.integrals, None)
        own, a_y = (scipy_along.blocks(self), slice(None)) if self.along else (shapes, slice(n, 2 * n))
        return look(self.backward_norm, own, self.problem.integrals, a_y)

    def params_part(self, z: np.ndarray) -> np.ndarray:
        """Return a_params, flat, of an augmented state."""
        start = 2 * self.system.layout.size
        return z[start : start + self.params_size].copy()

    def _solve(self, rtol: float, atol: float, *, watched: bool) -> Solve:
        return (AlongSolve if self.along else Solve)(self, rtol, atol, watched=watched)

    def solve(self, rtol: float, atol: float) -> Gradient:
        """Run bare; raises RuntimeError where SciPy gives up."""
        with np.errstate(all="ignore"):
            try:
                return self._solve(rtol, atol, watched=False).run()
            except SolveFailed as error:
                raise RuntimeError(f"RK45: {error}") from error

    def record(self, rtol: float, atol: float) -> Outcome:
        """Run once, counted."""
        solve = self._solve(rtol, atol, watched=True)
        words = ""
        with np.errstate(all="ignore"):
            try:
                gradient = solve.run()
            except SolveStopped:
                gradient = None
            except SolveFailed as error:
                gradient, words = None, str(error)
        ys = self._states(solve.ys) if len(solve.ys) else None
        assert solve.forward is not None  # it was watched
        if gradient is None or solve.backward is None:
            return failed(solve.forward, solve.backward, ys, words)
        error = reconstruction(solve.stored, solve.back)
        steps = solve.forward.steps(), solve.backward.steps()
        floor = self._rounding_floor(solve, gradient) if self.matched else None
        return Outcome(Status.OK, "", gradient, ys, *steps, error, floor)

    def _rounding_floor(self, solve: Solve, gradient: Gradient) -> float | None:
        """Return how far the gradient moves when every stored y moves by one ulp before the backward pass."""
        again = Solve(self, **solve.tolerances, watched=False)
        again.ys = np.nextafter(solve.ys, np.inf)
        again.stored = {t: np.nextafter(y, np.inf) for t, y in solve.stored.items()}
        with np.errstate(all="ignore"):
            try:
                moved = again.finish(solve.of_ys, gradient.loss, solve.direct)
            except SolveFailed:
                return None
        return gradient_difference(gradient.arrays, moved.arrays)

    def _states(self, ys: np.ndarray) -> dict[str, np.ndarray]:
        layout = self.system.layout
        return {
            name: ys[:, at].reshape(len(ys), *shape)
            for name, at, shape in zip(layout.names, layout.slices, layout.shapes, strict=True)
        }

    def settings(self, rtol: float, atol: float) -> Settings:
        """Return the effective settings of both passes."""
        common = {
            "solver": "RK45",
            "rtol": rtol,
            "atol": atol,
            "error_estimate": "Dormand-Prince / -1.5 (Shampine's)" if self.matched else "Dormand-Prince",
            "first_step": _describe_first(self.plan, "Hairer" if self.matched else "Hairer, clipped to the interval"),
            "after_acceptance": "factor in [1, 10]"
            if self.matched
            else "factor in [0.9, 10], at most 1 after a rejection",
            "accept": "ratio < 1",
            "ratio_snapped": self.matched,
            "ends": "clipped to the interval",
            "outputs": "one solve per piece" if self.chained else "dense output",
            "breakpoints": _describe_breakpoints(self.problem, self.chained),
            "engine": self.system.engine,
        }
        forward = {**common, "norm": self.norm.forward().describe()}
        if self.along:
            return {"forward": forward, "backward": scipy_along.settings(common, self)}
        backward = {
            **common,
            "norm": self.norm.describe(),
            "across": self.norm.across_blocks,
            "outputs": "restart at every output",
            "a_t": self.norm.sees_time,
        }
        return {"forward": forward, "backward": backward}


def _describe_breakpoints(problem: Problem, chained: bool) -> str:
    if not problem.inner_breakpoints():
        return "none"
    return "chain of solves" if chained else "not passed: RK45 has no such option"


def _describe_first(plan: Plan, otherwise: str) -> str:
    return f"{plan.first_step:g}" if plan.first_step is not None else otherwise


class ScipyBackend:
    """SciPy's RK45 with an engine for the field; `scipy` alone takes NumPy, or torch for a torch-only problem."""

    library = "jax"

    def __init__(self, engine: str | None = None) -> None:
        self.engine = engine
        self.name = f"scipy:{engine}" if engine else "scipy"
        self.library = "torch" if engine == "torch" else "jax"
        uses = ("torch",) if engine == "torch" else ("jax", "jaxlib")
        self.distributions = ("scipy", "numpy", *uses)

    def with_engine(self, engine: str) -> ScipyBackend:
        """Return the backend with a named engine."""
        if engine not in ENGINES:
            raise UserError(Mistake("backend", f"'scipy:{engine}'", f"scipy:ENGINE with one of {', '.join(ENGINES)}"))
        return ScipyBackend(engine)

    def _engine(self, problem: Problem) -> str:
        if self.engine is not None:
            return self.engine
        return "torch" if problem.lacks("jax") and not problem.lacks("torch") else "numpy"

    def declines(self, problem: Problem, plan: Plan) -> str | None:
        """Return why not: another precision or device, or a missing port."""
        if plan.dtype != "float64":
            return "SciPy integrates in float64 alone"
        if plan.device != "cpu":
            return "SciPy runs on the CPU alone"
        library = "torch" if self._engine(problem) == "torch" else "jax"
        common = decline_common(problem, plan, library, ("backsolve", *scipy_along.GRADIENTS))
        return common or scipy_along.declines(problem, plan)

    def compile(self, problem: Problem, plan: Plan) -> ScipyCompiled:
        """Trace, print and bind the problem's functions."""
        return ScipyCompiled(problem, plan, self._engine(problem))


backend = ScipyBackend()
