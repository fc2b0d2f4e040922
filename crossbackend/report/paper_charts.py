"""Charts of trainings: the metric and evaluations by epoch, and against the width."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from crossbackend.report.draw import WIDE, Chart, Mark, Sheet, drawing, log_axis
from crossbackend.report.formats import clean, plain, sci, short, whole
from crossbackend.report.names import Names
from crossbackend.report.palette import series_style
from crossbackend.spread import Spread, spread
from crossbackend.training_record import TrainingRecord
from crossbackend.training_summary import Trainings, metric_name
from crossbackend.wording import listed

READABLE = 30
"""Points of a curve that carry a marker and say their values, at most."""
COLUMNS = 4
"""Norms side by side."""
LARGEST = 1e30
"""Values beyond are not drawn."""

Course = list[tuple[int, Spread]]
ByCell = dict[tuple[str, str], list[TrainingRecord]]


def by_cell(item: Trainings, names: Names) -> ByCell:
    """Return the trainings that ended by backend and norm, in the order of the names."""
    found: ByCell = {}
    for backend in names.backends:
        for norm in names.series:
            own = [r for r in item.records if (r.backend, r.norm) == (backend, norm) and r.ended]
            if own:
                found[backend, norm] = own
    return found


def numbers(names: Names, backend: str, norm: str) -> tuple[int, int]:
    """Return the numbers by which the page's switches know a cell."""
    return names.backends.index(backend), names.series.index(norm)


@drawing
def curves(item: Trainings, names: Names, name: str) -> Chart | None:
    """Draw the metric and the backward evaluations against the epoch, a column for each backend, a curve a norm."""
    cells = by_cell(item, names)
    metric = next((records[0].metric for records in cells.values()), "")
    courses = {(*cell, key): course for cell, records in cells.items() for key in (metric, "backward_nfe")
               if (course := _course([r for r in records if r.metric == metric], key))}  # fmt: skip
    backends = list(dict.fromkeys(backend for backend, _, _ in courses))
    if not backends:
        return None
    sheet = Sheet(name, 3.5, 2, len(backends), WIDE, rowwise=True)
    factor = 100.0 if metric == "accuracy" else 1.0
    rows = (
        (metric, factor, f"{metric_name(metric)}{', %' if factor > 1 else ''}"),
        ("backward_nfe", 1.0, "backward NFE"),
    )
    for row, (key, scale, words) in zip(sheet.panels, rows, strict=True):
        shown = whole if key == "backward_nfe" else lambda value: sci(value, 3)
        own = {cell[:2]: _scaled(course, scale) for cell, course in courses.items() if cell[2] == key}
        low = _vertical(row[0], list(own.values()), key)
        for panel, backend in zip(row, backends, strict=True):
            for norm in names.series:
                if (backend, norm) in own:
                    _Curve(sheet, panel, names, backend, norm).draw(own[backend, norm], low, words, shown)
        row[0].set_ylabel(words)
    _epochs(sheet, backends, item)
    label = (
        f"{item.title}: {metric_name(metric)} above and backward evaluations of an epoch below, against the epoch, "
        f"mean over seeds with a band of one standard deviation, a curve for each norm, in {listed(backends)}"
    )
    return sheet.finish(clean(item.title), clean(label), note(item, cells))


def note(item: Trainings, cells: ByCell) -> str:
    """Return what a chart is drawn from: preset, data, seeds, and how many trainings did not end."""
    counts = sorted({len(records) for records in cells.values()})
    seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0]) if counts else "no"
    bad = sum(not record.ended for record in item.records)
    parts = [f"{item.setting.preset} preset", item.setting.data, f"{seeds} seed{'' if counts == [1] else 's'}"]
    return clean(", ".join([part for part in parts if part] + ([f"{bad} did not end"] if bad else [])))


def _course(records: Sequence[TrainingRecord], key: str) -> Course:
    """Return mean and spread over the seeds at each epoch."""
    by_epoch: dict[int, list[float]] = {}
    for record in records:
        for row in record.epochs:
            value = row.get(key)
            if value is not None and abs(value) < LARGEST and row["epoch"] < LARGEST:
                by_epoch.setdefault(row["epoch"], []).append(value)
    return [(epoch, spread(by_epoch[epoch])) for epoch in sorted(by_epoch)]


def _scaled(course: Course, factor: float) -> Course:
    if factor == 1.0:
        return course
    return [(x, Spread((s.mean or 0.0) * factor, None if s.std is None else s.std * factor, s.n)) for x, s in course]


def _ends(found: Spread) -> tuple[float, float]:
    mean, std = found.mean or 0.0, found.std or 0.0
    return mean - std, mean + std


def _vertical(panel: Any, courses: Sequence[Course], key: str) -> float:
    """Set a row's vertical axis, logarithmic for a loss that falls far; return the lowest value that is seen."""
    means = [found.mean or 0.0 for course in courses for _, found in course]
    ends = [end for course in courses for _, found in course for end in _ends(found)]
    if key not in ("accuracy", "backward_nfe") and min(means) > 0 and max(means) > 5 * min(means):
        return log_axis(panel.yaxis, [*means, max(ends), max(min(ends), min(means) / 2)], plain)[0]
    low, high = (0.0 if key == "backward_nfe" else min(ends)), max(ends)
    room = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    panel.set_ylim(low if key == "backward_nfe" else low - room, high + room)
    panel.yaxis.set_major_locator(_locator())
    panel.yaxis.set_major_formatter(lambda value, _: whole(value) if 1000 <= abs(value) < 1e5 else sci(value, 3))
    return low - room


