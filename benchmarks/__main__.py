"""Measure figures, print the table, write `results.json` and the page: `python -m benchmarks`, or `make bench`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks import table
from benchmarks.compiling import sweep_compile
from benchmarks.figure import REPEATS, Figure, Measure, Options
from benchmarks.orchestration import orchestration
from benchmarks.overhead import overheads
from benchmarks.page import write
from benchmarks.scaling import scaling
from benchmarks.solver import solver_overhead
from benchmarks.startup import startup

FIGURES: dict[str, Measure] = {
    **overheads(),
    "solver_overhead": solver_overhead,
    "sweep_compile": sweep_compile,
    "startup": startup,
    "scaling": scaling,
    "orchestration": orchestration,
}
"""What is measured, in the order of the table."""
ON_CUDA = ("overhead.torchdiffeq", "overhead.diffrax", "scaling", "orchestration")


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.add_argument("--only", action="append", metavar="FIGURE", help=f"{', '.join(FIGURES)}, or a first part (all)")
    made.add_argument("--problem", action="append", default=[], help="of a figure's problems, these alone (all)")
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the solves (%(default)s)")
    made.add_argument("--repeats", type=int, default=REPEATS, help="turns a ratio, at least (%(default)s)")
    made.add_argument("--out", type=Path, default=Path("reports/bench"), help="folder of the page (%(default)s)")
    return made


def chosen(only: Sequence[str] | None, device: str) -> list[str]:
    """Return the figures asked for.

    Raises
    ------
    SystemExit
        A name that none has.
    """
    possible = [name for name in FIGURES if device == "cpu" or name in ON_CUDA]
    if not only:
        return possible
    unknown = [word for word in only if not any(_means(word, name) for name in FIGURES)]
    if unknown:
        raise SystemExit(f"no figure {', '.join(unknown)}: there are {', '.join(FIGURES)}")
    return [name for name in possible if any(_means(word, name) for word in only)]


def _means(word: str, name: str) -> bool:
    return word == name or name.startswith(f"{word}.")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write; what was measured earlier and not now is kept."""
    args = parser().parse_args(argv)
    if args.device == "cpu":
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    options = Options(tuple(args.problem), args.device, args.repeats)
    path = table.results_path(args.device)
    results, found = table.read(path), list[Figure]()
    print(table.HEAD)
    for name in chosen(args.only, args.device):
        own = []
        for one in FIGURES[name](options):
            own.append(one)
            print(table.row(one), flush=True)
        found += own
        # Written figure by figure: one that fails later costs none of those before it.
        results = table.merged(results, own, tuple(FIGURES), not options.problems)
        table.write(args.device, results)
    print(table.closing(found))
    print(f"wrote {path}")
    print(f"wrote {write(args.device, args.out)}")


if __name__ == "__main__":
    main()
