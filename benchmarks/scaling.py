"""How time and evaluations grow with batch, state, parameters and outputs; the exponents by least squares."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.family import Sizes
from benchmarks.figure import Figure, Options
from benchmarks.turns import Child, in_turns

RTOL = 1e-4
AXES: dict[str, tuple[Sizes, ...]] = {
    "batch": tuple(Sizes(batch=n) for n in (1, 4, 16, 64, 256, 1024, 4096)),
    "state": tuple(Sizes(state=n) for n in (1, 4, 16, 64, 256)),
    "parameters": tuple(Sizes(width=n) for n in (4, 16, 64, 256, 1024)),
    "outputs": tuple(Sizes(outputs=n) for n in (2, 4, 8, 16, 32, 64, 128)),
}
"""What grows, everything else at the family's own size; the parameters by the width."""
BACKENDS = {"cpu": ("scipy", "torchdiffeq", "diffrax"), "cuda": ("torchdiffeq", "diffrax")}
POINTS = "scaling{}.json"
FOLDER = Path(__file__).parent


def scaling(options: Options) -> Iterator[Figure]:
    """Yield the exponents of every backend; the points go to `scaling.json`."""
    backends = BACKENDS[options.device]
    path = points_path(options.device)
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"points": []}
    for axis in options.chosen(tuple(AXES)):
        found = [one for sizes in AXES[axis] for one in points(axis, sizes, backends, options)]
        kept = [one for one in known["points"] if one["axis"] != axis]
        known = {"rtol": RTOL, "points": [*kept, *found]}
        path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        for backend in backends:
            own = [one for one in found if one["backend"] == backend]
            for what in ("seconds", "nfe"):
                slope, error = exponent([one["size"] for one in own], [one[what] for one in own])
                word = "time" if what == "seconds" else what
                yield Figure(
                    f"scaling.{word}.{backend}", f"{word} ~ {axis}^x", None, _rounded(slope),
                    (_rounded(slope - error), _rounded(slope + error)), None,
                )  # fmt: skip


def points_path(device: str) -> Path:
    """Return where the points of a device are kept."""
    return FOLDER / POINTS.format("" if device == "cpu" else f"-{device}")


def points(axis: str, sizes: Sizes, backends: Sequence[str], options: Options) -> list[dict[str, Any]]:
    """Return a point a backend at some sizes, the backends timed in turns: median seconds, quartiles, evaluations."""
    children = [Child(f"ours:{backend}", sizes.name, RTOL, options.device) for backend in backends]
    try:
        nfe = [child.ask("nfe") for child in children]
        seconds = in_turns(children, options.repeats, 4 * options.repeats)
    finally:
        for child in children:
            child.end()
    size = size_of(axis, sizes)
    return [
        {
            "axis": axis, "backend": backend, "size": size, "seconds": _digits(median),
            "quartiles": [_digits(low), _digits(high)], "nfe": sum(nfe[k]), "forward_nfe": nfe[k][0],
        }
        for k, backend in enumerate(backends)
        for low, median, high in [np.quantile(seconds[:, k], [0.25, 0.5, 0.75])]
    ]  # fmt: skip


def size_of(axis: str, sizes: Sizes) -> int:
    """Return what stands on an axis."""
    return sizes.parameters if axis == "parameters" else getattr(sizes, axis)


def exponent(sizes: Sequence[float], found: Sequence[float]) -> tuple[float, float]:
    """Return p of `found ~ sizes**p` and its standard error, by least squares of the logarithms.

    Parameters
    ----------
    sizes, found : sequence of float
        Three points or more, all positive.
    """
    x, y = np.log(np.asarray(sizes, dtype=float)), np.log(np.asarray(found, dtype=float))
    away = x - x.mean()
    slope = float(away @ y / (away @ away))
    rest = y - y.mean() - slope * away
    return slope, float(np.sqrt(rest @ rest / (len(x) - 2) / (away @ away)))


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


def _rounded(exponent: float) -> float:
    return round(exponent, 4) + 0.0  # counts that do not change give 1e-16
