"""Every record: the long table, the numbers behind it for CSV, the condensed one for print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from crossbackend.compare import AT_FLOOR, Comparison
from crossbackend.record import Record, Status
from crossbackend.report.formats import NONE, clean, number, sci, seconds, size, tolerance, whole
from crossbackend.report.names import Names, at, failed, names_of, sweeps, total_nfe
from crossbackend.report.table import Cell, Table, grouped, head, num
from crossbackend.series import BACKSOLVE, gradient_of, series, series_of
from crossbackend.wording import listed

_PLAN = ("problem", "backend", "stepping", "norm", "rtol", "atol", "gradient", "dtype", "device", "first_step")
_PARTS = {
    "forward": ("nfe", "accepted", "rejected"),
    "backward": ("nfe", "accepted", "rejected", "spurious", "masked"),
    "error": ("all", "y0", "params", "floor"),
    "time": ("median_s", "q1_s", "q3_s", "min_s", "first_s", "compile_s", "repeats"),
}
_WHERE_KNOWN = {
    **{f"backward_{name}": ("backward", "parts", name) for name in ("vjp_y", "vjp_params", "recomputed")},
    **{name: (name,) for name in ("memory_rise_bytes", "device_memory_bytes")},
}
"""Numbers that many runs do not have: their columns are there where a record has one."""


@dataclass(frozen=True)
class Column:
    """A column of the table of all records.

    Attributes
    ----------
    name : str
    over : str
        What it shares with its neighbours, said once above them.
    key : str
        Name of the number behind it in `numbers`, by which it is sorted; empty where the text itself is.
    choose : bool
        Whether the page offers its values as a filter.
    """

    name: str
    over: str = ""
    key: str = ""
    choose: bool = False

    @property
    def number(self) -> bool:
        """Whether it holds numbers, set to the right."""
        return bool(self.key)


COLUMNS = (
    Column("problem", choose=True), Column("backend", choose=True), Column("stepping", choose=True),
    Column("norm", choose=True), Column("rtol", key="rtol", choose=True), Column("status", choose=True),
    Column("error", key="error_all"), Column("forward", "evaluations", "forward_nfe"),
    Column("backward", "evaluations", "backward_nfe"), Column("forward", "steps", "forward_accepted"),
    Column("backward", "steps", "backward_accepted"), Column("y missed by", key="reconstruction_error"),
    Column("median", "time", "time_median_s"), Column("first call", "time", "time_first_s"),
    Column("compile", "time", "time_compile_s"), Column("memory", key="peak_memory_bytes"),
)  # fmt: skip
GRADIENT = Column("gradient", choose=True)
NORM = [column.name for column in COLUMNS].index("norm")
MEMORY = (
    Column("memory of a call", key="memory_rise_bytes"),
    Column("memory on the device", key="device_memory_bytes"),
)


def columns(comparison: Comparison) -> tuple[Column, ...]:
    """Return the columns of a run's table: the gradient, and more of the memory, where there is something to say."""
    found = list(COLUMNS)
    if any(gradient_of(record.plan) != BACKSOLVE for record in comparison.records):
        found.insert(NORM, GRADIENT)
    return (*found, *(column for column in MEMORY if column.key in _known(comparison)))


def _known(comparison: Comparison) -> list[str]:
    return [
        name
        for name, path in _WHERE_KNOWN.items()
        if any(at(record, *path) is not None for record in comparison.records)
    ]


def over(found: Sequence[Column]) -> list[tuple[str, int]]:
    """Return the row above the columns' names: what neighbours share, and how many they are."""
    return [(name, len(list(group))) for name, group in groupby(column.over for column in found)]


def numbers(comparison: Comparison) -> dict[str, Any]:
    """Return all records as columns and rows of plain values, for CSV and for sorting by value."""
    known = _known(comparison)
    found = [*_PLAN, "status", "message", "loss"]
    found += [f"{part}_{key}" for part, keys in _PARTS.items() for key in keys]
    found += ["reconstruction_error", "rounding_floor", "peak_memory_bytes", *known, "digest"]
    return {"columns": found, "rows": [_values(record, known) for record in comparison.records]}


def _values(record: Record, known: Sequence[str]) -> list[Any]:
    plan: list[Any] = []
    for name in _PLAN:
        value = record.plan.get(name)
        plan.append(
            number(value) if name in ("rtol", "atol", "first_step") else clean(value) if value is not None else None
        )
    parts = [at(record, part, key) for part, keys in _PARTS.items() for key in keys]
    last = [at(record, name) for name in ("reconstruction_error", "rounding_floor", "peak_memory_bytes")]
    last += [at(record, *_WHERE_KNOWN[name]) for name in known]
    return [*plan, str(record.status), clean(record.message), at(record, "loss"), *parts, *last, clean(record.digest)]


def rows(comparison: Comparison) -> list[list[Cell]]:
    """Return a row of cells for every record under `columns`, in the order of `numbers`."""
    found = columns(comparison)
    return [_row(record, item.problem, found) for item in comparison.problems for record in item.records]


