"""How much of the machine a run's solvers and compilers have, while the run's own parts start, wait and write."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure, Options, figure
from crossbackend.load import gallery

GOAL = 0.75
NORMS = ("default", "seminorm", "native:mixed-seminorm")
"""As `make compare` has them; a test holds them together."""


def orchestration(options: Options) -> Iterator[Figure]:
    """Yield the workers' CPU time over wall time and cores, while cells are counted side by side."""
    problems = options.chosen(gallery())
    with tempfile.TemporaryDirectory(prefix="orchestration-") as folder:
        subprocess.run(command(problems, Path(folder), options.device), check=True, stdout=subprocess.DEVNULL)
        about = json.loads((Path(folder) / "run.json").read_text(encoding="utf-8"))
    shown = "the gallery" if problems == gallery() else ", ".join(problems)
    yield figure("orchestration", shown, GOAL, [share(about["phases"]["side_by_side"])])


def share(phase: Mapping[str, Any]) -> float:
    """Return which part of wall time x cores the workers' answers took."""
    return phase["solver_cpu_s"] / (phase["wall_s"] * phase["cores"])


def command(problems: Sequence[str], folder: Path, device: str) -> list[str]:
    """Return the command of `make compare` on some problems, its timing cut short and its report left out."""
    norms = [word for name in NORMS for word in ("--norm", name)]
    short = ["--repeats", "1", "--seconds", "0.01", "--no-report", "--quiet"]
    return [sys.executable, "-m", "crossbackend", "run", *problems, *norms, "--device", device, *short,
            "--out", str(folder)]  # fmt: skip
