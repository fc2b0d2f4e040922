"""The PDF: the same tables and drawings, set by typst from a folder that holds nothing but data and figures."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from crossbackend.report.draw import Chart, paper
from crossbackend.report.figures import legend
from crossbackend.report.formats import clean_all, short
from crossbackend.report.page import template
from crossbackend.report.palette import every, printed
from crossbackend.report.paper import PaperView
from crossbackend.report.view import View

PAPER_LEGEND = "legend-paper"


def render(view: View) -> bytes:
    """Return the PDF as bytes, tagged by PDF/UA-1, which typst checks; equal views give equal bytes.

    Raises
    ------
    RuntimeError
        typst warned: the page would not be what it should.
    """
    import typst

    colours = every(view.names.colours)
    with tempfile.TemporaryDirectory(prefix="crossbackend-") as name:
        folder = Path(name)
        for source in ("report.typ", "paper.typ"):
            (folder / source).write_text(template(source), encoding="utf-8")
        data = printable(json.dumps(clean_all(_data(view)), ensure_ascii=False, allow_nan=False))
        (folder / "report.json").write_text(data, encoding="utf-8")
        for chart in _charts(view):
            text = printable(printed(paper(chart.svg), colours))
            (folder / f"{chart.name}.svg").write_text(text, encoding="utf-8")
        fonts = typst.Fonts(include_system_fonts=False, font_paths=[_fonts()])
        content, warnings = typst.compile_with_warnings(
            folder / "report.typ", root=folder, font_paths=fonts, format="pdf",
            timestamp=_timestamp(view.created), pdf_standards="ua-1",
        )  # fmt: skip
    if warnings:
        said = "; ".join(dict.fromkeys(warning.message for warning in warnings))
        raise RuntimeError(f"typst warned about the report's own template: {said}")
    return content


def _timestamp(created: datetime | None) -> int:
    """Return seconds since 1970, 0 where a date has none that typst could write."""
    try:
        return max(int(created.timestamp()), 0) if created else 0
    except (OverflowError, ValueError, OSError):  # another program's year 1
        return 0


def _fonts() -> Path:
    import matplotlib as mpl

    return Path(mpl.get_data_path()) / "fonts" / "ttf"


@cache
def _glyphs() -> frozenset[int]:
    """Return the code points that the fonts at hand can show."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(_fonts() / "DejaVuSans.ttf")).get_charmap())


def printable(text: str) -> str:
    """Return text in which a character that no font at hand has is named: `[U+6F22]` for a Chinese one.

    Nothing is lost without a word that way, and PDF/UA allows no missing glyph.
    """
    if text.isascii():
        return text
    return "".join(c if c.isascii() or ord(c) in _glyphs() else f"[U+{ord(c):04X}]" for c in text)


def _charts(view: View) -> Iterator[Chart]:
    for group in view.groups.values():
        yield from group.charts
    yield from (problem.picture for problem in view.problems if problem.picture)
    if (found := legend(view.names)) is not None:
        yield found
    if view.paper is not None:
        yield from (chart for group in view.paper.groups.values() for chart in group.charts)
        if (found := legend(view.paper.own)) is not None:
            yield replace(found, name=PAPER_LEGEND)


def _data(view: View) -> dict[str, Any]:
    created = view.created
    return {
        "title": view.title, "name": view.name, "header": short(view.name, 60), "facts": view.facts,
        "command": view.command,
        "created": None if created is None else list(created.timetuple()[:5]),
        "summary": view.summary, "notices": view.notices, "damaged": view.damaged,
        "tiles": [list(tile) for tile in view.tiles],
        "warnings": [vars(warning) for warning in view.warnings], "notes": view.notes,
        "tables": {name: table.as_dict() for name, table in view.tables.items()},
        "groups": {name: _group(group) for name, group in view.groups.items()},
        "problems": [{**vars(p), "picture": None if p.picture is None else _chart(p.picture)} for p in view.problems],
        "machine": view.machine, "versions": view.versions, "legend": bool(view.names.backends),
        "paper": None if view.paper is None else _paper(view.paper), "trained_only": view.trained_only,
    }  # fmt: skip


def _paper(paper: PaperView) -> dict[str, Any]:
    return {
        "source": paper.source, "legend": f"{PAPER_LEGEND}.svg",
        "results": [(title, table.as_dict()) for title, table in paper.results],
        "tables": {name: table.as_dict() for name, table in paper.tables.items()},
        "groups": [_group(group) for group in paper.groups.values()],
    }  # fmt: skip


def _group(group: Any) -> dict[str, Any]:
    return {**vars(group), "charts": [_chart(chart) for chart in group.charts]}


def _chart(chart: Chart) -> dict[str, str]:
    return {"file": f"{chart.name}.svg", "title": chart.title, "label": chart.label, "note": chart.note}
