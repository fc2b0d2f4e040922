"""Every record: the long table, the numbers behind it for CSV, the condensed one for print."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from crossbackend.compare import AT_FLOOR, Comparison
from crossbackend.record import Record, Status
from crossbackend.report.formats import NONE, clean, number, sci, seconds, size, tolerance, whole
from crossbackend.report.names import Names, at, failed, sweeps, total_nfe
from crossbackend.report.table import Cell, Table, grouped, head, num
from crossbackend.wording import listed

_PLAN = ("problem", "backend", "stepping", "norm", "rtol", "atol", "gradient", "dtype", "device", "first_step")
_PARTS = {
    "forward": ("nfe", "accepted", "rejected"),
    "backward": ("nfe", "accepted", "rejected", "spurious", "masked"),
    "error": ("all", "y0", "params", "floor"),
    "time": ("median_s", "q1_s", "q3_s", "min_s", "first_s", "compile_s", "repeats"),
}


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


def over() -> list[tuple[str, int]]:
    """Return the row above the columns' names: what neighbours share, and how many they are."""
    return [(name, len(list(group))) for name, group in groupby(column.over for column in COLUMNS)]


def numbers(comparison: Comparison) -> dict[str, Any]:
    """Return all records as columns and rows of plain values, for CSV and for sorting by value."""
    columns = [*_PLAN, "status", "message", "loss"]
    columns += [f"{part}_{key}" for part, keys in _PARTS.items() for key in keys]
    columns += ["reconstruction_error", "rounding_floor", "peak_memory_bytes", "digest"]
    return {"columns": columns, "rows": [_values(record) for record in comparison.records]}


def _values(record: Record) -> list[Any]:
    plan: list[Any] = []
    for name in _PLAN:
        value = record.plan.get(name)
        plan.append(
            number(value) if name in ("rtol", "atol", "first_step") else clean(value) if value is not None else None
        )
    parts = [at(record, part, key) for part, keys in _PARTS.items() for key in keys]
    last = [at(record, name) for name in ("reconstruction_error", "rounding_floor", "peak_memory_bytes")]
    return [*plan, str(record.status), clean(record.message), at(record, "loss"), *parts, *last, clean(record.digest)]


def rows(comparison: Comparison) -> list[list[Cell]]:
    """Return a row of cells for every record, in the order of `numbers`."""
    return [_row(record, item.problem) for item in comparison.problems for record in item.records]


def _row(record: Record, problem: str) -> list[Cell]:
    words = str(record.status).replace("_", " ")
    bad = failed(record)
    kind = "fail" if bad else "missing" if record.status == Status.UNSUPPORTED else ""
    return [
        head(problem), Cell(record.backend), Cell(record.stepping), Cell(record.norm),
        num(tolerance(record.rtol)), Cell(f"✕ {words}" if bad else words, note=record.message, kind=kind),
        num(sci(at(record, "error", "all")), note=_at_floor(record)), num(whole(at(record, "forward", "nfe"))),
        num(whole(at(record, "backward", "nfe"))), num(_steps(record, "forward")), num(_steps(record, "backward")),
        num(sci(record.reconstruction_error)), num(seconds(at(record, "time", "median_s"))),
        num(seconds(at(record, "time", "first_s"))), num(seconds(at(record, "time", "compile_s"))),
        num(size(record.peak_memory_bytes)),
    ]  # fmt: skip


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
        for (backend, norm, stepping), sweep in sweeps(item.records, names).items():
            at_rtol = {record.rtol: record for record in sweep}
            keys.append((item.problem, backend, f"{norm}, {stepping}"))
            bodies.append([_short(at_rtol.get(rtol)) for rtol in names.rtols])
    caption = "All records: gradient error; evaluations of both passes; median time. A cross names what did not finish."
    columns = ["problem", "backend", "norm, stepping", *(f"rtol {tolerance(r)}" for r in names.rtols)]
    return Table("records", caption, columns, grouped(keys, bodies), numbers=tuple(range(3, len(columns))))


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
    columns = ["status", "backend", "problem", "where", "message and advice"]
    return Table("failures", caption, columns, grouped(keys, bodies))


def _where(records: list[Record]) -> str:
    norms: dict[str, dict[str, None]] = {}
    for record in records:
        norms.setdefault(record.stepping, {})[record.norm] = None
    return "; ".join(f"{stepping}: {listed(found)}" for stepping, found in norms.items())


def declined(comparison: Comparison) -> Table:
    """Return the plans that a backend declined and that left no record."""
    fields = ("problem", "backend", "norm", "stepping")
    known = {tuple(str(r.plan.get(f)) for f in fields) for r in comparison.records if r.status == Status.UNSUPPORTED}
    rows: dict[tuple[str, ...], list[Cell]] = {}
    for found in comparison.about.get("declined") or []:
        if isinstance(found, dict):
            key = tuple(str(found.get(name, "")) for name in fields)
            cells = [head(key[0]), *(Cell(text) for text in key[1:]), Cell(str(found.get("reason", "")))]
            if key not in known:
                rows.setdefault(key, cells)
    return Table("declined", "Plans that a backend declined.", [*fields, "reason"], list(rows.values()))
