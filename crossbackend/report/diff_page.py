"""The HTML page of what changed between two runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from crossbackend.diff import Difference, words
from crossbackend.diff.parts import CellChange, Fact
from crossbackend.report import formats
from crossbackend.report.formats import NONE, count, moment, sci, seconds, tolerance, typographic, whole
from crossbackend.report.page import page
from crossbackend.report.table import Cell, Table, grouped, head, num
from crossbackend.report.verdict import WORDS

TITLE = "What changed"
FIRST = 20
"""Rows of a long table that stand open; the others open on demand."""


@dataclass(frozen=True)
class RunFacts:
    """What the page says of one run."""

    letter: str
    name: str
    created: datetime | None
    facts: list[tuple[str, str]]


def render(difference: Difference) -> bytes:
    """Return the page as bytes; equal differences give equal bytes."""
    summary: dict[str, list[str]] = {}
    for topic, line in difference.points():
        summary.setdefault(topic, []).append(_typeset(line))
    tables = [
        _facts(difference), _problems(difference), _statuses(difference), *_changes(difference), _settings(difference),
        _references(difference), _backends(difference), _times(difference), _alone(difference), _flags(difference),
        _verdicts(difference),
    ]  # fmt: skip
    return page(
        "diff.html", styles=["report.css"], title=TITLE, runs=_runs(difference), tiles_shown=_tiles(difference),
        summary=list(summary.items()), tables={table.name: table for table in tables}, damaged=_damaged(difference),
    )  # fmt: skip


def _typeset(text: str) -> str:
    return typographic(text.replace(" -> ", " → "))


def _arrow(a: str, b: str) -> str:
    return f"{a} → {b}"


def _cells(plans: Sequence[dict[str, Any]]) -> Cell:
    return Cell(words.where(plans, tolerance))


def _either(a: str, b: str) -> str:
    return a if a == b else _arrow(a, b)


def _multiple(ratio: float) -> str:
    return words.multiple(ratio).replace(" times", "×")


def _plan(plan: dict[str, Any]) -> list[Cell]:
    """Return a cell of the run in three columns: backend, norm with its stepping, tolerance."""
    more = ", ".join([plan["stepping"], *words.unusual([plan])])
    return [Cell(plan["backend"]), Cell(plan["norm"], more), num(tolerance(plan["rtol"]))]


def _runs(found: Difference) -> list[RunFacts]:
    shown = []
    for letter, name, run in zip(words.RUNS, found.names, found.runs, strict=True):
        cores = f", {run['cores']} cores" if run["cores"] else ""
        facts = [
            ("records", whole(run["records"])),
            ("processor", f"{formats.values(run['processor'])}{cores}" if run["processor"] else ""),
            ("took", seconds(run["seconds"]) if run["seconds"] else ""),
        ]
        shown.append(RunFacts(letter, name, moment(run["created"]), [fact for fact in facts if fact[1]]))
    return shown


def _tiles(found: Difference) -> list[tuple[str, str, str]]:
    cells, tiles = found.cells, []
    if cells.shared:
        of = f"of {count(cells.shared, 'cell')} in both runs"
        tiles.append((whole(cells.changed), f"{of} changed", "unstable" if cells.changed else "pass"))
        tiles.append((whole(cells.same), "are the same to the last bit", "pass"))
    slower, faster = (sum(getattr(row, name) for row in found.backends) for name in ("slower", "faster"))
    for number, text, kind in (
        (cells.rounding, "differ by rounding alone", "pass"),
        (cells.unfinished, "finished in neither run", "missing"),
        (slower, "slower beyond the spread", "unstable"),
        (faster, "faster beyond the spread", "pass"),
        *((sum(len(row.plans) for row in rows), f"in run {name} alone", "missing")
          for name, rows in zip(words.RUNS, found.only, strict=True)),
    ):  # fmt: skip
        if number:
            tiles.append((whole(number), text, kind))
    return tiles


def _facts(found: Difference) -> Table:
    kinds = (("versions", found.versions), ("machine", found.machine), ("run", found.options))
    keys = [(kind, words.spaced(fact.name)) for kind, facts in kinds for fact in facts]
    bodies = [[Cell(_fact(fact, value)) for value in fact.values] for _, facts in kinds for fact in facts]
    caption = "What differs in the versions, on the machine, and in how the runs were asked for."
    return Table("made", caption, ["of", "what", "A", "B"], grouped(keys, bodies))


def _fact(fact: Fact, value: Any) -> str:
    if fact.name.endswith("_bytes") and formats.number(value) is not None:
        return formats.size(value)
    return formats.values(value)


def _problems(found: Difference) -> Table:
    keys, bodies = [], []
    for change in found.problems:
        rows = [(words.spaced(fact.name), *(formats.values(value) for value in fact.values)) for fact in change.facts]
        if change.code:
            rows.append(("its functions or data", "", "other digest"))
        keys += [(change.problem, name) for name, *_ in rows]
        bodies += [[Cell(a), Cell(b)] for _, a, b in rows]
    caption = "Problems that are not the same in both runs: results are expected to differ, and times are left out."
    return Table("problems", caption, ["problem", "what", "A", "B"], grouped(keys, bodies))


def _statuses(found: Difference) -> Table:
    alike: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in found.results:
        if "status" in cell.changed or cell.incomparable:
            status = _arrow(*(name.replace("_", " ") for name in cell.status))
            said = cell.incomparable or status  # only two solves that finished are compared
            alike.setdefault((cell.plan["problem"], said), []).append(cell.plan)
    bodies = [[_cells(plans)] for plans in alike.values()]
    caption = (
        "Cells whose status changed, or whose gradients cannot be compared. A timeout or a lack of memory may be the "
        "machine's doing and not the libraries'."
    )
    return Table("statuses", caption, ["problem", "what", "cells"], grouped(list(alike), bodies))


def _changes(found: Difference) -> tuple[Table, Table]:
    """Return the cells with numbers that changed: the first of them, and the rest."""
    cells = [cell for cell in found.results if _has_numbers(cell)]
    columns = [
        "problem", "backend", "norm", "rtol", "forward evaluations", "backward evaluations", "gradients differ by",
        "gradient error", "ratio", "remarks",
    ]  # fmt: skip
    caption = (
        "Cells that changed by more than rounding, the largest difference of gradients over rtol first; what the "
        "problem itself or an unstable reverse solve explains stands last. Two values are A's and B's."
    )
    numbers = (3, 4, 5, 6, 7, 8)
    parts = [
        Table(name, caption, columns, grouped([(c.plan["problem"],) for c in own], [_change(c) for c in own]),
              short, numbers, inline=True)
        for name, own, short in (
            ("changed", cells[:FIRST], ""),
            ("changed-more", cells[FIRST:], f"{count(len(cells) - FIRST, 'more cell')} that changed"),
        )
    ]  # fmt: skip
    return parts[0], parts[1]


def _has_numbers(cell: CellChange) -> bool:
    return "status" not in cell.changed and not (cell.incomparable and cell.changed == ["gradient"])


def _change(cell: CellChange) -> list[Cell]:
    remarks = []
    if not any(name.endswith("nfe") for name in cell.counts):  # where evaluations moved, steps did too
        remarks += [f"{name} {_arrow(*map(whole, pair))}" for name, pair in cell.counts.items()]
    if "loss" in cell.changed:
        remarks.append(f"loss {_arrow(*map(sci, cell.loss))}")
    if "reconstruction" in cell.changed:
        remarks.append(f"reconstruction error {_arrow(*map(sci, cell.reconstruction))}")
    return [
        *_plan(cell.plan), _evaluations(cell, "forward"), _evaluations(cell, "backward"),
        num(sci(cell.gradient)), *_errors(cell),
        Cell("; ".join([*remarks, *words.excuses(cell)]), kind="unstable" if cell.unstable else ""),
    ]  # fmt: skip


def _evaluations(cell: CellChange, solve: str) -> Cell:
    a, b = cell.counts.get(f"{solve} nfe", (0, 0))
    if a == b:
        return num("")
    return num(_arrow(whole(a), whole(b)), typographic(words.signed(b / a - 1)) if a else "")


def _errors(cell: CellChange) -> list[Cell]:
    if not words.errors(cell):
        return [num(""), num("")]
    beside = "at the floor" if cell.error_ratio is None else _multiple(cell.error_ratio)
    return [num(_arrow(*map(sci, cell.error))), num(beside)]


def _settings(found: Difference) -> Table:
    keys = [(row.backend, f"{row.solve} {words.spaced(row.setting)}") for row in found.settings]
    bodies = [[*(Cell(formats.values(v)) for v in row.values), num(whole(len(row.plans)))] for row in found.settings]
    caption = "Effective settings that are not the same: what a library was given, or takes without being asked."
    return Table("settings", caption, ["backend", "setting", "A", "B", "cells"], grouped(keys, bodies), numbers=(4,))


def _references(found: Difference) -> Table:
    rows = [
        [head(row.problem), Cell(_either(*row.status)), Cell(_either(*map(sci, row.floor))), num(sci(row.difference))]
        for row in found.references
    ]
    caption = "Reference gradients whose status, floor or value changed; gradient errors may have moved with them."
    return Table("references", caption, ["problem", "status", "floor", "moved by"], rows, numbers=(3,))


def _backends(found: Difference) -> Table:
    rows = [
        [
            head(row.backend), num(whole(row.cells)), *(num(_multiple(r)) for r in (row.ratio, row.low, row.high)),
            *(num(whole(n)) for n in (row.slower, row.faster, row.within, row.unknown)),
            Cell("the same" if row.same_versions else "not the same"),
        ]
        for row in found.backends
    ]  # fmt: skip
    columns = ["backend", "cells", "B over A", "lowest", "highest", "slower", "faster", "within the spread",
               "too few repeats", "versions behind it"]  # fmt: skip
    caption = (
        "Time of one loss and gradient, B's median over A's: the median over the cells that both runs timed, and the "
        "extremes. Slower and faster count the cells whose quartiles do not overlap. Quartiles know the spread within "
        "a run, not from one run to the next: backends whose versions are the same show that."
    )
    return Table("backends", caption, columns, rows, numbers=tuple(range(1, 9)))


def _times(found: Difference) -> Table:
    columns = ["problem", "backend", "norm", "rtol", "A", "B", "B over A", "verdict"]
    beyond = [row for row in found.times if row.verdict in ("slower", "faster")]
    caption = "Cells whose time changed beyond the spread of their repeats, the largest change first."
    bodies = [
        [*_plan(row.plan), *(num(seconds(s)) for s in row.seconds), num(_multiple(row.ratio)), Cell(row.verdict)]
        for row in beyond
    ]
    rows = grouped([(row.plan["problem"],) for row in beyond], bodies)
    short = f"{count(len(rows), 'time')} beyond the spread"
    return Table("times", caption, columns, rows, short, numbers=(3, 4, 5, 6), inline=True)


def _alone(found: Difference) -> Table:
    rows = [(name, row) for name, alone in zip(words.RUNS, found.only, strict=True) for row in alone]
    keys = [(name, row.problem) for name, row in rows]
    bodies = [[Cell(row.backend), num(whole(len(row.plans))), Cell(_which(row.plans))] for _, row in rows]
    columns = ["run", "problem", "backend", "cells", "which"]
    return Table("alone", "Cells that only one of the runs holds.", columns, grouped(keys, bodies), numbers=(3,))


def _which(plans: Sequence[dict[str, Any]]) -> str:
    rtols = sorted({plan["rtol"] for plan in plans}, reverse=True)
    parts = [words.named(plans, "norm"), words.named(plans, "stepping"), f"rtol {_listed(map(tolerance, rtols))}"]
    return "; ".join([*parts, *words.unusual(plans)])


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(texts)


def _flags(found: Difference) -> Table:
    keys = [(row.problem, row.name.replace("_", " ")) for row in found.flags]
    bodies = [
        [
            Cell("appeared" if row.appeared else "vanished", row.level),
            _cells(row.plans),
            Cell(typographic(row.evidence)),
        ]
        for row in found.flags
    ]
    columns = ["problem", "flag", "change", "in", "evidence of one of them"]
    caption = "Flags that cells of both runs have in one of them only."
    return Table("flags", caption, columns, grouped(keys, bodies), inline=True)


def _verdicts(found: Difference) -> Table:
    keys = [(row.problem, row.series) for row in found.verdicts]
    bodies = [
        [num(tolerance(row.rtol)), *(Cell(WORDS.get(name, name), kind=name) for name in row.verdict),
         num(_arrow(*map(sci, row.difference))), Cell(_either(*(_listed(names) or NONE for names in row.backends)))]
        for row in found.verdicts
    ]  # fmt: skip
    columns = ["problem", "norm", "rtol", "A", "B", "gradients differ by", "gradients from"]
    caption = "Matched cells whose verdict changed: whether backends that take the same steps give the same gradient."
    return Table("verdicts", caption, columns, grouped(keys, bodies), numbers=(2, 5))


def _damaged(found: Difference) -> list[str]:
    return [f"{name}: {line}" for name, files in zip(words.RUNS, found.damaged, strict=True) for line in files]
