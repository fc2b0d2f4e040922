"""The report in reading order, before it is a page: sentences, tables and charts, all from the Comparison."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from crossbackend.compare import Comparison, ProblemComparison
from crossbackend.record import Status
from crossbackend.report import cells, charts, costs, step_charts, verdict, why
from crossbackend.report.draw import Chart
from crossbackend.report.formats import count, join, moment, seconds, size, typographic, values, whole
from crossbackend.report.names import Names, failed, names_of
from crossbackend.report.problems import ProblemView, problem_view
from crossbackend.report.table import Table

TITLE = "Are the gradients the same?"


@dataclass(frozen=True)
class Group:
    """Charts of one kind, one a problem, with a sentence on what to look for and one for each chart that is missing."""

    name: str
    title: str
    look: str
    charts: list[Chart]
    absent: list[str]


@dataclass
class View:
    """What the pages show."""

    name: str
    created: datetime | None
    facts: str
    names: Names
    summary: list[str]
    notices: list[str]
    tiles: list[tuple[str, str, str]]
    warnings: list[verdict.Warning_]
    tables: dict[str, Table]
    groups: dict[str, Group]
    problems: list[ProblemView]
    damaged: list[str]
    machine: list[tuple[str, str]]
    versions: list[tuple[str, str]]
    command: str
    numbers: dict[str, Any] = field(repr=False)
    rows: list[Any] = field(repr=False)
    title: str = TITLE


def build(comparison: Comparison) -> View:
    """Return the view of a comparison; what is missing in it is said, never guessed."""
    about = comparison.about if isinstance(comparison.about, dict) else {}
    names = names_of(comparison)
    machine = about.get("machine") if isinstance(about.get("machine"), dict) else {}
    versions = about.get("versions") if isinstance(about.get("versions"), dict) else {}
    return View(
        name=str(about.get("name") or "run"),
        created=moment(about.get("created")),
        facts=_facts(about, machine, names),
        names=names,
        summary=[typographic(line) for line in comparison.summary()]
        or ["There is nothing to compare in this run yet."],
        notices=_notices(comparison, about),
        tiles=_tiles(comparison),
        warnings=verdict.warnings(comparison),
        tables=_tables(comparison, names),
        groups={group.name: group for group in _groups(comparison, names)},
        problems=[problem_view(item, f"solution-{i}") for i, item in enumerate(comparison.problems)],
        damaged=[str(line) for line in comparison.damaged],
        machine=[(str(key).replace("_", " "), _fact(str(key), value)) for key, value in machine.items()],
        versions=[(str(key), values(value)) for key, value in versions.items()],
        command=str(about.get("command") or ""),
        numbers=cells.numbers(comparison),
        rows=cells.rows(comparison),
    )


def _facts(about: dict[str, Any], machine: dict[str, Any], names: Names) -> str:
    parts = [join(names.backends)] if names.backends else []
    if machine.get("processor"):
        cores = machine.get("cores")
        parts.append(f"{values(machine['processor'])}" + (f", {cores} cores" if cores else ""))
    if about.get("seconds"):
        parts.append(f"took {seconds(about['seconds'])}")
    return "; ".join(parts)


def _fact(key: str, value: Any) -> str:
    return size(value) if key.endswith("bytes") else values(value)


def _notices(comparison: Comparison, about: dict[str, Any]) -> list[str]:
    found = []
    planned, have = about.get("planned"), len(comparison.records)
    declined = len(about.get("declined") or [])
    if isinstance(planned, int) and have < planned - declined:
        found.append(
            f"This run is not complete: {whole(have)} of {count(planned, 'planned record')} are there. "
            "Repeat the command to finish it; what is there is kept."
        )
    if about.get("timing") is False:
        found.append("This run measured no times: the charts and tables of time are left out.")
    return found


def _tiles(comparison: Comparison) -> list[tuple[str, str, str]]:
    found = verdict.counts(comparison)
    tiles = [
        (whole(n), f"{'of ' + str(sum(found.values())) + ' ' if name == 'pass' else ''}matched cells {words}", name)
        for name, words in (
            ("pass", "agree"), ("fail", "disagree"), ("unstable", "unstable backwards"), ("missing", "without a pair"),
        )
        if (n := found[name]) or name in ("pass", "fail")
    ]  # fmt: skip
    bad = sum(failed(record) for record in comparison.records)
    tried = sum(record.status != Status.UNSUPPORTED for record in comparison.records)
    return [*tiles, (whole(bad), f"of {whole(tried)} plans did not finish", "fail" if bad else "pass")]


def _tables(comparison: Comparison, names: Names) -> dict[str, Table]:
    tables = [
        verdict.matched(comparison, names), verdict.native(comparison, names), verdict.by_backend(comparison, names),
        costs.savings(comparison, names, "native"), costs.savings(comparison, names, "matched"),
        costs.timings(comparison, names), costs.cheapest(comparison), why.settings(comparison, names),
        cells.failures(comparison), cells.declined(comparison), cells.condensed(comparison, names),
    ]  # fmt: skip
    return {table.name: table for table in tables}


def _groups(comparison: Comparison, names: Names) -> list[Group]:
    def drawn(name: str, title: str, look: str, draw: Any, lacking: Any) -> Group:
        found, absent = [], []
        for index, item in enumerate(comparison.problems):
            chart = draw(item, f"{name}-{index}")
            if chart is None:
                absent.append(f"{item.problem}: {lacking(item)}")
            else:
                found.append(chart)
        return Group(name, title, look, found, absent)

    return [
        drawn("nfe", "Gradient error against evaluations",
              "Look for the curve furthest to the lower left: it reaches an error with the fewest evaluations. A curve "
              "that does not fall as the tolerance tightens has an error that no tolerance removes.",
              lambda item, name: charts.work(item, names, "nfe", name), _no_error),
        drawn("time", "Gradient error against time",
              "Lower left is better. Distances between curves are ratios within this run; absolute times from a shared "
              "machine mean little.",
              lambda item, name: charts.work(item, names, "time", name),
              lambda item: _no_error(item) if not _has_errors(item) else "no plan was timed."),
        drawn("savings", "Evaluations saved by the norm at equal tolerance",
              "Above zero the norm saves evaluations of the backward pass. Read it with the chart above: evaluations "
              "saved at equal tolerance count only where the error does not grow.",
              lambda item, name: charts.savings(item, names, name), lambda item: "no two norms to compare."),
        drawn("steps", "Where the backward solve stepped",
              "Bars up are accepted steps, bars down rejected ones, along the problem's time. Rejections that vanish from "
              "the left column to the right are steps that only the parameters' adjoint refused.",
              lambda item, name: step_charts.steps(item, names, name), lambda item: "no backward steps are stored."),
        drawn("reconstruction", "Does the reverse solve come back?",
              "How far y, integrated back, misses the stored solution. Above the dashed line (100 times rtol) the reverse "
              "solve amplifies errors and the gradient is not to be trusted.",
              lambda item, name: charts.reconstruction(item, names, name), lambda item: "not measured."),
    ]  # fmt: skip


def _has_errors(item: ProblemComparison) -> bool:
    return any(record.error.get("all") is not None for record in item.records)


def _no_error(item: ProblemComparison) -> str:
    if any(record.status == Status.OK for record in item.records):
        return "no reference gradient, so errors cannot be drawn."
    return "no plan finished."
