"""The HTML page of the benchmarks: figures beside their goals, and how time and evaluations grow with sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crossbackend.report import formats
from crossbackend.report.draw import Chart, Mark, Sheet, drawing, log_axis, screen
from crossbackend.report.formats import MINUS, clean, count, seconds, whole
from crossbackend.report.html import sample
from crossbackend.report.page import page
from crossbackend.report.palette import Colour, backends, themed
from crossbackend.report.table import Cell, Table, grouped, num

TITLE = "What crossbackend costs"
STYLES = ("default", "seminorm", "mixed-seminorm")
"""Whose line styles and markers the curves have, so that one under another shows, and not by its colour alone."""
LIBRARIES = ("crossbackend", "torchdiffeq", "diffrax", "scipy", "torch", "jax", "numpy")


@dataclass(frozen=True)
class Line:
    """One result.

    Attributes
    ----------
    figure, problem : str
    goal : str
        `≤ 1.03`; empty where the result is only told.
    result : float
    spread : tuple of float
    holds : bool or None
    inside : bool
        The goal lies within the spread.
    miss : float
        By how much of the goal the result misses it; 0 where it holds.
    """

    figure: str
    problem: str
    goal: str
    result: float
    spread: tuple[float, float]
    holds: bool | None = None
    inside: bool = False
    miss: float = 0.0


@dataclass(frozen=True)
class BenchView:
    """What the page shows.

    Attributes
    ----------
    lines : sequence of Line
    points : sequence of dict
        `{axis, backend, size, seconds, quartiles, nfe}`.
    exponents : dict
        By (axis, backend): exponent and standard error of the time, and of the evaluations.
    about : dict
        `created`, `machine` and `versions`, as of a run.
    meaning : dict of str to str
        What each figure is, in a sentence.
    commands : sequence of str
        How to measure it again.
    """

    lines: Sequence[Line]
    points: Sequence[Mapping[str, Any]] = ()
    exponents: Mapping[tuple[str, str], tuple[tuple[float, float], tuple[float, float]]] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    meaning: Mapping[str, str] = field(default_factory=dict)
    commands: Sequence[str] = ()


def render(view: BenchView) -> bytes:
    """Return the page as bytes; equal views give equal bytes."""
    from markupsafe import Markup

    names = list(dict.fromkeys(point["backend"] for point in view.points))
    colours = backends(names)

    def draw(chart: Chart) -> Markup:
        return Markup(themed(screen(chart.svg, chart.label), colours))

    tables = [_goals(view.lines), _told(view.lines), _exponents(view)]
    return page(
        "bench.html", colours=colours.values(), styles=["report.css"], title=TITLE,
        created=formats.moment(view.about.get("created")), facts=_facts(view.about), tiles_shown=_tiles(view.lines),
        meaning=list(view.meaning.items()), tables={table.name: table for table in tables}, commands=view.commands,
        charts=charts(view.points, colours), draw=draw,
        keys=[(name, colours[name].variable, sample(STYLES[k % len(STYLES)])) for k, name in enumerate(names)],
    )  # fmt: skip


def digits(value: float) -> str:
    """Return a ratio to three digits, as 0.984 or 1.03."""
    return f"{float(f'{value:.3g}'):g}".replace("-", MINUS)


def _spread(low: float, high: float) -> str:
    return f"{digits(low)} … {digits(high)}"


def _facts(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    machine, versions = (about.get(key) or {} for key in ("machine", "versions"))
    parts = [formats.values(machine["processor"])] if machine.get("processor") else []
    parts += [count(machine["cores"], "core")] if machine.get("cores") else []
    parts += [f"Python {formats.values(machine['python'])}"] if machine.get("python") else []
    libraries = ", ".join(f"{name} {formats.values(versions[name])}" for name in LIBRARIES if versions.get(name))
    return [pair for pair in (("machine", ", ".join(parts)), ("versions", libraries)) if pair[1]]


def _tiles(lines: Sequence[Line]) -> list[tuple[str, str, str]]:
    held, missed = (sum(line.holds is value for line in lines) for value in (True, False))
    told = sum(line.holds is None for line in lines)
    tiles = [(whole(held), "goals hold", "pass"), (whole(missed), "goals missed", "fail" if missed else "pass")]
    return [*tiles, *([(whole(told), "results without a goal", "missing")] if told else [])]


def _goals(lines: Sequence[Line]) -> Table:
    held = [line for line in lines if line.holds is not None]
    bodies = [[num(line.goal), num(digits(line.result)), _verdict(line), num(_spread(*line.spread))] for line in held]
    keys = [(line.figure, line.problem) for line in held]
    columns = ["figure", "of", "goal", "median", "verdict", "quartiles"]
    caption = "Medians over turns, with their quartiles, beside their goals."
    return Table("goals", caption, columns, grouped(keys, bodies), numbers=(2, 3, 5))


def _verdict(line: Line) -> Cell:
    words = "holds" if line.holds else f"misses by {formats.percent(line.miss)}"
    if line.inside:
        return Cell(words, "goal within quartiles", "unstable")
    return Cell(words, kind="pass" if line.holds else "fail")


def _told(lines: Sequence[Line]) -> Table:
    told = [line for line in lines if line.holds is None and not line.figure.startswith("scaling.")]
    bodies = [[num(digits(line.result)), num(_spread(*line.spread))] for line in told]
    caption = "Results that are told and held to nothing."
    keys = [(line.figure, line.problem) for line in told]
    return Table("told", caption, ["figure", "of", "median", "quartiles"], grouped(keys, bodies), numbers=(2, 3))


def _exponents(view: BenchView) -> Table:
    keys = [(axis, backend) for axis, backend in view.exponents]
    bodies = [
        [num(f"{value:.2f}".replace("-", MINUS), f"± {error:.2f}") for value, error in pair]
        for pair in view.exponents.values()
    ]
    caption = (
        "Exponents p of time ~ size^p and evaluations ~ size^p, by least squares of the logarithms over all sizes, "
        "with standard errors. A time that is a constant at first and grows later has no one exponent: see the charts."
    )
    columns = ["size", "backend", "time", "evaluations"]
    return Table("exponents", caption, columns, grouped(keys, bodies), numbers=(2, 3), inline=True)


def charts(points: Sequence[Mapping[str, Any]], colours: Mapping[str, Colour]) -> list[Chart]:
    """Return time and evaluations against every size, one chart each."""
    found = [
        _growth(axis, what, [point for point in points if point["axis"] == axis], colours)
        for axis in dict.fromkeys(point["axis"] for point in points)
        for what in ("seconds", "nfe")
    ]
    return [chart for chart in found if chart is not None]


@drawing
def _growth(axis: str, what: str, points: Sequence[Mapping[str, Any]], colours: Mapping[str, Colour]) -> Chart | None:
    """Draw what grows with a size, both axes logarithmic, a curve for each backend."""
    shown, words = (seconds, "time, median") if what == "seconds" else (whole, "evaluations, both passes")
    sheet = Sheet(f"scaling-{axis}-{what}", 2.2)
    for index, (backend, colour) in enumerate(colours.items()):
        own = sorted((point for point in points if point["backend"] == backend), key=lambda point: point["size"])
        own = [point for point in own if point[what] > 0 and math.isfinite(point[what])]
        titles = [f"{backend}, {axis} {whole(point['size'])}: {shown(point[what])}" for point in own]
        if own:
            mark = Mark(index, None, "native", titles)
            xs, ys = ([point[key] for point in own] for key in ("size", what))
            sheet.line(xs, ys, STYLES[index % len(STYLES)], colour.sentinel, mark)
    values = [point[what] for point in points if point[what] > 0]
    if not values:
        return None
    log_axis(sheet.panel.xaxis, [point["size"] for point in points], whole)
    log_axis(sheet.panel.yaxis, values, shown)
    sheet.panel.set_xlabel(axis)
    sheet.panel.set_ylabel(words)
    height = sheet.figure.get_figheight()
    sheet.figure.subplots_adjust(left=0.19, right=0.975, top=1 - 0.06 / height, bottom=0.42 / height)
    title = f"{'time' if what == 'seconds' else 'evaluations'} against {axis}"
    return sheet.finish(title, clean(f"{title}, both logarithmic, a curve for each backend"))
