"""Error against cost, savings, reconstruction, the solution: one small chart a problem."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from crossbackend.compare import AT_FLOOR, UNSTABLE_FACTOR, ProblemComparison
from crossbackend.record import Record
from crossbackend.report.draw import WIDTH, Chart, Mark, Sheet, drawing, log_axis
from crossbackend.report.formats import clean, count, number, percent, sci, seconds, short, tolerance, whole
from crossbackend.report.names import Names, at, cell, failed, sweeps, total_nfe
from crossbackend.report.palette import BAND, INK, SOFT, picture_colours
from crossbackend.series import series_of

Measure = Callable[[Record], float | None]
READABLE = 30
"""Points of a solution that say their values, at most."""


@drawing
def work(item: ProblemComparison, names: Names, axis: str, name: str) -> Chart | None:
    """Draw gradient error against evaluations (`nfe`) or against time (`time`); None where nothing was measured."""
    cost: Measure = total_nfe if axis == "nfe" else lambda record: at(record, "time", "median_s")
    shown = whole if axis == "nfe" else seconds
    sheet = Sheet(name, 2.2)
    points = _curves(sheet, item.records, names, cost, lambda r: at(r, "error", "all"), shown)
    if not points:
        return None
    floor = number(item.reference.get("floor"))
    errors = [y for _, y in points]
    near = floor is not None and floor > 0 and math.log10(min(errors) / floor) < 4
    log_axis(sheet.panel.xaxis, [x for x, _ in points], shown)
    log_axis(sheet.panel.yaxis, [*errors, floor] if near and floor else errors, tolerance)
    if near and floor:
        _floor(sheet.panel, floor)
    sheet.panel.set_xlabel("evaluations of the field, forward + backward" if axis == "nfe" else "time, median")
    sheet.panel.set_ylabel("relative gradient error")
    _margins(sheet, _failures(item.records, names))
    what = "evaluations of the vector field" if axis == "nfe" else "median time"
    label = f"{item.problem}: relative gradient error against {what}, a curve for each backend and {names.column}"
    return sheet.finish(item.problem, clean(label), _note(floor, item.records))


def _note(floor: float | None, records: Sequence[Record]) -> str:
    zero = sum(at(record, "error", "all") == 0 for record in records)
    said = [] if floor is None else [f"reference good to {sci(floor, 1)}"]
    return "; ".join([*said, f"without {count(zero, 'error')} of 0"] if zero else said)


def _floor(panel: Any, floor: float) -> None:
    low, _ = panel.get_ylim()
    panel.axhspan(low, floor * AT_FLOOR, color=BAND, zorder=0, linewidth=0)
    panel.axhline(floor, color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)


def _curves(
    sheet: Sheet, records: Sequence[Record], names: Names, across: Measure, up: Measure, shown: Callable[[Any], str]
) -> list[tuple[float, float]]:
    """Draw a curve for each backend, series and stepping; return the points drawn."""
    points = []
    for (backend, series, stepping), sweep in sweeps(records, names).items():
        xs, ys, titles = [], [], []
        for record in sweep:
            x, y = across(record), up(record)
            if x is None or y is None or x <= 0 or y <= 0 or failed(record):
                xs.append(math.nan)
                ys.append(math.nan)
                continue
            xs.append(x)
            ys.append(y)
            titles.append(f"{cell(record)}: {sci(y)} at {shown(x)}")
        if not titles:
            continue
        mark = Mark(names.backends.index(backend), names.series.index(series), stepping, titles)
        sheet.line(xs, ys, series, names.colours[backend].sentinel, mark)
        points += [(x, y) for x, y in zip(xs, ys, strict=True) if not math.isnan(x)]
    return points


def _failures(records: Sequence[Record], names: Names) -> list[tuple[str, Mark]]:
    found = []
    for record in records:
        if failed(record) and record.stepping == "native":
            title = f"{cell(record)}: {record.status}. {record.message}"
            numbers = names.backends.index(record.backend), names.series.index(series_of(record.plan))
            found.append((names.colours[record.backend].sentinel, Mark(*numbers, record.stepping, [title])))
    return found


def _margins(sheet: Sheet, failed: Sequence[Any] = (), left: float = 0.19) -> None:
    """Leave room for the labels, and above the panel for the crosses of what did not finish."""
    height = sheet.figure.get_figheight()
    top = 0.24 if failed else 0.06
    sheet.figure.subplots_adjust(left=left, right=0.975, top=1 - top / height, bottom=0.42 / height)
    sheet.failures(failed)


@drawing
def savings(item: ProblemComparison, names: Names, name: str) -> Chart | None:
    """Draw the backward evaluations that a norm saves against `default`, by tolerance; None where there are none."""
    sheet = Sheet(name, 2.0)
    rtols: list[float] = []
    curves: dict[tuple[str, str, str], list[Any]] = {}
    for saving in sorted(item.savings, key=lambda s: -s.rtol):
        curves.setdefault((saving.backend, saving.series, saving.stepping), []).append(saving)
    for (backend, series, stepping), found in curves.items():
        xs, ys = [s.rtol for s in found], [100 * s.saved for s in found]
        rtols += xs
        titles = [
            clean(f"{backend}, {series}, {stepping}, rtol {tolerance(s.rtol)}: {percent(s.saved)} saved, "
                  f"{whole(s.nfe_default)} to {whole(s.nfe)}")
            for s in found
        ]  # fmt: skip
        mark = Mark(names.backends.index(backend), names.series.index(series), stepping, titles)
        sheet.line(xs, ys, series, names.colours[backend].sentinel, mark)
    if not rtols:
        return None
    _rtol_axis(sheet.panel, rtols)
    sheet.panel.axhline(0, color=SOFT, linewidth=0.9)
    sheet.panel.margins(y=0.15)
    ticks = sheet.panel.get_yticks()
    low, high = sheet.panel.get_ylim()
    sheet.panel.set_yticks(ticks, [f"{tick:.0f} %".replace("-", "−") for tick in ticks])
    sheet.panel.set_ylim(low, high)
    sheet.panel.set_ylabel("backward evaluations saved")
    _margins(sheet)
    label = f"{item.problem}: share of backward evaluations saved against the default norm, by tolerance"
    return sheet.finish(item.problem, clean(label))


def _rtol_axis(panel: Any, rtols: Sequence[float]) -> None:
    low, high = log_axis(panel.xaxis, rtols, tolerance)
    panel.set_xlim(high, low)
    panel.set_xlabel("rtol (tighter to the right)")


@drawing
def reconstruction(item: ProblemComparison, names: Names, name: str) -> Chart | None:
    """Draw how far the backward solve's y misses the stored solution, by tolerance, and where that is unstable."""
    sheet = Sheet(name, 2.0)
    points = _curves(
        sheet, item.records, names, lambda r: number(r.rtol), lambda r: number(r.reconstruction_error), tolerance
    )
    if not points:
        return None
    rtols = [x for x, _ in points]
    _rtol_axis(sheet.panel, rtols)
    ends = list(sheet.panel.get_xlim())
    limits = [UNSTABLE_FACTOR * rtol for rtol in ends]
    log_axis(sheet.panel.yaxis, [*(y for _, y in points), UNSTABLE_FACTOR * math.sqrt(ends[0] * ends[1])], tolerance)
    sheet.panel.plot(ends, limits, color=SOFT, linewidth=1.0, linestyle=(0, (2, 2)), zorder=1)
    middle = math.sqrt(ends[0] * ends[1])
    sheet.panel.annotate(
        "unstable above",
        (middle, UNSTABLE_FACTOR * middle),
        xytext=(3, 5),
        textcoords="offset points",
        fontsize=7,
        color=SOFT,
    )
    sheet.panel.set_ylabel("reconstruction error")
    _margins(sheet, _failures(item.records, names))
    label = f"{item.problem}: reconstruction error of the reverse solve by tolerance, with the limit 100 times rtol"
    return sheet.finish(item.problem, clean(label))


