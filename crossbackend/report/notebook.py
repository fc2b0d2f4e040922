"""What a notebook shows of a comparison and of a record: a fragment of HTML without script, links or network.

Nothing of it reaches the rest of the notebook: every style is under the class `crossbackend`, and every id, and the
colours of the run's backends, carry a name that no other output has, be it of the same value or of an earlier session.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

from crossbackend.compare import Comparison, ProblemComparison
from crossbackend.flags import flags
from crossbackend.record import Record, Status
from crossbackend.report import charts, step_charts, verdict
from crossbackend.report.draw import Chart, screen
from crossbackend.report.formats import (
    NONE,
    clean,
    count,
    moment,
    sci,
    seconds,
    size,
    tolerance,
    typographic,
    values,
    whole,
)  # fmt: skip
from crossbackend.report.html import sample
from crossbackend.report.names import Names, at, failed, names_of
from crossbackend.report.page import fragment, template
from crossbackend.report.palette import Colour, every, themed
from crossbackend.report.table import Cell, Table, head, num
from crossbackend.report.view import notices, summary, tiles
from crossbackend.series import gradient_of, series
from crossbackend.wording import listed

MOST_FIGURES = 6
DARK = (
    'body[data-jp-theme-light="false"]', ".vscode-dark", ".vscode-high-contrast:not(.vscode-high-contrast-light)",
    'html[theme="dark"]',
)  # fmt: skip
"""The dark themes of JupyterLab, VS Code and Colab; every other page is taken for a light one."""
_NOTHING: Mapping[str, Any] = {
    "when": "", "facts": "", "tiles": [], "notices": [], "points": [], "wide": [], "small": [], "backends": [],
    "norms": [], "figures": [], "look": "", "more": [],
}  # fmt: skip


def comparison(value: Comparison) -> str:
    """Return the fragment of a comparison: verdict, summary, the matched matrix, error against evaluations."""
    own, names = _own_name(), names_of(value)
    matched = verdict.matched(value, names)
    created = moment(value.about.get("created"))
    facts = f"{count(len(value.problems), 'problem')}, {count(len(value.records), 'record')}"
    facts += f"; {listed(names.backends)}" if names.backends else ""
    figures, absent = _figures(value, names, own)
    drawn: dict[str, Any] = {}
    if figures:
        drawn = {
            "figures": figures, "norms": [sample(name) for name in names.series],
            "backends": [(name, names.colours[name].variable) for name in names.backends],
            "look": "Gradient error against evaluations of the field, native stepping. Lower left is better.",
        }  # fmt: skip
    return _fragment(
        own, names.colours.values(), title=str(value.about.get("name") or "run"), what="Comparison",
        when=f"{created:%Y-%m-%d %H:%M}" if created else "", facts=facts, tiles=tiles(value),
        notices=notices(value, value.about), points=summary(value),
        wide=[_renamed(matched, own)] if matched.rows else [], more=_more(value, absent), **drawn,
    )  # fmt: skip


def _own_name() -> str:
    """Return a class name that no other output of the notebook has, not even one of an earlier session."""
    return f"crossbackend-{uuid4().hex[:10]}"


def _figures(value: Comparison, names: Names, own: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return figures of the first problems and the names of those without one.

    Native plans alone are drawn: nothing here could switch the others on.
    """
    found, absent = [], []
    for index, item in enumerate(value.problems[:MOST_FIGURES]):
        native = replace(item, records=[record for record in item.records if record.stepping == "native"])
        chart = charts.work(native, names, "nfe", f"{own}-{index}")
        if chart is None:
            absent.append(item.problem)
        else:
            found.append(_figure(chart, names.colours))
    return found, absent


def _figure(chart: Chart, colours: Mapping[str, Colour], wide: bool = False) -> dict[str, Any]:
    from markupsafe import Markup

    drawn = Markup(themed(screen(chart.svg, chart.label), dict(colours)))
    return {"title": chart.title, "note": chart.note, "drawing": drawn, "wide": wide}


def _more(value: Comparison, absent: list[str]) -> list[str]:
    """Say what is not here, and where it is."""
    if not value.records:
        return []
    said = []
    if absent:
        said.append(f"Not drawn, for no native plan has a known gradient error: {listed(absent)}.")
    rest = len(value.problems) - MOST_FIGURES
    if rest > 0:
        more = count(rest, "more is", "more are")
        said.append(f"Only the first {MOST_FIGURES} problems are drawn; {more} in the report.")
    said.append(
        "The full report, with every chart, warning and record: `crossbackend.report(folder)` writes index.html and "
        "report.pdf into the folder of a stored run (`out=` of `crossbackend.run`). As a table: `.to_pandas()`."
    )
    return said


def record(value: Record) -> str:
    """Return the fragment of a record: its plan, how it ended, evaluations, errors, times, its backward steps."""
    own = _own_name()
    alone = Comparison({}, [ProblemComparison(str(value.plan.get("problem")), {}, {}, records=[value])], [])
    names = names_of(alone)
    plan = [str(value.plan.get("backend")), series(str(value.plan.get("norm")), gradient_of(value.plan)),
            str(value.plan.get("stepping"))]  # fmt: skip
    tables = [table for table in (_plan(value), _passes(value), _errors(value), _times(value)) if table.rows]
    colours = every(names.colours)
    chart = _backward(value, names, own)
    # What a record alone can show: flags that need the problem's card or its reference are in the comparison.
    warned = [flag for flag in flags([value], {}, {}, []) if flag.level == "warning"]
    words = [value.message.rstrip(".") + "."] if value.message else []
    said = [" ".join([*words, *([] if value.status == Status.OK else [value.status.advice])])]
    said += [typographic(f"{flag.name.replace('_', ' ')}: {flag.evidence}. {flag.advice}") for flag in warned]
    return _fragment(
        own, colours.values(), title=str(value.plan.get("problem")), what="Record",
        when=f"{', '.join(plan)}, rtol {tolerance(value.plan.get('rtol'))}", tiles=[_ended(value, bool(warned))],
        notices=[line for line in said if line], small=[_renamed(table, own) for table in tables],
        figures=[] if chart is None else [_figure(chart, colours, wide=True)],
    )  # fmt: skip


