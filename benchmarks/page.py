"""The page of the results, `reports/bench/index.html`, made of the files that `table` and `scaling` have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import scaling, table
from benchmarks.figure import Figure, sign
from crossbackend.report.bench_page import BenchView, Line, render
from crossbackend.store import write_bytes

MEANING = {
    "overhead.torchdiffeq": "our compiled loss and gradient over `odeint_adjoint` called by hand on the same field",
    "overhead.torchdiffeq.module": "the same over a `torch.nn.Module` of one's own, trained by `loss.backward()`",
    "overhead.diffrax": "our compiled loss and gradient over one jitted `diffeqsolve` with `BacksolveAdjoint`",
    "overhead.diffrax.equinox": "the same over an `equinox.Module` of one's own, under `filter_jit`",
    "scipy_vs_handwritten": "our SciPy gradient over `solve_ivp` by hand, field and augmented field jitted by JAX",
    "scipy_vs_torchdiffeq": "our SciPy gradient over our torchdiffeq gradient",
    "solver_overhead": "time of a gradient over evaluations x the time of one, the two passes apart",
    "sweep_compile": "compile time of a sweep of eight tolerances over that of one tolerance",
    "startup": "CPU seconds of a command; resident memory of a backend's process",
    "scaling": "exponents of time and evaluations by the size of a network's batch, state, parameters, outputs",
    "orchestration": "CPU time of solvers and compilers over wall time x cores, while cells are counted side by side",
}
"""What every figure is, in the order of the table."""
COMMANDS = ("make bench", "python -m benchmarks --only overhead --only startup")


def line(one: Figure) -> Line:
    """Return a result as the page has it."""
    if one.goal is None:
        return Line(one.figure, one.problem, "", one.result, one.spread)
    low, high = one.spread
    miss = 0.0 if one.holds else abs(one.result / one.goal - 1)
    inside = low < high and low <= one.goal <= high
    return Line(one.figure, one.problem, f"{sign(one.figure)} {one.goal:g}", one.result, one.spread, one.holds, inside,
                miss)  # fmt: skip


def view(device: str) -> BenchView:
    """Return what the page of a device shows, of what is stored."""
    path = scaling.points_path(device)
    points: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["points"] if path.exists() else []
    exponents = {}
    for axis, backend in dict.fromkeys((point["axis"], point["backend"]) for point in points):
        own = [point for point in points if (point["axis"], point["backend"]) == (axis, backend)]
        sizes = [point["size"] for point in own]
        if len(own) > 2:
            time, nfe = (scaling.exponent(sizes, [point[what] for point in own]) for what in ("seconds", "nfe"))
            exponents[axis, backend] = time, nfe
    about = table.about_path(device)
    return BenchView(
        [line(one) for one in table.read(table.results_path(device))],
        points,
        exponents,
        json.loads(about.read_text(encoding="utf-8")) if about.exists() else {},
        MEANING,
        COMMANDS if device == "cpu" else (f"python -m benchmarks --device {device}",),
    )


def write(device: str, folder: Path) -> Path:
    """Write the page and return its path."""
    path = folder / ("index.html" if device == "cpu" else f"{device}.html")
    write_bytes(path, render(view(device)))
    return path
