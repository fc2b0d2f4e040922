"""The report of a run with several gradients: one section a problem, a series for each, what each costs and reaches."""

import csv
import json
import re

import pytest

from crossbackend.compare import compare
from crossbackend.record import Record, Status
from crossbackend.report import cells, html, notebook, view
from crossbackend.report.apart import apart
from crossbackend.report.draw import Chart
from crossbackend.report.formats import sci, size
from crossbackend.report.names import names_of, sweeps
from crossbackend.store import Run
from tests.report import synthetic
from tests.report.test_browser import visit  # noqa: F401  the fixture

OTHERS = ["direct", "interpolating", "quadrature"]
NORMS = ["default", "seminorm", "mixed-seminorm"]


@pytest.fixture(scope="module")
def shown():
    return synthetic.shown("mixed")


@pytest.fixture(scope="module")
def rows(shown):
    """The table's rows by problem, backend and gradient; the problem's cell covers several."""
    found, problem = {}, ""
    for first, backend, gradient, *rest in shown.tables["gradients"].rows:
        problem = first.text if first.span else problem
        found[problem, backend.text, gradient.text] = rest
    return found


def titles(chart: Chart) -> list[str]:
    return re.findall(r"<title>([^<]*)</title>", chart.svg)


class TestSeries:
    def test_gradients_do_not_split_a_problem(self):
        comparison = synthetic.mixed()
        assert apart(comparison) is comparison

    def test_a_series_for_each(self, shown):
        assert shown.names.series == [*NORMS, *OTHERS]
        assert shown.names.mixed
        assert not names_of(synthetic.full()).mixed
        item = synthetic.mixed().problems[0]
        assert {(b, s) for b, s, stepping in sweeps(item.records, shown.names) if stepping == "native"} == {
            *((b, norm) for b in synthetic.BACKENDS for norm in NORMS),
            *((b, gradient) for b, found in synthetic.GRADIENTS.items() for gradient in found),
        }  # fmt: skip

    def test_a_gradient_that_every_backend_declined_is_none(self):
        found = Run(synthetic.run().folder, synthetic.about())
        found.records = [synthetic.record("neural_ode", "scipy", "native", "default", 1e-6)]
        found.records.append(synthetic.otherwise("neural_ode", "scipy", "direct", 1e-6))
        synthetic.fail(found.records[1], Status.UNSUPPORTED, "not in SciPy")
        shown = view.build(compare(found))
        assert (shown.names.series, shown.names.mixed) == (["default"], False)
        assert [[cell.text for cell in row][3] for row in shown.tables["failures"].rows] == [
            "native: direct; rtol 10⁻⁶"
        ]
        assert [row[3].text for row in shown.rows] == ["backsolve", "direct"]

    def test_the_curves_of_one_chart(self, shown):
        (chart,) = [c for c in shown.groups["time"].charts if c.title == "neural_ode"]
        number = {name: k for k, name in enumerate(shown.names.series)}
        for backend, found in synthetic.GRADIENTS.items():
            for gradient in found:
                b = shown.names.backends.index(backend)
                assert f'data-b="{b}" data-n="{number[gradient]}" data-s="native"' in chart.svg
                assert sum(words.startswith(f"{backend}, {gradient}, native") for words in titles(chart)) == 4

    def test_each_has_a_look_of_its_own(self, shown):
        looks = {json.dumps(html.sample(name) | {"name": ""}) for name in shown.names.series}
        assert len(looks) == len(shown.names.series)

    def test_no_backward_steps_no_panel(self, shown):
        for chart in shown.groups["steps"].charts:
            assert not any("direct" in words for words in titles(chart))
            assert "direct" not in chart.note
            assert "in the table alone: interpolating and quadrature" in chart.note

    @pytest.mark.parametrize("name", ["native", "timings", "rejections", "savings-native", "speedups"])
    def test_a_column_says_that_it_names_both(self, shown, name):
        assert "norm or gradient" in shown.tables[name].columns
        assert "norm" in synthetic.shown("full").tables[name].columns

    def test_times_stand_beside_those_of_the_same_gradient(self, shown):
        found = [[cell.text for cell in row] for row in shown.tables["timings"].rows]
        assert [row[2] for row in found if row[1] == "direct"] == 3 * ["diffrax", "torchdiffeq"]
        assert [row[5] for row in found if row[1] == "quadrature"] == 3 * ["1×"]

    def test_the_cheapest_plan_says_its_gradient(self, shown):
        (row,) = [row for row in shown.tables["cheapest"].rows if row[0].text == synthetic.UNSTABLE]
        assert {cell.text for cell in row[1:]} == {"diffrax, direct"}