def _ended(value: Record, warned: bool) -> tuple[str, str, str]:
    """Return the tile of a status: the advice beside it is a notice where there is something to do."""
    words = str(value.status).replace("_", " ")
    if failed(value):
        return f"✕ {words}", "", "fail"
    if value.status == Status.UNSUPPORTED:
        return f"– {words}", "", "missing"
    if warned:
        return f"▲ {words}", "The solve finished, with a warning.", "unstable"
    return f"✓ {words}", value.status.advice, "pass"


def _backward(value: Record, names: Names, own: str) -> Chart | None:
    """Draw the record's backward steps; the report's chart shows native plans alone, so it is given one as such."""
    shown = replace(value, plan={**value.plan, "stepping": "native"})
    item = ProblemComparison(str(value.plan.get("problem")), {}, {}, records=[shown])
    chart = step_charts.steps(item, names, own)
    if chart is None:
        return None
    label = clean(f"{item.problem}: accepted and rejected backward steps over t, in the colour of the rejecting block")
    note = "up: accepted; down: rejected, in the colour of the block whose error rejected the step"
    return replace(chart, title="Backward steps", label=label, note=note)


def _plan(value: Record) -> Table:
    fields = ("problem", "backend", "norm", "stepping", "gradient", "dtype", "device", "first_step")
    rows = [[head(name.replace("_", " ")), Cell(values(value.plan[name]))] for name in fields if value.plan.get(name)]
    rows[4:4] = [[head(name), Cell(tolerance(value.plan.get(name)))] for name in ("rtol", "atol")]
    return Table("plan", "Plan", [], rows)


def _passes(value: Record) -> Table:
    words = {"nfe": "evaluations", "accepted": "accepted steps", "rejected": "rejected steps", "spurious": "spurious",
             "masked": "masked"}  # fmt: skip
    found = {said: (at(value, "forward", name), at(value, "backward", name)) for name, said in words.items()}
    found["y missed by"] = (None, at(value, "reconstruction_error"))
    rows = [
        [head(said), *(num(sci(n) if said == "y missed by" else whole(n)) for n in both)]
        for said, both in found.items()
        if any(n is not None for n in both)
    ]
    return Table("passes", "Evaluations and steps", ["pass", "forward", "backward"], rows, numbers=(1, 2))


def _errors(value: Record) -> Table:
    found = [
        ("whole gradient", at(value, "error", "all")), ("with respect to y0", at(value, "error", "y0")),
        ("with respect to params", at(value, "error", "params")), ("reference good to", at(value, "error", "floor")),
        ("one ulp moves it by", at(value, "rounding_floor")),
    ]  # fmt: skip
    rows = [[head(words), num(sci(number))] for words, number in found if number is not None]
    if value.status == Status.OK and at(value, "error", "all") is None:
        rows.insert(0, [head("not known: no reference"), num(NONE)])
    if value.loss is not None:
        rows.append([head("loss"), num(sci(value.loss, 6))])
    return Table("errors", "Gradient error, relative", [], rows)


def _times(value: Record) -> Table:
    parts = {"median_s": "median", "q1_s": "lower quartile", "q3_s": "upper quartile", "min_s": "fastest",
             "first_s": "first call", "compile_s": "compiling"}  # fmt: skip
    found = {words: seconds(at(value, "time", name)) for name, words in parts.items()}
    found |= {"repeats": whole(at(value, "time", "repeats")), "peak memory": size(value.peak_memory_bytes)}
    found |= {"memory of a call": size(at(value, "memory_rise_bytes"))}
    found |= {"memory on the device": size(at(value, "device_memory_bytes"))}
    rows = [[head(words), num(text)] for words, text in found.items() if text != NONE]
    if value.status == Status.OK and not rows:
        rows = [[head("not measured"), num(NONE)]]
    return Table("times", "Time and memory", [], rows)


def _renamed(table: Table, own: str) -> Table:
    return replace(table, name=f"{table.name}-{own}")


def _fragment(own: str, colours: Iterable[Colour], **shown: Any) -> str:
    from markupsafe import Markup

    style = f"{_themes(own, list(colours))}\n{template('notebook.css')}"
    return fragment("notebook.html", own=own, style=Markup(style), **{**_NOTHING, **shown})


def _themes(own: str, colours: list[Colour]) -> str:
    """Return both themes as variables of this output alone: another one's backends may have other colours."""
    light, dark = re.findall(r":root \{(.*?)\}", template("page.css"), re.DOTALL)
    light += " ".join(f"--{colour.variable}: {colour.light};" for colour in colours) + " color-scheme: light;"
    dark += " ".join(f"--{colour.variable}: {colour.dark};" for colour in colours) + " color-scheme: dark;"
    return f".{own} {{{light}}}\n{', '.join(f'{theme} .{own}' for theme in DARK)} {{{dark}}}"
