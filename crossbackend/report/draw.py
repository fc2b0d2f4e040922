"""Figures as SVG: drawn by matplotlib in sentinel colours, then cleaned of all that a page does not need.

Every series is a group `<g class="mark" data-b data-n data-s>` (backend, series, stepping, by number or name), so that
the page can switch it on and off, and every point carries a `<title>` that says what it is.
"""

from __future__ import annotations

import io
import math
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from crossbackend.report.formats import clean, plain, tolerance
from crossbackend.report.palette import GRID, INK, PAPER, SOFT, series_style

WIDTH = 3.5
"""Width of a figure in inches: two stand side by side on a desk, one is readable on a phone."""
WIDE = 7.1
"""Width of a figure that stands alone."""
MOST_CROSSES = 14
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_LONG = re.compile(r"-?\d+\.\d{2,}")
_STYLE: Any = {
    "svg.fonttype": "none", "text.parse_math": False, "font.family": "DejaVu Sans", "font.size": 8.0,
    "axes.edgecolor": SOFT, "axes.labelcolor": INK, "axes.linewidth": 0.7, "axes.titlesize": 8.5,
    "axes.titlecolor": INK, "axes.titlelocation": "left", "axes.titleweight": "normal", "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True, "axes.facecolor": "none",
    "grid.color": GRID, "grid.linewidth": 0.7, "xtick.color": SOFT, "ytick.color": SOFT, "xtick.labelcolor": INK,
    "ytick.labelcolor": INK, "xtick.major.size": 3, "ytick.major.size": 0, "xtick.major.width": 0.7,
    "figure.facecolor": "none", "text.color": INK, "legend.frameon": False, "legend.fontsize": 7.5,
    "lines.linewidth": 1.6, "lines.markersize": 4.5, "axes.unicode_minus": True, "axes.formatter.useoffset": False,
}  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """A finished drawing: `title` names it, `label` says in words what it shows, `svg` holds sentinels."""

    name: str
    title: str
    label: str
    svg: str
    note: str = ""


@dataclass
class Mark:
    """What a series is.

    Attributes
    ----------
    backend, series : int or None
        Their numbers among the run's names.
    stepping : str
    titles : list of str
        A sentence for each point, or one for the whole.
    bins : tuple or None
        Of a series of bars: where the first begins, where the last ends, how many each counts or means.
    """

    backend: int | None = None
    series: int | None = None
    stepping: str = ""
    titles: list[str] = field(default_factory=list)
    bins: tuple[float, float, Sequence[int] | Sequence[str]] | None = None


def drawing(function: Callable[..., Chart | None]) -> Callable[..., Chart | None]:
    """Make a function draw in the report's style, and take every text as it stands: `$` begins no formula.

    A letter that matplotlib's font lacks is no matter: the text stays text, and the page has fonts of its own.
    """

    @wraps(function)
    def styled(*args: Any, **options: Any) -> Chart | None:
        import matplotlib as mpl

        with mpl.rc_context(), warnings.catch_warnings():
            mpl.rcdefaults()  # the user's own settings have no part in it: equal records give equal bytes
            mpl.rcParams.update(_STYLE)
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
            return function(*args, **options)

    return styled


