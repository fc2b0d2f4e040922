"""Commands that read a stored run, and need neither torch nor jax: `compare`, `explain`, `advise`, `diff`, `report`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossbackend.wording import clean

if TYPE_CHECKING:
    from crossbackend.compare import Comparison

DEFAULT_RUN = Path("reports/latest")
BY = ("time", "nfe")
"""As in `advice`, said here so that `--help` imports nothing for it; a test holds them together."""


def add(commands: Any) -> None:
    """Add the commands to a parser."""
    made = commands.add_parser("compare", help="compare the records of a run")
    _add_run(made)
    made.set_defaults(do=_compare)
    made = commands.add_parser("explain", help="say why results differ: whose error, which setting, at what price")
    made.add_argument("run", type=Path, help=f"folder of the run, such as {DEFAULT_RUN}")
    made.add_argument("problem", nargs="?", help="name of a problem of the run (its only one)")
    made.add_argument("--rtol", type=float, help="tolerance to explain (1e-6, or the one nearest to it)")
    made.add_argument("--json", action="store_true", help="print one JSON object, of every tolerance")
    made.set_defaults(do=_explain)
    made = commands.add_parser("advise", help="name the cheapest plan that reaches a gradient error, and the others")
    _add_run(made)
    made.add_argument("--error", type=float, required=True, help="relative gradient error to reach, such as 1e-4")
    made.add_argument("--by", choices=BY, default="time", help="what is to be cheap (%(default)s)")
    made.set_defaults(do=_advise)
    made = commands.add_parser("diff", help="say what changed between two runs: results, times, flags, versions")
    made.add_argument("a", type=Path, metavar="RUN_A", help="folder of the run that came first")
    made.add_argument("b", type=Path, metavar="RUN_B", help="folder of the run to compare with it")
    made.add_argument("--page", type=Path, metavar="FILE", help="write an HTML page as well")
    made.add_argument("--json", action="store_true", help="print one JSON object")
    made.set_defaults(do=_diff)
    made = commands.add_parser("report", help="write index.html and report.pdf of a run, from its records alone")
    made.add_argument(
        "run", type=Path, nargs="?",
        help=f"folder of the run ({DEFAULT_RUN}); with --all, the folder that holds the runs ({DEFAULT_RUN.parent})",
    )  # fmt: skip
    made.add_argument("--all", action="store_true", help="all runs of a folder, and the page that lists them")
    made.add_argument("--no-pdf", action="store_true", help="write the HTML page only")
    made.add_argument("--figures", action="store_true", help="write every chart as an SVG file too, into figures/")
    made.set_defaults(do=_report)


def _add_run(made: argparse.ArgumentParser) -> None:
    made.add_argument("run", type=Path, nargs="?", default=DEFAULT_RUN, help="folder of the run (%(default)s)")
    made.add_argument("--json", action="store_true", help="print one JSON object")


# Each of these does one command; what it returns, with --json, is printed as one JSON object.


def _compare(args: argparse.Namespace) -> dict[str, Any] | None:
    from crossbackend import stored

    comparison = stored.compare(args.run)
    if args.json:
        return comparison.as_dict()
    show(comparison)
    return None


def _explain(args: argparse.Namespace) -> dict[str, Any] | None:
    from crossbackend import stored

    found = stored.explain(args.run, args.problem, rtol=args.rtol)
    if args.json:
        return found.as_dict()
    print(clean(found), end="")
    return None


def _advise(args: argparse.Namespace) -> dict[str, Any] | None:
    from crossbackend import advice, stored

    found = stored.advise(args.run, args.error, by=args.by)
    if args.json:
        return {"wanted": args.error, "by": args.by, "problems": [asdict(item) for item in found]}
    for item in found:
        print(clean(advice.text(item)))
    return None


def _diff(args: argparse.Namespace) -> dict[str, Any] | None:
    from crossbackend import stored

    found = stored.diff(args.a, args.b)
    page = None if args.page is None else stored.write_diff(found, args.page)
    if not args.json:
        print(clean(found), end="")
    if page is not None:
        print(f"wrote {page}")
    for name, files in zip("AB", found.damaged, strict=True):
        for sentence in files:
            print(clean(f"skipped in {name}: {sentence}"), file=sys.stderr)
    return found.as_dict() if args.json else None


def _report(args: argparse.Namespace) -> None:
    from crossbackend import stored

    options = {"pdf": not args.no_pdf, "figures": args.figures}
    if args.all:
        paths = stored.report_all(args.run or DEFAULT_RUN.parent, **options)
    else:
        paths = stored.report(args.run or DEFAULT_RUN, **options)
    for path in paths:
        print(f"wrote {path}")


def show(comparison: Comparison) -> None:
    """Print whether the backends agree, and the summary."""
    for item in comparison.problems:
        reference = item.reference
        floor = reference.get("floor")
        shown = "" if floor is None else f", floor {floor:.1e}"
        print(clean(f"\n{item.problem}  (reference: {reference.get('status', 'missing')}{shown})"))
        for row in item.matched:
            difference = row.max_relative_difference
            shown = "no two gradients" if difference is None else f"{difference:.1e}"
            steps = "same steps" if row.same_steps else "different steps"
            print(clean(f"  matched {row.series:15} rtol {row.rtol:<7g} {row.verdict:9} {shown:>9}  {steps}"))
    print()
    for sentence in comparison.summary():
        print(clean(sentence))
    for sentence in comparison.damaged:
        print(clean(f"skipped {sentence}"), file=sys.stderr)
