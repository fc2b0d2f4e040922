"""The double pendulum controlled from hanging down to upright by a trained model: frames, traces, where it ended.

Angles in rad: joint 1 from hanging down, joint 2 relative to joint 1, so that (pi, 0) is upright. Both links have
length 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from crossbackend.report.draw import WIDE, Chart, Mark, Sheet, drawing
from crossbackend.report.formats import NONE, clean, sci, short, typographic, whole
from crossbackend.report.names import Names
from crossbackend.report.palette import INK, PAPER, SOFT, picture_colours
from crossbackend.report.paper_charts import COLUMNS, READABLE, by_cell, numbers
from crossbackend.report.paper_tables import plus_minus
from crossbackend.report.table import Cell, Table, grouped, num
from crossbackend.spread import spread
from crossbackend.training_record import TrainingRecord
from crossbackend.training_summary import Trainings

FRAMES = 8
NEAR = 0.3
"""Radians from upright, the larger of the two joints', within which the pendulum counts as swung up."""
LARGEST = 1e6
"""Angles, velocities and controls beyond are not drawn."""


def controlled(records: Sequence[TrainingRecord]) -> list[TrainingRecord]:
    """Return the trainings whose model controlled the pendulum."""
    return [r for r in records if "control/q" in r.arrays and len(r.arrays["control/t"]) > 1]


def distance(record: TrainingRecord) -> float | None:
    """Return how far from upright the pendulum ended: the larger of the two joints' angles, in rad."""
    last = record.arrays["control/q"][-1].astype(float)
    if not np.isfinite(last).all():
        return None
    return float(np.max(np.abs(_wrapped(last - [math.pi, 0.0]))))


def _wrapped(angle: np.ndarray) -> np.ndarray:
    return np.arctan2(np.sin(angle), np.cos(angle))


def speed(record: TrainingRecord) -> float | None:
    """Return the larger of the joints' last angular velocities, in rad/s."""
    last = np.max(np.abs(record.arrays["control/velocity"][-1].astype(float)))
    return float(last) if np.isfinite(last) else None


def ended(record: TrainingRecord) -> str:
    """Say where the pendulum ended."""
    far, fast = distance(record), speed(record)
    if far is None:
        return "the angles left the numbers"
    still = "" if fast is None else f", turning at {_small(fast)} rad/s"
    return f"ends {_small(far)} rad from upright{still}"


def _small(value: float) -> str:
    return f"{value:.2g}" if 1e-3 <= value < 100 else sci(value)


def chosen(item: Trainings, names: Names, backend: str) -> dict[str, TrainingRecord]:
    """Return the training to draw of each norm: the one with the lowest seed, whatever it reached."""
    cells = {norm: controlled(records) for (own, norm), records in by_cell(item, names).items() if own == backend}
    return {norm: min(found, key=lambda r: r.seed) for norm, found in cells.items() if found}


def _note(found: dict[str, TrainingRecord]) -> str:
    parts = [f"{norm} (seed {record.seed}) {ended(record)}" for norm, record in found.items()]
    return clean("; ".join(parts) + ".")


@drawing
def frames(item: Trainings, names: Names, name: str, backend: str) -> Chart | None:
    """Draw the two links at some times, a row for each norm."""
    found = chosen(item, names, backend)
    if not found:
        return None
    sheet = Sheet(name, 0.3 + 0.86 * len(found), len(found), FRAMES, WIDE)
    for row, (norm, record) in zip(sheet.panels, found.items(), strict=True):
        t, q = record.arrays["control/t"], record.arrays["control/q"]
        at = (np.linspace(0, 1, FRAMES) ** 2 * (len(t) - 1)).round().astype(int)  # it moves most at first
        for panel, k in zip(row, at, strict=True):
            words = f"{backend}, {norm}: q1 = {sci(q[k, 0], 3)}, q2 = {sci(q[k, 1], 3)} at t = {sci(t[k], 3)}"
            _links(sheet, panel, q[k], Mark(*numbers(names, backend, norm), titles=[clean(words)]))
            panel.set_title(f"t = {sci(t[k], 3)}", loc="center", fontsize=7, pad=2)
        row[0].text(-0.12, 0.5, short(norm, 16), transform=row[0].transAxes, rotation=90, ha="right", va="center",
                    fontsize=7.5)  # fmt: skip
    sheet.figure.subplots_adjust(left=0.045, right=0.995, top=0.98 - 0.12 / len(found), bottom=0.02, wspace=0.05)
    label = f"{item.title}, {backend}: the two links of the pendulum at {FRAMES} times, a row for each norm"
    return sheet.finish(clean(f"{item.title}, {backend}"), clean(label), _note(found))


def _links(sheet: Sheet, panel: Any, q: np.ndarray, mark: Mark) -> None:
    """Draw one frame: the links in the colours of their joints' traces."""
    panel.set_aspect("equal")
    panel.set_axis_off()
    panel.set_xlim(-2.25, 2.25)
    panel.set_ylim(-2.25, 2.25)
    if not np.isfinite(q).all():
        panel.text(0, 0, NONE, ha="center", va="center", fontsize=7.5, color=SOFT)
        return
    first, second = float(q[0]), float(q[0] + q[1])
    x, y = [0.0, math.sin(first), math.sin(first) + math.sin(second)], [0.0, -math.cos(first), 0.0]
    y[2] = y[1] - math.cos(second)
    colours = [colour.sentinel for colour in picture_colours()[:2]]
    for k, colour in enumerate(colours):
        gid = sheet.mark(Mark(mark.backend, mark.series))
        panel.plot(x[k : k + 2], y[k : k + 2], color=colour, linewidth=2.6, solid_capstyle="round", gid=gid, zorder=3)
    style = {"linestyle": "none", "marker": "o", "markersize": 3.4, "markeredgecolor": INK, "markeredgewidth": 0.7}
    own = Mark(mark.backend, mark.series, titles=mark.titles * 3)
    panel.plot(x, y, color=PAPER, gid=sheet.mark(own), zorder=4, **style)
    panel.axhline(0, color=SOFT, linewidth=0.5, alpha=0.5, zorder=0)


