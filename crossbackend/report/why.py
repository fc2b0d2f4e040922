"""Why results differ: whose error rejected steps, where errors come from, notes, and settings that are not alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from crossbackend.compare import Comparison, Rejections
from crossbackend.flag_groups import FlagGroup
from crossbackend.flag_groups import grouped as flag_groups
from crossbackend.norms import GROUPS
from crossbackend.record import ERROR_PARTS
from crossbackend.report.formats import NONE, count, percent, sci, tolerance, typographic, values, whole
from crossbackend.report.names import Names, usual
from crossbackend.report.table import Cell, Table, grouped, num
from crossbackend.series import series_of
from crossbackend.summary import ADDITIVE
from crossbackend.wording import listed


def settings(comparison: Comparison, names: Names) -> Table:
    """Return settings that differ between backends; what holds for several norms or problems is said once."""
    merged: dict[tuple[Any, ...], tuple[dict[str, None], dict[str, None]]] = {}
    for item in comparison.problems:
        for found in item.settings_differ:
            shown = tuple(values(found["values"][b]) if b in found["values"] else "" for b in names.backends)
            key = (found["stepping"], found["pass"], found["setting"], shown)
            norms, problems = merged.setdefault(key, ({}, {}))
            norms[series_of(found)] = None
            problems[item.problem] = None
    everywhere = len(comparison.problems)
    keys: list[tuple[str, ...]] = []
    bodies: list[list[Cell]] = []
    for key in sorted(merged, key=lambda k: (k[0] != "native", k[1] != "forward", str(k[2]), k[3])):
        stepping, which, setting, shown = key
        norms, problems = merged[key]
        where = listed(norms) if len(problems) == everywhere else f"{listed(norms)}; {listed(problems)}"
        keys.append((f"{stepping}, {which}", str(setting).replace("_", " ")))
        bodies.append([*(Cell(text) for text in shown), Cell(where)])
    caption = (
        "Effective settings in which the backends differ, as each library got them; solver and tolerances left out."
    )
    columns = ["stepping, pass", "setting", *names.backends, f"{names.columns} (and problems, if not all)"]
    return Table("settings", caption, columns, grouped(keys, bodies), "Settings that differ")


def rejections(comparison: Comparison, names: Names) -> Table:
    """Return whose error rejected the native backward steps at one tolerance a problem, with spurious and masked."""
    keys: list[tuple[str, ...]] = []
    bodies: list[list[Cell]] = []
    for item in comparison.problems:
        native = [row for row in item.rejections if row.stepping == "native"]
        rtol = usual(r for r in item.records if any(row.rtol == r.rtol for row in native))
        found = {(row.backend, row.series): row for row in native if row.rtol == rtol}
        for backend in names.backends:
            for series in names.series:
                if (backend, series) in found:
                    keys.append((f"{item.problem}, rtol {tolerance(rtol)}", backend, series))
                    bodies.append(_rejected(found[backend, series]))
    caption = (
        "Whose error rejected the backward steps, native stepping. Spurious: rejected though the norm over y and a_y "
        "alone was at most 1, the rejections that the seminorm is to avoid. Masked: accepted though it was above 1, "
        "for other blocks diluted it."
    )
    by_block = [f"by {group}" for group in GROUPS]
    columns = ["problem", "backend", names.column, "accepted", "rejected", *by_block, "spurious", "masked"]
    return Table("rejections", caption, columns, grouped(keys, bodies), "Rejected by", tuple(range(3, len(columns))))


def _rejected(row: Rejections) -> list[Cell]:
    by_block = [whole(row.by_block[group]) if group in row.by_block else NONE for group in GROUPS]
    return [num(text) for text in (whole(row.accepted), whole(row.rejected), *by_block, whole(row.spurious),
                                   whole(row.masked))]  # fmt: skip


def split_name(row: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a split's series, with the backend where several were taken apart."""
    backends = {str(other.get("backend")) for other in rows}
    return series_of(row) if len(backends) < 2 else f"{series_of(row)}, {row.get('backend')}"


def splits(comparison: Comparison) -> Table:
    """Return the parts of the gradient's error of every record that was taken apart."""
    keys: list[tuple[str, ...]] = []
    bodies: list[list[Cell]] = []
    for item in comparison.problems:
        for row in item.splits:
            keys.append((f"{item.problem}, rtol {tolerance(row.get('rtol'))}", split_name(row, item.splits)))
            if "parts" not in row:
                words = Cell(f"not measured: {row.get('message', '')}", kind="missing")
                bodies.append([words, *(num(NONE) for _ in range(len(ERROR_PARTS) + 1))])
                continue
            share = [percent(row["share"].get(part)) for part in ERROR_PARTS]
            parts = [num(sci(row["parts"].get(p)), f"({s})") for p, s in zip(ERROR_PARTS, share, strict=True)]
            adds_up = row["residual"] <= ADDITIVE
            rest = num(percent(row["residual"]), "" if adds_up else "do not add up", kind="" if adds_up else "unstable")
            bodies.append([num(sci(row["whole"])), *parts, rest])
    caption = (
        "Where the gradient's error comes from: the relative error that each part makes alone (the forward solve, the "
        "reverse solve's y, a_y, the integral of a_params), and its share of the whole. The residual is what the parts "
        "do not add up to, as a share of the whole."
    )
    columns = ["problem", "norm", "error", "forward", "reverse y", "a_y", "a_params", "residual"]
    numbers = tuple(range(2, 8))
    return Table("splits", caption, columns, grouped(keys, bodies), "Parts of the error", numbers, inline=True)


def _notes(comparison: Comparison) -> dict[str, list[tuple[str, FlagGroup]]]:
    """Return the notes of every problem by name; the settings that differ have a table of their own."""
    found: dict[str, list[tuple[str, FlagGroup]]] = {}
    for item in comparison.problems:
        for group in flag_groups(item, tolerance):
            if group.level == "note" and group.name != "settings_differ":
                found.setdefault(group.name, []).append((item.problem, group))
    return found


def note_advice(comparison: Comparison) -> list[tuple[str, str]]:
    """Return what to do about every kind of note, once."""
    return [(name.replace("_", " "), rows[0][1].advice) for name, rows in _notes(comparison).items()]


def notes(comparison: Comparison) -> Table:
    """Return the flags that explain a difference; the gravest are warnings and stand apart."""
    keys: list[tuple[str, ...]] = []
    bodies: list[list[Cell]] = []
    for name, rows in _notes(comparison).items():
        for problem, group in rows:
            more = len(group.flags) - 1
            said = typographic(group.evidence[0]) + (f" (and {count(more, 'more cell')})" if more else "")
            keys.append((name.replace("_", " "), problem))
            bodies.append([Cell(group.cells), Cell(said)])
    caption = "Where each note was found, with the evidence of one cell at the usual tolerance."
    return Table("notes", caption, ["note", "problem", "where", "evidence"], grouped(keys, bodies), "Notes")
