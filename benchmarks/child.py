"""A process that holds a contestant: `python -m benchmarks.child SIDE PROBLEM RTOL DEVICE`.

torch and JAX each have a process of their own, as in a run. It reads a line, `check`, `time` or `nfe`, and answers one.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.family import named
from crossbackend import registry
from crossbackend.plan import Plan

Run = Callable[[], tuple[float, np.ndarray, list[np.ndarray]]]
Evaluations = Callable[[], list[int]]


def ours(name: str, backend: str, rtol: float, device: str) -> tuple[Run, Evaluations]:
    """Return crossbackend's compiled gradient, as native as the library has it, and what counts its evaluations."""
    problem = named(name)
    plan = Plan(name, backend, "default", "native", rtol, rtol / 100, device=device)
    compiled = registry.get(backend).compile(problem, plan)

    def evaluations() -> list[int]:
        found = compiled.record(rtol, rtol / 100)
        if found.forward is None or found.backward is None:
            raise RuntimeError(f"{backend} on {name}: {found.status} {found.message}")
        return [found.forward.nfe, found.backward.nfe]

    def run() -> tuple[float, np.ndarray, list[np.ndarray]]:
        found = compiled.solve(rtol, rtol / 100)
        of_y0 = [np.ravel(leaf) for leaf in found.y0.values()]  # as a state of several arrays is raveled
        return found.loss, np.concatenate(of_y0), list(found.params.values())

    return run, evaluations


def contestant(side: str, name: str, rtol: float, device: str) -> tuple[Run, Evaluations | None]:
    """Return what takes a gradient once, of `ours:BACKEND` or `peer:MODULE`, and what counts ours."""
    kind, _, which = side.partition(":")
    if kind == "ours":
        return ours(name, which, rtol, device)
    own = {} if device == "cpu" else {"device": device}
    return importlib.import_module(f"benchmarks.peers.{which}").prepare(named(name), rtol, rtol / 100, **own), None


def main(side: str, name: str, rtol: str, device: str) -> None:
    """Answer until the input ends."""
    run, evaluations = contestant(side, name, float(rtol), device)
    for line in sys.stdin:
        if line.strip() == "check":
            loss, of_y0, leaves = run()
            answer: Any = {"loss": loss, "gradient": [np.ravel(a).tolist() for a in (of_y0, *leaves)]}
        elif line.strip() == "nfe":
            answer = evaluations() if evaluations is not None else None
        else:
            started = time.perf_counter()
            run()
            answer = time.perf_counter() - started
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