class TestCosts:
    def test_the_factors_are_those_that_were_made(self, rows):
        for problem in ("lotka_volterra", "neural_ode"):
            for backend, found in synthetic.GRADIENTS.items():
                for gradient in found:
                    evaluations, time, *_ = rows[problem, backend, gradient]
                    assert float(time.text[:-1]) == pytest.approx(synthetic.CHEAPER[gradient], rel=0.05)
                    assert float(evaluations.text[:-1]) == pytest.approx(synthetic.CHEAPER[gradient], rel=0.05)

    def test_baselines_show_what_they_reach_and_hold(self, rows):
        item = synthetic.mixed().problems[1]
        for row in item.gradients:
            if row.gradient == "backsolve" and row.norm == "mixed-seminorm":
                assert (item.problem, row.backend, row.name) not in rows
                continue
            *factors, error, memory = rows[item.problem, row.backend, row.name]
            assert (error.text, memory.text, memory.note) == (
                sci(row.error), size(row.memory_rise_bytes), "of 400 MB",
            )  # fmt: skip
            assert {cell.text for cell in factors} == {"–"} or not row.baseline

    def test_where_backsolve_is_unstable(self, rows, shown):
        *factors, error, _ = rows[synthetic.UNSTABLE, "scipy", "quadrature"]
        assert [(cell.text, cell.kind) for cell in factors] == 4 * [("unstable", "unstable")]
        assert (error.text, error.kind) == ("1.0×10⁻⁹", "")
        assert rows[synthetic.UNSTABLE, "scipy", "backsolve, default"][-2].kind == "unstable"
        (absent,) = shown.groups["gradients"].absent
        assert absent.startswith(f"{synthetic.UNSTABLE}: backsolve is unstable and wrong by 0.44 or more, so no error")
        assert "quadrature in scipy 1.0×10⁻⁹" in absent
        text = next(lines for topic, lines in shown.summary if topic == "Gradient methods")[0]
        assert text.startswith(f"On {synthetic.UNSTABLE}, where backsolve is wrong by 0.4 or more, direct in diffrax")

    def test_the_chart(self, shown):
        assert [c.title for c in shown.groups["gradients"].charts] == ["lotka_volterra", "neural_ode"]
        words = titles(shown.groups["gradients"].charts[0])
        pairs = {tuple(re.findall(r"^(\w+), (\w+) against (\w+): ", one)[0]) for one in words}
        assert pairs == {
            (backend, gradient, norm)
            for backend, found in synthetic.GRADIENTS.items() for gradient in found for norm in ("default", "seminorm")
        }  # fmt: skip
        assert any("scipy, quadrature against default: 2×" in one for one in words)

    def test_a_run_of_backsolve_alone_has_nothing_of_it(self):
        full = synthetic.shown("full")
        assert full.tables["gradients"].rows == []
        assert full.groups["gradients"].charts == []
        text = html.render(full).decode()
        assert 'id="gradients"' not in text
        assert "Gradient methods" not in text

    def test_the_pages_show_it(self, shown, written, poppler):
        text = html.render(shown).decode()
        assert text.count('id="gradients"') == text.count('id="table-gradients"') == 1
        printed = poppler("pdftotext", "-layout", written("mixed", ".pdf"), "-")
        assert "Gradient methods at equal gradient error" in printed
        assert "Gradient methods, native stepping" in printed


