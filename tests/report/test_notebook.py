"""What a notebook shows: whole HTML that stays within itself, beside any other output, and one line of text."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from crossbackend.compare import Comparison, compare
from crossbackend.notebook import as_html
from crossbackend.record import Record, Status
from crossbackend.report import notebook, verdict
from crossbackend.report.formats import sci, whole
from crossbackend.report.page import template
from crossbackend.store import Run
from tests.report import synthetic
from tests.report.test_html import Page

RECORDS = {
    "native": lambda: synthetic.record("lotka_volterra", "torchdiffeq", "native", "default", 1e-6),
    "matched": lambda: synthetic.record("lotka_volterra", "diffrax", "matched", "seminorm", 1e-6),
    "hostile": lambda: synthetic.hostile_name_run().records[0],
    **{
        str(status): lambda status=status: synthetic.fail(
            synthetic.record("lotka_volterra", "scipy", "native", "default", 1e-6), status, "max|y| reached 4e8"
        )
        for status in Status
        if status != Status.OK
    },
    "bare": lambda: Record("x", synthetic.record("x", "scipy", "native", "default", 1e-6).plan, Status.OK),
}
SHOWN = {
    **{f"run {name}": make for name, make in synthetic.MADE.items()},
    **{f"record {name}": make for name, make in RECORDS.items()},
}


@pytest.fixture(scope="module")
def values():
    return {name: make() for name, make in SHOWN.items()}


@pytest.fixture(scope="module")
def displays(values):
    """Every value as it is shown in two cells of one notebook."""
    return {name: (value._repr_html_(), value._repr_html_()) for name, value in values.items()}


def ids(text):
    return re.findall(r'\bid="([^"]*)"', text)


def references(text):
    return re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', text)


def style(text):
    (found,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    return re.sub(r"/\*.*?\*/", "", found, flags=re.DOTALL)


def rules(sheet):
    """Return (selectors, declarations) of a style sheet without nesting but one level of at-rules."""
    inner = re.sub(r"@container[^{]*\{((?:[^{}]*\{[^{}]*\})*)\s*\}", r"\1", sheet)
    return [(selector.strip(), body) for selector, body in re.findall(r"([^{}]+)\{([^{}]*)\}", inner)]


@pytest.mark.parametrize("name", SHOWN)
def test_a_fragment_is_whole_and_no_page(displays, name):
    page = Page(displays[name][0])
    tags = {tag for tag, _ in page.tags}
    assert page.tags[0][0] == "div"
    assert not tags & {
        "html",
        "head",
        "body",
        "script",
        "link",
        "iframe",
        "img",
        "object",
        "form",
        "input",
        "base",
        "a",
    }
    assert not re.search(r"<h[1-6]", displays[name][0])  # the notebook's own table of contents is the user's
    assert not [attrs for _, attrs in page.tags if any(key.startswith("on") for key in attrs)]


@pytest.mark.parametrize("name", SHOWN)
def test_nothing_is_loaded_from_anywhere(displays, name):
    for tag, attrs in Page(displays[name][0]).tags:
        for key in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            assert attrs.get(key, "").startswith("#") or key not in attrs, (tag, attrs)
        assert "http" not in attrs.get("style", "")
    assert not re.search(r"@import|url\(|http", style(displays[name][0]))


@pytest.mark.parametrize("name", SHOWN)
def test_two_displays_share_no_id_and_point_into_themselves(displays, name):
    first, second = displays[name]
    assert len(ids(first)) == len(set(ids(first)))
    assert not set(ids(first)) & set(ids(second))
    for text in (first, second):
        assert {a or b for a, b in references(text)} <= set(ids(text))


def test_drawings_have_ids_to_share(displays):
    assert len(ids(displays["run full"][0])) > 50
    assert len(references(displays["run full"][0])) > 300
    assert len(ids(displays["record native"][0])) > 3


def test_no_two_values_of_one_notebook_share_an_id(displays):
    found = [name for pair in displays.values() for text in pair for name in ids(text)]
    assert len(found) == len(set(found))


@pytest.mark.parametrize("name", SHOWN)
def test_styles_reach_nothing_else(displays, name):
    text = displays[name][0]
    (own,) = re.findall(r'^<div class="crossbackend (crossbackend-\w+) ', text)
    found = rules(style(text))
    assert len(found) > 30
    themes = [f"{theme} .{own}" for theme in notebook.DARK]
    for selectors, _ in found:
        for selector in selectors.split(", "):
            assert selector.startswith((".crossbackend.crossbackend", f".{own}")) or selector in themes, selector
    assert style(text).count("@") == 1  # the one that looks at the output's own width


def test_colours_are_the_outputs_own():
    """Two runs have other backends under the same variable: the second must not paint the first one's charts."""
    alone = Run(None, records=[synthetic.record("lotka_volterra", "torchdiffeq", "native", "default", 1e-6)])
    texts = [value._repr_html_() for value in (compare(alone), synthetic.single())]
    first, second = (re.findall(r"\.(crossbackend-\w+) \{[^}]*--b0: (#\w+)", style(text))[0] for text in texts)
    assert first[0] != second[0]
    assert (first[1], second[1]) == ("#c24e00", "#0069a8")


