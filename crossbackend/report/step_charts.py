"""Where the backward solve stepped: accepted steps upward, rejected ones downward, along the problem's time."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossbackend.compare import ProblemComparison
from crossbackend.record import Record, Status
from crossbackend.report.draw import Chart, Mark, Sheet, drawing
from crossbackend.report.formats import clean, count, tolerance
from crossbackend.report.names import Names, usual_rtol
from crossbackend.report.palette import SOFT

BINS = 32


@drawing
def steps(item: ProblemComparison, names: Names, name: str) -> Chart | None:
    """Draw the backward steps of every backend under `default` and `seminorm`, native, at one tolerance.

    Where a run has other norms only, its first two stand in.
    """
    native = [r for r in item.records if r.stepping == "native"]
    rtol = usual_rtol(r for r in native if r.steps("backward") is not None)
    if rtol is None:
        return None
    found = {(r.backend, r.norm): r for r in native if r.rtol == rtol}
    columns = [norm for norm in names.norms if any((b, norm) in found for b in names.backends)][:2]
    rows = [name for name in names.backends if any((name, norm) in found for norm in columns)]
    sheet = Sheet(name, 0.62 + 0.82 * len(rows), len(rows), len(columns))
    edges = _edges([r for (b, n), r in found.items() if n in columns and b in rows])
    highest = 1
    for row, backend in zip(sheet.panels, rows, strict=True):
        for panel, norm in zip(row, columns, strict=True):
            highest = max(highest, _panel(sheet, panel, found.get((backend, norm)), names, backend, norm, edges))
    _label(sheet, rows, columns, highest)
    label = (
        f"{item.problem}: accepted and rejected backward steps over t at rtol {tolerance(rtol)}, a row for each "
        f"backend, a column for each norm"
    )
    return sheet.finish(item.problem, clean(label), f"rtol {tolerance(rtol)}, native")


def _edges(records: list[Record]) -> np.ndarray:
    found = [s for r in records if (s := r.steps("backward")) is not None and len(s.t0)]
    times = np.concatenate([np.concatenate([s.t0, s.t1]) for s in found]) if found else np.array([0.0, 1.0])
    times = times[np.isfinite(times)]
    low, high = (float(times.min()), float(times.max())) if len(times) else (0.0, 1.0)
    return np.linspace(low, high if high > low else low + 1.0, BINS + 1)


def _panel(
    sheet: Sheet, panel: Any, record: Record | None, names: Names, backend: str, norm: str, edges: np.ndarray
) -> int:
    """Draw one backend's steps under one norm; return the highest bar."""
    steps = None if record is None else record.steps("backward")
    panel.axhline(0, color=SOFT, linewidth=0.7)
    if record is None or steps is None or not len(steps.t0):
        words = "not in this run" if record is None else "declined" if record.status == Status.UNSUPPORTED else ""
        words = words or (f"✕ {record.status}" if record is not None and record.status != Status.OK else "no steps")
        panel.text(
            0.5, 0.5, clean(words), transform=panel.transAxes, ha="center", va="bottom", fontsize=7.5, color=SOFT
        )
        return 1
    middle = (steps.t0 + steps.t1) / 2
    accepted = np.histogram(middle[steps.accepted], edges)[0]
    rejected = np.histogram(middle[~steps.accepted], edges)[0]
    colour = names.colours[backend].sentinel
    numbers = names.backends.index(backend), names.norms.index(norm)
    taken, refused = int(accepted.sum()), int(rejected.sum())
    words = f"{backend}, {norm}: {count(taken, 'step')} accepted, {refused} rejected"
    mark = Mark(*numbers, "native", [words])
    panel.stairs(accepted, edges, fill=True, color=colour, gid=sheet.mark(mark), alpha=0.85)
    panel.stairs(-rejected, edges, fill=True, color=colour, gid=sheet.mark(mark), alpha=0.4)
    panel.text(
        0.99, 0.97, f"{taken} accepted, {refused} rejected", transform=panel.transAxes, ha="right", va="bottom",
        fontsize=7, color=SOFT,
    )  # fmt: skip
    return int(max(accepted.max(initial=1), rejected.max(initial=0)))


def _label(sheet: Sheet, rows: list[str], columns: list[str], highest: int) -> None:
    low, high = sheet.panel.get_ylim()
    sheet.panel.set_ylim(min(low, -0.3 * high), high)
    ticks = sorted({0, highest})
    sheet.panel.set_yticks(ticks, [str(tick) for tick in ticks])
    for panel, norm in zip(sheet.panels[0], columns, strict=True):
        panel.set_title(clean(norm)[:28], pad=12)
    for row, backend in zip(sheet.panels, rows, strict=True):
        row[0].set_ylabel(clean(backend)[:14], fontsize=7)
    for panel in sheet.panels[-1]:
        panel.locator_params(axis="x", nbins=4)
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set_xlabel("t", labelpad=1)
    height = sheet.figure.get_figheight()
    sheet.figure.subplots_adjust(
        left=0.13, right=0.985, top=1 - 0.36 / height, bottom=0.36 / height, hspace=0.32, wspace=0.06
    )
