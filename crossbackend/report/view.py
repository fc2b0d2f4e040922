"""The report in reading order, before it is a page: sentences, tables and charts, all from the Comparison."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from crossbackend.compare import UNSTABLE_FACTOR, Comparison, ProblemComparison
from crossbackend.record import Status
from crossbackend.report import cells, charts, costs, explain_charts, step_charts, verdict, why
from crossbackend.report.draw import Chart
from crossbackend.report.formats import count, moment, seconds, size, typographic, values, whole
from crossbackend.report.names import Names, at, failed, names_of
from crossbackend.report.problems import ProblemView, problem_view
from crossbackend.report.table import Table
from crossbackend.wording import listed

TITLE = "Are the gradients the same?"


@dataclass(frozen=True)
class Group:
    """Charts of one kind, one a problem, with a sentence on what to look for and one for each chart that is missing.

    `wide` charts stand alone in their row.
    """

    name: str
    title: str
    look: str
    charts: list[Chart]
    absent: list[str]
    wide: bool = False


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
    title: str = TITLE


def build(comparison: Comparison) -> View:
    """Return the view of a comparison; what is missing in it is said, never guessed."""
    about = comparison.about if isinstance(comparison.about, dict) else {}
    names = names_of(comparison)
    machine, versions = _facts_of(about, "machine"), _facts_of(about, "versions")
    return View(
        name=str(about.get("name") or "run"),
        created=moment(about.get("created")),
        facts=_facts(about, machine, names),
        names=names,
        summary=_summary(comparison),
        notices=_notices(comparison, about),
        tiles=_tiles(comparison),
        warnings=verdict.warnings(comparison),
        notes=why.note_advice(comparison),
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


def _facts_of(about: dict[str, Any], key: str) -> dict[str, Any]:
    found = about.get(key)
    return found if isinstance(found, dict) else {}


def _summary(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Return the sentences of the summary under what they are about."""
    found: dict[str, list[str]] = {}
    for point in comparison.points():
        found.setdefault(point.topic, []).append(typographic(point.text))
    if not comparison.records:
        found.setdefault("Missing", []).append("This run has no records yet.")
    nothing = "No verdict follows from the records of this run; the tables and charts below show what there is."
    return list(found.items()) or [("Verdict", [nothing])]


def _facts(about: dict[str, Any], machine: dict[str, Any], names: Names) -> str:
    parts = [listed(names.backends)] if names.backends else []
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
    if isinstance(planned, int) and have < planned:
        found.append(
            f"This run is not complete: {whole(have)} of {count(planned, 'planned record')} are there. "
            "Repeat the command to finish it; what is there is kept."
        )
    if about.get("timing") is False:
        found.append("This run measured no times: the charts and tables of time are left out.")
    return found


def _tiles(comparison: Comparison) -> list[tuple[str, str, str]]:
    found = verdict.counts(comparison)
    total, tiles = sum(found.values()), []
    if total:
        tiles.append(
            (whole(found["pass"]), f"of {whole(total)} matched cells agree", "pass" if found["pass"] else "fail")
        )
        tiles.append((whole(found["fail"]), "disagree without excuse", "fail" if found["fail"] else "pass"))
    for name, words in (("unstable", "are unstable backwards"), ("missing", "have fewer than two gradients")):
        if found[name]:
            tiles.append((whole(found[name]), words, name))
    bad = sum(failed(record) for record in comparison.records)
    tried = sum(record.status != Status.UNSUPPORTED for record in comparison.records)
    if not tried:
        return tiles
    return [*tiles, (whole(bad), f"of {whole(tried)} plans did not finish", "fail" if bad else "pass")]


def _tables(comparison: Comparison, names: Names) -> dict[str, Table]:
    tables = [
        verdict.matched(comparison, names), verdict.native(comparison, names), verdict.by_backend(comparison, names),
        costs.savings(comparison, names, "native"), costs.savings(comparison, names, "matched"),
        costs.speedups(comparison, names), costs.timings(comparison, names), costs.cheapest(comparison),
        why.rejections(comparison, names), why.splits(comparison), why.notes(comparison),
        why.settings(comparison, names),
        cells.failures(comparison), cells.declined(comparison), cells.condensed(comparison, names),
    ]  # fmt: skip
    return {table.name: table for table in tables}


