"""What a sweep of tolerances costs to compile over one of them: `python -m benchmarks.compiling BACKEND PROBLEM COUNT`.

Every sweep has a process of its own, which has compiled nothing before; one tolerance and eight take turns.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.figure import Figure, Options, figure
from benchmarks.turns import asked
from crossbackend import registry
from crossbackend.load import load
from crossbackend.plan import Plan

GOAL = 1.1
BACKENDS = ("scipy", "torchdiffeq", "diffrax")
PROBLEM = "linear"
RTOLS = tuple(float(f"1e-{k}") for k in range(3, 11))
SECRET = 0.25
"""Share of a compilation."""
FEWEST = 5
"""Turns: a process that imports JAX and compiles takes seconds, so that fewer are made than of a gradient."""


def sweep_compile(options: Options) -> Iterator[Figure]:
    """Yield compile seconds of eight tolerances over those of one, for every backend."""
    turns = max(FEWEST, options.repeats // 5)
    for backend in BACKENDS:
        for problem in options.chosen((PROBLEM,)):
            found = [[_seconds(backend, problem, count) for count in (len(RTOLS), 1)] for _ in range(turns)]
            eight, one = np.array(found).T
            yield figure(f"sweep_compile.{backend}", problem, GOAL, eight / one)


def _seconds(backend: str, problem: str, count: int) -> float:
    anew = {"JAX_ENABLE_COMPILATION_CACHE": "false"}  # whatever folder of compiled programs the user has named
    return float(asked("benchmarks.compiling", backend, problem, str(count), environment=anew))


def measure(backend: str, name: str, count: int) -> float:
    """Return the compile seconds of a sweep: what tracing and compiling took by the time that all have run.

    A first call that takes a good part of a compilation longer than the second has compiled in secret: that counts.
    """
    problem = load(name)
    compiled = registry.get(backend).compile(problem, Plan(name, backend, "default", "native", RTOLS[0], RTOLS[0]))
    secret = 0.0
    for rtol in RTOLS[:count]:
        before, took = compiled.compile_s, []
        for _ in range(2):
            started = time.perf_counter()
            compiled.solve(rtol, rtol / 100)
            took.append(time.perf_counter() - started)
        longer = took[0] - took[1] - (compiled.compile_s - before)
        secret += longer if longer > SECRET * compiled.compile_s else 0.0
    return compiled.compile_s + secret


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