def _row(record: Record, problem: str, found: Sequence[Column]) -> list[Cell]:
    words = str(record.status).replace("_", " ")
    bad = failed(record)
    kind = "fail" if bad else "missing" if record.status == Status.UNSUPPORTED else ""
    cells = [
        head(problem), Cell(record.backend), Cell(record.stepping), Cell(record.norm),
        num(tolerance(record.rtol)), Cell(f"✕ {words}" if bad else words, note=record.message, kind=kind),
        num(sci(at(record, "error", "all")), note=_at_floor(record)), num(whole(at(record, "forward", "nfe"))),
        num(whole(at(record, "backward", "nfe"))), num(_steps(record, "forward")), num(_steps(record, "backward")),
        num(sci(record.reconstruction_error)), num(seconds(at(record, "time", "median_s"))),
        num(seconds(at(record, "time", "first_s"))), num(seconds(at(record, "time", "compile_s"))),
        num(size(record.peak_memory_bytes)),
    ]  # fmt: skip
    if GRADIENT in found:
        cells.insert(NORM, Cell(gradient_of(record.plan)))
    return cells + [num(size(at(record, column.key))) for column in MEMORY if column in found]


def _at_floor(record: Record) -> str:
    error, floor = at(record, "error", "all"), at(record, "error", "floor")
    return "at the floor" if error is not None and floor is not None and error < AT_FLOOR * floor else ""


def _steps(record: Record, which: str) -> str:
    accepted, rejected = at(record, which, "accepted"), at(record, which, "rejected")
    return NONE if accepted is None else f"{whole(accepted)} + {whole(rejected)}"


def condensed(comparison: Comparison, names: Names) -> Table:
    """Return every record in short: a row for each sweep, a column for each tolerance."""
    keys: list[tuple[str, ...]] = []
    bodies: list[list[Cell]] = []
    for item in comparison.problems:
        for (backend, one, stepping), sweep in sweeps(item.records, names).items():
            at_rtol = {record.rtol: record for record in sweep}
            keys.append((item.problem, backend, f"{one}, {stepping}"))
            bodies.append([_short(at_rtol.get(rtol)) for rtol in names.rtols])
    caption = "All records: gradient error; evaluations of both passes; median time. A cross names what did not finish."
    shown = ["problem", "backend", f"{names.column}, stepping", *(f"rtol {tolerance(r)}" for r in names.rtols)]
    return Table("records", caption, shown, grouped(keys, bodies), numbers=tuple(range(3, len(shown))))


def _short(record: Record | None) -> Cell:
    if record is None:
        return num("")
    if record.status != Status.OK:
        bad = failed(record)
        return Cell(("✕ " if bad else "") + str(record.status).replace("_", " "), kind="fail" if bad else "missing")
    time = at(record, "time", "median_s")
    parts = [sci(at(record, "error", "all")), whole(total_nfe(record)), *([] if time is None else [seconds(time)])]
    return num("; ".join(parts))


def failures(comparison: Comparison) -> Table:
    """Return what did not finish and what was declined, each kind once, with its words and what to do."""
    merged: dict[tuple[str, str, str, str], list[Record]] = {}
    for record in comparison.records:
        if record.status != Status.OK:
            problem = record.problem if failed(record) else ""  # a backend declines a plan for what it is
            merged.setdefault((str(record.status), record.backend, record.message, problem), []).append(record)
    keys: list[tuple[str, ...]] = []
    bodies: list[list[Cell]] = []
    for key in sorted(merged, key=lambda k: (k[0] == "unsupported", *k)):
        status, backend, message, _ = key
        own = merged[key]
        cells = _where(own)
        rtols = listed(tolerance(r) for r in sorted({r.rtol for r in own}, reverse=True))
        problems = listed(dict.fromkeys(r.problem for r in own))
        keys.append((status.replace("_", " "), backend))
        bodies.append([Cell(problems), Cell(f"{cells}; rtol {rtols}"), Cell(message, note=own[0].status.advice)])
    caption = "Plans without a result: the library's words, and what to do."
    shown = ["status", "backend", "problem", "where", "message and advice"]
    return Table("failures", caption, shown, grouped(keys, bodies))


def _where(records: list[Record]) -> str:
    by_stepping: dict[str, dict[str, None]] = {}
    for record in records:
        by_stepping.setdefault(record.stepping, {})[series_of(record.plan)] = None
    return "; ".join(f"{stepping}: {listed(found)}" for stepping, found in by_stepping.items())


def declined(comparison: Comparison) -> Table:
    """Return the plans that a backend declined and that left no record."""
    left = [record.plan for record in comparison.records if record.status == Status.UNSUPPORTED]
    known = {_declined(plan) for plan in left} | {_declined({**plan, "gradient": None}) for plan in left}
    rows: dict[tuple[str, ...], list[Cell]] = {}
    for found in comparison.about.get("declined") or []:
        if isinstance(found, dict):
            key = _declined(found)
            cells = [head(key[0]), *(Cell(text) for text in key[1:]), Cell(str(found.get("reason", "")))]
            if key not in known:
                rows.setdefault(key, cells)
    shown = ["problem", "backend", names_of(comparison).column, "stepping", "reason"]
    return Table("declined", "Plans that a backend declined.", shown, list(rows.values()))


def _declined(plan: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a declined plan's cells of the table; a run may say that it was declined and not under which gradient."""
    problem, backend, norm, stepping = (str(plan.get(f, "")) for f in ("problem", "backend", "norm", "stepping"))
    return problem, backend, series(norm, gradient_of(plan)), stepping
