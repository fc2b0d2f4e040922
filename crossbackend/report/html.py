"""The HTML page: one file that loads nothing and is readable without JavaScript."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from crossbackend.report import cells
from crossbackend.report.draw import Chart, screen
from crossbackend.report.formats import clean, clean_all
from crossbackend.report.palette import every, norm_style, themed
from crossbackend.report.view import View

if TYPE_CHECKING:
    from jinja2 import Environment

_LINK = re.compile(r"https?://[^\s<>\"'`{}|\\^]+[^\s<>\"'`{}|\\^.,;:!?)]")


def template(name: str) -> str:
    """Return the text of a file in `templates/`."""
    return (files("crossbackend.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import DictLoader, Environment, StrictUndefined

    loader = DictLoader({name: template(name) for name in ("report.html", "macros.html")})
    made = Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, finalize=_shown
    )
    made.filters["linked"] = _linked
    return made


def _shown(value: Any) -> Any:
    return clean(value) if type(value) is str else value


def _linked(text: str) -> Any:
    """Return text whose web addresses are links; they load nothing until followed."""
    from markupsafe import Markup, escape

    text, parts, end = clean(text), [], 0
    for match in _LINK.finditer(text):
        parts += [escape(text[end : match.start()])]
        parts += [Markup('<a href="{0}" rel="noreferrer">{0}</a>').format(match[0])]
        end = match.end()
    return Markup("").join([*parts, escape(text[end:])])


def render(view: View) -> bytes:
    """Return the page as bytes; equal views give equal bytes."""
    from markupsafe import Markup

    colours = every(view.names.colours)

    def drawing(chart: Chart) -> Markup:
        return Markup(themed(screen(chart.svg, chart.label), colours))

    script = template("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = _environment().get_template("report.html").render(
        view=view, draw=drawing, columns=cells.COLUMNS, colours=colours.values(),
        samples=[_sample(name) for name in view.names.norms],
        style=Markup(template("report.css")), script=Markup(script), digest=digest,
        data=Markup(_embedded(view.numbers)),
    )  # fmt: skip
    return text.encode("utf-8")


def _embedded(value: Any) -> str:
    """Return JSON that may stand in a script element: no `<` survives."""
    text = json.dumps(clean_all(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _sample(norm: str) -> dict[str, str]:
    """Return what a norm's key needs: its dashes and its marker's outline around (17, 6)."""
    dashes, marker = norm_style(norm)
    pattern = "" if dashes == "-" else " ".join(f"{1.6 * n:g}" for n in dashes[1])  # type: ignore[index]
    return {"name": norm, "dashes": pattern, "marker": _MARKERS.get(marker, _MARKERS["o"])}


_MARKERS = {
    "o": "M20 6a3 3 0 1 1-6 0a3 3 0 1 1 6 0z", "s": "M14.3 3.3h5.4v5.4h-5.4z", "^": "M17 2.6l3.4 6.2h-6.8z",
    "v": "M17 9.4l-3.4-6.2h6.8z", "D": "M17 2l4 4l-4 4l-4-4z",
    "P": "M15.8 2.6h2.4v2.2h2.2v2.4h-2.2v2.2h-2.4v-2.2h-2.2v-2.4h2.2z",
    "X": "M14 4.4L15.4 3L17 4.6L18.6 3L20 4.4L18.4 6L20 7.6L18.6 9L17 7.4L15.4 9L14 7.6L15.6 6z",
    "p": "M17 2.4l3.6 2.6l-1.4 4.2h-4.4l-1.4-4.2z", "h": "M17 2.4l3.1 1.8v3.6l-3.1 1.8l-3.1-1.8v-3.6z",
    "*": "M17 2l1 2.6h2.8l-2.2 1.8l.8 2.8l-2.4-1.6l-2.4 1.6l.8-2.8l-2.2-1.8h2.8z",
}  # fmt: skip
