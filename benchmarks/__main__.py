"""Measure every figure, print the table, write `benchmarks/results.json`."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.turns import ratios

RESULTS = Path(__file__).parent / "results.json"
RTOL = 1e-6


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes
    ----------
    figure, problem : str
    goal : float
        The largest result that is good.
    result : float
        The median over turns.
    spread : tuple of float
        The quartiles.
    holds : bool
    """

    figure: str
    problem: str
    goal: float
    result: float
    spread: tuple[float, float]
    holds: bool


PAIRS = (
    ("overhead.torchdiffeq", ("ours:torchdiffeq", "peer:torchdiffeq_direct"), 1.03,
     ("linear", "spiral", "forced_mlp", "neural_cde")),
    ("overhead.diffrax", ("ours:diffrax", "peer:diffrax_direct"), 1.03,
     ("linear", "spiral", "forced_mlp", "neural_cde")),
    ("scipy_vs_handwritten", ("ours:scipy", "peer:scipy_by_hand"), 0.5, ("linear", "hudson_bay", "van_der_pol")),
    ("scipy_vs_handwritten", ("ours:scipy", "peer:scipy_by_hand"), 1.1, ("forced_mlp",)),
    ("scipy_vs_torchdiffeq", ("ours:scipy", "ours:torchdiffeq"), 0.05, ("hudson_bay", "van_der_pol")),
    ("scipy_vs_torchdiffeq", ("ours:scipy", "ours:torchdiffeq"), 0.1, ("linear",)),
)  # fmt: skip
"""Figures that are a ratio of two times: name, the two sides, goal, problems."""


def pairs() -> Iterator[Figure]:
    """Yield the ratios of times taken in turns."""
    for name, sides, goal, problems in PAIRS:
        for problem in problems:
            found, _ = ratios(sides, problem, RTOL)
            yield _figure(name, problem, goal, found)


def startup(repeats: int = 20) -> Figure:
    """Return the CPU seconds of `crossbackend --help`."""
    seconds = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "crossbackend", "--help"], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return _figure("startup", "crossbackend --help, CPU s", 0.3, np.array(seconds))


def _figure(name: str, problem: str, goal: float, found: np.ndarray) -> Figure:
    low, result, high = (float(f"{x:.4g}") for x in np.quantile(found, [0.25, 0.5, 0.75]))
    return Figure(name, problem, goal, result, (low, high), result <= goal)


def main() -> None:
    """Measure, print, write."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    print(f"{'figure':24}{'problem':28}{'goal':>8}{'result':>10}  {'quartiles':20}holds")
    every = []
    for one in (*(startup(),), *pairs()):
        every.append(one)
        spread = f"{one.spread[0]:.4g} .. {one.spread[1]:.4g}"
        print(
            f"{one.figure:24}{one.problem:28}{one.goal:8g}{one.result:10.4g}  {spread:20}{'yes' if one.holds else 'NO'}"
        )
    RESULTS.write_text(json.dumps([asdict(one) for one in every], indent=1) + "\n", encoding="utf-8")
    print(f"wrote {RESULTS}")


if __name__ == "__main__":
    main()
