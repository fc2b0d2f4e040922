"""A table, once for both pages: the HTML macro and the typst function show the same object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes
    ----------
    text : str
    note : str
        A second, smaller line.
    kind : str
        What the cell means, for its colour: `pass`, `unstable`, `fail`, `missing`, or nothing.
    title : str
        What a pointer resting on it shows (HTML only; nothing that is said nowhere else).
    number : bool
        Set in tabular figures, to the right.
    head : bool
        Names its row.
    span : int
        Rows that the cell covers; 0 where another covers it.
    """

    text: str
    note: str = ""
    kind: str = ""
    title: str = ""
    number: bool = False
    head: bool = False
    span: int = 1


@dataclass(frozen=True)
class Table:
    """A caption, column names and rows of cells.

    Attributes
    ----------
    name, caption : str
    columns : list of str
    rows : list of list of Cell
    short : str
        A name under which it opens on demand in HTML; open from the start without one.
    numbers : tuple of int
        Columns whose names stand to the right, as their numbers do.
    inline : bool
        Notes stand beside the text, not under it.
    """

    name: str
    caption: str
    columns: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    short: str = ""
    numbers: tuple[int, ...] = ()
    inline: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return what the typst template reads."""
        rows = [[vars(cell) for cell in row if cell.span] for row in self.rows]
        return {
            "name": self.name, "caption": self.caption, "columns": self.columns, "rows": rows,
            "numbers": list(self.numbers), "inline": self.inline,
        }  # fmt: skip


def num(text: str, note: str = "", **more: Any) -> Cell:
    """Return a cell that holds a number."""
    return Cell(text, note, number=True, **more)


def head(text: str, span: int = 1) -> Cell:
    """Return a cell that names its row."""
    return Cell(text, head=True, span=span)


def grouped(keys: Sequence[tuple[str, ...]], bodies: Sequence[list[Cell]]) -> list[list[Cell]]:
    """Return rows that start with their keys, equal neighbours of the first key merged into one cell."""
    rows = []
    for _, group in groupby(zip(keys, bodies, strict=True), key=lambda pair: pair[0][0]):
        members = list(group)
        for index, (key, body) in enumerate(members):
            first = head(key[0], span=0 if index else len(members))
            rows.append([first, *(head(name) for name in key[1:]), *body])
    return rows
