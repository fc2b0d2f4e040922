"""Julia: the exported program of a problem, run by one Julia process (docs/julia.md).

The engine `base` is a Dormand-Prince pair in Base Julia with our norms on both passes, native (SciPy's rules) or
matched; `ordinarydiffeq` and `sciml` are engines of Julia packages, native stepping alone.
"""

from __future__ import annotations

import tempfile
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from crossbackend import julia_program, ratios
from crossbackend.backends import contract
from crossbackend.backends.contract import Settings, decline_common
from crossbackend.errors import Mistake, UserError, raise_all
from crossbackend.julia_files import check_names, program_files, write_files
from crossbackend.julia_functions import Functions
from crossbackend.julia_process import SHARED, Reply
from crossbackend.plan import Plan
from crossbackend.problem import Problem
from crossbackend.record import Gradient, Outcome, Status, Steps

ENGINES = {
    "base": ((), ()),
    "ordinarydiffeq": (("OrdinaryDiffEq",), ("DP5", "Tsit5", "Vern7")),
    "sciml": (("OrdinaryDiffEq", "SciMLSensitivity"), ("backsolve", "interpolating", "gauss")),
}
"""The packages that an engine needs, and what may be named after a colon."""


class Program:
    """A problem's Julia program: printed once, loaded by every Julia process that is asked for it.

    Attributes
    ----------
    key : str
        Its name in requests.
    layout, params_layout : tree.Layout
    left_out : dict of str to str
        Norms that it lacks, each with the reason.
    """

    def __init__(self, problem: Problem) -> None:
        started = time.perf_counter()
        raise_all(check_names(problem))
        functions = Functions(problem)
        self.key = f"{problem.name}-{id(self)}"
        self.layout, self.params_layout = functions.flat.layout, functions.flat.params_layout
        self.left_out = functions.left_out
        self._files = program_files(functions)
        self._printed_s = time.perf_counter() - started
        self._loaded_s = 0.0
        self._generation = 0
        self._compiled: dict[tuple[str, ...], float] = {}

    def ready(self, plan: tuple[str, ...]) -> float:
        """Have the program loaded and a plan compiled; return the seconds that this took now.

        Parameters
        ----------
        plan : tuple of str
            Engine, norm, stepping and first step, as a request says them.
        """
        if SHARED.pid is not None and plan in self._compiled and SHARED.generation == self._generation:
            return 0.0
        started = time.perf_counter()
        if SHARED.start() != self._generation:
            self._load()
        if plan not in self._compiled:
            begun = time.perf_counter()
            SHARED.ask("compile", self.key, *plan)
            self._compiled[plan] = time.perf_counter() - begun
        return time.perf_counter() - started

    def price(self, plan: tuple[str, ...]) -> float:
        """Return the seconds that a plan costs before its first solve: start, printing, loading and compiling.

        What several plans share is counted for each, as measured when it was done.
        """
        return self._printed_s + self._loaded_s + self._compiled[plan]

    def _load(self) -> None:
        while _FORGOTTEN:
            SHARED.ask("forget", _FORGOTTEN.pop())
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="crossbackend-julia-") as folder:
            write_files(self._files, Path(folder))
            SHARED.ask("load", self.key, folder)
        self._generation = SHARED.generation
        self._loaded_s = SHARED.start_s + time.perf_counter() - started
        self._compiled.clear()


_PROGRAMS: weakref.WeakKeyDictionary[Problem, dict[int, Program]] = weakref.WeakKeyDictionary()
_FORGOTTEN: list[str] = []
"""Keys of programs whose problems are gone: Julia is told when it is next asked for another."""


def program_of(problem: Problem) -> Program:
    """Return a problem's program; how many steps a solve may take is part of it."""
    made = _PROGRAMS.setdefault(problem, {})
    if contract.MAX_STEPS not in made:
        made[contract.MAX_STEPS] = found = Program(problem)
        weakref.finalize(problem, _FORGOTTEN.append, found.key).atexit = False
    return made[contract.MAX_STEPS]


class JuliaCompiled:
    """A sweep on Julia."""

    def __init__(self, problem: Problem, plan: Plan, engine: str) -> None:
        self.problem, self.plan = problem, plan
        self.how = (engine, plan.norm, plan.stepping, "-" if plan.first_step is None else repr(plan.first_step))
        left_out = program_of(problem).left_out
        if plan.norm in left_out:
            where = f"Problem({problem.name!r}).norms[{plan.norm!r}]"
            raise UserError(Mistake(where, "a function that Julia cannot run", "another norm", left_out[plan.norm]))
        program_of(problem).ready(self.how)
        self.compile_s = program_of(problem).price(self.how)

    def _ask(self, request: str, rtol: float, atol: float) -> tuple[Program, Reply]:
        program = program_of(self.problem)
        self.compile_s += program.ready(self.how)  # 0, but for a Julia that was started anew
        engine, norm, stepping, first = self.how
        return program, SHARED.ask(request, program.key, engine, norm, stepping, repr(rtol), repr(atol), first)

    def solve(self, rtol: float, atol: float) -> Gradient:
        """Run bare; raises RuntimeError with Julia's words where the solve fails."""
        program, reply = self._ask("solve", rtol, atol)
        return _gradient(program, reply.arrays)

    def record(self, rtol: float, atol: float) -> Outcome:
        """Run once, counted."""
        program, reply = self._ask("record", rtol, atol)
        header, arrays = reply.header, reply.arrays
        status = Status(header["status"])
        gradient = _gradient(program, arrays) if status == Status.OK else None
        ys = _states(program, arrays["ys"]) if "ys" in arrays else None
        forward, backward = (_steps(which, header[which], arrays) for which in ("forward", "backward"))
        back = dict(zip(arrays["reconstruction_t"].tolist(), arrays["reconstruction"].tolist(), strict=True))
        return Outcome(status, header["message"], gradient, ys, forward, backward, back)

    def settings(self, rtol: float, atol: float) -> Settings:
        """Return the effective settings of both passes."""
        _, reply = self._ask("settings", rtol, atol)
        return {which: reply.header[which] for which in ("forward", "backward")}


