"""A check as JUnit XML: what GitLab, Jenkins and most other services read.

A suite a problem, a case a question. GitLab names a case by its `classname` and `name` and keeps the first of two that
are alike, so there is one case a question however many findings it has; and it shows the text inside `failure`, not
its `message`, so that the text holds everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from crossbackend.check import table
from crossbackend.check.findings import WHAT, Check, Finding, Verdict
from crossbackend.wording import clean

SHOWN = 50
"""Failures of one case that are written in full: a report beyond 30 MB is refused."""


def xml(check: Check) -> bytes:
    """Return a check as JUnit XML, UTF-8; equal checks give equal bytes.

    The time that a problem took, in seconds, stands on its suite and on its case `solved` (or its first), for what a
    question took is not known. Signs that XML forbids are replaced.
    """
    found = table.answers(check.findings)
    left_out = table.unanswered(check)
    problems = list(dict.fromkeys([*check.problems, *(answer.problem for answer in found)]))
    seconds = check.seconds or ({problems[0]: check.wall_s} if len(problems) == 1 else {})
    suites = [_suite(name, [a for a in found if a.problem == name], seconds.get(name, 0.0)) for name in problems]
    root = ET.Element("testsuites", {
        "name": "crossbackend check",
        "tests": str(len(found) + len(left_out)),
        "failures": str(sum(answer.verdict == Verdict.FAIL for answer in found)),
        "errors": "0",
        "skipped": str(len(left_out)),
        "time": _seconds(check.wall_s),
    })  # fmt: skip
    root.extend(suites)
    ET.indent(root, " ")
    return ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def _suite(problem: str, found: Sequence[table.Answer], seconds: float) -> ET.Element:
    suite = ET.Element("testsuite", {
        "name": clean(problem) or "crossbackend",
        "tests": str(max(len(found), 1)),
        "failures": str(sum(answer.verdict == Verdict.FAIL for answer in found)),
        "errors": "0",
        "skipped": str(int(not found)),
        "time": _seconds(seconds),
    })  # fmt: skip
    if not found:
        left_out = ET.SubElement(suite, "testcase", _named(problem, "check", seconds))
        ET.SubElement(left_out, "skipped", {"message": "nothing was asked of this problem"})
    timed = next((answer.what for answer in found if answer.what == "solved"), found[0].what if found else "")
    for answer in found:
        suite.append(_case(answer, seconds if answer.what == timed else 0.0))
    return suite


def _case(answer: table.Answer, seconds: float) -> ET.Element:
    case = ET.Element("testcase", _named(answer.problem, answer.what, seconds))
    failed = [finding for finding in answer.findings if finding.verdict == Verdict.FAIL]
    if failed:
        kind = next((str(finding.cause) for finding in failed if finding.cause is not None), "unknown")
        message = table.details(answer.worst)
        inside = ET.SubElement(case, "failure", {"type": kind, "message": clean("; ".join(message[:2]))})
        inside.text = clean("\n\n".join([WHAT.get(answer.what, answer.what), *_texts(failed)]))
    warned = [finding for finding in answer.findings if finding.verdict == Verdict.WARN]
    if warned:
        ET.SubElement(case, "system-out").text = clean("\n\n".join(_texts(warned)))
    return case


def _texts(findings: Sequence[Finding]) -> list[str]:
    texts = ["\n".join(table.details(finding)) for finding in findings[:SHOWN]]
    more = len(findings) - len(texts)
    return [*texts, f"{more} more like these"] if more else texts


def _named(problem: str, what: str, seconds: float) -> dict[str, str]:
    name = clean(problem)
    return {"classname": f"crossbackend.{name}" if name else "crossbackend", "name": clean(what),
            "time": _seconds(seconds)}  # fmt: skip


def _seconds(value: float) -> str:
    return f"{value:.3f}"
