"""The HTML page of a run."""

from __future__ import annotations

from crossbackend.report import cells
from crossbackend.report.draw import Chart, screen
from crossbackend.report.page import embedded, page
from crossbackend.report.palette import every, series_style, themed
from crossbackend.report.view import View


def render(view: View) -> bytes:
    """Return the page as bytes; equal views give equal bytes."""
    from markupsafe import Markup

    colours = every(view.names.colours)

    def drawing(chart: Chart) -> Markup:
        return Markup(themed(screen(chart.svg, chart.label), colours))

    return page(
        "report.html", colours=colours.values(), styles=["report.css"], script="report.js",
        view=view, many=len(view.problems) > 16, draw=drawing, columns=view.columns, over=cells.over(view.columns),
        samples=[sample(name) for name in view.names.series], paper=view.paper,
        trained=[sample(name) for name in view.paper.norms] if view.paper else [], data=Markup(embedded(view.numbers)),
    )  # fmt: skip


def sample(series: str) -> dict[str, str]:
    """Return what a series' key needs: its dashes and its marker's outline around (17, 6)."""
    dashes, marker = series_style(series)
    pattern = "" if dashes == "-" else " ".join(f"{1.6 * n:g}" for n in dashes[1])  # type: ignore[index]
    return {"name": series, "dashes": pattern, "marker": _MARKERS.get(marker, _MARKERS["o"])}


_MARKERS = {
    "o": "M20 6a3 3 0 1 1-6 0a3 3 0 1 1 6 0z", "s": "M14.3 3.3h5.4v5.4h-5.4z", "^": "M17 2.6l3.4 6.2h-6.8z",
    "v": "M17 9.4l-3.4-6.2h6.8z", "D": "M17 2l4 4l-4 4l-4-4z",
    "P": "M15.8 2.6h2.4v2.2h2.2v2.4h-2.2v2.2h-2.4v-2.2h-2.2v-2.4h2.2z",
    "X": "M14 4.4L15.4 3L17 4.6L18.6 3L20 4.4L18.4 6L20 7.6L18.6 9L17 7.4L15.4 9L14 7.6L15.6 6z",
    "p": "M17 2.4l3.6 2.6l-1.4 4.2h-4.4l-1.4-4.2z", "h": "M17 2.4l3.1 1.8v3.6l-3.1 1.8l-3.1-1.8v-3.6z",
    "*": "M17 2l1 2.6h2.8l-2.2 1.8l.8 2.8l-2.4-1.6l-2.4 1.6l.8-2.8l-2.2-1.8h2.8z",
}  # fmt: skip