class TestRecords:
    def test_the_gradient_and_the_memory_of_a_call_are_columns(self, shown):
        names = [column.name for column in shown.columns]
        assert names[3:5] == ["gradient", "norm"]
        assert names[-2:] == ["memory", "memory of a call"]
        for row, record in zip(shown.rows, synthetic.mixed().records, strict=True):
            assert len(row) == len(names)
            assert (row[3].text, row[4].text) == (record.plan["gradient"], record.norm)
            assert row[-1].text == size(record.memory_rise_bytes)

    def test_columns_without_anything_are_left_out(self):
        full = synthetic.full()
        assert cells.columns(full) == cells.COLUMNS
        assert not {"backward_vjp_y", "memory_rise_bytes"} & set(cells.numbers(full)["columns"])

    def test_the_numbers_for_the_csv(self, shown):
        columns, values = shown.numbers["columns"], shown.numbers["rows"]
        assert "device_memory_bytes" not in columns
        at = {
            name: columns.index(name) for name in ("gradient", "backward_nfe", "backward_vjp_y", "backward_vjp_params")
        }
        quadrature = [row for row in values if row[at["gradient"]] == "quadrature"]
        assert len(quadrature) == 12
        for row in quadrature:
            assert row[at["backward_vjp_y"]] + row[at["backward_vjp_params"]] == row[at["backward_nfe"]]
        assert {row[at["backward_vjp_y"]] for row in values if row[at["gradient"]] != "quadrature"} == {None}

    def test_memory_on_a_device(self):
        found = Run(synthetic.run().folder, synthetic.about())
        found.records = [synthetic.record("neural_ode", "diffrax", "native", "default", r) for r in synthetic.RTOLS]
        found.records += [synthetic.otherwise("neural_ode", "diffrax", "direct", r) for r in synthetic.RTOLS]
        for record in found.records:
            record.device_memory_bytes = 3_000_000
        comparison = compare(found)
        shown = view.build(comparison)
        assert [column.name for column in shown.columns][-1] == "memory on the device"
        assert {row[-1].text for row in shown.rows} == {"3.0 MB"}
        assert {(row[-1].text, row[-1].note) for row in shown.tables["gradients"].rows} == {("3.0 MB", "on the device")}

    def test_declined_plans_say_their_gradient(self, shown):
        ((*_, reason),) = shown.tables["declined"].rows
        assert [cell.text for cell in shown.tables["declined"].rows[0]][2] == "quadrature"
        assert reason.text.startswith("diffrax has no dense output")


def test_a_notebook_names_the_gradient_of_a_record():
    own: Record = synthetic.otherwise("neural_ode", "scipy", "quadrature", 1e-6)
    own.memory_rise_bytes = 250_000
    shown = notebook.record(own)
    assert "scipy, quadrature, native, rtol 10⁻⁶" in shown
    assert "250 kB" in shown


@pytest.mark.slow
class TestInABrowser:
    def test_a_gradient_is_switched_off_in_every_chart(self, visit, shown):  # noqa: F811
        tab = visit("mixed")
        script = "all => all.filter((mark) => getComputedStyle(mark).display !== 'none').length"
        marks = tab.locator(f".mark[data-n='{shown.names.series.index('quadrature')}']")
        in_part = tab.locator(f"#gradients ~ .figures .mark[data-n='{shown.names.series.index('quadrature')}']")
        assert in_part.evaluate_all(script) > 4
        tab.locator("#cost .switches").get_by_label("quadrature").uncheck()
        assert marks.evaluate_all(script) == 0
        assert tab.locator(".mark[data-s='native']").evaluate_all(script) > 50
        assert not tab.locator("#why .switches").get_by_label("quadrature").is_checked()

    def test_records_are_filtered_by_it_and_the_csv_has_it(self, visit):  # noqa: F811
        tab = visit("mixed")
        tab.locator(".tools label", has_text=re.compile("^gradient")).locator("select").select_option("quadrature")
        assert tab.locator("#shown").text_content() == "12 of 228 records"
        with tab.expect_download() as download:
            tab.locator("#csv").click()
        with download.value.path().open(newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file))
        assert {row["gradient"] for row in found} == {"quadrature"}
        assert all(int(row["backward_vjp_y"]) > 0 and int(row["memory_rise_bytes"]) > 0 for row in found)

    def test_a_phone_shows_it_without_scrolling_aside(self, visit):  # noqa: F811
        tab = visit("mixed", viewport={"width": 390, "height": 800})
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        box = tab.locator("#gradients + p + .figures .chart").first.bounding_box()
        assert box["width"] > 250
        assert box["height"] > 100
