"""The report in reading order, before it is a page: sentences, tables and charts, all from the Comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from crossbackend.compare import Comparison
from crossbackend.record import Status
from crossbackend.report import cells, costs, gradients, paper, verdict, why
from crossbackend.report.apart import apart
from crossbackend.report.artists import drawn
from crossbackend.report.formats import count, moment, seconds, size, typographic, values, whole
from crossbackend.report.groups import PICTURE, Group, groups
from crossbackend.report.names import Names, failed, names_of
from crossbackend.report.problems import ProblemView, problem_view
from crossbackend.report.table import Table
from crossbackend.wording import listed

TITLE = "Are the gradients the same?"


@dataclass
class View:
    """What the pages show."""

    name: str
    created: datetime | None
    facts: str
    names: Names
    summary: list[tuple[str, list[str]]]
    notices: list[str]
    tiles: list[tuple[str, str, str]]
    warnings: list[verdict.Warning_]
    notes: list[tuple[str, str]]
    tables: dict[str, Table]
    groups: dict[str, Group]
    problems: list[ProblemView]
    damaged: list[str]
    machine: list[tuple[str, str]]
    versions: list[tuple[str, str]]
    command: str
    numbers: dict[str, Any] = field(repr=False)
    rows: list[Any] = field(repr=False)
    columns: tuple[cells.Column, ...] = field(repr=False)
    title: str = TITLE
    paper: paper.PaperView | None = None

    @property
    def trained_only(self) -> bool:
        """Whether the run holds trainings and no record: the parts on gradients are left out."""
        return self.paper is not None and not self.rows


def build(comparison: Comparison) -> View:
    """Return the view of a comparison; what is missing in it is said, never guessed."""
    about = comparison.about if isinstance(comparison.about, dict) else {}
    said, comparison = summary(comparison), apart(comparison)
    names = names_of(comparison)
    charts = drawn(comparison.problems, names)
    machine, versions = _facts_of(about, "machine"), _facts_of(about, "versions")
    return View(
        name=str(about.get("name") or "run"),
        created=moment(about.get("created")),
        facts=_facts(about, machine, sorted(names.colours)),
        names=names,
        summary=said,
        notices=notices(comparison, about),
        tiles=tiles(comparison),
        warnings=verdict.warnings(comparison),
        notes=why.note_advice(comparison),
        tables=tables(comparison, names),
        groups={group.name: group for group in groups(comparison.problems, charts)},
        problems=[problem_view(*pair) for pair in zip(comparison.problems, (c[PICTURE] for c in charts), strict=True)],
        damaged=[str(line) for line in comparison.damaged],
        machine=[(str(key).replace("_", " "), _fact(str(key), value)) for key, value in machine.items()],
        versions=[(str(key), values(value)) for key, value in versions.items()],
        command=str(about.get("command") or ""),
        numbers=cells.numbers(comparison),
        rows=cells.rows(comparison),
        columns=cells.columns(comparison),
        title=paper.TITLE if comparison.training and not comparison.records else TITLE,
        paper=paper.build(comparison, names),
    )


def _facts_of(about: dict[str, Any], key: str) -> dict[str, Any]:
    found = about.get(key)
    return found if isinstance(found, dict) else {}


def summary(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Return the sentences of the summary under what they are about."""
    found: dict[str, list[str]] = {}
    for point in comparison.points():
        found.setdefault(point.topic, []).append(typographic(point.text))
    if not comparison.records and not comparison.training:
        found.setdefault("Missing", []).append("This run has no records yet.")
    nothing = "No verdict follows from the records of this run; the tables and charts below show what there is."
    return list(found.items()) or [("Verdict", [nothing])]


def _facts(about: dict[str, Any], machine: dict[str, Any], backends: Sequence[str]) -> str:
    parts = [listed(backends)] if backends else []
    if machine.get("processor"):
        cores = machine.get("cores")
        parts.append(f"{values(machine['processor'])}" + (f", {cores} cores" if cores else ""))
    if about.get("seconds"):
        parts.append(f"took {seconds(about['seconds'])}")
    return "; ".join(parts)


def _fact(key: str, value: Any) -> str:
    return size(value) if key.endswith("bytes") else values(value)


def notices(comparison: Comparison, about: dict[str, Any]) -> list[str]:
    """Return what a reader must know before anything else: that the run is not complete, that nothing was timed."""
    found = []
    planned, have = about.get("planned"), len(comparison.records)
    if isinstance(planned, int) and have < planned:
        found.append(
            f"This run is not complete: {whole(have)} of {count(planned, 'planned record')} are there. "
            "Repeat the command to finish it; what is there is kept."
        )
    if about.get("timing") is False:
        found.append("This run measured no times: the charts and tables of time are left out.")
    return found


def tiles(comparison: Comparison) -> list[tuple[str, str, str]]:
    """Return number, words and kind of the main counts."""
    found = verdict.counts(comparison)
    total, tiles = sum(found.values()), []
    if total:
        none = "fail" if found["fail"] else "missing"
        tiles.append(
            (whole(found["pass"]), f"of {whole(total)} matched cells agree", "pass" if found["pass"] else none)
        )
        tiles.append((whole(found["fail"]), "disagree without excuse", "fail" if found["fail"] else "pass"))
    for name, words in (("unstable", "are unstable backwards"), ("missing", "could not be judged")):
        if found[name]:
            tiles.append((whole(found[name]), words, name))
    bad = sum(failed(record) for record in comparison.records)
    tried = sum(record.status != Status.UNSUPPORTED for record in comparison.records)
    if tried:
        tiles.append((whole(bad), f"of {whole(tried)} plans did not finish", "fail" if bad else "pass"))
    return [*tiles, *training_tiles(comparison)]


def training_tiles(comparison: Comparison) -> list[tuple[str, str, str]]:
    """Return how many trainings did not end."""
    bad = sum(not training.ended for training in comparison.training)
    if not comparison.training:
        return []
    return [(whole(bad), f"of {count(len(comparison.training), 'training')} did not end", "fail" if bad else "pass")]


def tables(comparison: Comparison, names: Names) -> dict[str, Table]:
    """Return every table of the report by its name."""
    found = [
        verdict.matched(comparison, names), verdict.native(comparison, names), verdict.by_backend(comparison, names),
        costs.savings(comparison, names, "native"), costs.savings(comparison, names, "matched"),
        costs.speedups(comparison, names), gradients.table(comparison), costs.timings(comparison, names),
        costs.cheapest(comparison),
        why.rejections(comparison, names), why.splits(comparison), why.notes(comparison),
        why.settings(comparison, names),
        cells.failures(comparison), cells.declined(comparison), cells.condensed(comparison, names),
    ]  # fmt: skip
    return {table.name: table for table in found}
