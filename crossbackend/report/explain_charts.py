"""What explains a difference: speed-up at equal error, and where a gradient's error comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from crossbackend.compare import ProblemComparison, SpeedUp
from crossbackend.gradient_costs import Against
from crossbackend.record import ERROR_PARTS
from crossbackend.report.draw import WIDTH, Chart, Mark, Sheet, drawing, log_axis
from crossbackend.report.formats import clean, number, ratio, sci, short, tolerance
from crossbackend.report.names import Names
from crossbackend.report.palette import INK, PAPER, SOFT, series_style
from crossbackend.report.why import split_name
from crossbackend.series import series_of
from crossbackend.wording import listed

COST_WORDS = {"backward_nfe": "backward evaluations", "time": "time"}
PART_WORDS = {
    "forward": "forward\nsolve", "reconstruction": "reverse\ny", "a_y": "a_y", "a_params": "a_params'\nintegral",
}  # fmt: skip


@drawing
def speedups(item: ProblemComparison, names: Names, name: str) -> Chart | None:
    """Draw cost under `default` over cost under each norm at equal gradient error, native; None where there is none."""
    found = [row for row in item.speedups if row.stepping == "native" and row.factor is not None]
    cells = [
        (b, s) for b in names.backends for s in names.series if any((r.backend, r.series) == (b, s) for r in found)
    ]
    if not cells:
        return None
    rows = [(cells.index((row.backend, row.series)), row.backend, row.series, row) for row in found]
    labels = [short(f"{backend}, {series}", 36) for backend, series in cells]
    sheet = factors(name, names, rows, labels, "times cheaper than default")
    label = f"{item.problem}: how many times cheaper than the default norm each norm is at equal gradient error"
    return sheet.finish(item.problem, clean(label))


Row = tuple[int, str, str, SpeedUp | Against]
"""Which line it is drawn on, backend, series, and what is drawn."""


def factors(name: str, names: Names, rows: Sequence[Row], labels: Sequence[str], across: str) -> Sheet:
    """Draw how many times less something costs: a mean as a marker, its extremes as a line, a label for each line."""
    sheet = Sheet(name, 0.75 + 0.24 * len(labels))
    panel = sheet.panel
    panel.axvline(1, color=SOFT, linewidth=0.9)
    panel.grid(visible=False, axis="y")
    for row in rows:
        _range(sheet, names, row)
    log_axis(panel.xaxis, [x for *_, r in rows for x in (r.low, r.high, 1.0) if x], lambda x: f"{x:g}×")
    panel.set_ylim(len(labels) - 0.5, -0.5)
    panel.set_yticks(range(len(labels)), labels, fontsize=7)
    panel.set_xlabel(across)
    height = sheet.figure.get_figheight()
    left = (0.12 + 0.05 * max(map(len, labels))) / WIDTH
    sheet.figure.subplots_adjust(left=left, right=0.97, top=0.97, bottom=0.42 / height)
    return sheet


def _range(sheet: Sheet, names: Names, row: Row) -> None:
    """Draw one factor: its mean as a marker, its extremes as a line."""
    at, backend, series, found = row
    assert found.factor is not None
    assert found.errors is not None
    colour, hollow = names.colours[backend].sentinel, found.cost == "time"
    y = at + (0.17 if hollow else -0.17)
    beside = f" against {found.norm}" if isinstance(found, Against) else ""
    words = (
        f"{backend}, {series}{beside}: {ratio(found.factor)} in {COST_WORDS[found.cost]} ({ratio(found.low)} to "
        f"{ratio(found.high)}), over errors from {sci(found.errors[0])} to {sci(found.errors[1])}"
    )
    mark = Mark(names.backends.index(backend), names.series.index(series), "native", [words])
    gid = sheet.mark(mark)
    sheet.panel.plot([found.low, found.high], [y, y], color=colour, linewidth=1.2, gid=gid, solid_capstyle="butt")
    sheet.panel.plot(
        [found.factor], [y], marker=series_style(series)[1], color=colour, markersize=4.5, linestyle="none",
        markerfacecolor=PAPER if hollow else colour, markeredgecolor=colour, gid=sheet.mark(mark), zorder=3,
    )  # fmt: skip


@drawing
def splits(item: ProblemComparison, names: Names, name: str) -> Chart | None:
    """Draw the parts of a gradient's error under each norm, each alone; None where none was measured."""
    found = [row for row in item.splits if isinstance(row.get("parts"), dict)]
    values = [v for row in found for v in _heights(row) if v]
    if not values:
        return None
    sheet = Sheet(name, 2.1)
    panel, whole = sheet.panel, len(ERROR_PARTS)
    log_axis(panel.yaxis, values, tolerance)
    panel.axvline(whole - 0.5, color=SOFT, linewidth=0.7)
    for k, row in enumerate(found):
        shift = 0.16 * (k - (len(found) - 1) / 2)
        _dots(sheet, names, row, shift)
    panel.set_xlim(-0.5, whole + 0.5)
    panel.set_xticks(range(whole + 1), [*(PART_WORDS[part] for part in ERROR_PARTS), "whole"], fontsize=7)
    panel.set_ylabel("relative gradient error")
    sheet.figure.subplots_adjust(left=0.19, right=0.98, top=0.96, bottom=0.19)
    norms = listed(split_name(row, found) for row in found)
    label = (
        f"{item.problem}: relative gradient error from the forward solve, from the reverse solve's y, from a_y and "
        f"from the integral of a_params, each alone, and the whole, under {norms}"
    )
    return sheet.finish(item.problem, clean(label), f"rtol {tolerance(found[0].get('rtol'))}, SciPy, native")


def _heights(row: dict[str, Any]) -> Sequence[float | None]:
    values = [*(row["parts"].get(part) for part in ERROR_PARTS), row.get("whole")]
    return [v if (v := number(value)) is not None and v > 0 else None for value in values]


def _dots(sheet: Sheet, names: Names, row: dict[str, Any], shift: float) -> None:
    backend, series = str(row["backend"]), series_of(row)
    colour, heights = names.colours[backend].sentinel, _heights(row)
    words = [*ERROR_PARTS, "whole"]
    titles = [
        f"{series}, {backend}: {what.replace('_', ' ')} {sci(v)}"
        for what, v in zip(words, heights, strict=True)
        if v is not None
    ]
    mark = Mark(names.backends.index(backend), names.series.index(series), "native", titles)
    sheet.panel.plot(
        [k + shift for k in range(len(heights))], [math.nan if v is None else v for v in heights],
        marker=series_style(series)[1], color=colour, markeredgecolor=INK, markeredgewidth=0.3, markersize=4.5,
        linestyle="none", gid=sheet.mark(mark),
    )  # fmt: skip
