"""A check as a terminal's table, as JUnit XML, and for GitHub."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from crossbackend.check import github, junit, table
from crossbackend.check.findings import WHAT, Cause, Check, Finding, Verdict
from tests.check.cases import FLAG, WRONG, check

HOSTILE = "a\x00\x1b[31m\x0b\ud800\ufffe<b>&amp;]]>%0A::error::x\r\n::set-output name=x::y | `z` [q](u) @me"
"""What a library's exception may hold."""


def rows(text):
    """The rows of the table by (problem, question)."""
    lines = text.split("\n\n")[0].splitlines()[1:]
    return {tuple(line.split()[:2]): line.split()[2:] for line in lines}


def test_a_row_a_question():
    found = rows(table.text(check(), width=120))
    assert list(found) == [("linear", "solved"), ("linear", "agreement"), ("port", "solved"), ("port", "agreement"),
                           ("port", "flag")]  # fmt: skip
    assert found["linear", "agreement"][:3] == ["pass", "1e-14", "1e-09"]
    assert (
        found["port", "agreement"]
        == "FAIL 0.031 1e-09 torchdiffeq, diffrax; norm seminorm, matched, rtol 1e-06".split()
    )
    assert found["port", "flag"][0] == "warn"


def test_questions_come_in_their_order_and_problems_as_they_come():
    mixed = [Finding(what, name) for name in ("b", "a") for what in reversed(WHAT)]
    assert [(a.problem, a.what) for a in table.answers(mixed)] == [(name, what) for name in "ba" for what in WHAT]


def test_a_failure_in_full_and_a_warning_in_a_line():
    text = table.text(check(), width=120)
    for words in ("FAIL port: agreement (backends that take the same steps agree)", "the gradients differ by 3.1e-2",
                  "worst leaf params/w: torchdiffeq 0.12345678901234566, diffrax 0.12, apart by 0.00346",
                  "points to: mathematics (another vector field", "because: the difference is the same",
                  "\nWARN port: flag (diffrax; norm default, native, rtol 0.0001): norm_diluted: 12 of 13 entries\n",
                  ):  # fmt: skip
        assert words in text
    assert text.splitlines()[-1] == "2 problems: 3 pass, 1 warn, 1 fail in 92 s"


def test_the_worst_of_a_question_is_the_one_furthest_beyond_its_limit():
    findings = [replace(WRONG, value=value, rtol=rtol) for value, rtol in ((1e-8, 1e-4), (0.5, 1e-6), (1e-7, 1e-8))]
    mild = Finding("agreement", "port", value=1e9, limit=1e-9)  # larger, but it passed
    (answer,) = table.answers([mild, *findings])
    assert (answer.verdict, answer.worst.rtol) == (Verdict.FAIL, 1e-6)
    nan = replace(WRONG, value=float("nan"), rtol=1e-10)
    assert table.answers([nan, *findings])[0].worst is nan


def test_many_alike_failures_are_counted_unless_verbose():
    findings = [replace(WRONG, rtol=10.0**-n) for n in range(3, 12)]
    short, long = (table.text(Check(["port"], findings), verbose=v, width=120) for v in (False, True))
    assert short.count("worst leaf") == table.SHOWN
    assert "FAIL port: agreement: 4 more failures like these" in short
    assert long.count("worst leaf") == 9
    assert len(long.split("\n\n")[0].splitlines()) == 10
    warned = Check(["port"], [replace(FLAG, rtol=10.0**-n) for n in range(3, 12)])
    assert "WARN port: flag: 4 more warnings like these" in table.text(warned)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_is_wider_than_the_terminal_and_all_is_ascii(width):
    long = replace(WRONG, text="wort " * 60 + "x" * 300 + HOSTILE, evidence="größer als 1 × 2 … − 3", problem="p" * 80)
    whole = Check(["p" * 80, "é"], [long, replace(FLAG, problem="é"), replace(FLAG, text=HOSTILE)])
    for text in (table.text(whole, width=width), table.text(whole, width=width, verbose=True)):
        assert max(map(len, text.splitlines())) <= width
        assert text.isascii()
        assert text.replace("\n", "").isprintable()


def test_colour_only_where_asked_or_on_a_terminal(monkeypatch):
    plain, coloured = (table.text(check(), width=120, colour=colour) for colour in (False, True))
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain
    assert coloured.count("\x1b[31;1mFAIL") == 1
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b" in table.text(check())
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert "\x1b" not in table.text(check())
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert "\x1b" not in table.text(check())


def test_a_problem_of_which_nothing_was_asked_is_not_silent():
    silent = Check(["linear", "lost"], check().of("linear"))
    assert "WARN lost: nothing was asked of it" in table.text(silent)
    assert table.said(silent) == "2 problems: 2 pass, 1 warn, 0 fail in 0.0 s"
    assert ET.fromstring(junit.xml(silent)).find("testsuite[@name='lost']/testcase/skipped") is not None
    assert github.annotations(silent, {}) == [
        "::warning title=lost%3A nothing was asked::the check found nothing about it"
    ]


