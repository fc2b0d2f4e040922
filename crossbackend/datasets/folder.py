"""What a folder of data must hold: every check of a place that the user names, in one place."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossbackend.errors import Mistake, UserError, raise_all

_SHOWN = 10
"""Mistakes of one kind that a message lists; a broken copy may hold thousands."""


@dataclass(frozen=True)
class Archive:
    """A public archive that the user extracts into a folder.

    Attributes
    ----------
    name : str
        The data set's name.
    contents : str
        What the folder must hold, in words.
    fix : str
        What to fetch and where to put it.
    inside : tuple of str
        Folders that extracting makes; one of these within the folder named stands for it.
    packed : str
        The archive's file name; found in the folder, it still has to be extracted. Empty where there is none.
    """

    name: str
    contents: str
    fix: str
    inside: tuple[str, ...] = ()
    packed: str = ""

    def folder(self, given: str | os.PathLike[str]) -> Path:
        """Return the folder that holds the files.

        Raises
        ------
        UserError
            There is no such folder, it is a file, or it is empty.
        """
        if not str(given):
            raise UserError(self._mistake("no folder", self.contents))
        path = Path(given).expanduser()
        if path.is_file():
            raise UserError(self._mistake(f"{path}, a file", self.contents))
        if not path.is_dir():
            raise UserError(self._mistake(f"{path}, which does not exist", self.contents))
        if not any(path.iterdir()):
            raise UserError(self._mistake(f"{path}, which is empty", self.contents))
        return next((path / name for name in self.inside if (path / name).is_dir()), path)

    def find(self, folder: Path, names: Mapping[str, Sequence[str]]) -> dict[str, Path]:
        """Return the path of every entry, under the first of its names that is there.

        Parameters
        ----------
        folder : Path
            As `folder` returned it.
        names : mapping of str to sequence of str
            Names that an entry may have, most usual first.

        Raises
        ------
        UserError
            Names every entry that is missing.
        """
        found = {}
        for entry, choices in names.items():
            there = next((folder / name for name in choices if (folder / name).exists()), None)
            if there is not None:
                found[entry] = there
        missing = [choices[0] for entry, choices in names.items() if entry not in found]
        if missing:
            raise UserError(self._mistake(f"{folder} without {', '.join(missing)}", self.contents, self._where(folder)))
        return found

    def _where(self, folder: Path) -> str:
        if self.packed and (folder / self.packed).is_file():
            return f"Extract {self.packed} in that folder."
        return self.fix

    def _mistake(self, got: str, expected: str, fix: str = "") -> Mistake:
        return Mistake(f"{self.name} folder", got, expected, fix or self.fix)

    def broken(self, path: Path, got: str, expected: str) -> Mistake:
        """Return the mistake of a file that is not what it should be."""
        return Mistake(str(path), got, expected, f"Replace the file by that of a fresh copy of {self.name}.")

    def raise_all(self, mistakes: Sequence[Mistake]) -> None:
        """Raise one `UserError` with the mistakes, the first ten where there are many; do nothing for none."""
        rest = len(mistakes) - _SHOWN
        more = [self._mistake(f"{rest} more files like these", "whole files")] if rest > 0 else []
        raise_all([*mistakes[:_SHOWN], *more])


def writable(where: str, folder: str | os.PathLike[str], fix: str) -> Path:
    """Make a folder that something will be written to, before the work whose result goes there.

    Parameters
    ----------
    where : str
        The argument that named it.
    folder : path
    fix : str
        What to do instead.

    Raises
    ------
    UserError
        It is a file, cannot be made, or is read-only.
    """
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(Mistake(where, f"{path} ({error.strerror})", "a folder to write to", fix)) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(Mistake(where, f"{path}, which is read-only", "a folder to write to", fix))
    return path