@pytest.mark.parametrize("name", ["run full", "record native", "record matched"])
def test_every_variable_is_defined_in_both_themes(displays, name):
    text = displays[name][0]
    used = set(re.findall(r"var\(--(\w+)\)", text.replace(style(text), ""))) | set(
        re.findall(r"var\(--(\w+)\)", template("notebook.css"))
    )
    light, dark = (body for selectors, body in rules(style(text)) if "--ink:" in body)
    assert used >= {"ink", "grid", "b0", "paper", "pass"}
    assert [variable for variable in used if f"--{variable}:" not in light] == []
    coloured = re.findall(r"--(\w+): #", light)
    assert re.findall(r"--(\w+): #", dark) == coloured
    assert set(coloured) >= used - {"sans", "mono"}
    assert not set(re.findall(r"#0[0-9]0[0-9a-f]{3}\b", text.replace(style(text), "")))  # no sentinel is left


def test_themes_are_the_pages_own():
    text = synthetic.single()._repr_html_()
    (light, ink_light), (dark, ink_dark) = (
        (selectors, re.findall(r"--ink: (#\w+)", body)[0]) for selectors, body in rules(style(text)) if "--ink:" in body
    )
    assert [ink_light, ink_dark] == re.findall(r"--ink: (#\w+)", template("page.css"))
    assert light.startswith(".crossbackend-")
    assert [selector.rpartition(" ")[0] for selector in dark.split(", ")] == list(notebook.DARK)
    assert 'body[data-jp-theme-light="false"]' in notebook.DARK
    assert ".vscode-dark" in notebook.DARK


@pytest.mark.parametrize("name", ["run hostile", "run names", "record hostile"])
def test_hostile_words_are_shown_and_nothing_more(displays, name):
    page = Page(displays[name][0])
    shown = synthetic.HOSTILE.replace("\x07", "\ufffd")
    assert "\x07" not in displays[name][0]
    assert any(shown in words for words in page.words)
    assert all("onmouseover" not in attrs for attrs in page.all("b"))
    assert "mathjax_ignore" in page.tags[0][1]["class"].split()  # `$x$` in a name is no formula


