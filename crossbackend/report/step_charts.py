"""Where the backward solve stepped: accepted steps upward, rejected ones downward by the block that rejected them."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossbackend.compare import ProblemComparison
from crossbackend.norms import GROUPS
from crossbackend.record import Record, Status, Steps
from crossbackend.report.draw import WIDE, Chart, Mark, Sheet, drawing
from crossbackend.report.formats import clean, short, tolerance
from crossbackend.report.names import Names, usual
from crossbackend.report.palette import INK, SOFT, blocks
from crossbackend.series import DIRECT, gradient_of, series_of
from crossbackend.wording import listed

BINS = 40
COLUMNS = 3
"""Series side by side."""


@drawing
def steps(item: ProblemComparison, names: Names, name: str) -> Chart | None:
    """Draw the native backward steps of every backend under the first series of the run, at one tolerance.

    The gradient through the solver's own steps has no backward solve, so it has no place here.
    """
    native = [r for r in item.records if r.stepping == "native" and gradient_of(r.plan) != DIRECT]
    rtol = usual(r for r in native if r.steps("backward") is not None)
    if rtol is None:
        return None
    found = {(r.backend, series_of(r.plan)): r for r in native if r.rtol == rtol}
    series = [one for one in names.series if any((b, one) in found for b in names.backends)]
    columns = series[:COLUMNS]
    rows = [name for name in names.backends if any((name, one) in found for one in columns)]
    sheet = Sheet(name, 0.85 + 0.66 * len(rows), len(rows), len(columns), WIDE)
    edges = _edges([r for (b, n), r in found.items() if n in columns and b in rows])
    panels = [
        (panel, _Panel(sheet, panel, found.get((backend, one)), names, backend, one))
        for row, backend in zip(sheet.panels, rows, strict=True)
        for panel, one in zip(row, columns, strict=True)
    ]
    heights = [drawn.bars(edges) for _, drawn in panels]
    highest, deepest = max(max(pair) for pair in heights), max(down for _, down in heights)
    _label(sheet, rows, columns, highest)
    _limit(sheet, edges, highest, deepest)
    for _, drawn in panels:
        drawn.crosses(highest)
    _key(sheet)
    label = (
        f"{item.problem}: accepted and rejected backward steps over t at rtol {tolerance(rtol)}, a row for each "
        f"backend, a column for each {names.column}, rejected steps in the colour of the block that rejected them"
    )
    rest = f"; in the table alone: {listed(series[COLUMNS:])}" if series[COLUMNS:] else ""
    return sheet.finish(item.problem, clean(label), clean(f"rtol {tolerance(rtol)}, native{rest}"))


def _edges(records: list[Record]) -> np.ndarray:
    found = [s for r in records if (s := r.steps("backward")) is not None and len(s.t0)]
    times = np.concatenate([np.concatenate([s.t0, s.t1]) for s in found]) if found else np.array([0.0, 1.0])
    times = times[np.isfinite(times)]
    low, high = (float(times.min()), float(times.max())) if len(times) else (0.0, 1.0)
    return np.linspace(low, high if high > low else low + 1.0, BINS + 1)


class _Panel:
    """One backend's steps in one series."""

    def __init__(
        self, sheet: Sheet, panel: Any, record: Record | None, names: Names, backend: str, series: str
    ) -> None:
        self.sheet, self.panel, self.record = sheet, panel, record
        self.colour, self.words = names.colours[backend].sentinel, f"{backend}, {series}"
        self.numbers = names.backends.index(backend), names.series.index(series)
        found = None if record is None else record.steps("backward")
        self.steps = found if found is not None and len(found.t0) else None

    def _mark(self, words: str, bins: Any = None) -> str:
        return self.sheet.mark(Mark(*self.numbers, "native", [f"{self.words}: {words}"], bins))

    def bars(self, edges: np.ndarray) -> tuple[int, int]:
        """Draw the bars; return the height of the highest upward and downward."""
        self.panel.axhline(0, color=SOFT, linewidth=0.7)
        if self.steps is None:
            self._absent()
            return 1, 0
        steps = self.steps
        middle, rejected = _middle(steps), ~steps.accepted
        accepted = np.histogram(middle[steps.accepted], edges)[0]
        taken, refused = int(accepted.sum()), int(rejected.sum())
        self._draw(accepted, edges, None, self.colour, "accepted")
        depth = np.zeros(len(edges) - 1)
        for index, part in self._parts(steps, rejected):
            bars = np.histogram(middle[part], edges)[0]
            which = GROUPS[index] if index >= 0 else "block not recorded"
            colour = blocks()[GROUPS[index]].sentinel if index >= 0 else self.colour
            self._draw(bars, edges, -depth, colour, f"rejected by {which}")
            depth += bars
        self._counts(taken, refused, steps)
        return int(accepted.max(initial=1)), int(depth.max(initial=0))

    def _draw(self, counts: np.ndarray, edges: np.ndarray, base: Any, colour: str, what: str) -> None:
        """Draw bars up from 0, or down from `base`.

        As `Axes.stairs` does, but for its search for limits, a fifth of the chart's time.
        """
        from matplotlib.patches import StepPatch

        up = base is None
        gid = self._mark(f"{int(counts.sum())} {what}", (edges[0], edges[-1], counts.tolist()))
        tops, base = (counts, 0) if up else (base - counts, base)
        style = {"fill": True, "color": colour, "linewidth": 0, "alpha": 0.85 if up else 1.0}
        self.panel.add_artist(StepPatch(tops, edges, baseline=base, gid=gid, **style))

    def _parts(self, steps: Steps, rejected: np.ndarray) -> list[tuple[int, np.ndarray]]:
        decided = steps.decided
        return [(index, part) for index in (*range(len(GROUPS)), -1) if np.any(part := rejected & (decided == index))]

    def _counts(self, taken: int, refused: int, steps: Steps) -> None:
        words = f"{refused} of {taken + refused} rejected"
        if steps.spurious is not None and steps.masked is not None:
            spurious, masked = int(np.count_nonzero(steps.spurious)), int(np.count_nonzero(steps.masked))
            words += f" ({spurious} spurious)" + (f", {masked} masked" if masked else "")
        self.panel.text(
            0.99, 1.02, words, transform=self.panel.transAxes, ha="right", va="bottom", fontsize=7, color=SOFT
        )

    def crosses(self, highest: int) -> None:
        """Mark where rejections were spurious, below the bars, and where accepted steps were masked, above them."""
        if self.steps is None:
            return
        for which, marker, at, words in (
            (self.steps.spurious, "x", -0.62, "spurious"), (self.steps.masked, "o", 1.2, "masked"),
        ):  # fmt: skip
            if which is None or not np.any(which):
                continue
            times = _middle(self.steps)[which]
            gid = self._mark(f"{len(times)} {words}")
            self.panel.plot(
                times, np.full(len(times), at * highest), linestyle="none", marker=marker, color=INK, markersize=2.6,
                markeredgewidth=0.7, markerfacecolor="none", gid=gid, clip_on=False,
            )  # fmt: skip

    def _absent(self) -> None:
        record = self.record
        words = "not in this run" if record is None else "declined" if record.status == Status.UNSUPPORTED else ""
        words = words or (f"✕ {record.status}" if record is not None and record.status != Status.OK else "no steps")
        self.panel.text(
            0.5, 0.5, clean(words), transform=self.panel.transAxes, ha="center", va="bottom", fontsize=7.5, color=SOFT
        )


