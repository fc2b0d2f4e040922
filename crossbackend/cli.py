"""The command line; `cli_stored` has the commands that read a stored run.

A mistake of the user's is one message and exit code 2, a failed check is exit code 1; anything else that goes wrong is
a bug with its traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import textwrap
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from crossbackend import cli_check, cli_julia, cli_stored, cli_train
from crossbackend.errors import UserError
from crossbackend.load import gallery, load, not_own
from crossbackend.norms import NATIVE
from crossbackend.norms import names as norm_names
from crossbackend.plan import GRADIENTS, STEPPINGS, Choice, check_choice
from crossbackend.wording import clean


def parser() -> argparse.ArgumentParser:
    """Return the parser of every command."""
    top = argparse.ArgumentParser(
        prog="crossbackend",
        description="Run one ODE learning problem on torchdiffeq, diffrax, SciPy and Julia and compare gradients, "
        "function evaluations and timings.",
    )
    top.add_argument("--version", action="version", version=f"crossbackend {version('crossbackend')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_list(commands)
    _add_plan(commands)
    _add_run(commands)
    cli_check.add(commands)
    cli_train.add(commands)
    cli_stored.add(commands)
    cli_julia.add(commands)
    _add_lower(commands)
    _add_recipe(commands)
    _add_new(commands)
    return top


def _add_list(commands: Any) -> None:
    add = commands.add_parser("list", help="show the gallery, the backends and the norms")
    add.add_argument("--json", action="store_true", help="print one JSON object")
    add.set_defaults(do=_list)


def _add_plan(commands: Any) -> None:
    add = commands.add_parser("plan", help="show the cells that `run` would run, and those that are declined")
    _add_choice(add)
    add.set_defaults(do=_plan)


def _add_run(commands: Any) -> None:
    add = commands.add_parser(
        "run", help="run problems on backends, store a record a cell, write the report; resumes what is there"
    )
    _add_choice(add)
    add.add_argument(
        "--out",
        type=Path,
        help=f"folder of the run (reports/NAME for one problem, {cli_stored.DEFAULT_RUN} for several)",
    )
    add.add_argument("--repeats", type=int, default=5, help="timed runs of a native cell, at most (%(default)s)")
    add.add_argument("--seconds", type=float, default=0.5, help="seconds of timing a cell, at most (%(default)s)")
    add.add_argument("--no-timing", action="store_true", help="count and compare only")
    add.add_argument("--no-report", action="store_true", help="store records only; see `crossbackend report`")
    add.add_argument(
        "--no-explain", action="store_true", help="leave out what only `explain` shows: error split, scaled loss"
    )
    add.add_argument("--force", action="store_true", help="run cells again whose records are there")
    add.add_argument(
        "--timeout", type=float, default=600, help="seconds for one solve, compilation included (%(default)s)"
    )
    add.add_argument("--memory", type=float, default=4, metavar="GIB", help="memory of one worker (%(default)s)")
    add.add_argument("--quiet", action="store_true", help="no progress bar")
    add.add_argument(
        "--scheduler", metavar="ADDRESS", help="have a Dask scheduler's workers run the cells (docs/cluster.md)"
    )
    add.set_defaults(do=_run)


def _add_lower(commands: Any) -> None:
    add = commands.add_parser("lower", help="print the NumPy program that SciPy runs for a problem")
    add.add_argument("problem", help="gallery name or path of a .py file")
    add.set_defaults(do=_lower)


def _add_recipe(commands: Any) -> None:
    add = commands.add_parser("recipe", help="print the paper's seminorm for a problem, as code to paste")
    add.add_argument("problem", help="gallery name or path of a .py file")
    add.add_argument("--library", help="torchdiffeq, diffrax or scipy (all three)")
    add.set_defaults(do=_recipe)


def _add_new(commands: Any) -> None:
    add = commands.add_parser("new", help="write a commented problem file that runs as it is")
    add.add_argument("name", help="name of the problem; the file is NAME.py")
    add.add_argument("--folder", type=Path, default=Path(), help="where to write it (the current folder)")
    add.set_defaults(do=_new)


def _add_choice(add: argparse.ArgumentParser) -> None:
    add.add_argument("problems", nargs="*", metavar="PROBLEM", help="gallery names or paths (the whole gallery)")
    add.add_argument("--problem", action="append", default=[], dest="more", metavar="PROBLEM", help="one more problem")
    add.add_argument(
        "--backend", action="append", help="torchdiffeq, diffrax, scipy[:ENGINE], julia[:ENGINE] (all installed ones)"
    )
    add.add_argument(
        "--norm", action="append",
        help=f"{', '.join(NATIVE)}, or another (see `list`); `native:NAME` for one stepping alone (default, seminorm)",
    )  # fmt: skip
    add.add_argument("--stepping", action="append", help="native, matched (both)")
    add.add_argument("--gradient", action="append", help=f"{', '.join(GRADIENTS)} (backsolve)")
    add.add_argument("--rtol", action="append", type=float, help="relative tolerance (the problem's own)")
    add.add_argument("--atol-factor", type=float, default=1e-2, help="atol over rtol (%(default)s)")
    add.add_argument("--dtype", help="float64, float32 (the problem's own)")
    add.add_argument("--device", default="cpu", help="cpu, cuda (%(default)s)")
    add.add_argument("--first-step", type=float, help="first step of every solve (the library's choice)")
    add.add_argument("--json", action="store_true", help="print one JSON object at the end")


def _choice(args: argparse.Namespace) -> Choice:
    from crossbackend import registry

    return Choice(
        tuple(args.backend or registry.installed()), tuple(args.norm or NATIVE), tuple(args.stepping or STEPPINGS),
        None if args.rtol is None else tuple(args.rtol), args.atol_factor, args.dtype, args.device, args.first_step,
        tuple(args.gradient or ("backsolve",)),
    )  # fmt: skip


def _problems(args: argparse.Namespace) -> list[Any]:
    names = list(dict.fromkeys([*args.problems, *args.more])) or list(gallery())
    return [load(name) for name in names]


# Each of these does one command; what it returns, with --json, is printed as one JSON object.


def _list(args: argparse.Namespace) -> dict[str, Any] | None:
    from crossbackend import registry

    problems = [load(name) for name in gallery()]
    backends = {name: registry.missing(name) for name in registry.names()}
    if args.json:
        about = [{"name": p.name, "description": p.description, "source": p.source} for p in problems]
        return {"problems": about, "backends": backends, "norms": norm_names()}
    print("Problems")
    column = max(len(problem.name) for problem in problems) + 2
    for problem in problems:
        words = textwrap.wrap(f"{problem.name:{column}}{problem.description}", 110, subsequent_indent=" " * column)
        print(textwrap.indent("\n".join(words), "  "))
    print("Backends")
    for name, missing in backends.items():
        print(f"  {name:16}{'needs ' + ', '.join(missing) if missing else 'installed'}")
    print("Norms")
    print(f"  {', '.join(norm_names())}")
    return None


def _plan(args: argparse.Namespace) -> dict[str, Any] | None:
    from crossbackend import registry
    from crossbackend.study.cells import declines, plans_of

    problems, choice = _problems(args), _choice(args)
    check_choice(choice, problems, registry.names())
    rows = [
        {**plan.as_dict(), "declined": reason}
        for problem in problems
        for plan, reason in declines(problem, plans_of(problem, choice))
    ]
    if args.json:
        return {"plans": rows}
    for row in rows:
        how = row["norm"] if row["gradient"] == "backsolve" else f"{row['norm']}, {row['gradient']}"
        cell = f"{row['problem']:14} {row['backend']:12} {row['stepping']:8} {how:16} rtol {row['rtol']:g}"
        print(cell + (f"  declined: {row['declined']}" if row["declined"] else ""))
    declined = sum(bool(row["declined"]) for row in rows)
    print(f"{len(rows)} cells, {declined} declined")
    return None


def _run(args: argparse.Namespace) -> dict[str, Any] | None:
    from crossbackend import stored
    from crossbackend.study import Options, run_study

    problems = _problems(args)
    out = args.out or (Path("reports") / problems[0].name if len(problems) == 1 else cli_stored.DEFAULT_RUN)
    options = Options(
        out, repeats=args.repeats, seconds=args.seconds, timing=not args.no_timing, force=args.force,
        timeout=args.timeout, memory_gib=args.memory, progress=not args.quiet and not args.json,
        explain=not args.no_explain, scheduler=args.scheduler,
    )  # fmt: skip
    run_study(problems, _choice(args), options)
    comparison = stored.compare(out)
    paths = [] if args.no_report else stored.write_report(comparison, out)
    if args.json:
        return comparison.as_dict()
    cli_stored.show(comparison)
    for path in paths:
        print(f"wrote {path}")
    return None


def _lower(args: argparse.Namespace) -> None:
    from crossbackend import api

    print(api.lower(args.problem), end="")


def _recipe(args: argparse.Namespace) -> None:
    from crossbackend import api

    print(api.recipe(args.problem, args.library), end="")


def _new(args: argparse.Namespace) -> None:
    from crossbackend.new import new

    path = new(args.name, args.folder)
    print(f"wrote {path}; run it by `crossbackend run {path}`")


def _files(args: argparse.Namespace) -> list[str]:
    """Return what a command may load as a problem's file: every word that it takes as a problem."""
    found: list[str] = []
    for name in ("problems", "more", "problem"):
        words = getattr(args, name, None) or []
        found += [words] if isinstance(words, str) else words
    return list(dict.fromkeys(found))


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; exit 2 for a mistake of the user's."""
    args = parser().parse_args(argv)
    as_json = getattr(args, "json", False)
    for sentence in filter(None, map(not_own, _files(args))):
        print(f"warning: {clean(sentence)}", file=sys.stderr)
    try:
        # What a problem file prints must not get into the JSON.
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            found = args.do(args)
        if found is not None:
            print(json.dumps(found, indent=1))
        sys.stdout.flush()
        if getattr(args, "exit_code", 0):
            raise SystemExit(args.exit_code)
    except UserError as error:
        for mistake in error.mistakes:
            print(f"error: {mistake}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted: what is stored is a usable run, and the same command goes on from there", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # `crossbackend lower X | head`: Python would say so once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
