"""Do the backends agree? Matrices under matched and native stepping, a table by backend, warnings in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from crossbackend.compare import MATCHED_TOLERANCE, Agreement, Comparison, ProblemComparison
from crossbackend.flag_groups import FlagGroup
from crossbackend.flag_groups import grouped as grouped_flags
from crossbackend.record import Record, Status
from crossbackend.report.formats import count, ratio, sci, tolerance, typographic, whole
from crossbackend.report.names import Names, at, failed
from crossbackend.report.table import Cell, Table, grouped, head, num
from crossbackend.series import series_of
from crossbackend.wording import listed

WORDS = {"pass": "✓\u00a0pass", "unstable": "▲\u00a0unstable", "fail": "✕\u00a0fail", "missing": "–\u00a0missing"}
VERDICTS = tuple(WORDS)


@dataclass(frozen=True)
class Warning_:
    """Flags of one kind on one problem, said once."""

    problem: str
    name: str
    cells: str
    evidence: str
    advice: str


def counts(comparison: Comparison) -> dict[str, int]:
    """Return how many matched cells have each verdict, every verdict named."""
    found = Counter(cell.verdict for item in comparison.problems for cell in item.matched)
    return {verdict: found.get(verdict, 0) for verdict in VERDICTS}


def matched(comparison: Comparison, names: Names) -> Table:
    """Return problem x norm x tolerance under matched stepping, every cell with its verdict in words."""
    limit = tolerance(MATCHED_TOLERANCE)
    caption = (
        "Agreement when every backend takes the same steps: verdict, and the largest relative difference between two "
        f"backends' gradients. Pass means below {limit}, with the same steps in both passes."
    )
    return _matrix("matched", caption, comparison, names, "matched")


def native(comparison: Comparison, names: Names) -> Table:
    """Return problem x norm x tolerance as the libraries run by themselves: differences, no verdict."""
    caption = (
        "Agreement as the libraries run by themselves: the largest relative difference between two backends' "
        "gradients, and in brackets the largest gradient error of the cell. Steps differ here, so there is no pass or "
        "fail: differences of the size of the errors are what is to be expected."
    )
    return _matrix("native", caption, comparison, names, "native")


def _matrix(name: str, caption: str, comparison: Comparison, names: Names, stepping: str) -> Table:
    rtols = sorted({a.rtol for item in comparison.problems for a in getattr(item, stepping)}, reverse=True)
    keys: list[tuple[str, ...]] = []
    bodies: list[list[Cell]] = []
    for item in comparison.problems:
        cells = {(a.series, a.rtol): a for a in getattr(item, stepping)}
        for series in names.series:
            if not any((series, rtol) in cells for rtol in rtols):
                continue
            keys.append((item.problem, series))
            show = _judged if stepping == "matched" else _plain
            bodies.append([show(item, cells[series, r]) if (series, r) in cells else Cell("") for r in rtols])
    columns = ["problem", names.column, *(f"rtol {tolerance(rtol)}" for rtol in rtols)]
    numbers = tuple(range(2, len(columns))) if stepping == "native" else ()
    return Table(name, caption, columns, grouped(keys, bodies), numbers=numbers, inline=True)


def _judged(_: ProblemComparison, cell: Agreement) -> Cell:
    difference = sci(cell.max_relative_difference)
    steps = "" if cell.same_steps else ", other steps"
    note = f"{difference}{steps}" if len(cell.backends) > 1 else f"{count(len(cell.backends), 'gradient')}"
    return Cell(WORDS.get(cell.verdict, cell.verdict), note, cell.verdict, _pair(cell))


def _pair(cell: Agreement) -> str:
    said = [f"gradients from {listed(cell.backends)}" if cell.backends else "no gradient"]
    if cell.worst_pair:
        said.append(f"worst pair {listed(cell.worst_pair)}")
    if cell.rounding_floor is not None:
        said.append(f"one ulp in the stored solution moves the gradient by {sci(cell.rounding_floor)}")
    return "; ".join(said)


def _plain(item: ProblemComparison, cell: Agreement) -> Cell:
    errors = [
        error for r in item.records if (series_of(r.plan), r.rtol, r.stepping) == (cell.series, cell.rtol, "native")
        and (error := at(r, "error", "all")) is not None
    ]  # fmt: skip
    if len(cell.backends) < 2:
        return Cell(count(len(cell.backends), "gradient"), kind="missing")
    note = f"({sci(max(errors))})" if errors else "(no reference)"
    return num(sci(cell.max_relative_difference), note, title=_pair(cell))


def by_backend(comparison: Comparison, names: Names) -> Table:
    """Return what became of every plan, by backend."""
    tried = [str(s) for s in Status if s != Status.OK and any(r.status == s for r in comparison.records)]
    flagged = Counter(f.backend for item in comparison.problems for f in item.flags if f.level == "warning")
    rows = []
    for name in names.backends:
        own = Counter(str(r.status) for r in comparison.records if r.backend == name)
        numbers = [sum(own.values()), own["ok"], *(own[s] for s in tried), flagged[name]]
        rows.append([head(name), *(num(whole(n)) for n in numbers)])
    columns = ["backend", "plans", "finished", *(s.replace("_", " ") for s in tried), "warnings"]
    caption = "What became of the plans, by backend. A warning is about the numerics of a plan that may have finished."
    return Table("backends", caption, columns, rows, numbers=tuple(range(1, len(columns))))


def warnings(comparison: Comparison) -> list[Warning_]:
    """Return the grave flags grouped by problem and kind: which cells, the evidence, the advice once."""
    return [
        Warning_(item.problem, group.name, group.cells, _evidence(group, item), group.advice)
        for item in comparison.problems
        for group in grouped_flags(item, tolerance)
        if group.level == "warning"
    ]


def _evidence(group: FlagGroup, item: ProblemComparison) -> str:
    if group.name != "backsolve_unstable":
        more = f"; and {group.more} more" if group.more else ""
        return typographic("; ".join(group.evidence)) + more
    cells = {(f.backend, f.series, f.stepping, f.rtol) for f in group.flags}
    own = [r for r in item.records if (r.backend, series_of(r.plan), r.stepping, r.rtol) in cells]
    said = []
    missed = [(r.reconstruction_error, r.rtol) for r in own if r.reconstruction_error is not None]
    if missed:
        errors, ratios = [e for e, _ in missed], [e / rtol for e, rtol in missed]
        said.append(
            f"integrating back, y misses the stored solution by {_range(min(errors), max(errors))} of its size, "
            f"{_range(min(ratios), max(ratios), times=True)} rtol"
        )
    stopped = [r for r in own if failed(r)]
    if stopped:
        said.append(f"{count(len(stopped), 'backward solve')} did not finish ({_statuses(stopped)})")
    return "; ".join(said)


def _range(low: float, high: float, *, times: bool = False) -> str:
    first, last = (ratio(low), ratio(high)) if times and high < 1000 else (sci(low), sci(high))
    suffix = " times" if times and high >= 1000 else ""
    return (first if first == last else f"{first} to {last}") + suffix


def _statuses(records: Iterable[Record]) -> str:
    return listed(sorted({str(record.status).replace("_", " ") for record in records}))
