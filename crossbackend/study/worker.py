"""The worker process: runs one backend's plans, one request at a time, so that torch and jax never meet.

Started as `python -m crossbackend.study.worker`; it reads requests from its standard input, answers on its
standard output, and ends when its input does. What a problem prints goes to standard error.
"""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import IO, Any

from crossbackend import machine, registry
from crossbackend.backends.contract import Compiled
from crossbackend.digest import problem_digest
from crossbackend.errors import Mistake, UserError
from crossbackend.load import load
from crossbackend.plan import Plan
from crossbackend.problem import Problem
from crossbackend.record import Outcome
from crossbackend.scaling import divided, loss_scale, scaled
from crossbackend.study import protocol


class Worker:
    """Answers requests. A request is a dict with `do`, the name of a method, and that method's arguments."""

    def __init__(self) -> None:
        self.problems: dict[str, Problem] = {}
        self.counting: tuple[tuple[str, ...], Compiled] | None = None
        self.scaling: tuple[tuple[str, ...], float, Compiled] | None = None
        self.exact: tuple[tuple[str, str], Any] | None = None
        self.bare: dict[tuple[str, ...], Compiled] = {}
        self.warmed: dict[tuple[str, ...], dict[str, float]] = {}

    def problem(self, key: str, path: str | None, value: bytes, digest: str, folders: list[str]) -> None:
        """Keep a problem under a key: loaded from its file, or as it was sent.

        Raises
        ------
        UserError
            A file that gives another problem than it gave the study.
        """
        sys.path += [folder for folder in folders if folder not in sys.path]  # of modules that the problem imports
        problem: Problem = pickle.loads(value) if path is None else load(path)
        if path is not None and problem_digest(problem) != digest:
            fix = "Seed what is random in it, for example by np.random.default_rng(0), and do not edit it during a run."
            raise UserError(Mistake(path, "another problem when it is run again", "the same one every time", fix))
        self.problems[key] = problem
        self.counting = self.scaling = self.exact = None
        self.bare = {k: v for k, v in self.bare.items() if k[0] != problem.name}
        self.warmed = {k: v for k, v in self.warmed.items() if k[0] != problem.name}

    def trial(self, key: str, library: str) -> Any:
        """Run the problem's functions once."""
        from crossbackend.trial import trial

        return trial(self.problems[key], library)

    def declines(self, key: str, plans: list[Plan]) -> list[str | None]:
        """Return, for every plan, why its backend cannot run it, or None."""
        problem = self.problems[key]
        return [registry.get(plan.backend).declines(problem, plan) for plan in plans]

    def _compile(self, key: str, plan: Plan) -> Compiled:
        return registry.get(plan.backend).compile(self.problems[key], plan)

    def _forget(self, plan: Plan) -> None:
        """Drop the last sweep's counting programs: those of a whole gallery would fill gigabytes."""
        self.counting = self.scaling = None
        _free(plan.backend)

    def record(self, key: str, plan: Plan) -> Any:
        """Return (Outcome, settings) of a counting run."""
        if self.counting is None or self.counting[0] != plan.sweep_key:
            self._forget(plan)
            self.counting = plan.sweep_key, self._compile(key, plan)
        compiled = self.counting[1]
        return compiled.record(plan.rtol, plan.atol), compiled.settings(plan.rtol, plan.atol)

    def scaled(self, key: str, plan: Plan, ys: dict[str, Any]) -> Any:
        """Return (factor, Outcome) of a counting run of the plan with its loss scaled; one factor a sweep."""
        problem = self.problems[key]
        if self.scaling is None or self.scaling[0] != plan.sweep_key:
            own = registry.get(plan.backend).library
            factor = loss_scale(problem, "torch" if own == "jax" and problem.lacks("jax") else own, ys)
            if factor is None:
                return None, None
            made = registry.get(plan.backend).compile(scaled(problem, factor), plan)
            self.scaling = plan.sweep_key, factor, made
        _, factor, compiled = self.scaling
        outcome = compiled.record(plan.rtol, plan.atol)
        if outcome.gradient is not None:
            outcome = replace(outcome, gradient=divided(outcome.gradient, factor))
        return factor, outcome

    def error_split(self, key: str, plan: Plan, outcome: Outcome) -> dict[str, Any]:
        """Return where the error of a SciPy plan's gradient comes from, or why that is not known."""
        from crossbackend.error_split import ErrorSplit
        from crossbackend.interpolating import NoReference

        problem = self.problems[key]
        engine = plan.backend.partition(":")[2] or ("torch" if problem.lacks("jax") else "numpy")
        try:
            if self.exact is None or self.exact[0] != (key, engine):
                self.exact = (key, engine), ErrorSplit(problem, engine)
            return self.exact[1].split(outcome)
        except NoReference as error:
            return {"message": str(error)}

    def warm(self, key: str, plan: Plan) -> dict[str, float]:
        """Compile and run the bare plan once; return the seconds of both."""
        if plan.sweep_key not in self.warmed:
            self._forget(plan)
            compiled = self.bare[plan.sweep_key] = self._compile(key, plan)
            before = compiled.compile_s
            started = time.perf_counter()
            compiled.solve(plan.rtol, plan.atol)
            took = time.perf_counter() - started
            # What compiling took inside the first call is told apart from it.
            first = max(0.0, took - (compiled.compile_s - before))
            self.warmed[plan.sweep_key] = {"compile_s": compiled.compile_s, "first_s": first}
        return self.warmed[plan.sweep_key]

    def time(self, key: str, plan: Plan, *, memory: bool = False) -> dict[str, Any]:
        """Run the bare plan once more; return its seconds and the peak memory meanwhile.

        With `memory`, also by how much it rose above what the process held: freed memory is given back first, so that
        the call has to ask for all that it needs, which takes a few milliseconds of its time.
        """
        self.warm(key, plan)  # a worker that has taken another's place is cold
        compiled, backend = self.bare[plan.sweep_key], registry.get(plan.backend)
        helpers = getattr(backend, "processes", tuple)()
        if memory:
            machine.give_back_memory()
        known = machine.reset_peak_memory(helpers)
        held = machine.peak_memory_bytes(helpers) if known else None
        watch: Any = getattr(backend, "device_memory", None)
        on_device = watch(plan) if memory and watch is not None else nullcontext()
        with on_device as device:
            before = compiled.compile_s
            started = time.perf_counter()
            compiled.solve(plan.rtol, plan.atol)
            # Compiling takes time here only where a program was started anew.
            seconds = time.perf_counter() - started - (compiled.compile_s - before)
        peak = machine.peak_memory_bytes(helpers) if known else None
        found = {"seconds": seconds, "peak_memory_bytes": peak}
        if memory:
            rise = None if peak is None or held is None else max(peak - held, 0)
            found |= {"memory_rise_bytes": rise, "device_memory_bytes": device() if device else None}
        return found

    def reference(self, key: str, seeds: int = 0) -> Any:
        """Return the reference gradient, its arrays, and the problem's card; with seeds, the quick one."""
        from crossbackend.quick_reference import quick_reference
        from crossbackend.reference import card, reference

        if seeds:
            about, arrays = quick_reference(self.problems[key], seeds)
            return about, arrays, card(self.problems[key], None)
        about, arrays, picture = reference(self.problems[key])
        _free(*registry.installed())
        return about, arrays, card(self.problems[key], picture)


