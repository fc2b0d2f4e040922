"""The page that lists every run of a folder, newest first, each with its verdict and a link to its report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from crossbackend.compare import Comparison, compare
from crossbackend.errors import Mistake, UserError
from crossbackend.record import Status
from crossbackend.report import verdict, write
from crossbackend.report.formats import NONE, count, moment, typographic, values, whole
from crossbackend.report.names import failed, names_of
from crossbackend.report.page import page
from crossbackend.report.view import notices, training_tiles
from crossbackend.store import load_run, write_bytes
from crossbackend.wording import listed

TITLE = "Runs"
SENTENCES = 2
"""Sentences of a run's summary that stand on the page."""
LIBRARIES = ("crossbackend", "torchdiffeq", "diffrax", "scipy", "torch", "jax", "numpy")
_OURS = b'<meta name="generator" content="crossbackend">'
_NO_DATE = datetime.min.replace(tzinfo=UTC)


@dataclass
class RunView:
    """One run of the folder.

    Attributes
    ----------
    name : str
        Of its folder.
    link : str
        The folder as a relative web address.
    created : datetime or None
    facts : list of (str, str)
        What was run, with what, where.
    tiles : list of (str, str, str)
        Number, words and kind.
    summary, notices : list of str
    reason : str
        Why the run could not be read; empty where it could.
    page, pdf : bool
        Whether `index.html` and `report.pdf` are there.
    """

    name: str
    link: str
    created: datetime | None = None
    facts: list[tuple[str, str]] = field(default_factory=list)
    tiles: list[tuple[str, str, str]] = field(default_factory=list)
    summary: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    reason: str = ""
    page: bool = False
    pdf: bool = False


def write_all(folder: Path, *, pdf: bool = True, figures: bool = False) -> list[Path]:
    """Write the report of every run in a folder, and `index.html`, which lists them; equal runs give equal bytes.

    Parameters
    ----------
    folder : Path
        Its direct sub-folders that hold a `run.json` are its runs. One that cannot be read is listed with the reason.
    pdf : bool
        False writes no `report.pdf`; one that is there from before is still linked to.
    figures : bool
        True writes every chart of every run as a file of its own, too.

    Returns
    -------
    list of Path
        The files written, the list last.

    Raises
    ------
    UserError
        No such folder, one that is a run itself, or one whose `index.html` is not crossbackend's.
    OSError
        The list cannot be written.
    """
    written: list[Path] = []
    shown = []
    for run in _runs(folder):
        found, paths = _one(run, pdf=pdf, figures=figures)
        shown.append(found)
        written += paths
    path = folder / "index.html"
    write_bytes(path, render(folder.resolve().name, shown))
    return [*written, path]


def _runs(folder: Path) -> list[Path]:
    """Return the folders of the runs, by name."""
    if not folder.is_dir():
        got = f"{folder}, " + ("a file" if folder.exists() else "which is not there")
        fix = "Write the folder that holds your runs, such as reports."
        raise UserError(Mistake("folder", got, "a folder of runs", fix))
    if (folder / "run.json").exists():
        fix = f"Write {folder.parent} for all runs beside it, or leave --all out for this one."
        raise UserError(Mistake("folder", f"{folder}, which is a run itself", "a folder of runs", fix))
    if (folder / "index.html").exists() and _OURS not in (folder / "index.html").read_bytes():
        got = f"{folder}, whose index.html is not crossbackend's"
        raise UserError(Mistake("folder", got, "a folder of runs", "Move that file away: it would be overwritten."))
    return sorted(path for path in folder.iterdir() if _holds_run(path))


def _holds_run(path: Path) -> bool:
    try:
        return path.is_dir() and (path / "run.json").exists()
    except OSError:  # a folder that may not be looked into
        return False


