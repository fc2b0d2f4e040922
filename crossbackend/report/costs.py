"""What it costs: savings of the norms, times with their spread, the cheapest plan for a wanted error."""

from __future__ import annotations

from collections.abc import Sequence

from crossbackend.compare import WANTED, Comparison, Saving, SpeedUp
from crossbackend.gradient_costs import Against
from crossbackend.record import Record, Status
from crossbackend.report.formats import NONE, percent, ratio, sci, seconds, tolerance, typographic, whole
from crossbackend.report.names import Names, at, usual
from crossbackend.report.table import Cell, Table, grouped, head, num
from crossbackend.series import series_of


def savings(comparison: Comparison, names: Names, stepping: str) -> Table:
    """Return backward evaluations saved against the default norm at equal tolerance, errors beside."""
    rtols = sorted({s.rtol for p in comparison.problems for s in p.savings if s.stepping == stepping}, reverse=True)
    keys: list[tuple[str, ...]] = []
    bodies: list[list[Cell]] = []
    for item in comparison.problems:
        found = {(s.backend, s.series, s.rtol): s for s in item.savings if s.stepping == stepping}
        for backend in names.backends:
            for series in names.series:
                row = [found.get((backend, series, rtol)) for rtol in rtols]
                if any(row):
                    keys.append((item.problem, backend, series))
                    bodies.append([_saving(saving) for saving in row])
    caption = (
        f"Backward evaluations saved against the norm default at equal tolerance, {stepping} stepping: share saved "
        "(default → this norm), and what became of the gradient error."
    )
    columns = ["problem", "backend", names.column, *(f"rtol {tolerance(rtol)}" for rtol in rtols)]
    numbers = tuple(range(3, len(columns)))
    return Table(f"savings-{stepping}", caption, columns, grouped(keys, bodies), f"Saved, {stepping} stepping", numbers)


def _saving(saving: Saving | None) -> Cell:
    if saving is None:
        return num(NONE)
    errors = "" if saving.error is None else f"error {sci(saving.error_default)} → {sci(saving.error)}"
    return num(f"{percent(saving.saved)} ({whole(saving.nfe_default)} → {whole(saving.nfe)})", errors)


def speedups(comparison: Comparison, names: Names) -> Table:
    """Return what each norm saves natively: at equal tolerance, and at equal gradient error."""
    keys: list[tuple[str, ...]] = []
    bodies: list[list[Cell]] = []
    for item in comparison.problems:
        rtol = usual(r for r in item.records if r.stepping == "native")
        saved = {(s.backend, s.series): s for s in item.savings if s.stepping == "native" and s.rtol == rtol}
        found = {(s.backend, s.series, s.cost): s for s in item.speedups if s.stepping == "native"}
        for backend in names.backends:
            for series in names.series:
                rows = [found.get((backend, series, cost)) for cost in ("backward_nfe", "time")]
                if any(
                    row is not None and row.factor is not None for row in rows
                ):  # the charts say why others have none
                    keys.append((f"{item.problem}, rtol {tolerance(rtol)}", backend, series))
                    one = saved.get((backend, series))
                    saving = num(NONE if one is None else percent(one.saved))
                    bodies.append([saving, *(factor(row) for row in rows), _errors(rows)])
    caption = (
        "What a norm saves against default, native stepping: backward evaluations at equal tolerance (the paper's "
        "figure), and how many times cheaper it is at equal gradient error: the mean over the errors that both reach, "
        "the extremes in brackets, and those errors."
    )
    columns = [
        "problem", "backend", names.column, "saved at equal tolerance", "cheaper in backward evaluations",
        "cheaper in time", "at errors",
    ]  # fmt: skip
    numbers = (3, 4, 5, 6)
    return Table("speedups", caption, columns, grouped(keys, bodies), "Speed-up at equal error", numbers, inline=True)


