"""A check as text: the terminal's table, and the message of a test that failed.

Everything is plain ASCII, so that it survives any terminal, log and locale; colour only repeats what a word says.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from crossbackend.check.baseline_reading import UPDATE
from crossbackend.check.findings import WHAT, Cause, Check, Finding, Verdict, worst
from crossbackend.wording import clean, count

WIDTH = 120
"""Columns where no terminal says otherwise; the table never takes more."""
NARROWEST = 60
SHOWN = 5
"""Failures, and warnings, that are shown of one question about one problem; all of them where `verbose`."""
CAUSES = {
    Cause.MATHEMATICS: "another vector field, loss, parameters or derivative; no tolerance mends it",
    Cause.SETTINGS: "the same mathematics, solved with other options",
    Cause.TOLERANCE: "the errors that the tolerance allows explain it",
    Cause.MACHINE: "a solve that the machine did not let end",
}
"""What each cause means, in words."""
_HEAD = ("problem", "question", "verdict", "worst", "limit", "where")
_WORDS = {Verdict.PASS: "pass", Verdict.WARN: "warn", Verdict.FAIL: "FAIL"}
_COLOURS = {Verdict.PASS: "32", Verdict.WARN: "33", Verdict.FAIL: "31;1"}
_LONGEST_NAME = 28
_ASCII = str.maketrans({"\N{MINUS SIGN}": "-", "×": "x", "±": "+/-", "…": "...", "≤": "<=", "≥": ">=", "µ": "u",
                        "\N{EN DASH}": "-", "\N{EM DASH}": "-", "\N{NO-BREAK SPACE}": " ", "∞": "inf"})  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What was found on one question about one problem.

    Attributes
    ----------
    problem, what : str
    findings : list of Finding
        At least one.
    """

    problem: str
    what: str
    findings: list[Finding]

    @property
    def verdict(self) -> Verdict:
        """The gravest of the findings'."""
        return worst(self.findings)

    @property
    def worst(self) -> Finding:
        """The gravest finding; of those that are alike, the one whose figure is furthest beyond its limit."""
        return max((f for f in self.findings if f.verdict == self.verdict), key=_beyond)


def answers(findings: Iterable[Finding]) -> list[Answer]:
    """Return the findings by problem and question: problems as they come, questions in the order of `WHAT`."""
    found: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        found.setdefault((finding.problem, finding.what), []).append(finding)
    order, problems = list(WHAT), list(dict.fromkeys(problem for problem, _ in found))
    rows = [Answer(problem, what, own) for (problem, what), own in found.items()]
    return sorted(rows, key=lambda row: (problems.index(row.problem),
                                         order.index(row.what) if row.what in order else len(order)))  # fmt: skip


def unanswered(check: Check) -> list[str]:
    """Return the problems of which nothing was found."""
    return [name for name in check.problems if not check.of(name)]


def text(check: Check, *, verbose: bool = False, width: int | None = None, colour: bool | None = None) -> str:
    """Return a check as the terminal shows it.

    A row a question about a problem, with the figure that came nearest to its limit; every failure in full; a line a
    warning; the counts of the rows.

    Parameters
    ----------
    check : Check
    verbose : bool
        A row a finding in place of a question, every failure, however many are alike, and what each pass says. False
        by default.
    width : int, optional
        Columns, 60 at least; the terminal's, and at most 120, by default.
    colour : bool, optional
        By default where standard output is a terminal and the environment's NO_COLOR is not set.

    Returns
    -------
    str
        ASCII, without a line break at its end.
    """
    width = max(_columns() if width is None else width, NARROWEST)
    colour = _wants_colour() if colour is None else colour
    found = answers(check.findings)
    blocks = [_table(found, verbose, width, colour)]
    blocks += _failures(found, verbose, width)
    warnings = [line for answer in found for line in _warnings(answer, verbose)]
    warnings += [f"WARN {_plain(name)}: nothing was asked of it" for name in unanswered(check)]
    warnings += [line for answer in found for line in _notes(answer, verbose)]
    if warnings:
        blocks.append("\n".join(_wrapped(line, width, "     ") for line in warnings))
    return "\n\n".join([*(block for block in blocks if block), said(check)])