class TestComparison:
    def test_the_matrix_counts_what_the_comparison_counts(self, values, displays):
        text = displays["run full"][0]
        table = text.partition("<table")[2].partition("</table>")[0]
        for name, number in verdict.counts(values["run full"]).items():
            assert table.count(f"is-{name}") == number

    def test_tiles_and_sentences_are_the_reports(self, values, displays):
        words = "".join(Page(displays["run full"][0]).words)
        assert "of 48 matched cells agree" in words
        for point in values["run full"].points():
            assert point.topic in words
        assert "On lotka_volterra the backends do not agree although they were to take the same steps" in words
        assert "This run is not complete: 360 of 372 planned records are there." in words

    def test_a_figure_for_each_problem_that_has_errors(self, displays):
        page = Page(displays["run full"][0])
        drawn = [problem for problem in synthetic.PROBLEMS if problem != synthetic.NO_REFERENCE]
        labels = [attrs["aria-label"] for attrs in page.all("svg") if attrs.get("class") == "chart"]
        assert [label.partition(":")[0] for label in labels] == sorted(drawn)
        assert any(f"no native plan has a known gradient error: {synthetic.NO_REFERENCE}." in w for w in page.words)

    def test_the_points_say_their_values_and_only_native_ones_are_there(self, displays):
        text = displays["run full"][0]
        assert "diffrax, seminorm, native, rtol 10⁻⁶: 2.0×10⁻⁵ at 388" in text
        assert 'data-s="native"' in text
        assert 'data-s="matched"' not in text

    def test_the_legend_names_every_backend_and_norm(self, displays):
        text = displays["run full"][0]
        keys = text.partition('<ul class="keys"')[2].partition("</ul>")[0]
        assert re.findall(r"</(?:i|svg)>([^<]+)</li>", keys) == [
            *synthetic.BACKENDS,
            "default",
            "seminorm",
            "mixed-seminorm",
        ]
        assert len(set(re.findall(r"var\(--(b\d)\)", keys))) == 3

    def test_many_problems_are_not_all_drawn(self):
        text = synthetic.large(8 * 60)._repr_html_()
        assert text.count('<svg class="chart"') == notebook.MOST_FIGURES
        assert "Only the first 6 problems are drawn; 2 more are in the report." in text

    def test_an_empty_one_says_so(self, displays):
        text = displays["run empty"][0]
        assert "This run has no records yet." in text
        assert "<svg" not in text
        assert "<table" not in text

    def test_matched_plans_alone_have_their_matrix(self):
        rows = [r for r in synthetic.run().records if r.stepping == "matched" and r.problem == "neural_ode"]
        text = compare(Run(None, records=rows))._repr_html_()
        Page(text)
        assert text.count("is-pass") > 8
        assert 'class="chart"' not in text
        assert "Not drawn, for no native plan has a known gradient error: neural_ode." in text

    def test_the_way_to_the_report_is_named(self, displays):
        assert "<code>crossbackend.report(folder)</code>" in displays["run single"][0]

    def test_a_fragment_is_compact(self, displays):
        assert len(displays["run full"][0]) < 150_000


class TestRecord:
    def test_what_was_asked_and_what_came_of_it(self, values, displays):
        record = values["record native"]
        cells = re.findall(r"<t[hd][^>]*>([^<]*)", displays["record native"][0])
        for text in (
            "torchdiffeq", "default", "native", "backsolve", "10⁻⁶", sci(record.error["all"]), "reference good to",
            whole(record.forward["nfe"]), whole(record.backward["nfe"]), whole(record.backward["spurious"]), "median",
            "400 MB",
        ):  # fmt: skip
            assert text in cells

    @pytest.mark.parametrize("status", [status for status in Status if status != Status.OK])
    def test_what_did_not_finish_comes_with_advice(self, displays, status):
        words = "".join(Page(displays[f"record {status}"][0]).words)
        assert str(status).replace("_", " ") in words
        assert f"max|y| reached 4e8. {status.advice}" in words
        assert ("✕" in words) == (status != Status.UNSUPPORTED)

    @pytest.mark.parametrize("name", ["native", "matched"])
    def test_its_backward_steps_are_drawn(self, values, displays, name):
        text = displays[f"record {name}"][0]
        counts = values[f"record {name}"].backward
        assert text.count('<svg class="chart"') == 1
        assert f"{counts['accepted']} accepted" in text

    def test_a_gradient_not_to_be_trusted_is_no_green_one(self):
        """Nothing is recorded as wrong: the solve finished. What the record itself shows is said all the same."""
        record = synthetic.record(synthetic.UNSTABLE, "scipy", "native", "default", 1e-6)
        page = Page(record._repr_html_())
        assert page.all("li") == [{"class": "tile is-unstable"}]
        words = "".join(page.words)
        assert "backsolve unstable: integrating back, y misses the stored solution by 0.1 of its size" in words
        assert "the backsolve gradient is not to be trusted at any tolerance" in words
        assert Page(RECORDS["native"]()._repr_html_()).all("li") == [{"class": "tile is-pass"}]

    def test_without_a_reference_the_error_is_said_to_be_unknown(self):
        record = synthetic.record(synthetic.NO_REFERENCE, "scipy", "matched", "default", 1e-6)
        text = record._repr_html_()
        assert "not known: no reference" in text
        assert "one ulp moves it by" in text

    def test_without_steps_there_is_no_drawing(self, displays):
        assert 'class="chart"' not in displays["record crashed"][0]
        assert "not measured" in displays["record bare"][0]
        assert "not known" in displays["record bare"][0]

    def test_showing_changes_nothing(self):
        record = RECORDS["matched"]()
        before = (dict(record.plan), record.status, sorted(record.arrays))
        record._repr_html_()
        assert (record.plan, record.status, sorted(record.arrays)) == before