def factor(row: SpeedUp | Against | None) -> Cell:
    """Return a factor at equal error with its extremes, or why there is none."""
    if row is None:
        return num(NONE)
    if row.factor is None or row.errors is None:
        return Cell("none", typographic(row.reason), kind="missing")
    return num(ratio(row.factor), f"({ratio(row.low)} to {ratio(row.high)})")


def _errors(rows: Sequence[SpeedUp | None]) -> Cell:
    """Return the errors over which two norms were compared, those of the evaluations where times have others."""
    found = [row.errors for row in rows if row is not None and row.errors is not None]
    return num(f"{sci(found[0][0])} to {sci(found[0][1])}" if found else NONE)


def timings(comparison: Comparison, names: Names) -> Table:
    """Return median times with quartiles at one tolerance a problem, and their ratio to the fastest."""
    keys: list[tuple[str, ...]] = []
    bodies: list[list[Cell]] = []
    for item in comparison.problems:
        timed = [r for r in item.records if r.stepping == "native" and at(r, "time", "median_s") is not None]
        rtol = usual(timed)
        here = [r for r in item.records if r.stepping == "native" and r.rtol == rtol and r.status != Status.UNSUPPORTED]
        for series in names.series:
            own = {r.backend: r for r in here if series_of(r.plan) == series}
            medians = [m for r in own.values() if (m := at(r, "time", "median_s")) is not None]
            for backend in names.backends:
                if backend in own:
                    keys.append((f"{item.problem}, rtol {tolerance(rtol)}", series, backend))
                    bodies.append(_timing(own[backend], min(medians, default=None)))
    caption = (
        "Time of one loss and gradient: median with quartiles, how many times slower than the fastest backend under "
        f"the same {names.column}, the first call and compilation apart. Compare the ratios within this run; absolute "
        "times from a shared machine mean little."
    )
    columns = ["problem", names.column, "backend", "median", "quartiles", "ratio", "first call", "compile", "repeats"]
    return Table("timings", caption, columns, grouped(keys, bodies), "Times", tuple(range(3, 9)))


def _timing(record: Record, fastest: float | None) -> list[Cell]:
    median = at(record, "time", "median_s")
    if median is None:
        status = "not measured" if record.status == Status.OK else f"✕ {record.status}".replace("_", " ")
        return [Cell(status, kind="" if record.status == Status.OK else "fail"), *(num(NONE) for _ in range(5))]
    quartiles = f"{seconds(at(record, 'time', 'q1_s'))} to {seconds(at(record, 'time', 'q3_s'))}"
    slower = None if not fastest else median / fastest
    last = (seconds(at(record, "time", "first_s")), seconds(at(record, "time", "compile_s")))
    repeats = whole(at(record, "time", "repeats"))
    return [num(text) for text in (seconds(median), quartiles, ratio(slower), *last, repeats)]


def cheapest(comparison: Comparison) -> Table:
    """Return the fastest native plan that reaches each wanted error, by problem."""
    wanted = [w for w in WANTED if any(c.get("wanted") == w for p in comparison.problems for c in p.cheapest)]
    rows = []
    for item in comparison.problems:
        found = {c.get("wanted"): c for c in item.cheapest}
        if found:
            rows.append([head(item.problem), *(_cheapest(found.get(w)) for w in wanted)])
    caption = (
        "The fastest plan of this run whose gradient error is below the one wanted: backend, norm, tolerance, time "
        "and the error it reached. A dash: no plan reached it."
    )
    columns = ["problem", *(f"error below {tolerance(w)}" for w in wanted)]
    return Table("cheapest", caption, columns, rows)


def _cheapest(found: dict | None) -> Cell:
    if found is None:
        return Cell(NONE, kind="missing")
    note = f"rtol {tolerance(found['rtol'])}, {seconds(found['median_s'])}, error {sci(found['error'])}"
    return Cell(f"{found['backend']}, {series_of(found)}", note)
