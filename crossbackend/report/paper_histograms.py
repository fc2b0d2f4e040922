"""Where in t the backward solves of a training evaluate and reject: the paper's Figures 4 and 5, per solve."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from crossbackend.report.draw import WIDE, Chart, Mark, Sheet, drawing
from crossbackend.report.formats import clean, short
from crossbackend.report.names import Names
from crossbackend.report.palette import SOFT
from crossbackend.report.paper_charts import COLUMNS, by_cell, numbers
from crossbackend.training_record import TrainingRecord
from crossbackend.training_summary import Trainings
from crossbackend.wording import listed

BINS = 40
ROUNDING = 1e-4
"""Of a bar's width: what lies so little under its left edge is rounded to single precision, and belongs to it."""
STAGES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
"""Where dopri5 evaluates the field, as shares of a step: six new evaluations an attempt (Dormand, Prince 1980)."""

Times = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@drawing
def evaluations(item: Trainings, names: Names, name: str) -> Chart | None:
    """Draw where in t the backward solve evaluated the field."""
    return _histogram(item, names, name, evaluated, "evaluations")


@drawing
def rejections(item: Trainings, names: Names, name: str) -> Chart | None:
    """Draw where in t the backward solve rejected steps; None where it rejected none."""
    return _histogram(item, names, name, rejected, "rejected steps")


def evaluated(t0: np.ndarray, t1: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Return where the field was evaluated in these attempts."""
    return np.concatenate([t0 + c * (t1 - t0) for c in STAGES])


def rejected(t0: np.ndarray, t1: np.ndarray, accepted: np.ndarray) -> np.ndarray:
    """Return the middles of the attempts that were rejected."""
    return ((t0 + t1) / 2)[~accepted]


def per_solve(records: Sequence[TrainingRecord], times: Times, edges: np.ndarray) -> np.ndarray:
    """Return how many of the times of a backward solve lie between two edges: mean over the records' solves."""
    found = np.concatenate([times(*steps) for record in records if (steps := record.solved("backward"))])
    moved = np.clip(found + ROUNDING * (edges[1] - edges[0]), edges[0], edges[-1])
    return np.histogram(moved, edges)[0] / sum(record.solves for record in records)


def few(value: float) -> str:
    """Return 1234, 12.3, 0.05: three digits, and all that stand before the point."""
    places = max(2 - math.floor(math.log10(value)), 0) if value > 0 else 0
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _histogram(item: Trainings, names: Names, name: str, times: Times, what: str) -> Chart | None:
    drawn, seeds = _drawn(item, names)
    norms = [norm for norm in names.series if any(norm == own for _, own in drawn)]
    rows = [backend for backend in names.backends if any(backend == own for own, _ in drawn)]
    columns = norms[:COLUMNS]
    if not drawn:
        return None
    edges = _edges([record for records in drawn.values() for record in records])
    bars = {cell: per_solve(records, times, edges) for cell, records in drawn.items() if cell[1] in columns}
    if not any(heights.any() for heights in bars.values()):
        return None
    sheet = Sheet(name, 0.75 + 0.7 * len(rows), len(rows), len(columns), WIDE)
    for row, backend in zip(sheet.panels, rows, strict=True):
        for panel, norm in zip(row, columns, strict=True):
            _bars(sheet, panel, bars.get((backend, norm)), edges, names, (backend, norm), what)
    _frame(sheet, rows, columns, edges, max(float(heights.max()) for heights in bars.values()))
    mean = _mean([record.solves for records in drawn.values() for record in records])
    rest = f"; not drawn: {listed(norms[COLUMNS:])}" if norms[COLUMNS:] else ""
    label = f"{item.title}: {what} per backward solve against t, {mean}, a row for each backend, a column for each norm"
    return sheet.finish(clean(item.title), clean(label), clean(f"{item.setting.preset} preset, {seeds}, {mean}{rest}"))


def _drawn(item: Trainings, names: Names) -> tuple[dict[tuple[str, str], list[TrainingRecord]], str]:
    """Return the trainings that recorded backward solves, of the seeds that all cells have, and the seeds in words."""
    solved = {
        cell: {r.seed: r for r in records if r.solved("backward") is not None}
        for cell, records in by_cell(item, names).items()
    }
    solved = {cell: found for cell, found in solved.items() if found}
    common = set.intersection(*map(set, solved.values())) if solved else set()
    drawn = {cell: [r for seed, r in found.items() if seed in common or not common] for cell, found in solved.items()}
    words = listed(map(str, sorted(common))) or "of each its own"
    return drawn, f"seed{'' if len(common) == 1 else 's'} {words}"


def _mean(solves: Sequence[int]) -> str:
    """Say what is averaged, whatever the seeds."""
    low, high = min(solves), max(solves)
    if high == 1:
        return "one solve of each training"
    return f"mean of the last {high if low == high else f'{low} to {high}'} training steps"


def _edges(records: Sequence[TrainingRecord]) -> np.ndarray:
    times = np.concatenate([end for r in records if (steps := r.solved("backward")) for end in steps[:2]])
    low, high = float(times.min()), float(times.max())
    return np.linspace(low, high if high > low else low + 1.0, BINS + 1)


def _bars(
    sheet: Sheet, panel: Any, heights: np.ndarray | None, edges: np.ndarray, names: Names, cell: tuple[str, str],
    what: str,
) -> None:  # fmt: skip
    """Draw one panel."""
    from matplotlib.patches import StepPatch

    style = {"transform": panel.transAxes, "fontsize": 7, "color": SOFT, "va": "bottom"}
    if heights is None:
        panel.text(0.5, 0.5, "no solve stored", ha="center", **style)
        return
    total = few(float(heights.sum()))
    title = clean(f"{cell[0]}, {cell[1]}: {total} {what} per backward solve")
    shown = (float(edges[0]), float(edges[-1]), [few(height) for height in heights.tolist()])
    gid = sheet.mark(Mark(*numbers(names, *cell), titles=[title], bins=shown))
    bars = {"fill": True, "color": names.colours[cell[0]].sentinel, "linewidth": 0, "alpha": 0.85}
    panel.add_artist(StepPatch(heights, edges, baseline=0, gid=gid, **bars))
    panel.text(0.99, 1.02, f"{total} per solve", ha="right", **style)


def _frame(sheet: Sheet, rows: Sequence[str], columns: Sequence[str], edges: np.ndarray, highest: float) -> None:
    sheet.panel.set_ylim(0, 1.08 * highest)
    sheet.panel.set_yticks([0, highest], ["0", few(highest)])
    room = 0.02 * (edges[-1] - edges[0])
    sheet.panel.set_xlim(edges[0] - room, edges[-1] + room)
    for panel, norm in zip(sheet.panels[0], columns, strict=True):
        panel.set_title(short(norm, 24), pad=13)
    for row, backend in zip(sheet.panels, rows, strict=True):
        row[0].set_ylabel(short(backend, 12), fontsize=7.5)
    for panel in sheet.panels[-1]:
        panel.locator_params(axis="x", nbins=4)
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set_xlabel("t", labelpad=1)
    height = sheet.figure.get_figheight()
    sheet.figure.subplots_adjust(
        left=0.085, right=0.99, top=1 - 0.4 / height, bottom=0.38 / height, hspace=0.42, wspace=0.06
    )