def _gradient(program: Program, arrays: dict[str, np.ndarray]) -> Gradient:
    y0 = _by_leaf(program.layout, arrays["y0"])
    return Gradient(float(arrays["loss"]), y0, _by_leaf(program.params_layout, arrays["params"]))


def _by_leaf(layout: Any, array: np.ndarray) -> dict[str, np.ndarray]:
    """Return the leaves of a flat vector, (size,), by name."""
    slices = zip(layout.names, layout.slices, layout.shapes, strict=True)
    return {name: array[at].reshape(shape).copy() for name, at, shape in slices}


def _states(program: Program, ys: np.ndarray) -> dict[str, np.ndarray]:
    layout = program.layout
    slices = zip(layout.names, layout.slices, layout.shapes, strict=True)
    return {name: ys[:, at].reshape(len(ys), *shape) for name, at, shape in slices}


def _steps(which: str, about: dict[str, Any] | None, arrays: dict[str, np.ndarray]) -> Steps | None:
    """Return the steps of a pass, None where it was not begun."""
    if about is None:
        return None
    own = {name.partition("/")[2]: array for name, array in arrays.items() if name.startswith(f"{which}/")}
    seen = {name: own[name] for name in ratios.SEEN if name in own}
    low, high = about["t_min"], about["t_max"]
    t_range = None if low is None or high is None else (low, high)
    return Steps(own["t0"], own["t1"], own["accepted"], about["nfe"], seen, t_range, about["y_max"])


class JuliaBackend:
    """Julia with an engine; `julia` alone takes `base`."""

    library = "jax"
    distributions = ("jax",)
    """It traces what it prints in Julia."""

    def __init__(self, engine: str | None = None) -> None:
        self.engine = engine or "base"
        self.name = f"julia:{engine}" if engine else "julia"
        self.packages = ENGINES[self.engine.partition(":")[0]][0]

    def with_engine(self, engine: str) -> JuliaBackend:
        """Return the backend with a named engine, `ordinarydiffeq` or `ordinarydiffeq:Tsit5` for example."""
        family, colon, choice = engine.partition(":")
        if family not in ENGINES or (colon and choice not in ENGINES[family][1]):
            named = [name + (f"[:{'|'.join(choices)}]" if choices else "") for name, (_, choices) in ENGINES.items()]
            raise UserError(Mistake("backend", f"'julia:{engine}'", f"julia:ENGINE with one of {', '.join(named)}"))
        return JuliaBackend(engine)

    def programs(self) -> dict[str, str | None]:
        """Return the version of Julia, None where there is none that can be used, and of the engine's packages."""
        found = julia_program.program()
        versions: dict[str, str | None] = {"julia": found.version or None}
        if found.path and self.packages:
            versions |= julia_program.packages(found.path, self.packages)
        return versions

    def program_advice(self) -> str:
        """Return why there is no Julia and what to do."""
        return julia_program.program().reason

    def processes(self) -> tuple[int, ...]:
        """Return the numbers of the processes that work for this one."""
        return () if SHARED.pid is None else (SHARED.pid,)

    def declines(self, problem: Problem, plan: Plan) -> str | None:
        """Return why not: no Julia or package, another precision or device, or a missing port."""
        found = julia_program.program()
        if not found.path:
            return found.reason
        if plan.dtype != "float64":
            return "Julia integrates in float64 alone"
        if plan.device != "cpu":
            return "Julia runs on the CPU alone"
        if plan.stepping == "matched" and self.engine != "base":
            return f"the engine {self.engine} chooses its own steps: matched stepping is julia:base's"
        if plan.norm != "default" and self.engine.startswith("sciml"):
            return f"the engine {self.engine} has a norm of its own: use the norm default"
        common = decline_common(problem, plan, "jax")
        if common is not None or not self.packages:
            return common
        there = julia_program.packages(found.path, self.packages)
        lacking = [name for name in self.packages if name not in there]
        if lacking:
            add = ", ".join(f'"{name}"' for name in lacking)
            return f"{found.path} finds no {' and no '.join(lacking)}: in Julia, import Pkg; Pkg.add([{add}])"
        return None

    def compile(self, problem: Problem, plan: Plan) -> JuliaCompiled:
        """Trace and print the problem's functions, and have Julia compile them."""
        return JuliaCompiled(problem, plan, self.engine)


backend = JuliaBackend()