def said(check: Check) -> str:
    """Return the last line: `12 problems: 70 pass, 3 warn, 0 fail in 92 s`; a problem left out counts as a warning."""
    verdicts = [answer.verdict for answer in answers(check.findings)] + [Verdict.WARN] * len(unanswered(check))
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in Verdict)
    return f"{count(len(check.problems), 'problem')}: {counts} in {check.wall_s:.{0 if check.wall_s >= 10 else 1}f} s"


def failure(findings: Sequence[Finding], *, width: int = WIDTH) -> str:
    """Return the message of a test that failed: the table, and each failure in full, without colour.

    Parameters
    ----------
    findings : sequence of Finding
        All of the check's; those that passed stand in the table.
    width : int
        Columns, 120 by default.
    """
    found = answers(findings)
    failed = list(dict.fromkeys(answer.problem for answer in found if answer.verdict == Verdict.FAIL))
    head = f"crossbackend check: {', '.join(map(_plain, failed))}" if failed else "crossbackend check: nothing failed"
    warnings = [_wrapped(line, width, "     ") for answer in found for line in _warnings(answer, False)]
    blocks = [head, _table(found, False, width, False), *_failures(found, False, width), "\n".join(warnings)]
    return "\n\n".join(block for block in blocks if block)


def details(finding: Finding) -> list[str]:
    """Return a finding in full, a line a fact: where, what was seen, the worst leaf and both values, the cause."""
    lines = [cell(finding), _plain(finding.text)]
    if finding.value is not None and finding.limit is not None:
        lines.append(f"figure {_figure(finding.value)}, limit {_figure(finding.limit)}")
    if finding.leaf or finding.values:
        lines.append(_values(finding))
    if finding.cause is not None:
        lines.append(f"points to: {finding.cause} ({CAUSES[finding.cause]})")
    elif finding.verdict == Verdict.FAIL:
        lines.append("points to: nothing in particular")
    if finding.evidence:
        label = "advice" if finding.what == "flag" else "because"
        lines.append(f"{label}: {_plain(finding.evidence)}")
    return [line for line in lines if line]


def cell(finding: Finding) -> str:
    """Return what a finding is about: `diffrax, scipy; norm default, matched, rtol 1e-06`, or nothing."""
    plan = [f"norm {finding.norm}" if finding.norm else "", finding.stepping]
    plan.append("" if finding.rtol is None else f"rtol {finding.rtol:g}")
    parts = (", ".join(part.strip() for part in finding.backend.split(",")), ", ".join(filter(None, plan)))
    return _plain("; ".join(filter(None, parts)))


def _values(finding: Finding) -> str:
    """Return the worst leaf and what each side has for it, to the last digit."""
    sides = [*finding.sides, *("?" for _ in finding.values[len(finding.sides) :])]
    pairs = [f"{_plain(side)} {float(value)!r}" for side, value in zip(sides, finding.values, strict=False)]
    leaf = f"worst leaf {_plain(finding.leaf)}" if finding.leaf else "values"
    if len(finding.values) == 2 and all(map(math.isfinite, finding.values)):
        pairs.append(f"apart by {abs(finding.values[0] - finding.values[1]):.3g}")
    return f"{leaf}: {', '.join(pairs)}" if pairs else leaf


def _beyond(finding: Finding) -> float:
    """Return a figure over its limit, for comparing figures of one question; -1 where there is none."""
    if finding.value is None:
        return -1.0
    if math.isnan(finding.value):
        return math.inf
    return abs(finding.value) / finding.limit if finding.limit else abs(finding.value)


