"""The figures as a table on the screen, as `results.json`, and what is left of earlier ones."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure, sign
from crossbackend import machine

FOLDER = Path(__file__).parent
HEAD = f"{'figure':30}{'problem':44}{'goal':>8}{'result':>10}  {'spread':22}holds"


def results_path(device: str) -> Path:
    """Return where the results of a device are kept."""
    return FOLDER / ("results.json" if device == "cpu" else f"results-{device}.json")


def about_path(device: str) -> Path:
    """Return where is kept on which machine, with which versions, a device's results were measured."""
    return FOLDER / ("machine.json" if device == "cpu" else f"machine-{device}.json")


def row(one: Figure) -> str:
    """Return a figure as a line of the table."""
    goal = "" if one.goal is None else f"{sign(one.figure)} {one.goal:g}"
    spread = f"{one.spread[0]:.4g} .. {one.spread[1]:.4g}"
    holds = {True: "yes", False: "NO", None: ""}[one.holds]
    return f"{one.figure:30}{one.problem:44}{goal:>8}{one.result:10.4g}  {spread:22}{holds}".rstrip()


def read(path: Path) -> list[Figure]:
    """Return the results that a file holds; none where there is no file."""
    if not path.exists():
        return []
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return [Figure(**{**one, "spread": tuple(one["spread"])}) for one in found]


def merged(known: Sequence[Figure], found: Iterable[Figure], order: Sequence[str], whole: bool) -> list[Figure]:
    """Return results with new ones in the place of those of the same figure and problem.

    Parameters
    ----------
    known, found : sequences of Figure
    order : sequence of str
        The names of all figures: results stand in it, and one of another name is dropped.
    whole : bool
        What was measured anew is all there is of its figures: their other lines are dropped too.
    """
    new = {(one.figure, one.problem): one for one in found}
    again = {name for name, _ in new} if whole else set()
    kept = {(one.figure, one.problem): one for one in known if one.figure not in again}
    every = {**kept, **new}.values()
    places = [next((k for k, name in enumerate(order) if _of(one.figure, name)), None) for one in every]
    return [one for place, one in sorted(zip(places, every, strict=True), key=_place) if place is not None]


def _place(pair: tuple[int | None, Figure]) -> int:
    return -1 if pair[0] is None else pair[0]


def _of(figure: str, name: str) -> bool:
    """Whether a figure is one that a registered name measures: it is called so, or so with an ending."""
    return figure == name or figure.startswith(f"{name}.")


def write(device: str, results: Sequence[Figure]) -> Path:
    """Write results, and where they were measured; return the results' path."""
    path = results_path(device)
    path.write_text(json.dumps([one.as_dict() for one in results], indent=1) + "\n", encoding="utf-8")
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    about = {"created": now.isoformat(), "machine": machine.facts(), "versions": machine.versions()}
    about_path(device).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return path


def closing(results: Sequence[Figure]) -> str:
    """Return by how much the lines miss that do not hold."""
    missed = [one for one in results if one.holds is False]
    held = sum(one.holds is True for one in results)
    if not missed and not held:
        return "None of these has a goal."
    if not missed:
        return f"All {held} goals hold."
    lines = [f"  {one.figure} on {one.problem}: {one.result:g}, goal {sign(one.figure)} {one.goal:g}" for one in missed]
    return f"{held} goals hold; {len(missed)} missed:\n" + "\n".join(lines)
