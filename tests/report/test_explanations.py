"""The report shows what explains a difference, with the numbers of the comparison."""

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from crossbackend.compare import compare
from crossbackend.norms import GROUPS
from crossbackend.report import html, view
from crossbackend.report.formats import percent, ratio, sci, whole
from tests.report import synthetic


@pytest.fixture(scope="module")
def shown():
    return synthetic.shown("full")


@pytest.fixture(scope="module")
def comparison():
    return synthetic.full()


def cells(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_whose_error_rejected_the_steps(shown, comparison):
    rows = {tuple(row[:3]): row[3:] for row in _filled(cells(shown.tables["rejections"]))}
    assert len(rows) == 3 * len(synthetic.PROBLEMS) * 3 - 1  # one sweep was declined
    for item in comparison.problems:
        for found in item.rejections:
            if found.stepping != "native" or found.rtol != 1e-6:
                continue
            row = rows[f"{item.problem}, rtol 10⁻⁶", found.backend, found.norm]
            by_block = [whole(found.by_block[g]) if g in found.by_block else "–" for g in GROUPS]
            assert row == [whole(found.accepted), whole(found.rejected), *by_block, whole(found.spurious),
                           whole(found.masked)]  # fmt: skip
            assert sum(found.by_block.values()) == found.rejected


def _filled(rows):
    """Rows with the first cell, which spans several, repeated."""
    first = ""
    for row in rows:
        first = row[0] or first
        yield [first, *row[1:]]


def test_the_chart_of_steps_names_blocks_spurious_and_masked(shown):
    chart = next(c for c in shown.groups["steps"].charts if c.title == "double_pendulum")
    titles = re.findall(r"<title>([^<]*)</title>", chart.svg)
    assert any(re.search(r"torchdiffeq, default: \d+ rejected by a_t", words) for words in titles)
    assert any(re.search(r"diffrax, default: \d+ rejected by (y|a_y|a_params)", words) for words in titles)
    assert any(re.search(r"\d+ spurious", words) for words in titles)
    assert shown.groups["steps"].wide
    for words in ("rejected by a_params", "spurious", "masked"):
        assert words in chart.svg


def test_no_bar_leaves_its_panel():
    """Twenty rejections in one place, over single accepted steps."""
    made = synthetic.run()
    found = [r for r in made.records if (r.problem, r.stepping, r.rtol) == ("neural_ode", "native", 1e-6)]
    for record in found:
        t0 = np.concatenate([np.arange(10.0)[::-1] + 1, np.full(20, 5.0)])
        record.arrays |= {"backward/t0": t0, "backward/t1": t0 - 1, "backward/accepted": np.arange(30) < 10}
    made.records = found
    (chart,) = view.build(compare(made)).groups["steps"].charts
    root = ET.fromstring(chart.svg)
    svg = "{http://www.w3.org/2000/svg}"
    panels = [(float(r.get("y")), float(r.get("height"))) for r in root.iter(f"{svg}rect") if r.get("x")]
    bars = [group for group in root.iter(f"{svg}g") if group.get("data-counts")]
    assert any("20" in group.get("data-counts").split() for group in bars)
    for group in bars:
        points = re.findall(r"[ML] \S+ (\S+)", group.find(f"{svg}path").get("d"))
        low, high = min(map(float, points)), max(map(float, points))
        assert any(y - 0.1 <= low and high <= y + height + 0.1 for y, height in panels)


def test_speed_up_at_equal_error_beside_what_is_saved_at_equal_tolerance(shown, comparison):
    rows = {tuple(row[:3]): row[3:] for row in _filled(cells(shown.tables["speedups"]))}
    assert rows
    seen = 0
    for item in comparison.problems:
        for found in item.speedups:
            if found.stepping == "native" and found.factor is not None:
                row = rows[f"{item.problem}, rtol 10⁻⁶", found.backend, found.norm]
                assert row[1 if found.cost == "backward_nfe" else 2] == ratio(found.factor)
                seen += 1
        for saving in item.savings:
            key = (f"{item.problem}, rtol 10⁻⁶", saving.backend, saving.norm)
            if key in rows and (saving.stepping, saving.rtol) == ("native", 1e-6):
                assert rows[key][0] == percent(saving.saved)
    assert seen > 10
    absent = " ".join(shown.groups["speedups"].absent)
    assert "stiff_relaxation: the reverse solve is unstable" in absent
    assert "neural_cde: no reference, so no gradient error is known" in absent


def test_the_parts_of_the_error(shown, comparison):
    rows = list(_filled(cells(shown.tables["splits"])))
    splits = [(item.problem, split) for item in comparison.problems for split in item.splits]
    assert len(rows) == len(splits) > 5
    for row, (problem, split) in zip(rows, splits, strict=True):
        assert row[:3] == [f"{problem}, rtol 10⁻⁶", split["norm"], sci(split["whole"])]
        assert row[3] == sci(split["parts"]["forward"])
        assert row[-1] == percent(split["residual"])
    last = [(row[-1].note, problem) for row, (problem, _) in zip(shown.tables["splits"].rows, splits, strict=True)]
    assert all((note == "do not add up") is (problem == synthetic.UNSTABLE) for note, problem in last)


def test_a_split_that_failed_says_why():
    made = synthetic.run()
    for record in made.records:
        if record.error_split:
            record.error_split = {"message": "an exact step from t = 1: it did not end"}
    shown = view.build(compare(made))
    assert all("not measured: an exact step from t = 1" in row[2] for row in cells(shown.tables["splits"]))
    assert shown.groups["splits"].charts == []
    assert any("an exact step from t = 1: it did not end" in words for words in shown.groups["splits"].absent)


def test_notes_apart_from_warnings(shown):
    assert [name for name, _ in shown.notes] == ["norm diluted", "evaluates outside interval"]
    assert {row[0] for row in cells(shown.tables["notes"]) if row[0]} == {name for name, _ in shown.notes}
    assert {warning.name for warning in shown.warnings} == {
        "backsolve_unstable", "missed_breakpoint", "reference_uncertain",
    }  # fmt: skip
    text = html.render(shown).decode()
    assert text.count("Harmless where the field is defined there") == 1


def test_a_run_without_ratios_is_shown_without_blame():
    """As another program, or an older version, would write it."""
    made = synthetic.run()
    for record in made.records:
        record.arrays = {n: a for n, a in record.arrays.items() if not re.search(r"/(ratio|share|rms)", n)}
    shown = view.build(compare(made))
    assert shown.tables["rejections"].rows == []
    chart = shown.groups["steps"].charts[0]
    assert "rejected by block not recorded" in chart.svg
    assert "spurious</title>" not in chart.svg


def test_arrays_of_another_length_are_not_believed():
    made = synthetic.run()
    made.records[0].arrays["backward/ratio_state"] = np.zeros(3)
    assert made.records[0].steps("backward").spurious is None
