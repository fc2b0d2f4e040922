"""The shell of every HTML page of the project: one file that loads nothing and is readable without JavaScript."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from crossbackend.report.formats import clean, clean_all
from crossbackend.report.palette import Colour

if TYPE_CHECKING:
    from jinja2 import Environment

_LINK = re.compile(r"https?://[^\s<>\"'`{}|\\^]+[^\s<>\"'`{}|\\^.,;:!?)]")
_CODE = re.compile(r"`([^`\n]+)`")


def template(name: str) -> str:
    """Return the text of a file in `templates/`."""
    return (files("crossbackend.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    made = Environment(
        loader=FunctionLoader(template), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined, finalize=_shown,
    )  # fmt: skip
    made.filters |= {"linked": linked, "marked": marked}
    return made


def _shown(value: Any) -> Any:
    return clean(value) if type(value) is str else value


def page(
    name: str, *, colours: Iterable[Colour] = (), styles: Iterable[str] = (), script: str = "", **shown: Any
) -> bytes:
    """Return a page as bytes; equal contents give equal bytes.

    Parameters
    ----------
    name : str
        A template that extends `page.html`.
    colours : iterable of Colour
        Defined as CSS variables in both themes.
    styles : iterable of str
        Style sheets in `templates/` after `page.css`.
    script : str
        A file in `templates/`: the only script that the page's policy lets run. None by default.
    **shown
        What the template shows.
    """
    from markupsafe import Markup

    code = template(script) if script else ""
    sheets = "\n".join(template(sheet) for sheet in ("page.css", *styles))
    text = _environment().get_template(name).render(
        colours=list(colours), style=Markup(sheets), script=Markup(code), policy=_policy(code), **shown
    )  # fmt: skip
    return text.encode("utf-8")


def fragment(name: str, **shown: Any) -> str:
    """Return a template that is no whole page, as text."""
    return _environment().get_template(name).render(**shown)


def _policy(code: str) -> str:
    """Return the content security policy: nothing is loaded, and no script runs but ours."""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    scripts = f" script-src 'sha256-{digest}';" if code else ""
    return (
        f"default-src 'none'; style-src 'unsafe-inline';{scripts} img-src data:; font-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def linked(text: str) -> Any:
    """Return text whose web addresses are links; they load nothing until followed."""
    return _replaced(_LINK, '<a href="{0}" rel="noreferrer">{0}</a>', text)


def marked(text: str) -> Any:
    """Return text whose parts in backticks are set as code."""
    return _replaced(_CODE, "<code>{0}</code>", text)


def _replaced(pattern: re.Pattern[str], form: str, text: str) -> Any:
    from markupsafe import Markup, escape

    text, parts, end = clean(text), [], 0
    for match in pattern.finditer(text):
        found = match[match.lastindex or 0]
        parts += [escape(text[end : match.start()]), Markup(form).format(found)]
        end = match.end()
    return Markup("").join([*parts, escape(text[end:])])


def embedded(value: Any) -> str:
    """Return JSON that may stand in a script element: no `<` survives."""
    text = json.dumps(clean_all(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