_LOOK = {
    "nfe": (
        "Gradient error against evaluations",
        "Look for the curve furthest to the lower left: it reaches an error with the fewest evaluations. A curve that "
        "does not fall as the tolerance tightens has an error that no tolerance removes. Dashed line and band: where "
        "the reference's own error begins to count.",
    ),
    "time": (
        "Gradient error against time",
        "Lower left is better. Distances between curves are ratios within this run; absolute times from a shared "
        "machine mean little.",
    ),
    "speedups": (
        "Speed-up at equal gradient error",
        "How many times cheaper a norm is than default where both reach the same error. The marker is the mean over "
        "the errors that both reach, the line spans its extremes; filled for backward evaluations, hollow for time. "
        "Right of 1 the norm pays.",
    ),
    "savings": (
        "Evaluations saved by the norm at equal tolerance",
        "Above zero the norm saves evaluations of the backward pass. Read it with the charts of error: evaluations "
        "saved at equal tolerance count only where the error does not grow.",
    ),
    "steps": (
        "Where the backward solve stepped",
        "Bars up are accepted steps, bars down rejected ones, along the problem's time, in the colour of the block "
        "whose error rejected them. A cross marks a spurious rejection, of a step that y and a_y alone would have "
        "accepted; a ring a masked step, accepted though they would not have.",
    ),
    "splits": (
        "Where the gradient's error comes from",
        "Each part alone against an exact solve, on SciPy. The forward solve's part is the same under every norm of "
        "the backward solve: where it is the largest, no such norm makes the gradient much better or worse. The "
        "integral's part is the one that the seminorm leaves uncontrolled.",
    ),
    "reconstruction": (
        "Does the reverse solve come back?",
        f"How far y, integrated back, misses the stored solution. Above the dashed line ({UNSTABLE_FACTOR:.0f} times "
        "rtol) the reverse solve amplifies errors and the gradient is not to be trusted.",
    ),
}


def _groups(comparison: Comparison, names: Names) -> list[Group]:
    return [_group(name, comparison, names) for name in _LOOK]


def _group(name: str, comparison: Comparison, names: Names) -> Group:
    found, absent = [], []
    for index, item in enumerate(comparison.problems):
        chart = _chart(name, item, names, f"{name}-{index}")
        if chart is None:
            absent.append(f"{item.problem}: {_lacking(name, item)}")
        else:
            found.append(chart)
    return Group(name, *_LOOK[name], found, absent, wide=name == "steps")


def _chart(group: str, item: ProblemComparison, names: Names, name: str) -> Chart | None:
    if group in ("nfe", "time"):
        return charts.work(item, names, group, name)
    draw = {
        "savings": charts.savings, "steps": step_charts.steps, "reconstruction": charts.reconstruction,
        "speedups": explain_charts.speedups, "splits": explain_charts.splits,
    }  # fmt: skip
    return draw[group](item, names, name)


def _lacking(group: str, item: ProblemComparison) -> str:
    if not any(record.status == Status.OK for record in item.records):
        return "no plan finished."
    if group in ("nfe", "time") and not any(at(record, "error", "all") is not None for record in item.records):
        return "no reference gradient, so errors cannot be drawn."
    if group == "speedups":
        reasons = list(dict.fromkeys(row.reason for row in item.speedups if row.stepping == "native" and row.reason))
        return typographic("; ".join(reasons[:2])) + "." if reasons else "no second norm to compare with the default."
    if group == "splits":
        words = [str(row["message"]) for row in item.splits if row.get("message")]
        return f"{words[0]}." if words else "no native SciPy plan was taken apart."
    return {
        "savings": "no second norm to compare with the default.",
        "steps": "no native backward steps are stored.",
        "time": "no plan with an error was timed.",
    }.get(group, "not measured.")