@drawing
def picture(item: ProblemComparison, name: str) -> Chart | None:
    """Draw the solution that the problem's card holds; None where it has none that can be drawn."""
    card = item.card.get("picture")
    if not isinstance(card, dict):
        return None
    sheet = Sheet(name, 1.9)
    t, drawn, longest = _numbers(card.get("t")), 0, 0
    colours = picture_colours()
    for index, series in enumerate(card.get("series") or []):
        y = _numbers(series.get("y")) if isinstance(series, dict) else []
        if t and len(y) == len(t):
            label = short(series.get("label") or "y", 16)
            longest = max(longest, len(label))
            colour = colours[index % len(colours)].sentinel
            sheet.panel.plot(t, y, color=colour, label=" " + label, linewidth=1.3)
            _readable(sheet, t, y, clean(series.get("label") or "y"), colour)
            drawn += 1
    if not drawn:
        return None
    for time in _numbers(card.get("outputs"))[:60]:
        sheet.panel.axvline(time, color=SOFT, linewidth=0.5, alpha=0.5, zorder=0)
    for time in _numbers(item.card.get("breakpoints"))[:60]:
        sheet.panel.axvline(time, color=INK, linewidth=0.9, linestyle=(0, (3, 2)), zorder=0)
    sheet.panel.set_xlabel("t")
    sheet.panel.set_ylabel("solution")
    room = 0.4 + 0.068 * longest  # inches that the legend takes
    sheet.figure.subplots_adjust(left=0.16, right=1 - room / WIDTH, top=0.95, bottom=0.22)
    sheet.panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2, borderaxespad=0.3, frameon=False)
    return sheet.finish(item.problem, clean(f"{item.problem}: the solution over time; vertical lines are the outputs"))


def _readable(sheet: Sheet, t: list[float], y: list[float], label: str, colour: str) -> None:
    """Put points on a curve that are not seen and say its values to a pointer or the arrow keys."""
    finite = [pair for pair in zip(t, y, strict=True) if all(map(math.isfinite, pair))]
    some = finite[:: max(-(-len(finite) // READABLE), 1)]
    mark = Mark(titles=[f"{label}: {sci(y, 3)} at t = {sci(x, 3)}" for x, y in some])
    xs, ys = [x for x, _ in some], [y for _, y in some]
    sheet.panel.plot(xs, ys, linestyle="none", marker="o", markersize=4, color=colour, alpha=0, gid=sheet.mark(mark))


def _numbers(values: Any) -> list[float]:
    return [math.nan if number(v) is None else float(v) for v in values] if isinstance(values, list) else []
