"""A check for GitHub Actions: annotations on the problem's file, and the page of the run.

An annotation is a line on standard output, `::error file=...,line=...,title=...::...`, whose signs of its own are
escaped: what a library says in an exception could be a command otherwise.
"""

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from crossbackend.check import table
from crossbackend.check.findings import WHAT, Check, Finding, Verdict
from crossbackend.errors import UserError
from crossbackend.load import load
from crossbackend.problem import Problem
from crossbackend.wording import clean, count

LARGEST = 900_000
"""Bytes of a summary; GitHub drops one above 1 MiB."""
SHOWN = 50
"""Failures, and warnings, that a summary holds."""
_CUT = "\n\nThe rest is left out: a summary may take 1 MiB.\n"


def annotations(check: Check, paths: Mapping[str, Path]) -> list[str]:
    """Return the workflow commands of a check: one for each question that failed or warned, failures first.

    GitHub shows ten errors and ten warnings of a step, so findings on one question about one problem share a line.

    Parameters
    ----------
    check : Check
    paths : mapping of str to Path
        The file of each problem that came from one. The annotation stands at the line of its vector field; a file
        outside the repository, as the gallery's of an installed package, is not named.

    Returns
    -------
    list of str
        Lines to print; none where everything passed.
    """
    found = table.answers(check.findings)
    places = {name: _place(path) for name, path in paths.items() if any(
        answer.problem == name and answer.verdict != Verdict.PASS for answer in found)}  # fmt: skip
    lines = []
    for verdict, command in ((Verdict.FAIL, "error"), (Verdict.WARN, "warning")):
        for answer in found:
            if answer.verdict == verdict:
                lines.append(_annotation(command, answer, places.get(answer.problem, {})))
    for name in table.unanswered(check):
        lines.append(_command("warning", {"title": f"{name}: nothing was asked"}, "the check found nothing about it"))
    return lines


def _annotation(command: str, answer: table.Answer, place: Mapping[str, str]) -> str:
    alike = sum(finding.verdict == answer.verdict for finding in answer.findings)
    verb = "failed" if command == "error" else "warned"
    lines = table.details(answer.worst)
    if alike > 1:
        lines.append(f"and {count(alike - 1, 'other finding')} like it")
    return _command(command, {**place, "title": f"{answer.problem}: {answer.what} {verb}"}, "\n".join(lines))


def _command(name: str, properties: Mapping[str, str], message: str) -> str:
    written = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::{name} {written}::{_data(message)}"


def _data(text: str) -> str:
    return clean(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _place(path: Path) -> dict[str, str]:
    """Return `file` and `line` of a problem's vector field; nothing for a file outside the repository."""
    path = path.resolve()
    root = _repository(path)
    if root is None:
        return {}
    return {"file": path.relative_to(root).as_posix(), "line": str(_line(path))}


def _repository(path: Path) -> Path | None:
    """Return the folder of the repository that holds a file: the workflow's, else the nearest with a `.git`."""
    if workspace := os.environ.get("GITHUB_WORKSPACE"):
        folder = Path(workspace).resolve()
        return folder if path.is_relative_to(folder) else None
    return next((folder for folder in path.parents if (folder / ".git").exists()), None)


def _line(path: Path) -> int:
    """Return the line at which the file's vector field is defined; 1 where that cannot be told."""
    try:
        problem = load(path)
    except UserError:  # it was there when it was checked
        return 1
    return next((line for line in map(functools.partial(_line_of, path), _fields(problem)) if line), 1)


def _fields(problem: Problem) -> list[Callable[..., object]]:
    field = problem.vector_field
    return list(field.values()) if isinstance(field, Mapping) else [field]


def _line_of(path: Path, function: Callable[..., object]) -> int | None:
    """Return the line of a function in a file: of what a partial or a wrapper calls, of an object's `__call__`."""
    while isinstance(function, functools.partial):
        function = function.func
    for part in (function, vars(type(function)).get("__call__")):
        try:
            part = inspect.unwrap(part) if callable(part) else None
            if part is not None and Path(inspect.getsourcefile(part) or "").resolve() == path:
                return inspect.getsourcelines(part)[1] or 1
        except (TypeError, OSError, ValueError):  # built in, without a source, or wrapped in a circle
            continue
    return None


def summary(check: Check) -> str:
    """Return a check as Markdown for `$GITHUB_STEP_SUMMARY`: a row a problem, a column a question, what went wrong."""
    found = table.answers(check.findings)
    asked = [what for what in WHAT if any(answer.what == what for answer in found)]
    head = ["problem", *asked, "seconds"]
    rows = [_row(name, asked, found, check) for name in check.problems]
    lines = ["## crossbackend check", "", f"{'Nothing failed' if check.ok else 'Failed'}. {table.said(check)}", ""]
    lines += [" | ".join(["", *cells, ""]).strip() for cells in (head, ["---"] * len(head), *rows)] if rows else []
    for verdict, title in ((Verdict.FAIL, "Failures"), (Verdict.WARN, "Warnings")):
        lines += _section(title, [f for answer in found for f in answer.findings if f.verdict == verdict])
    whole = "\n".join(lines) + "\n"
    if len(whole.encode()) > LARGEST:
        whole = whole.encode()[: LARGEST - len(_CUT)].decode(errors="ignore") + _CUT
    return whole


def _row(problem: str, asked: Sequence[str], found: Sequence[table.Answer], check: Check) -> list[str]:
    verdicts = {answer.what: answer.verdict for answer in found if answer.problem == problem}
    words = {Verdict.PASS: "pass", Verdict.WARN: "warn", Verdict.FAIL: "**FAIL**"}
    seconds = check.seconds.get(problem)
    return [_markdown(problem), *(words[verdicts[what]] if what in verdicts else "" for what in asked),
            "" if seconds is None else f"{seconds:.1f}"]  # fmt: skip


def _section(title: str, findings: Sequence[Finding]) -> list[str]:
    if not findings:
        return []
    lines = ["", f"### {title}", ""]
    for finding in findings[:SHOWN]:
        facts = "<br>".join(map(_markdown, table.details(finding)))
        lines.append(f"- **{_markdown(finding.problem)}: {_markdown(finding.what)}** {facts}")
    if len(findings) > SHOWN:
        lines.append(f"- and {len(findings) - SHOWN} more")
    return lines


def _markdown(text: str) -> str:
    """Return text that Markdown and HTML take for nothing but text."""
    line = " ".join(clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())
    for sign in "\\`*_[]|#~@":
        line = line.replace(sign, f"\\{sign}" if sign != "@" else "&#64;")
    return line