def _middle(steps: Steps) -> np.ndarray:
    return (steps.t0 + steps.t1) / 2


def _key(sheet: Sheet) -> None:
    """Say what the colours of rejected steps and the marks mean."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    keys: list[Any] = [Patch(color=colour.sentinel, label=f"rejected by {name}") for name, colour in blocks().items()]
    plain = {"linestyle": "none", "color": INK, "markersize": 3, "markerfacecolor": "none", "markeredgewidth": 0.7}
    keys += [Line2D([], [], marker="x", label="spurious", **plain), Line2D([], [], marker="o", label="masked", **plain)]
    sheet.figure.legend(
        handles=keys, loc="lower center", ncols=len(keys), frameon=False, fontsize=7, handlelength=0.9,
        handletextpad=0.4, columnspacing=1.1, borderaxespad=0.1,
    )  # fmt: skip


def _limit(sheet: Sheet, edges: np.ndarray, highest: int, deepest: int) -> None:
    """Leave room for the bars, the rings above them and the crosses below."""
    sheet.panel.set_ylim(-max(0.78 * highest, 1.05 * deepest), 1.36 * highest)
    room = 0.04 * (edges[-1] - edges[0])
    sheet.panel.set_xlim(edges[0] - room, edges[-1] + room)


def _label(sheet: Sheet, rows: list[str], columns: list[str], highest: int) -> None:
    ticks = sorted({0, highest})
    sheet.panel.set_yticks(ticks, [str(tick) for tick in ticks])
    for panel, series in zip(sheet.panels[0], columns, strict=True):
        panel.set_title(short(series, 28), pad=12)
    for row, backend in zip(sheet.panels, rows, strict=True):
        row[0].set_ylabel(short(backend, 12), fontsize=7.5)
    for panel in sheet.panels[-1]:
        panel.locator_params(axis="x", nbins=4)
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set_xlabel("t", labelpad=1)
    height = sheet.figure.get_figheight()
    sheet.figure.subplots_adjust(
        left=0.075, right=0.99, top=1 - 0.36 / height, bottom=0.58 / height, hspace=0.4, wspace=0.05
    )