def test_the_message_of_a_test_says_which_of_the_causes():
    for cause in Cause:
        message = table.failure([replace(WRONG, cause=cause)])
        assert f"points to: {cause} ({table.CAUSES[cause]})" in message
    nowhere = table.failure([replace(WRONG, cause=None, evidence="")])
    assert "points to: nothing in particular" in nowhere
    assert nowhere.startswith("crossbackend check: port\n\nproblem")
    assert table.failure(check().of("linear")).startswith("crossbackend check: nothing failed")


def test_a_pass_that_offers_to_record_something_says_so():
    better = Finding("baseline", "linear", text="4 cells as in the baseline; --update-baseline would record it")
    assert "note linear: baseline: 4 cells as" in table.text(Check(["linear"], [better]))
    quiet = Check(["linear"], [replace(better, text="4 cells as in the baseline")])
    assert "note" not in table.text(quiet)
    assert "note linear: baseline: 4 cells" in table.text(quiet, verbose=True)


def test_junit_has_a_suite_a_problem_and_a_case_a_question():
    root = ET.fromstring(junit.xml(check()))
    assert root.tag == "testsuites"
    assert {k: root.get(k) for k in ("tests", "failures", "errors", "skipped", "time")} == {
        "tests": "5", "failures": "1", "errors": "0", "skipped": "0", "time": "92.300"}  # fmt: skip
    assert [(s.get("name"), s.get("tests"), s.get("failures"), s.get("time")) for s in root] == [
        ("linear", "2", "0", "1.500"), ("port", "3", "1", "90.000")]  # fmt: skip
    cases = root.findall(".//testcase")
    assert [(c.get("classname"), c.get("name")) for c in cases] == [
        ("crossbackend.linear", "solved"), ("crossbackend.linear", "agreement"), ("crossbackend.port", "solved"),
        ("crossbackend.port", "agreement"), ("crossbackend.port", "flag")]  # fmt: skip
    assert [c.get("time") for c in cases] == ["1.500", "0.000", "90.000", "0.000", "0.000"]
    failure = root.find(".//failure")
    assert failure.get("type") == "mathematics"
    assert "the gradients differ by 3.1e-2" in failure.get("message")
    assert "worst leaf params/w: torchdiffeq 0.12345678901234566, diffrax 0.12" in failure.text
    assert "norm_diluted" in cases[-1].find("system-out").text
    assert junit.xml(check()) == junit.xml(check())


def test_junit_of_one_problem_takes_the_whole_time_where_its_own_is_not_known():
    root = ET.fromstring(junit.xml(Check(["linear"], check().of("linear"), wall_s=3.0)))
    assert [element.get("time") for element in (root, *root.iter("testsuite"), *root.iter("testcase"))] == [
        "3.000", "3.000", "3.000", "0.000"]  # fmt: skip


def test_what_a_flag_says_to_do_is_no_reason():
    assert "advice: take a norm" in table.details(replace(FLAG, evidence="take a norm"))
    assert "because: the difference is the same at both tolerances" in table.details(WRONG)


def test_junit_names_each_case_once_and_cuts_what_is_endless():
    findings = [replace(WRONG, rtol=10.0**-n, evidence=str(n)) for n in range(3, 200)]
    root = ET.fromstring(junit.xml(Check(["port"], findings)))
    assert len(root.findall(".//testcase")) == len(root.findall(".//failure")) == 1
    text = root.find(".//failure").text
    assert text.count("points to") == junit.SHOWN
    assert text.endswith("147 more like these")


def test_junit_is_xml_whatever_it_holds():
    bad = [replace(WRONG, text=HOSTILE, leaf=HOSTILE, evidence=HOSTILE, sides=(HOSTILE, ""), problem=HOSTILE),
           replace(FLAG, text=HOSTILE, problem=HOSTILE),
           replace(WRONG, text=HOSTILE, problem=HOSTILE, what=HOSTILE)]  # fmt: skip
    content = junit.xml(Check([HOSTILE], bad, {HOSTILE: 1.0}))
    root = ET.fromstring(content)
    assert len(root.findall(".//testcase")) == 3
    assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]", content)
    assert "<b>&amp;]]>" in root.find(".//failure").text


