"""A problem as a Julia program: a folder that Julia runs with its standard library alone (docs/julia.md)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from crossbackend.errors import Mistake, UserError, raise_all
from crossbackend.julia_files import check_names, program_files, write_files
from crossbackend.julia_functions import Functions
from crossbackend.julia_program import sources
from crossbackend.julia_text import readme_text, run_text
from crossbackend.problem import Problem

OWN = ("field.jl", "problem.jl", "run.jl", "README.md", "card.json", "arrays", "CrossBackend")
"""What an export writes; `results` is its program's."""


def export(problem: Problem, folder: Path) -> Functions:
    """Write a problem as a Julia program, whole or not at all.

    A folder that holds an earlier export of the same problem is written anew; its results stay.

    Parameters
    ----------
    problem : Problem
    folder : Path

    Returns
    -------
    Functions
        What was printed, and the norms that could not be.

    Raises
    ------
    UserError
        A folder that holds something else or cannot be written; a problem that JAX cannot trace or that uses what
        has no rule in Julia; a leaf whose name cannot be a file's.
    """
    from crossbackend.reference import card

    folder = Path(os.path.abspath(folder))
    _check(problem, folder)
    functions = Functions(problem)
    files = {
        **program_files(functions),
        "card.json": (json.dumps(card(problem, None), indent=1) + "\n").encode(),
        "README.md": readme_text(functions).encode(),
        "run.jl": run_text(problem.name).encode(),
    }
    with _replaced(folder) as fresh:
        write_files(files, fresh)
        _copy_sources(fresh / "CrossBackend")
    return functions


def _copy_sources(target: Path) -> None:
    """Copy what every exported problem runs with: the modules in one folder, the engines beside them."""
    shutil.copytree(sources() / "src", target)
    shutil.copytree(sources() / "engines", target / "engines")
    shutil.copy(sources() / "worker.jl", target)


def _check(problem: Problem, folder: Path) -> None:
    """Raise every mistake that can be seen before anything is traced."""
    mistakes = check_names(problem)
    held = _held(problem, folder)
    if held:
        expected = f"an empty folder, or an earlier export of {problem.name!r}"
        mistakes.append(Mistake("--julia", f"{folder}, {held}", expected, "Write another folder."))
    raise_all(mistakes)


def _held(problem: Problem, folder: Path) -> str:
    """Return what keeps a folder from being written, nothing where it may be."""
    if not folder.exists():
        return ""
    if not folder.is_dir():
        return "a file"
    names = sorted(path.name for path in folder.iterdir())
    others = [name for name in names if name not in (*OWN, "results")]
    if others or (names and "problem.jl" not in names):
        return f"which holds {', '.join((others or names)[:3])}"
    if names:
        try:
            name = json.loads((folder / "card.json").read_text(encoding="utf-8")).get("name")
        except (OSError, ValueError, AttributeError):
            return "whose card.json is missing or cannot be read"
        if name != problem.name:
            return f"an export of {name!r}"
    return ""


@contextlib.contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """Give a fresh folder that takes the place of another at the end, and is gone where something was raised."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    except OSError as error:
        got, expected = f"{folder} ({error.strerror})", "a folder that can be written"
        raise UserError(Mistake("--julia", got, expected, "Write another folder.")) from error
    try:
        fresh.chmod(0o777 & ~_umask())
        yield fresh
        if (folder / "results").exists():
            (folder / "results").rename(fresh / "results")
        if folder.exists():
            shutil.rmtree(folder)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found
