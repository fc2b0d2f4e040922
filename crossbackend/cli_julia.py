"""Commands on Julia programs: `export` writes a problem as one, `import` reads what one has written."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from crossbackend.wording import clean


def add(commands: Any) -> None:
    """Add the commands to a parser."""
    made = commands.add_parser("export", help="write a problem as a Julia program that needs nothing but Julia")
    made.add_argument("problem", help="gallery name or path of a .py file")
    made.add_argument("--julia", type=Path, required=True, metavar="DIR", help="folder to write it into")
    made.set_defaults(do=_export)
    made = commands.add_parser("import", help="put the results of a Julia program into a run")
    made.add_argument("results", type=Path, metavar="DIR", help="what it wrote, or the exported folder with `results`")
    made.add_argument("run", type=Path, metavar="RUN", help="folder of the run, made where there is none")
    made.add_argument("--card", type=Path, metavar="FILE", help="card.json of the exported folder (found beside DIR)")
    made.set_defaults(do=_import)


def _export(args: argparse.Namespace) -> None:
    from crossbackend import api

    left_out = api.export(args.problem, julia=args.julia)
    for name, reason in left_out.items():
        print(clean(f"left out: the norm {name!r}: {reason}"))
    command = shlex.join(["julia", str(args.julia / "run.jl")])
    print(f"wrote {args.julia}; run it by `{command}`")


def _import(args: argparse.Namespace) -> None:
    from crossbackend import api

    for line in api.import_results(args.results, args.run, card=args.card).lines():
        print(clean(line))