class TestText:
    def test_a_comparison_is_one_line(self):
        said = repr(synthetic.full())
        assert said == ("<Comparison 'latest': 6 problems, 360 records; matched cells: 45 pass, 2 unstable, 1 fail>")
        assert repr(synthetic.empty()) == "<Comparison 'run': 0 problems, 0 records; no matched cells>"
        assert (
            repr(synthetic.single().problems[0]) == "<ProblemComparison 'lotka_volterra': 1 record; no matched cells>"
        )

    def test_a_record_is_one_line(self):
        record = synthetic.record("lotka_volterra", "scipy", "native", "default", 1e-6)
        record.error["all"] = 2.5e-6
        assert repr(record) == "<Record lotka_volterra, scipy, default, native, rtol 1e-06: ok, gradient error 2.5e-06>"
        failed = synthetic.fail(record, Status.DIVERGED, "words")
        assert repr(failed) == "<Record lotka_volterra, scipy, default, native, rtol 1e-06: diverged>"

    def test_hostile_names_are_still_one_line(self):
        record = RECORDS["native"]()
        record.plan = {**record.plan, "problem": "a\nb\x07\u202e"}
        comparison = replace(synthetic.empty(), about={"name": "a\nb\u202e"})
        assert repr(record).startswith("<Record a\\nb\\x07\\u202e, torchdiffeq")
        assert repr(comparison).startswith("<Comparison 'a\\nb\\u202e':")

    def test_equal_records_are_still_equal(self):
        plan = {"problem": "p", "rtol": 1e-6}
        assert Record("x", plan, Status.OK) == Record("x", plan, Status.OK)
        assert Record("x", plan, Status.OK) != Record("y", plan, Status.OK)


class TestSeam:
    def test_other_values_have_no_html(self):
        assert as_html(3) is None
        assert as_html(np.ones(2)) is None

    def test_a_kind_of_comparison_is_shown_as_one(self):
        class Own(Comparison):
            pass

        assert "This run has no records yet." in as_html(Own({}, [], []))

    def test_nothing_heavy_is_loaded_before_something_is_shown(self):
        code = """
import sys
import crossbackend.compare
from crossbackend.record import Record, Status
heavy = ("matplotlib", "jinja2", "markupsafe", "typst", "pandas", "crossbackend.report.notebook")
early = [name for name in heavy if name in sys.modules]
record = Record("x", {"problem": "p", "backend": "b", "norm": "n", "stepping": "native", "rtol": 1e-6}, Status.OK)
shown = record._repr_html_()
late = [name for name in ("torch", "jax", "typst", "pandas", "matplotlib.pyplot") if name in sys.modules]
print(early, shown.startswith("<div"), late)
"""
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
        assert (done.stdout.strip(), done.stderr) == ("[] True []", "")
