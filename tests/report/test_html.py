"""The HTML page: complete, the same twice, deaf to what hostile records say."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from crossbackend.compare import compare
from crossbackend.record import Status
from crossbackend.report import cells, html, page, view, write
from crossbackend.report.cells import COLUMNS
from crossbackend.report.formats import NONE, sci, seconds, size, tolerance, whole
from tests.report import synthetic

VOID = {"meta", "link", "input", "br", "img", "hr"}
MADE = tuple(synthetic.MADE)


class Page(HTMLParser):
    """Elements, their nesting checked, and the text of rows."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def rendered():
    return {name: html.render(synthetic.shown(name)).decode() for name in MADE}


@pytest.fixture(scope="module")
def pages(rendered):
    return {name: Page(text) for name, text in rendered.items()}


@pytest.mark.parametrize("name", MADE)
def test_every_element_is_closed_and_every_id_is_there_once(pages, name):
    ids = [attrs["id"] for _, attrs in pages[name].tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert len(pages[name].all("h1")) == 1


@pytest.mark.parametrize("name", MADE)
def test_every_section_is_there_whatever_the_run_holds(pages, name):
    sections = [attrs["id"] for attrs in pages[name].all("section")]
    assert sections == ["summary", "verdict", "cost", "why", "problems", "records", "environment"]


def test_same_comparison_same_bytes(rendered):
    assert html.render(view.build(synthetic.full())).decode() == rendered["full"]


@pytest.mark.parametrize("name", MADE)
def test_nothing_is_loaded_from_anywhere(pages, name):
    for tag, attrs in pages[name].tags:
        for key in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            value = attrs.get(key, "")
            link = tag == "a" and key == "href" and value.startswith("https://arxiv.org/")
            assert value == "" or value.startswith(("#", "data:")) or link, (tag, key, value)
        assert "http" not in attrs.get("style", "")
    assert not re.search(r"@import|url\((?!#)", page.template("page.css") + page.template("report.css"))


@pytest.mark.parametrize("name", MADE)
def test_the_browser_is_told_to_refuse_all_but_our_script(pages, rendered, name):
    policy = next(a["content"] for a in pages[name].all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    script = rendered[name].rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize("name", ["hostile", "names"])
def test_hostile_words_are_shown_and_nothing_more(pages, rendered, name):
    page = pages[name]
    assert len(page.all("script")) == 2
    assert not page.all("b") or all("onmouseover" not in attrs for attrs in page.all("b"))
    assert not [attrs for _, attrs in page.tags if any(key.startswith("on") for key in attrs)]
    assert "\x07" not in rendered[name]
    shown = synthetic.HOSTILE.replace("\x07", "\ufffd")
    assert any(shown in words for words in page.words)


def test_every_record_is_in_the_table_and_in_the_data(rendered):
    comparison = synthetic.full()
    body = re.findall(r'<tr data-i="(\d+)">(.*?)</tr>', rendered["full"], re.DOTALL)
    assert [int(i) for i, _ in body] == list(range(360))
    data = json.loads(re.findall(r'id="data">(.*?)</script>', rendered["full"], re.DOTALL)[0])
    assert [row[data["columns"].index("digest")] for row in data["rows"]] == [r.digest for r in comparison.records]
    for record, (_, text) in zip(comparison.records, body, strict=True):
        assert str(record.status).replace("_", " ") in text
        assert text.count("<t") == len(COLUMNS)


def test_a_column_shows_the_number_that_it_is_sorted_by():
    comparison = synthetic.full()
    data, rows = cells.numbers(comparison), cells.rows(comparison)
    shown = (sci, whole, seconds, size, tolerance, lambda n: f"{whole(n)} + ")
    sorted_by = [(at, data["columns"].index(column.key)) for at, column in enumerate(cells.COLUMNS) if column.key]
    assert len(sorted_by) == 11
    for numbers, row in zip(data["rows"], rows, strict=True):
        for at, behind in sorted_by:
            number, text = numbers[behind], row[at].text
            assert text == NONE if number is None else any(text.startswith(form(number)) for form in shown), (at, text)


def test_a_failed_record_has_its_advice_and_a_mark_in_the_chart(rendered):
    text = rendered["full"]
    assert Status.TIMEOUT.advice in text
    assert "scipy, seminorm, native, rtol 10⁻¹⁰: timeout. max|y| reached 4e8" in text


def test_the_matrix_counts_what_the_comparison_counts(rendered):
    comparison = synthetic.full()
    table = rendered["full"].partition('id="table-matched"')[2].partition("</table>")[0]
    verdicts = [cell.verdict for item in comparison.problems for cell in item.matched]
    for verdict in ("pass", "unstable", "fail", "missing"):
        assert table.count(f"is-{verdict}") == verdicts.count(verdict)
    assert verdicts.count("pass") > verdicts.count("unstable") > verdicts.count("fail") > 0


def test_no_sentinel_colour_is_left_and_both_themes_define_every_variable(rendered):
    text = rendered["full"]
    drawings = re.findall(r'<svg class="chart".*?</svg>', text, re.DOTALL)
    assert len(drawings) > 30
    used = set()
    for drawing in drawings:
        assert set(re.findall(r"#[0-9a-f]{6}\b", drawing)) == set()
        assert "http" not in drawing
        used |= set(re.findall(r"var\(--(\w+)\)", drawing))
    dark = "".join(re.findall(r"prefers-color-scheme: ?dark\)\s*\{\s*:root\s*\{(.*?)\}\s*\}", text, re.DOTALL))
    light = text.partition("@media")[0] + page.template("page.css").partition("@media")[0]
    assert used >= {"b0", "b1", "b2", "ink", "grid"}
    assert [name for name in used if f"--{name}:" not in dark or f"--{name}:" not in light] == []


def test_every_drawing_says_in_words_what_it_shows(rendered):
    labels = re.findall(r'<svg class="chart" viewBox="[^"]*" role="img" aria-label="([^"]+)"', rendered["full"])
    assert len(labels) == rendered["full"].count('<svg class="chart"')
    assert len(set(labels)) == len(labels)


def test_points_say_their_values(rendered):
    titles = re.findall(r"<use [^>]*><title>([^<]*)</title></use>", rendered["full"])
    assert "diffrax, seminorm, native, rtol 10⁻⁶: 2.0×10⁻⁵ at 388" in titles
    assert len(titles) > 1000


def test_every_chart_says_values():
    shown = synthetic.shown("full")
    charts = [chart for group in shown.groups.values() for chart in group.charts]
    charts += [problem.picture for problem in shown.problems]
    assert len(charts) > 40
    assert [chart.name for chart in charts if "<title>" not in chart.svg] == []
    picture = next(problem.picture for problem in shown.problems if problem.name == "lotka_volterra")
    assert "<title>y0: 0.909 at t = 2</title>" in picture.svg  # sin 2
    assert len(re.findall("<title>y1: ", picture.svg)) <= 30


def test_matched_series_wait_for_their_switch(rendered):
    matched = re.findall(r'<g class="mark"[^>]*data-s="matched"[^>]*>', rendered["full"])
    assert matched
    assert all('style="display:none"' in group for group in matched)


def test_warnings_are_said_once_a_problem(pages, rendered):
    """An unstable reverse solve, an uncertain reference, and breakpoints that no step ends on: three kinds."""
    assert rendered["full"].count('<div class="warning">') == 3
    for advice in ("backsolve gradient is not to be trusted", "declare the breakpoints, or take", "steps over a time"):
        assert sum(advice in words for words in pages["full"].words) == 1


def test_an_interrupted_run_is_named_as_such(rendered):
    assert "This run is not complete: 360 of 372 planned records are there." in rendered["full"]


def test_declined_plans_and_damaged_files_are_listed_with_their_reasons(rendered):
    assert "diffrax has no a_t" in rendered["full"]
    assert "records/0123.json: the checksum does not hold" in rendered["full"]


def test_write_gives_both_files_and_leaves_nothing_else(tmp_path):
    paths = write(synthetic.single(), tmp_path / "run")
    assert [path.name for path in paths] == ["index.html", "report.pdf"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["index.html", "report.pdf"]
    assert write(synthetic.single(), tmp_path / "run", pdf=False) == paths[:1]


def test_a_report_needs_neither_torch_nor_jax_and_the_package_no_matplotlib(tmp_path):
    code = f"""
import sys, pathlib
import crossbackend
from crossbackend.report import write
early = [name for name in ("matplotlib", "jinja2", "typst", "pandas") if name in sys.modules]
from tests.report import synthetic
write(synthetic.single(), pathlib.Path({str(tmp_path)!r}))
late = [name for name in ("torch", "jax", "diffrax", "torchdiffeq", "matplotlib.pyplot") if name in sys.modules]
print(early, late)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[] []", "")


def test_records_with_half_their_parts_missing_are_shown():
    run = synthetic.run()
    for index, record in enumerate(run.records):
        record.forward = None if index % 5 == 0 else record.forward
        record.time = {"median_s": None} if index % 7 == 0 and record.stepping == "matched" else record.time
        record.error = {} if index % 11 == 0 else record.error
        record.settings = {"forward": {}, "backward": {}} if index % 2 else record.settings
    run.cards = {"neural_ode": {"picture": {"t": [0, 1], "series": [{"y": [1]}, 3]}, "state": 3, "ts": [1.0]}}
    run.references = {"neural_ode": {"status": None}}
    run.about = {"machine": [], "versions": None, "created": "yesterday", "declined": ["x", {}], "planned": "many"}
    Page(html.render(view.build(compare(run))).decode())