def _locator(**options: Any) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=5, **options)


def _epochs(sheet: Sheet, backends: Sequence[str], item: Trainings) -> None:
    last = max((row["epoch"] for r in item.records for row in r.epochs if row["epoch"] < LARGEST), default=1)
    first = min((row["epoch"] for r in item.records for row in r.epochs), default=0)
    room = 0.03 * max(last - first, 1)
    for panel, backend in zip(sheet.panels[0], backends, strict=True):
        panel.set_title(short(backend, 30))
    for panel in sheet.panels[1]:
        panel.set_xlabel("epoch")
        panel.set_xlim(first - room, last + room)
        panel.xaxis.set_major_locator(_locator(integer=True))
    sheet.figure.subplots_adjust(left=0.115, right=0.985, top=0.93, bottom=0.125, hspace=0.12, wspace=0.06)


class _Curve:
    """One norm in one backend: a band, a line, and markers that say their values."""

    def __init__(self, sheet: Sheet, panel: Any, names: Names, backend: str, norm: str) -> None:
        self.sheet, self.panel, self.norm = sheet, panel, norm
        self.colour, self.words = names.colours[backend].sentinel, f"{backend}, {norm}"
        self.numbers = numbers(names, backend, norm)

    def draw(self, course: Course, low: float, what: str, shown: Callable[[Any], str]) -> None:
        dashes, _ = series_style(self.norm)
        self._band(course, low)
        xs, ys = [x for x, _ in course], [found.mean for _, found in course]
        gid = self.sheet.mark(Mark(*self.numbers))
        self.panel.plot(xs, ys, linestyle=dashes, color=self.colour, linewidth=1.4, gid=gid, zorder=3)
        some = course[:: max(-(-len(course) // READABLE), 1)]
        titles = [clean(f"{self.words}: {_said(found, shown)} {what} at epoch {x}") for x, found in some]
        self.markers([x for x, _ in some], [found.mean or 0.0 for _, found in some], titles)

    def markers(self, xs: Sequence[float], ys: Sequence[float], titles: list[str]) -> None:
        _, marker = series_style(self.norm)
        gid = self.sheet.mark(Mark(*self.numbers, titles=titles))
        self.panel.plot(xs, ys, linestyle="none", marker=marker, color=self.colour, markersize=3.4, gid=gid, zorder=4)

    def _band(self, course: Course, low: float) -> None:
        known = [(x, *_ends(found)) for x, found in course if found.std]
        if len(known) < 2:
            return
        xs, below, above = zip(*known, strict=True)
        below = [max(value, low) for value in below]
        gid = self.sheet.mark(Mark(*self.numbers))
        outline = [*xs, *reversed(xs)], [*below, *reversed(above)]
        self.panel.fill(*outline, color=self.colour, alpha=0.14, linewidth=0, gid=gid, zorder=1)


def _said(found: Spread, shown: Callable[[Any], str]) -> str:
    return shown(found.mean) if found.std is None else f"{shown(found.mean)} ± {shown(found.std)}"


@drawing
def width(found: Sequence[Trainings], names: Names, name: str, title: str) -> Chart | None:
    """Draw backward evaluations per batch against the width of the model, a curve for each backend and norm."""
    sheet = Sheet(name, 2.3)
    order = sorted(found, key=lambda item: item.setting.width or 0)
    highest = 0.0
    for backend in names.backends:
        for norm in names.series:
            cells = [(item.setting.width or 0, c.backward_nfe_per_batch) for item in order for c in item.cells
                     if (c.backend, c.norm) == (backend, norm)]  # fmt: skip
            cells = [(x, s) for x, s in cells if s.mean is not None and _ends(s)[1] < LARGEST]
            if cells:
                _widths(sheet, _Curve(sheet, sheet.panel, names, backend, norm), cells)
                highest = max(highest, *(_ends(s)[1] for _, s in cells))
    if not highest:
        return None
    xs = sorted({item.setting.width or 0 for item in found})
    log_axis(sheet.panel.xaxis, [x for x in xs if x] or [1], plain)
    sheet.panel.set_xticks([x for x in xs if x], [str(x) for x in xs if x])
    sheet.panel.set_ylim(0, 1.08 * highest)
    sheet.panel.set_xlabel("width")
    sheet.panel.set_ylabel("backward NFE per batch")
    sheet.figure.subplots_adjust(left=0.19, right=0.975, top=0.97, bottom=0.19)
    label = f"{title}: backward evaluations per batch against the width of the model, for each backend and norm"
    return sheet.finish(clean(title), clean(label), clean(f"{found[0].setting.preset} preset, {found[0].setting.data}"))


def _widths(sheet: Sheet, curve: _Curve, cells: Sequence[tuple[int, Spread]]) -> None:
    """Draw a curve with its spread as upright lines."""
    bars = [(x, end) for x, s in cells for end in (*_ends(s), math.nan)]
    style = {"color": curve.colour, "linewidth": 1.0, "alpha": 0.7}
    curve.panel.plot(*zip(*bars, strict=True), gid=sheet.mark(Mark(*curve.numbers)), **style)
    dashes, _ = series_style(curve.norm)
    xs, ys = [x for x, _ in cells], [s.mean or 0.0 for _, s in cells]
    curve.panel.plot(xs, ys, linestyle=dashes, color=curve.colour, gid=sheet.mark(Mark(*curve.numbers)))
    titles = [clean(f"{curve.words}: {_said(s, lambda v: sci(v, 3))} at width {x}") for x, s in cells]
    curve.markers(xs, ys, titles)
