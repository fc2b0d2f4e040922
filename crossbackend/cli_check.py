"""The command `check`: pass or fail."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from crossbackend.load import gallery, load, path_of
from crossbackend.plan import STEPPINGS
from crossbackend.problem import Problem
from crossbackend.wording import clean

RTOLS, NORMS, SEEDS, TIMEOUT = (1e-4, 1e-6), ("seminorm",), 2, 120.0
"""As in `check.run`, said here so that `--help` imports no solver; a test holds them together."""


def add(commands: Any) -> None:
    """Add the command to a parser."""
    made = commands.add_parser(
        "check",
        help="cross-check gradients: backends, a reference and finite differences; exit code 1 where they disagree",
        description="Are the gradients the same everywhere, and right? Exit code 0: yes; 1: no; 2: a mistake in what "
        "was asked for. See docs/ci.md.",
    )
    made.add_argument("problems", nargs="*", metavar="PROBLEM", help="gallery names or paths (the whole gallery)")
    made.add_argument(
        "--backend", action="append", help="torchdiffeq, diffrax, scipy[:ENGINE], julia (all installed but julia)"
    )
    made.add_argument("--norm", action="append", help=f"a norm of the backward solve ({', '.join(NORMS)})")
    made.add_argument("--stepping", action="append", help=f"{', '.join(STEPPINGS)} (matched)")
    rtols = ", ".join(f"{rtol:.0e}" for rtol in RTOLS)
    made.add_argument("--rtol", action="append", type=float, help=f"relative tolerance, atol = rtol / 100 ({rtols})")
    made.add_argument(
        "--within", type=float, metavar="X",
        help="largest difference of gradients under native stepping (what their own errors explain)",
    )  # fmt: skip
    made.add_argument(
        "--seeds", type=int, default=SEEDS, metavar="N",
        help="random directions a leaf, for finite differences (%(default)s)",
    )  # fmt: skip
    made.add_argument("--fail-on", action="append", default=[], metavar="FLAG", help="a flag that fails, or all")
    made.add_argument("--baseline", type=Path, metavar="FILE", help="hold evaluations and errors against this file")
    made.add_argument("--update-baseline", action="store_true", help="write FILE of --baseline anew")
    made.add_argument("--junit", type=Path, metavar="FILE", help="write a JUnit report")
    made.add_argument("--github", action="store_true", help="print annotations for GitHub Actions, and its summary")
    made.add_argument("--out", type=Path, help="keep the run's records in this folder (a temporary one)")
    made.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds for one solve (%(default)s)")
    made.add_argument("--memory", type=float, default=4, metavar="GIB", help="memory of one worker (%(default)s)")
    made.add_argument("--self-test", action="store_true", help="plant faults and show that the check finds them")
    made.add_argument("--verbose", action="store_true", help="show every cell")
    made.add_argument("--quiet", action="store_true", help="no progress bar")
    made.add_argument("--json", action="store_true", help="print one JSON object at the end")
    made.set_defaults(do=_check)


def _check(args: argparse.Namespace) -> dict[str, Any] | None:
    from crossbackend.errors import Mistake, UserError

    if args.update_baseline and args.baseline is None:
        fix = "Name the file that is to be written."
        raise UserError(Mistake("--update-baseline", "no file", "--baseline FILE", fix))
    return _self_test(args) if args.self_test else _run(args)


def _run(args: argparse.Namespace) -> dict[str, Any] | None:
    from crossbackend.check import WHAT, baseline, check, table

    before = baseline.read(args.baseline) if args.baseline and not args.update_baseline else None
    problems = [load(name) for name in args.problems or gallery()]
    found = check(
        problems, backends=args.backend, norms=tuple(args.norm or NORMS), rtols=tuple(args.rtol or RTOLS),
        steppings=tuple(args.stepping or ("matched",)), fail_on=args.fail_on, within=args.within, seeds=args.seeds,
        timeout=args.timeout, memory_gib=args.memory, progress=not args.quiet and not args.json, out=args.out,
    )  # fmt: skip
    if before is not None and found.comparison is not None:
        found.findings += baseline.held_against(found.comparison, before)
        order, asked = list(WHAT), found.problems
        found.findings.sort(key=lambda finding: (asked.index(finding.problem), order.index(finding.what)))
    written = _write(args, found, problems)
    args.exit_code = 0 if found.ok else 1
    if args.json:
        return found.as_dict()
    print(table.text(found, verbose=args.verbose))
    for path in written:
        print(f"wrote {path}")
    return None


def _write(args: argparse.Namespace, found: Any, problems: Sequence[Problem]) -> list[Path]:
    """Write what was asked for beside the table; return the files."""
    from crossbackend.check import baseline, github, junit
    from crossbackend.store import write_bytes

    written = []
    if args.update_baseline and found.ok and found.comparison is not None:
        baseline.write(args.baseline, found.comparison)
        written.append(args.baseline)
    if args.update_baseline and not found.ok:
        print(f"{args.baseline} is left as it is: a check that fails is no baseline", file=sys.stderr)
    if args.junit:
        with _said("--junit", args.junit):
            write_bytes(args.junit, junit.xml(found))
        written.append(args.junit)
    if args.github:
        paths = {problem.name: path for problem in problems if (path := path_of(problem)) is not None}
        for line in github.annotations(found, paths):
            print(line)
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary:
            with _said("$GITHUB_STEP_SUMMARY", summary), Path(summary).open("a", encoding="utf-8") as out:
                out.write(github.summary(found))
    return written


@contextlib.contextmanager
def _said(where: str, path: str | Path) -> Iterator[None]:
    """Make a file that cannot be written the user's mistake."""
    from crossbackend.errors import Mistake, UserError

    try:
        yield
    except OSError as error:
        raise UserError(Mistake(where, f"{path} ({error.strerror})", "a file that can be written")) from error


def _self_test(args: argparse.Namespace) -> dict[str, Any] | None:
    from crossbackend.check.self_test import as_dict, lines, passed, self_test
    from crossbackend.errors import Mistake, UserError

    if len(args.problems) > 1:
        got = f"{len(args.problems)} problems"
        raise UserError(Mistake("--self-test", got, "one problem to plant faults in, or none"))
    problem = load(args.problems[0]) if args.problems else None
    plants = self_test(problem, progress=not args.quiet and not args.json)
    args.exit_code = 0 if passed(plants) else 1
    if args.json:
        return as_dict(plants)
    for line in lines(plants):
        print(clean(line))
    return None
