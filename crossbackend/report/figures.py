"""The charts as files of their own, for a paper or a README: SVG in the light theme, each with its key and title."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from urllib.parse import quote

from markupsafe import escape

from crossbackend.report.draw import WIDE, WIDTH, Chart, Sheet, drawing, paper
from crossbackend.report.formats import clean, short
from crossbackend.report.groups import PICTURE
from crossbackend.report.names import Names
from crossbackend.report.palette import INK, Colour, every, printed, series_style
from crossbackend.report.paper import PaperView
from crossbackend.report.view import View

_LONGEST = 120
"""Characters of a file's name that a problem's may take."""
_TITLE = 20
"""Height of the line that holds a figure's title, in points."""


@drawing
def legend(names: Names, width: float = WIDE) -> Chart | None:
    """Draw what the colours and the line styles of the charts mean; None where there are none."""
    from matplotlib.lines import Line2D

    if not names.backends:
        return None
    backends = [
        Line2D([], [], color=names.colours[n].sentinel, linewidth=5, label=short(n, 24)) for n in names.backends
    ]
    series = []
    for one in names.series:
        dashes, marker = series_style(one)
        series.append(Line2D([], [], color=INK, linestyle=dashes, marker=marker, label=short(one, 24), markersize=4))
    fits = max(round(width / WIDE * 6), 1)  # keys beside each other
    rows = [backends + series] if len(backends + series) <= fits else [backends, series]
    lines = [-(-len(row) // fits) for row in rows]
    sheet = Sheet("legend", 0.2 * sum(lines) + 0.06, width=width)
    sheet.panel.set_axis_off()
    top, height = 1.0, sheet.figure.get_figheight()
    for row, tall in zip(rows, lines, strict=True):
        sheet.figure.legend(
            handles=row, loc="upper center", bbox_to_anchor=(0.5, top), ncols=min(len(row), fits), frameon=False,
            handlelength=2.6, fontsize=7, columnspacing=1.2, borderaxespad=0.1, borderpad=0.2,
        )  # fmt: skip
        top -= 0.2 * tall / height
    return sheet.finish("legend", "colours and line styles")


def figures(view: View) -> Iterator[tuple[str, bytes]]:
    """Yield the name of a file and its bytes for every chart of a view; equal views give equal bytes.

    Names are `KIND-PROBLEM.svg`, with the kinds `nfe`, `time`, `speedups`, `gradients`, `savings`, `steps`, `splits`,
    `reconstruction` and `picture`; those of trainings begin with `paper-`. What is in a problem's name and would be a
    folder or a wildcard is percent-encoded, and a name that is too long or has characters that no file should have is
    cut, and told apart by a hash.
    """
    colours = every(view.names.colours)
    keys = {False: legend(view.names, WIDTH), True: legend(view.names)}
    found = [(group.name, chart, keys[group.wide]) for group in view.groups.values() for chart in group.charts]
    found += [(PICTURE, problem.picture, None) for problem in view.problems if problem.picture]
    for kind, chart, key in found:
        yield f"{kind}-{_file(chart.title)}.svg", printed(_alone(chart, key), colours).encode("utf-8")
    if view.paper is not None:
        yield from _paper(view.paper, colours)


def _paper(paper: PaperView, colours: dict[str, Colour]) -> Iterator[tuple[str, bytes]]:
    """Yield the charts of the trainings as `KIND-SETTING.svg`."""
    keys = {False: legend(paper.own, WIDTH), True: legend(paper.own)}
    for group in paper.groups.values():
        taken: set[str] = set()
        for chart in group.charts:
            name = _file(_plain(chart.title))
            name = f"{name}-{len(taken)}" if name in taken else name
            taken.add(name)
            one = replace(chart, note=short(chart.note, 80 if group.wide else 24))
            yield f"{group.name}-{name}.svg", printed(_alone(one, keys[group.wide]), colours).encode("utf-8")


def _plain(title: str) -> str:
    """Return `neural_cde-rtol-10-3` for `neural_cde, rtol 10⁻³`."""
    text = unicodedata.normalize("NFKD", title).replace("\N{MINUS SIGN}", "-")
    return re.sub(r"[^\w.=-]+", "-", text).strip("-.")


def _file(problem: str) -> str:
    """Return a problem's name as a part of a file's."""
    name = quote(clean(problem), safe="")
    if len(name) <= _LONGEST and clean(problem) == problem:
        return name
    start = re.sub("%.?$", "", name[:_LONGEST])  # no half of an encoded byte
    return f"{start}-{sha256(problem.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _alone(chart: Chart, key: Chart | None) -> str:
    """Return a drawing under its title and its key, on white: a page with a dark theme may show it too."""
    parts = [svg for svg in (key and key.svg, chart.svg) if svg]
    boxes = [_size(svg) for svg in parts]
    width = max(box[0] for box in boxes)
    height = _TITLE + sum(box[1] for box in boxes)
    note = f'  <tspan fill="#596069">{escape(chart.note)}</tspan>' if chart.note else ""
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{width:g}pt" '
        f'height="{height:g}pt" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(chart.label)}" '
        f'font-family="DejaVu Sans, sans-serif"><rect width="100%" height="100%" fill="#ffffff"/>'
        f'<text x="6" y="14" font-size="9" font-weight="bold" fill="#1c2024">{escape(short(chart.title, 40))}'
        f'<tspan font-weight="normal">{note}</tspan></text>'
    )
    top = float(_TITLE)
    for svg, (own, tall) in zip(parts, boxes, strict=True):
        place = f'x="{(width - own) / 2:g}" y="{top:g}" width="{own:g}" height="{tall:g}"'
        inner = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", paper(svg), count=1)
        inner = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", inner, count=1)
        text += inner.replace("<svg ", f"<svg {place} ", 1)
        top += tall
    return text + "</svg>\n"


def _size(svg: str) -> tuple[float, float]:
    """Return width and height of a drawing in points, from its viewBox."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert found is not None
    return float(found[1]), float(found[2])