_ROWS = (("control/q", "angle, rad", "q{}"), ("control/velocity", "velocity, rad/s", "velocity of q{}"),
         ("control/u", "control u", "u{}"))  # fmt: skip


@drawing
def traces(item: Trainings, names: Names, name: str, backend: str) -> Chart | None:
    """Draw angles, velocities and control against t, a column for each norm; dashed where upright is."""
    found = chosen(item, names, backend)
    columns = dict(list(found.items())[:COLUMNS])
    if not columns:
        return None
    sheet = Sheet(name, 3.9, 3, len(columns), WIDE, rowwise=True)
    for column, (norm, record) in enumerate(columns.items()):
        sheet.panels[0][column].set_title(short(norm, 24))
        for row, (key, words, one) in zip(sheet.panels, _ROWS, strict=True):
            y = np.where(np.abs(record.arrays[key]) < LARGEST, record.arrays[key], np.nan)
            t = record.arrays["control/t"][: len(y)]
            for joint, colour in enumerate(picture_colours()[:2]):
                mark = Mark(*numbers(names, backend, norm))
                _trace(sheet, row[column], t, y[:, joint], colour.sentinel, mark, f"{norm}: {one.format(joint + 1)}")
            if key == "control/q":
                _upright(row[column], y)
            if column == 0:
                row[column].set_ylabel(words)
        sheet.panels[-1][column].set_xlabel("t, s")
    _key(sheet)
    sheet.figure.align_ylabels()
    sheet.figure.subplots_adjust(left=0.085, right=0.99, top=0.94, bottom=0.155, hspace=0.14, wspace=0.06)
    label = f"{item.title}, {backend}: angles, velocities and control of both joints against t, a column for each norm"
    return sheet.finish(clean(f"{item.title}, {backend}"), clean(label), _note(found))


def _trace(sheet: Sheet, panel: Any, t: np.ndarray, y: np.ndarray, colour: str, mark: Mark, words: str) -> None:
    """Draw one curve, with points on it that are not seen and say its values."""
    panel.plot(t, y, color=colour, linewidth=1.2, gid=sheet.mark(mark))
    some = [(a, b) for a, b in zip(t.tolist(), y.tolist(), strict=True) if math.isfinite(a) and math.isfinite(b)]
    some = some[:: max(-(-len(some) // READABLE), 1)]
    titles = [clean(f"{words} = {sci(b, 3)} at t = {sci(a, 3)}") for a, b in some]
    gid = sheet.mark(Mark(mark.backend, mark.series, titles=titles))
    style = {"linestyle": "none", "marker": "o", "markersize": 4, "color": colour, "alpha": 0}
    panel.plot(*np.array(some or [(0.0, math.nan)]).T, gid=gid, **style)


def _upright(panel: Any, q: np.ndarray) -> None:
    """Mark the upright position nearest to where each joint ended."""
    for joint, (target, colour) in enumerate(zip((math.pi, 0.0), picture_colours(), strict=False)):
        if math.isfinite(q[-1, joint]):
            turns = round((q[-1, joint] - target) / (2 * math.pi))
            panel.axhline(target + 2 * math.pi * turns, color=colour.sentinel, linewidth=0.8, linestyle=(0, (2, 2)))


def _key(sheet: Sheet) -> None:
    from matplotlib.lines import Line2D

    keys = [Line2D([], [], color=colour.sentinel, linewidth=2, label=f"joint {k}")
            for k, colour in enumerate(picture_colours()[:2], 1)]  # fmt: skip
    keys.append(Line2D([], [], color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)), label="upright"))
    sheet.figure.legend(handles=keys, loc="lower center", ncols=3, frameon=False, fontsize=7, borderaxespad=0.1)


def table(found: Sequence[Trainings]) -> Table:
    """Return how far from upright the pendulum ended, over all seeds that controlled it."""
    keys, bodies = [], []
    for item in found:
        for cell in item.cells:
            own = [r for r in controlled(item.records) if (r.backend, r.norm) == (cell.backend, cell.norm)]
            if own:
                far = [value for r in own if (value := distance(r)) is not None]
                near = sum(value <= NEAR for value in far)
                keys.append((typographic(item.title), cell.backend, cell.norm))
                good = "pass" if near == len(own) else "unstable" if near else "fail"
                bodies.append([
                    num(whole(len(own))), Cell(f"{near} of {len(own)}", kind=good), num(plus_minus(spread(far))),
                    num(_small(max(far)) if far else NONE), num(plus_minus(spread(speed(r) for r in own))),
                ])  # fmt: skip
    columns = ["training", "backend", "norm", "seeds", f"within {NEAR:g} rad of upright", "angle from upright, rad",
               "largest", "speed, rad/s"]  # fmt: skip
    caption = (
        "Where the controlled pendulum ended: the larger of the two joints' angles from upright, mean ± sample "
        "standard deviation over the seeds, and the larger of their speeds."
    )
    return Table("paper-pendulum", caption, columns, grouped(keys, bodies), "", (3, 5, 6, 7))