def _one(run: Path, **options: bool) -> tuple[RunView, list[Path]]:
    """Write a run's report; nothing of its comparison outlives this call."""
    found = RunView(run.name, quote(os.fsencode(run.name), safe=""))
    paths: list[Path] = []
    try:
        comparison = compare(load_run(run))
        _describe(found, comparison)
        paths = _written(found, comparison, run, **options)
    except UserError as error:
        found.reason = str(error.__cause__ or error)  # the cause names no folder: the page may be moved with its runs
    except OSError as error:
        found.reason = error.strerror or str(error)
    except Exception as error:  # as in `_written`
        found.reason = f"{type(error).__name__}: {error}"
    found.page, found.pdf = (run / "index.html").is_file(), (run / "report.pdf").is_file()
    return found, paths


def _written(found: RunView, comparison: Comparison, run: Path, **options: bool) -> list[Path]:
    try:
        return write(comparison, run, **options)
    except OSError as error:
        found.notices.append(f"Its report could not be written: {error.strerror or error}.")
    except Exception as error:  # a bug, on records that no test foresaw: the other runs are not to suffer
        found.notices.append(f"Its report could not be made: {type(error).__name__}: {error}.")
    return []


def _describe(found: RunView, comparison: Comparison) -> None:
    about = comparison.about
    found.created = _moment(about.get("created"))
    found.facts = _facts(comparison)
    if (name := str(about.get("name") or found.name)) != found.name:
        found.facts.insert(0, ("called", name))
    found.tiles = _tiles(comparison)
    found.summary = [typographic(text) for text in comparison.summary()[:SENTENCES]]
    if not comparison.records and not comparison.training:
        found.summary = ["This run has no records yet."]
    found.notices = notices(comparison, about)
    if comparison.damaged:
        more = f", and {count(len(comparison.damaged) - 1, 'more file')}" if len(comparison.damaged) > 1 else ""
        found.notices.append(f"Damaged and skipped: {comparison.damaged[0]}{more}.")


def _moment(created: Any) -> datetime | None:
    """Return when a run was made; a time without a zone is UTC, or two runs could not be put in order."""
    found = moment(created)
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    about = comparison.about
    machine, versions = ({} if not isinstance(about.get(key), dict) else about[key] for key in ("machine", "versions"))
    cores, python = machine.get("cores"), machine.get("python")
    parts = [values(machine["processor"])] if machine.get("processor") else []
    parts += [f"{values(cores)} core{'' if cores == 1 else 's'}"] if cores else []
    parts += [f"Python {values(python)}"] if python else []
    found = [
        ("problems", listed(item.problem for item in comparison.problems)),
        ("backends", listed(sorted(names_of(comparison).colours))),
        ("records", whole(len(comparison.records)) if comparison.records or not comparison.training else ""),
        ("trainings", whole(len(comparison.training)) if comparison.training else ""),
        ("machine", ", ".join(parts)),
        ("versions", ", ".join(f"{name} {values(versions[name])}" for name in LIBRARIES if versions.get(name))),
    ]
    return [(label, text) for label, text in found if text]


def _tiles(comparison: Comparison) -> list[tuple[str, str, str]]:
    """Return every verdict of the matched cells in the matrix's own words and colours, and what did not finish."""
    counts = verdict.counts(comparison)
    found = [(whole(number), verdict.WORDS[name], name) for name, number in counts.items() if number]
    if comparison.records and not found:
        found.append((NONE, "no matched plans", "missing"))
    bad = sum(failed(record) for record in comparison.records)
    if bad:
        tried = sum(record.status != Status.UNSUPPORTED for record in comparison.records)
        found.append((whole(bad), f"of {count(tried, 'plan')} did not finish", "fail"))
    return [*found, *training_tiles(comparison)]


def render(name: str, runs: Sequence[RunView]) -> bytes:
    """Return the page as bytes: newest first, those without a date last, by name where that is equal."""
    order = sorted(runs, key=lambda run: run.name)
    order.sort(key=lambda run: run.created or _NO_DATE, reverse=True)
    return page("index.html", styles=["report.css"], title=TITLE, folder=name, runs=order)