def _free(*backends: str) -> None:
    """Free what backends keep of programs compiled so far."""
    for name in backends:
        forget = getattr(registry.get(name), "forget", None)
        if forget is not None:
            forget()
    machine.give_back_memory()


def answer(worker: Worker, request: dict[str, Any]) -> tuple[str, Any, float]:
    """Return what `attempt` does, and the CPU seconds that it took, helpers of the backend included."""
    before = _cpu_seconds(request)
    kind, value = attempt(worker, request)
    return kind, value, max(0.0, _cpu_seconds(request) - before)


def _cpu_seconds(request: dict[str, Any]) -> float:
    """Return this process's CPU seconds so far; of a plan's request, those of its backend's helpers too."""
    plan = request.get("plan")
    helpers = () if plan is None else getattr(registry.get(plan.backend), "processes", tuple)()
    return machine.cpu_seconds(helpers)


def attempt(worker: Worker, request: dict[str, Any]) -> tuple[str, Any]:
    """Return `("ok", value)`, `("user", mistakes)`, `("memory", text)` or `("crashed", text)`."""
    arguments = dict(request)
    method: Callable[..., Any] = getattr(worker, arguments.pop("do"))
    try:
        return "ok", method(**arguments)
    except UserError as error:
        return "user", error.mistakes
    except MemoryError as error:
        return "memory", str(error) or "MemoryError"
    except Exception as error:
        traceback.print_exc()
        words = "".join(traceback.format_exception_only(error)).strip()
        spent = ("out of memory", "can't allocate memory", "RESOURCE_EXHAUSTED", "bad_alloc")
        return ("memory" if any(word in words for word in spent) else "crashed"), words[:2000]


def _listen(incoming: IO[bytes], requests: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Hand on requests; end the process when the study is gone, also in the middle of a solve."""
    try:
        while True:
            requests.put(protocol.receive(incoming))
    except protocol.Closed:
        os._exit(0)


def _own_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Return the pipes from and to the study, out of reach of a problem's `input()` and `print()`."""
    incoming, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return incoming, replies


def main() -> None:
    """Answer requests until the input ends."""
    incoming, replies = _own_pipes()
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(incoming, requests), daemon=True).start()
    worker = Worker()
    while True:
        try:
            protocol.send(replies, answer(worker, requests.get()))
        except protocol.Closed:
            os._exit(0)


if __name__ == "__main__":
    main()