class Sheet:
    """A figure being drawn, inside a function that is `@drawing`.

    Parameters
    ----------
    name : str
        Unique among the page's figures; salts the ids inside the SVG.
    height : float
        In inches.
    rows, columns : int
        Panels, which share their axes.
    rowwise : bool
        Panels of a row alone share the vertical one.
    """

    def __init__(
        self, name: str, height: float, rows: int = 1, columns: int = 1, width: float = WIDTH, rowwise: bool = False
    ) -> None:
        from matplotlib.figure import Figure

        self.name = name
        self.marks: list[Mark] = []
        self.figure = Figure(figsize=(width, height))
        self.panels = self.figure.subplots(rows, columns, sharex=True, sharey="row" if rowwise else True, squeeze=False)

    @property
    def panel(self) -> Any:
        """The only panel."""
        return self.panels[0][0]

    def mark(self, mark: Mark) -> str:
        """Register a series and return the gid to draw it with."""
        self.marks.append(mark)
        return f"mark-{len(self.marks) - 1}"

    def line(
        self, x: Sequence[float], y: Sequence[float], series: str, colour: str, mark: Mark, panel: Any = None
    ) -> None:
        """Draw one series of points in its line style; NaN leaves a gap."""
        dashes, marker = series_style(series)
        light = mark.stepping == "matched"
        (panel or self.panel).plot(
            x, y, linestyle=dashes, marker=marker, color=colour, markeredgecolor=PAPER, markeredgewidth=0.6,
            alpha=0.45 if light else 1.0, linewidth=1.1 if light else 1.6, gid=self.mark(mark),
            zorder=2 if light else 3,
        )  # fmt: skip

    def failures(self, failed: Sequence[tuple[str, Mark]]) -> None:
        """Mark what did not finish: a row of crosses above the panel, one a plan, in its backend's colour."""
        if not failed:
            return
        panel = self.panel
        style = {"transform": panel.transAxes, "clip_on": False}
        words = "did not finish: " if len(failed) <= MOST_CROSSES else f"{len(failed)} did not finish: "
        panel.text(0.0, 1.035, words, fontsize=7, color=SOFT, va="bottom", transform=panel.transAxes)
        for index, (colour, mark) in enumerate(failed[:MOST_CROSSES]):
            panel.plot(
                [0.3 + 0.045 * index], [1.065], marker="x", color=colour, markersize=4.5, markeredgewidth=1.5,
                linestyle="none", gid=self.mark(mark), **style,
            )  # fmt: skip

    def finish(self, title: str, label: str, note: str = "") -> Chart:
        """Return the drawing as a chart."""
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        out = io.BytesIO()
        with mpl.rc_context({"svg.hashsalt": self.name}):
            nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            FigureCanvasSVG(self.figure).print_svg(out, metadata=nothing)
        return Chart(self.name, title, label, _tidy(out.getvalue(), self.marks), note)


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers between two positive ones: decades, or 1, 2, 5 where there are few decades."""
    found: list[float] = []
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        ticks = [float(f"{m}e{k}") for k in range(first, last + 1) for m in steps]
        found = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(found) >= 3:
            break
    stride = -(-len(found) // most)
    return found[:: max(stride, 1)]


def log_axis(
    axis: Any, values: Sequence[float], shown: Callable[[float], str], pad: float = 0.07
) -> tuple[float, float]:
    """Make an axis logarithmic around the values, with ticks in words; return its limits."""
    low, high = min(values), max(values)
    room = max((math.log10(high) - math.log10(low)) * pad, 0.1)
    low, high = max(low * 10**-room, 1e-300), min(high * 10**room, 1e300)
    which = axis.axis_name
    getattr(axis.axes, f"set_{which}lim")(low, high)  # first, or the scale looks for limits of its own and overflows
    getattr(axis.axes, f"set_{which}scale")("log")
    ticks = log_ticks(low, high)
    decades = all(math.log10(tick) % 1 == 0 for tick in ticks)
    axis.set_ticks(ticks, [shown(tick) if decades or shown is not tolerance else plain(tick) for tick in ticks])
    axis.set_ticks([], minor=True)
    return low, high


def _tidy(svg: bytes, marks: Sequence[Mark]) -> str:
    root = ET.fromstring(svg)
    alone = not any(mark.stepping == "native" for mark in marks)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{_SVG}defs" and child.find(f"{_SVG}style") is not None:
                parent.remove(child)
    for element in list(root.iter()):  # titles that are added on the way keep their text
        element.text = element.text if element.tag.endswith("text") else None
        element.tail = None
        _tidy_element(element)
        name = element.attrib.pop("id", "") if element.tag == f"{_SVG}g" else ""
        if name.startswith("mark-"):
            _name_mark(element, marks[int(name[5:])], alone)
    root.attrib.pop("version", None)
    ET.register_namespace("", _SVG[1:-1])
    ET.register_namespace("xlink", _XLINK[1:-1])
    return ET.tostring(root, encoding="unicode")


def _tidy_element(element: ET.Element) -> None:
    for key in ("d", "x", "y", "transform", "points"):
        if key in element.attrib:
            short = _LONG.sub(lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), element.attrib[key])
            element.attrib[key] = " ".join(short.split())
    if element.attrib.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    if element.tag == f"{_SVG}text":
        element.attrib["style"] = re.sub(r"font-family:[^;]*;?", "", element.attrib.get("style", ""))
        element.text = clean(element.text or "")


def _name_mark(group: ET.Element, mark: Mark, alone: bool) -> None:
    """Name a series for the page's switches; where none is native, no stepping waits to be switched on."""
    group.attrib["class"] = "mark"
    for key, value in (("b", mark.backend), ("n", mark.series), ("s", None if alone else mark.stepping or None)):
        if value is not None:
            group.attrib[f"data-{key}"] = clean(value)
    if mark.bins is not None:
        low, high, counts = mark.bins
        group.attrib |= {"data-low": f"{low:g}", "data-high": f"{high:g}", "data-counts": " ".join(map(str, counts))}
    points = list(group.iter(f"{_SVG}use"))
    if len(points) == len(mark.titles):
        for point, words in zip(points, mark.titles, strict=True):
            ET.SubElement(point, f"{_SVG}title").text = clean(words)
    elif mark.titles:
        title = ET.Element(f"{_SVG}title")
        title.text = clean(mark.titles[0])
        group.insert(0, title)


def screen(svg: str, label: str) -> str:
    """Return a drawing to stand inside an HTML page: no namespaces, no size of its own, named for those who listen."""
    from markupsafe import escape

    head, _, rest = svg.partition(">")
    box = re.search(r'viewBox="([^"]*)"', head)
    start = f'<svg class="chart" viewBox="{box[1] if box else "0 0 1 1"}" role="img" aria-label="{escape(label)}">'
    return start + rest.replace("xlink:href=", "href=").replace(
        'data-s="matched"', 'data-s="matched" style="display:none"'
    )


def paper(svg: str) -> str:
    """Return a drawing to stand on paper: the matched series left out, its font named."""
    return svg.replace("<svg ", '<svg font-family="DejaVu Sans" ', 1).replace('data-s="matched"', 'display="none"')
