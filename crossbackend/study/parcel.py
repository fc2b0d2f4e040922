"""How a problem travels: to a worker process of this machine, or to another machine that lacks its file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle

from crossbackend.digest import problem_digest
from crossbackend.errors import Mistake, UserError
from crossbackend.load import gallery_folder, path_of
from crossbackend.problem import Problem


@dataclass(frozen=True, eq=False)
class Parcel:
    """A problem as it travels; whoever holds one need not run the problem's file.

    Attributes
    ----------
    name : str
    digest : str
        The problem's digest, checked where its file is run again.
    path : str or None
        The problem's file; None for a problem that travels by value.
    gallery : bool
        The file is the gallery's, which every machine has.
    value : bytes
        The problem pickled by value.
    folders : tuple of str
        Where the modules that a problem by value imports may lie.
    files : mapping of str to bytes
        Sources by file name, of the problem's file and of the modules beside it that it imports; empty where the
        path is enough.
    """

    name: str
    digest: str
    path: str | None = None
    gallery: bool = False
    value: bytes = b""
    folders: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What a worker knows the problem by."""
        return f"{self.name}-{self.digest}"

    def request(self) -> dict[str, Any]:
        """Return the arguments of a worker's `problem`."""
        return {"path": self.path, "value": self.value, "digest": self.digest, "folders": list(self.folders)}


def parcel(problem: Problem) -> Parcel:
    """Return how a problem travels within this machine: by its file's path, or by value.

    Raises
    ------
    UserError
        For a problem made in memory that holds what cannot be sent to another process.
    """
    path, digest = path_of(problem), problem_digest(problem)
    if path is not None:
        return Parcel(problem.name, digest, str(path), path.parent == gallery_folder())
    try:
        value = cloudpickle.dumps(problem)
    except Exception as error:
        got = f"what cannot be sent to a worker process ({type(error).__name__}: {error})"
        fix = "Make it inside the functions, or write the problem to a file and load that."
        raise UserError(Mistake(f"Problem({problem.name!r})", got, "functions that can be pickled", fix)) from error
    return Parcel(problem.name, digest, value=value, folders=tuple(sys.path))


def sealed(problem: Problem) -> Parcel:
    """Return how a problem travels to another machine: a file's source goes along, with the modules beside it.

    Raises
    ------
    UserError
        As `parcel`.
    """
    made = parcel(problem)
    if made.path is None or made.gallery:
        return made
    path = Path(made.path)
    files = {part.name: part.read_bytes() for part in (path, *_imported_beside(path))}
    return Parcel(made.name, made.digest, made.path, files=files)


def _imported_beside(path: Path) -> list[Path]:
    """Return the files of the modules imported so far that lie beside a problem's file."""
    found = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    files = {Path(file) for file in found if isinstance(file, str) and file.endswith(".py")}
    return sorted(file for file in files if file.parent == path.parent and file != path and file.is_file())


def opened(made: Parcel, folder: Path) -> Parcel:
    """Return the parcel as a worker process of this machine can use it, its files written to a folder.

    Parameters
    ----------
    folder : Path
        Of this process alone; every problem gets a folder of its own in it.
    """
    if made.path is None:
        return made
    name = Path(made.path).name
    if made.gallery:
        return Parcel(made.name, made.digest, str(gallery_folder() / name), gallery=True)
    own = folder / made.key
    own.mkdir(exist_ok=True)
    for file, source in made.files.items():
        if not (own / file).exists():
            (own / file).write_bytes(source)
    return Parcel(made.name, made.digest, str(own / name))
