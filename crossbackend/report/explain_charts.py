"""What explains a difference: speed-up at equal error, and where a gradient's error comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from crossbackend.compare import ProblemComparison, SpeedUp
from crossbackend.record import ERROR_PARTS
from crossbackend.report.draw import WIDTH, Chart, Mark, Sheet, drawing, log_axis
from crossbackend.report.formats import clean, number, ratio, sci, short, tolerance
from crossbackend.report.names import Names
from crossbackend.report.palette import INK, PAPER, SOFT, norm_style
from crossbackend.report.why import split_name
from crossbackend.wording import listed

COST_WORDS = {"backward_nfe": "backward evaluations", "time": "time"}
PART_WORDS = {
    "forward": "forward\nsolve", "reconstruction": "reverse\ny", "a_y": "a_y", "a_params": "a_params'\nintegral",
}  # fmt: skip


@drawing
def speedups(item: ProblemComparison, names: Names, name: str) -> Chart | None:
    """Draw cost under `default` over cost under each norm at equal gradient error, native; None where there is none."""
    found = [row for row in item.speedups if row.stepping == "native" and row.factor is not None]
    cells = [(b, n) for b in names.backends for n in names.norms if any((r.backend, r.norm) == (b, n) for r in found)]
    if not cells:
        return None
    sheet = Sheet(name, 0.75 + 0.24 * len(cells))
    panel = sheet.panel
    panel.axvline(1, color=SOFT, linewidth=0.9)
    panel.grid(visible=False, axis="y")
    for row in found:
        _range(sheet, names, row, cells.index((row.backend, row.norm)))
    log_axis(panel.xaxis, [x for r in found for x in (r.low, r.high, 1.0) if x], lambda x: f"{x:g}×")
    panel.set_ylim(len(cells) - 0.5, -0.5)
    labels = [short(f"{backend}, {norm}", 36) for backend, norm in cells]
    panel.set_yticks(range(len(cells)), labels, fontsize=7)
    panel.set_xlabel("times cheaper than default")
    height = sheet.figure.get_figheight()
    left = (0.12 + 0.05 * max(map(len, labels))) / WIDTH
    sheet.figure.subplots_adjust(left=left, right=0.97, top=0.97, bottom=0.42 / height)
    label = f"{item.problem}: how many times cheaper than the default norm each norm is at equal gradient error"
    return sheet.finish(item.problem, clean(label))


def _range(sheet: Sheet, names: Names, row: SpeedUp, at: int) -> None:
    """Draw one factor: its mean as a marker, its extremes as a line."""
    assert row.factor is not None
    assert row.errors is not None
    colour, hollow = names.colours[row.backend].sentinel, row.cost == "time"
    y = at + (0.17 if hollow else -0.17)
    words = (
        f"{row.backend}, {row.norm}: {ratio(row.factor)} in {COST_WORDS[row.cost]} ({ratio(row.low)} to "
        f"{ratio(row.high)}), over errors from {sci(row.errors[0])} to {sci(row.errors[1])}"
    )
    mark = Mark(names.backends.index(row.backend), names.norms.index(row.norm), "native", [words])
    gid = sheet.mark(mark)
    sheet.panel.plot([row.low, row.high], [y, y], color=colour, linewidth=1.2, gid=gid, solid_capstyle="butt")
    sheet.panel.plot(
        [row.factor], [y], marker=norm_style(row.norm)[1], color=colour, markersize=4.5, linestyle="none",
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
    backend, norm = str(row["backend"]), str(row["norm"])
    colour, heights = names.colours[backend].sentinel, _heights(row)
    words = [*ERROR_PARTS, "whole"]
    titles = [
        f"{norm}, {backend}: {what.replace('_', ' ')} {sci(v)}"
        for what, v in zip(words, heights, strict=True)
        if v is not None
    ]
    mark = Mark(names.backends.index(backend), names.norms.index(norm), "native", titles)
    sheet.panel.plot(
        [k + shift for k in range(len(heights))], [math.nan if v is None else v for v in heights],
        marker=norm_style(norm)[1], color=colour, markeredgecolor=INK, markeredgewidth=0.3, markersize=4.5,
        linestyle="none", gid=sheet.mark(mark),
    )  # fmt: skip
