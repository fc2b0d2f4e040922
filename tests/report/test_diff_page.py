"""The page of what changed: complete whatever changed, the same twice, deaf to what hostile records say."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crossbackend.compare import compare
from crossbackend.diff import diff
from crossbackend.record import Status
from crossbackend.report.diff_page import FIRST, render
from crossbackend.store import Run
from tests.report import synthetic
from tests.report.test_html import Page

SECTIONS = ["summary", "results", "times", "flags", "cells", "environment"]
TABLES = {"statuses", "changed", "changed-more", "references", "settings", "backends", "times", "flags", "verdicts",
          "alone", "made", "problems"}  # fmt: skip


def upgraded(*, hostile=False):
    """Return the made-up run of 360 records after an upgrade that changed something of every kind."""
    run = synthetic.run(hostile=hostile)
    run.about |= {"versions": {"crossbackend": "0.1.0", "torch": "3.0.0"}, "timing": False}
    run.about["machine"] = {**run.about["machine"], "cores": 64}
    run.references["neural_ode"]["floor"] = 1e-7
    run.cards["lotka_volterra"]["ts"] = [0.0, 10.0]
    run.records = [record for record in run.records if record.plan["norm"] != "mixed-seminorm"]
    for record in run.records:
        if record.backend != "torchdiffeq" or record.status != Status.OK:
            continue
        record.backward["nfe"] += 7
        record.settings["forward"]["accept"] = "ratio < 1"
        for name in list(record.arrays):
            if name.startswith("gradient/"):
                record.arrays[name] = record.arrays[name] * (1 + record.rtol)
        if record.time:
            record.time |= {name: 3 * record.time[name] for name in ("q1_s", "median_s", "q3_s")}
        if record.problem == "neural_ode" and record.rtol == 1e-10:
            synthetic.fail(record, Status.TIMEOUT, "")
        if record.problem == "double_pendulum" and record.rtol == 1e-8:
            record.reconstruction_error = 1.0
            del record.arrays["gradient/y0/angle"]
    return run


def mirrored_names():
    run = synthetic.hostile_name_run()
    for record in run.records:
        if record.problem == synthetic.HOSTILE:
            record.backward["nfe"] += 1
            record.time = None
    return run


MADE = {
    "itself": lambda: diff(synthetic.full(), synthetic.full()),
    "upgrade": lambda: diff(synthetic.full(), compare(upgraded()), ("before", "after")),
    "hostile": lambda: diff(
        compare(synthetic.run(hostile=True)), compare(upgraded(hostile=True)), (synthetic.HOSTILE, synthetic.HOSTILE)
    ),
    "names": lambda: diff(compare(synthetic.hostile_name_run()), compare(mirrored_names())),
    "empty": lambda: diff(synthetic.empty(), synthetic.empty()),
    "other problems": lambda: diff(synthetic.full(), synthetic.single()),
    "nothing said": lambda: diff(
        compare(Run(Path(), {"machine": [], "versions": None, "created": 3}, synthetic.run().records)), synthetic.full()
    ),
}


@pytest.fixture(scope="module")
def rendered():
    return {name: render(make()).decode() for name, make in MADE.items()}


@pytest.fixture(scope="module")
def pages(rendered):
    return {name: Page(text) for name, text in rendered.items()}


def table(text, name):
    """Return the rows of a table as lists of cells' texts."""
    body = text.partition(f'id="table-{name}"')[2].partition("<tbody>")[2].partition("</tbody>")[0]
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.DOTALL)
    return [[re.sub(r"<[^>]*>", " ", cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


@pytest.mark.parametrize("name", MADE)
def test_every_element_is_closed_and_every_section_is_there(pages, name):
    ids = [attrs["id"] for _, attrs in pages[name].tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert len(pages[name].all("h1")) == 1
    assert [attrs["id"] for attrs in pages[name].all("section")] == SECTIONS
    assert [attrs["href"] for attrs in pages[name].all("a")][1:] == [f"#{section}" for section in SECTIONS]


def test_every_kind_of_change_has_its_table_with_a_caption(rendered):
    text = rendered["upgrade"]
    assert set(re.findall(r'<table id="table-([\w-]+)"', text)) == TABLES
    assert text.count("<table ") == len(re.findall(r"<caption><span>\w[^<]{20,}</span></caption>", text))
    assert '<th scope="col"></th>' not in text


def test_a_run_with_itself_says_so(rendered):
    text = rendered["itself"]
    assert "Nothing differs." in text
    assert set(re.findall(r'<table id="table-([\w-]+)"', text)) == {"backends"}
    for words in ("No result changed by more than rounding.", "No flag and no verdict changed.",
                  "Both runs hold the same cells.", "Versions, machine and command are the same."):  # fmt: skip
        assert words in text


@pytest.mark.parametrize("name", MADE)
def test_nothing_is_loaded_and_no_script_runs(pages, name):
    page = pages[name]
    assert page.all("script") == []
    assert not [attrs for _, attrs in page.tags if any(key.startswith("on") for key in attrs)]
    for _, attrs in page.tags:
        for key in ("src", "href", "action", "data"):
            assert attrs.get(key, "#").startswith(("#", "data:")), attrs
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "script-src" not in policy


@pytest.mark.parametrize("name", ["hostile", "names"])
def test_hostile_words_are_shown_and_nothing_more(pages, rendered, name):
    shown = synthetic.HOSTILE.replace("\x07", "\ufffd")
    assert "\x07" not in rendered[name]
    assert all("onmouseover" not in attrs for attrs in pages[name].all("b"))
    assert any(shown in words for words in pages[name].words)


def test_equal_differences_give_equal_bytes(rendered):
    assert render(MADE["upgrade"]()).decode() == rendered["upgrade"]


def test_the_tables_hold_what_the_difference_holds(rendered):
    found, text = MADE["upgrade"](), rendered["upgrade"]
    numbers = [cell for cell in found.results if "status" not in cell.changed]
    assert len(found.results) > len(numbers) > FIRST
    assert len(table(text, "changed")) == FIRST
    assert len(table(text, "changed-more")) == len(numbers) - FIRST
    assert f"Table: {len(numbers) - FIRST} more cells that changed" in text
    said = [row[-2] for row in table(text, "statuses")]
    assert {"ok → timeout", "y0/angle is missing in B"} <= set(said)
    assert len(table(text, "flags")) == len(found.flags)
    assert len(table(text, "verdicts")) == len(found.verdicts)
    assert len(table(text, "alone")) == sum(len(rows) for rows in found.only)
    assert len(table(text, "backends")) == len(found.backends) == 3
    assert len(table(text, "times")) == sum(row.verdict in ("slower", "faster") for row in found.times)
    for sentence in found.summary():
        assert sentence.split("(")[0].split(" -> ")[0].split(" %")[0][:30] in text


def test_a_lost_leaf_is_said_once_a_problem_and_in_no_table_of_numbers():
    run = synthetic.run()
    for record in run.records:
        if record.problem == "double_pendulum":
            record.arrays.pop("gradient/y0/angle", None)
    text = render(diff(synthetic.full(), compare(run))).decode()
    assert [row[:2] for row in table(text, "statuses")] == [["double_pendulum", "y0/angle is missing in B"]]
    assert 'id="table-changed"' not in text
    assert "No result changed" not in text


def test_a_row_says_what_changed(rendered):
    found = MADE["upgrade"]()
    cell = next(cell for cell in found.results if "status" not in cell.changed)
    a, b = cell.counts["backward nfe"]
    row = table(rendered["upgrade"], "changed")[0]
    assert row[0] == cell.plan["problem"]
    assert [row[1], *row[2].split()] == [cell.plan["backend"], cell.plan["norm"], cell.plan["stepping"]]
    assert f"{a} → {b}" in row[5].replace("\u202f", "")


def test_what_an_unstable_reverse_solve_explains_is_marked(rendered):
    unstable = [cell for cell in MADE["upgrade"]().results if cell.unstable and "status" not in cell.changed]
    marked = re.findall(r'<td class=" is-unstable">[^<]*the reverse solve is unstable</td>', rendered["upgrade"])
    assert len(marked) == len(unstable) > 0


def test_tiles_count(rendered):
    found = MADE["upgrade"]()
    tiles = dict(re.findall(r"<b>([^<]*)</b> <span>([^<]*)</span>", rendered["upgrade"]))
    words = {text: number for number, text in tiles.items()}
    assert words[f"of {found.cells.shared} cells in both runs changed"] == str(found.cells.changed)
    assert words["slower beyond the spread"] == str(sum(row.slower for row in found.backends))
    assert words["in run A alone"] == str(sum(len(row.plans) for row in found.only[0]))


def test_records_with_half_their_parts_missing_are_shown():
    run = synthetic.run()
    for index, record in enumerate(run.records):
        record.forward = None if index % 5 == 0 else record.forward
        record.time = {"median_s": None} if index % 7 == 0 else record.time
        record.error = {} if index % 11 == 0 else record.error
        record.settings = {"forward": {}, "backward": {}} if index % 2 else record.settings
        record.arrays = {} if index % 3 else record.arrays
        record.loss = np.float64(np.nan) if index % 13 == 0 else record.loss
    run.cards = {"neural_ode": {"picture": 3, "state": 3, "ts": [1.0]}}
    run.references = {"neural_ode": {"status": None}}
    Page(render(diff(synthetic.full(), compare(run))).decode())
    Page(render(diff(compare(run), synthetic.full())).decode())


def test_a_page_needs_neither_torch_nor_jax_nor_matplotlib():
    code = """
import sys
from crossbackend.diff import diff
from crossbackend.report.diff_page import render
from crossbackend.compare import compare
from crossbackend.store import Run
from pathlib import Path
render(diff(compare(Run(Path())), compare(Run(Path()))))
print([name for name in ("torch", "jax", "diffrax", "torchdiffeq", "matplotlib", "pandas") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
