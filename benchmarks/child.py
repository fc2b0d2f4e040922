"""A process that holds contestants and runs one when it is told to: `python -m benchmarks.child SIDE PROBLEM RTOL`.

torch and JAX each have a process of their own, as in a run. It reads a line, `check` or `time`, and answers one.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from crossbackend import registry
from crossbackend.load import load
from crossbackend.plan import Plan


def ours(name: str, backend: str, rtol: float) -> Callable[[], tuple[float, np.ndarray, list[np.ndarray]]]:
    """Return crossbackend's compiled gradient, as native as the library has it."""
    problem = load(name)
    compiled = registry.get(backend).compile(problem, Plan(name, backend, "default", "native", rtol, rtol / 100))

    def run() -> tuple[float, np.ndarray, list[np.ndarray]]:
        found = compiled.solve(rtol, rtol / 100)
        return found.loss, next(iter(found.y0.values())), list(found.params.values())

    return run


def contestant(side: str, name: str, rtol: float) -> Callable[[], Any]:
    """Return what takes a gradient once: `ours:BACKEND`, or `peer:MODULE`."""
    kind, _, which = side.partition(":")
    if kind == "ours":
        return ours(name, which, rtol)
    return importlib.import_module(f"benchmarks.peers.{which}").prepare(load(name), rtol, rtol / 100)


def main(side: str, name: str, rtol: str) -> None:
    """Answer until the input ends."""
    run = contestant(side, name, float(rtol))
    for line in sys.stdin:
        if line.strip() == "check":
            loss, of_y0, leaves = run()
            answer: Any = {"loss": loss, "gradient": [np.ravel(a).tolist() for a in (of_y0, *leaves)]}
        else:
            started = time.perf_counter()
            run()
            answer = time.perf_counter() - started
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