FIELD = """import functools
from crossbackend import Problem


def loss(ys, params, data):
    return (ys ** 2).sum()


def field(t, y, params, data):
    return -params["k"] * y


problem = Problem("port", {field}, loss, {{"k": [1.0]}}, [1.0], [0.0, 1.0])
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a folder of problems."""
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    (tmp_path / "problems").mkdir()

    def write(field="field", more=""):
        path = tmp_path / "problems" / "port.py"
        path.write_text(FIELD.format(field=field) + more, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("field", 9), ("functools.partial(field)", 9), ('{"torch": field, "jax": loss}', 9),
        ("lambda t, y, params, data: y", 13), ("functools.lru_cache(field)", 9),
        ("functools.wraps(field)(lambda *given: field(*given))", 9),
    ],
)  # fmt: skip
def test_an_annotation_stands_at_the_vector_field(repository, field, line):
    first, second = github.annotations(check(), {"port": repository(field), "linear": Path("/nowhere.py")})
    where = f"file=problems/port.py,line={line},title=port%3A"
    assert first.startswith(f"::error {where} agreement failed::torchdiffeq, diffrax; norm seminorm, matched, rtol")
    assert "%0Aworst leaf params/w: torchdiffeq 0.12345678901234566, diffrax 0.12" in first
    assert second.startswith(f"::warning {where} flag warned::diffrax; norm default, native, rtol 0.0001%0Anorm_dilut")


def test_an_annotation_without_a_place(repository, tmp_path, monkeypatch):
    path = repository()
    assert github.annotations(check(), {})[0].startswith("::error title=port%3A agreement failed::")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "elsewhere"))
    assert github.annotations(check(), {"port": path})[0].startswith("::error title=")
    monkeypatch.delenv("GITHUB_WORKSPACE")
    (tmp_path / ".git").mkdir()
    assert github.annotations(check(), {"port": path})[0].startswith("::error file=problems/port.py,line=9,")
    path.write_text("raise SystemExit", encoding="utf-8")
    assert github.annotations(check(), {"port": path})[0].startswith("::error file=problems/port.py,line=1,")


def test_an_annotation_cannot_be_another_command(repository, tmp_path):
    odd = tmp_path / "a,b:c%.py"
    odd.write_text(repository().read_text(encoding="utf-8"), encoding="utf-8")
    bad = Check(["port"], [replace(WRONG, text=HOSTILE, leaf=HOSTILE, evidence=HOSTILE, what="agreement")])
    (line,) = github.annotations(bad, {"port": odd})
    assert line.startswith("::error file=a%2Cb%3Ac%25.py,line=9,title=port%3A agreement failed::")
    assert "\n" not in line
    assert "\r" not in line
    assert "%250A::error::x" in line  # its own per cent sign is data


def test_alike_findings_share_an_annotation():
    findings = [replace(WRONG, rtol=10.0**-n) for n in range(3, 12)] + [FLAG]
    lines = github.annotations(Check(["port"], findings), {})
    assert len(lines) == 2
    assert lines[0].endswith("%0Aand 8 other findings like it")


def test_the_summary_is_a_table_and_what_went_wrong():
    text = github.summary(check())
    assert "| problem | solved | agreement | flag | seconds |\n| --- | --- | --- | --- | --- |" in text
    assert "| linear | pass | pass |  | 1.5 |" in text
    assert "| port | pass | **FAIL** | warn | 90.0 |" in text
    assert "Failed. 2 problems: 3 pass, 1 warn, 1 fail in 92 s" in text
    assert "- **port: agreement** torchdiffeq, diffrax; norm seminorm" in text
    assert "diffrax; norm default, native, rtol 0.0001<br>norm\\_diluted" in text


def test_the_summary_takes_nothing_for_markdown_and_stays_small():
    bad = [replace(WRONG, text=HOSTILE), *(replace(WRONG, text="wort " * 9999, rtol=10.0**-n) for n in range(1, 60))]
    text = github.summary(Check(["port"], bad))
    assert len(text.encode()) <= github.LARGEST
    assert text.endswith("The rest is left out: a summary may take 1 MiB.\n")
    line = next(line for line in text.splitlines() if "set-output" in line)
    assert "&lt;b&gt;" in line
    assert "\\`z\\` \\[q\\](u)" in line
    assert not re.search(r"[^\\]\||<b>|@me", line)
    few = github.summary(Check(["port"], [replace(WRONG, rtol=10.0**-n) for n in range(1, 60)]))
    assert few.endswith("- and 9 more\n")


def test_the_outputs_need_neither_torch_nor_jax():
    program = """
import sys
from tests.check.cases import check
from crossbackend.check import baseline, github, junit, table
table.text(check()), junit.xml(check()), github.annotations(check(), {}), github.summary(check())
import crossbackend.pytest_plugin
print(sorted({"torch", "jax", "matplotlib", "distributed"} & set(sys.modules)))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False,
                           cwd=Path(__file__).parents[2])  # fmt: skip
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


def test_every_question_and_cause_has_words():
    assert set(table.CAUSES) == set(Cause)
    assert set(WHAT) >= {answer.what for answer in table.answers(check().findings)}