def _table(found: Sequence[Answer], verbose: bool, width: int, colour: bool) -> str:
    rows = [(answer, finding) for answer in found for finding in (answer.findings if verbose else [answer.worst])]
    if not rows:
        return ""
    lines: list[Sequence[str]] = [_HEAD]
    for answer, finding in rows:
        figures = ("" if value is None else _figure(value) for value in (finding.value, finding.limit))
        word = _WORDS[finding.verdict if verbose else answer.verdict]
        names = (_short(name, min(_LONGEST_NAME, width // 5)) for name in (answer.problem, answer.what))
        lines.append((*names, word, *figures, cell(finding)))
    sizes = [max(len(line[at]) for line in lines) for at in range(len(_HEAD) - 1)]
    room = width - sum(sizes) - 2 * len(sizes)
    verdicts = [None, *(f.verdict if verbose else a.verdict for a, f in rows)]
    return "\n".join(
        _row(line, sizes, room, verdict if colour else None) for line, verdict in zip(lines, verdicts, strict=True)
    )


def _row(line: Sequence[str], sizes: Sequence[int], room: int, verdict: Verdict | None) -> str:
    """Return a row: words to the left, figures to the right, the last column cut where it is too long."""
    cells = [f"{word:>{size}}" if at in (3, 4) else f"{word:{size}}"
             for at, (word, size) in enumerate(zip(line, sizes, strict=False))]  # fmt: skip
    if verdict is not None:
        cells[2] = cells[2].replace(line[2], f"\x1b[{_COLOURS[verdict]}m{line[2]}\x1b[0m")
    return "  ".join([*cells, _short(line[-1], room) if room > 3 else ""]).rstrip()


def _failures(found: Sequence[Answer], verbose: bool, width: int) -> list[str]:
    """Return a block for each failure, those beyond `SHOWN` of one question counted."""
    blocks = []
    for answer in found:
        failed = sorted((f for f in answer.findings if f.verdict == Verdict.FAIL), key=_beyond, reverse=True)
        shown = failed if verbose else failed[:SHOWN]
        for finding in shown:
            head = f"FAIL {_plain(answer.problem)}: {_plain(answer.what)} ({WHAT.get(answer.what, '?')})"
            body = [_wrapped(f"  {line}", width, "    ") for line in details(finding)]
            blocks.append("\n".join([_wrapped(head, width, "     "), *body]))
        if len(failed) > len(shown):
            more = count(len(failed) - len(shown), "more failure")
            blocks.append(f"FAIL {_plain(answer.problem)}: {_plain(answer.what)}: {more} like these")
    return blocks


def _warnings(answer: Answer, verbose: bool) -> list[str]:
    """Return a line for each warning, those beyond `SHOWN` of one question counted."""
    found = [finding for finding in answer.findings if finding.verdict == Verdict.WARN]
    shown = found if verbose else found[:SHOWN]
    lines = []
    for finding in shown:
        where = f" ({cell(finding)})" if cell(finding) else ""
        lines.append(f"WARN {_plain(answer.problem)}: {_plain(answer.what)}{where}: {_plain(finding.text)}")
    if len(found) > len(shown):
        more = count(len(found) - len(shown), "more warning")
        lines.append(f"WARN {_plain(answer.problem)}: {_plain(answer.what)}: {more} like these")
    return lines


def _notes(answer: Answer, verbose: bool) -> list[str]:
    """Return a line for each pass that offers to record something, and for each other one where all is to be shown."""
    return [
        f"note {_plain(answer.problem)}: {_plain(answer.what)}: {_plain(finding.text)}"
        for finding in answer.findings
        if finding.verdict == Verdict.PASS and finding.text and (verbose or UPDATE in finding.text)
    ]


def _figure(value: float) -> str:
    """Return a figure: counts in full, all else to three digits."""
    whole = math.isfinite(value) and float(value).is_integer() and abs(value) < 1e6
    return f"{value:.0f}" if whole else f"{value:.3g}"


def _plain(words: str) -> str:
    """Return words in one line of ASCII: controls and line breaks gone, other signs written as Python escapes them."""
    line = " ".join(clean(words).translate(_ASCII).replace("\ufffd", "?").split())
    return line.encode("ascii", "backslashreplace").decode("ascii")


def _short(words: str, most: int) -> str:
    words = _plain(words)
    return words if len(words) <= most else f"{words[: most - 3]}..."


def _wrapped(line: str, width: int, indent: str) -> str:
    first = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(line.lstrip(), width, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False)


def _columns() -> int:
    return min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH) if sys.stdout.isatty() else WIDTH


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
