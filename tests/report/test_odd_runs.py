"""Runs of odd shapes: variants of a problem, matched stepping alone, one backend, many norms, errors of zero."""

import re
from copy import deepcopy

import matplotlib as mpl
import pytest

from crossbackend.compare import compare
from crossbackend.record import Status
from crossbackend.report import figures, html, index, pdf, view
from crossbackend.report.draw import screen
from crossbackend.report.formats import sci
from crossbackend.store import Run
from tests.report import synthetic
from tests.report.bench import store


def run(records, **about):
    found = Run(synthetic.run().folder, synthetic.about() | {"planned": len(records), "declined": []} | about)
    found.records = records
    for problem in {record.problem for record in records}:
        found.cards[problem], found.references[problem] = synthetic.card(problem), synthetic.reference(problem)
    return found


def records(*backends, cells=synthetic.CELLS, rtols=synthetic.RTOLS, problem="neural_ode"):
    return [
        synthetic.record(problem, backend, stepping, norm, rtol)
        for backend in backends or synthetic.BACKENDS for stepping, norm in cells for rtol in rtols
    ]  # fmt: skip


def shown(found):
    return view.build(compare(run(found)))


class TestVariants:
    """A problem in two precisions: one of them agrees, the other does not."""

    @pytest.fixture(scope="class")
    @classmethod
    def both(cls):
        single = deepcopy(records())
        for one in single:
            one.plan["dtype"] = "float32"
            one.digest += "-single"
            if one.backend == "scipy":
                one.arrays["gradient/y0"] = one.arrays["gradient/y0"] * 1.5
        return shown(records() + single)

    def test_each_has_rows_of_its_own(self, both):
        rows = both.tables["matched"].rows
        kinds = {row[0].text: {cell.kind for cell in row[2:]} for row in rows if row[0].text}
        assert kinds == {"neural_ode (float64)": {"pass"}, "neural_ode (float32)": {"fail"}}
        page = html.render(both).decode()
        matrix = page.partition('id="table-matched"')[2].partition("</table>")[0]
        fails = next(int(n) for n, words, _ in both.tiles if words == "disagree without excuse")
        assert matrix.count("is-fail") == fails == 8

    def test_no_record_is_left_out(self, both):
        table = both.tables["records"]
        assert sum(cell.text != "" for row in table.rows for cell in row[3:]) == 120
        assert [row[0].text for row in both.rows].count("neural_ode (float32)") == 60
        dtype, problem = (both.numbers["columns"].index(name) for name in ("dtype", "problem"))
        assert {(row[problem], row[dtype]) for row in both.numbers["rows"]} == {
            ("neural_ode", "float64"), ("neural_ode", "float32"),
        }  # fmt: skip

    def test_the_ratio_of_tolerances_and_the_first_step_tell_apart_too(self):
        found = records("scipy", "diffrax")
        for one in found[::2]:
            one.plan |= {"atol": one.plan["rtol"] * 0.1, "first_step": 0.5}
        names = [problem.name for problem in shown(found).problems]
        assert names == [
            "neural_ode (atol / rtol 0.1, first step 0.5)", "neural_ode (atol / rtol 1.0×10⁻², first step –)",
        ]  # fmt: skip

    def test_one_variant_keeps_its_name(self):
        assert [problem.name for problem in shown(records()).problems] == ["neural_ode"]


def test_matched_stepping_alone_is_drawn():
    found = shown(records(cells=synthetic.CELLS[3:]))
    charts = [chart for name in ("nfe", "reconstruction", "savings") for chart in found.groups[name].charts]
    assert len(charts) == 3
    for chart in charts:
        assert 'class="mark"' in chart.svg
        assert "display" not in screen(chart.svg, chart.label)


def test_a_user_of_matplotlib_changes_nothing():
    """Not even one who has LaTeX set every text."""
    found = records(rtols=(1e-6,))
    plain = html.render(shown(found))
    with mpl.rc_context({"lines.linewidth": 7, "axes.labelsize": 20, "text.usetex": True, "xtick.direction": "in"}):
        assert html.render(shown(found)) == plain


def test_one_backend_has_nothing_to_disagree_with():
    found = shown(records("scipy"))
    assert [tile for tile in found.tiles if tile[2] == "fail"] == []
    assert ("0", "of 8 matched cells agree", "missing") in found.tiles
    assert ("8", "could not be judged", "missing") in found.tiles


def test_an_uncertain_reference_is_no_broken_sentence():
    page = html.render(synthetic.shown("full")).decode()
    assert "reference uncertain" in page
    assert not re.search(r"In\s*\.", page)


def test_declined_plans_were_not_tried():
    found = records()
    synthetic.fail(found[0], Status.UNSUPPORTED, "it cannot")
    synthetic.fail(found[1], Status.TIMEOUT, "it took too long")
    comparison = compare(run(found))
    assert "1 of 59 plans did not finish: timeout." in comparison.summary()
    assert ("1", "of 59 plans did not finish", "fail") in view.build(comparison).tiles


def test_a_setting_that_differs_on_one_problem_names_it():
    found = records() + records(problem="lotka_volterra")
    for one in found:
        own = one.backend if one.problem == "neural_ode" else "alike"
        one.settings = {"forward": {"accept": own}, "backward": {}}
    (table,) = [table for name, table in shown(found).tables.items() if name == "settings"]
    assert table.rows
    assert all(row[-1].text.endswith("; neural_ode") for row in table.rows)


def test_a_fourth_norm_is_named_where_it_is_not_drawn():
    more = [("native", norm) for norm in ("default", "seminorm", "mixed-seminorm", "pooled")]
    (chart,) = shown(records(cells=more)).groups["steps"].charts
    assert chart.note.endswith("; in the table alone: pooled")


class TestZeroErrors:
    def test_all(self):
        found = records()
        for one in found:
            one.error["all"] = 0.0
        groups = shown(found).groups
        assert groups["nfe"].absent == [
            "neural_ode: every gradient error is 0, which has no place on a logarithmic axis."
        ]
        assert "is 0" in groups["time"].absent[0]

    def test_one(self):
        found = records()
        found[0].error["all"] = 0.0
        (chart,) = shown(found).groups["nfe"].charts
        assert chart.note.endswith("; without 1 error of 0")


def test_no_default_norm_is_the_reason_given():
    found = shown(records(cells=[("native", "mixed"), ("native", "pooled")])).groups
    assert found["savings"].absent == found["speedups"].absent == ["neural_ode: no plan under the norm default."]


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (99.7, 2, "100"),
        (15.0, 1, "20"),
        (456.789, 6, "456.789"),
        (456.789, 2, "457"),
        (-99.7, 2, "−100"),
        (0.999, 2, "1"),
    ],
)
def test_no_number_under_a_thousand_has_an_exponent(value, digits, text):
    assert sci(value, digits) == text


def test_errors_of_every_size_stand_on_one_axis():
    found = records(cells=[("native", "default")])
    for one, error in zip(found, (1e300, 1e-300, 1.0), strict=False):
        one.error["all"] = error
    assert len(shown(found).groups["nfe"].charts) == 1


def test_long_names_make_short_files_and_none_is_overwritten():
    found = []
    for name in ("漢" * 60, "漢" * 59 + "字", "p\x07", "p\x08"):
        for one in records("scipy", cells=synthetic.CELLS[:1], rtols=(1e-6,)):
            one.plan["problem"] = name
            found.append(one)
    names = [name for name, _ in figures.figures(shown(found))]
    assert len(names) == len(set(names)) >= 8
    assert max(map(len, names)) < 160
    assert not any(re.search("%.?-", name) for name in names)


def test_figures_of_problems_that_are_gone_go_too(tmp_path):
    from crossbackend.report import write

    for problem in ("neural_ode", "lotka_volterra"):
        comparison = compare(run(records("scipy", cells=synthetic.CELLS[:1], problem=problem)))
        write(comparison, tmp_path, pdf=False, figures=True)
        assert {path.stem.partition("-")[2] for path in (tmp_path / "figures").iterdir()} == {problem}


def test_a_stepping_of_another_program_cannot_break_a_drawing():
    found = records("scipy", cells=synthetic.CELLS[:1])
    for one in found:
        one.plan["stepping"] = 'wild"\x07<b>'
    view_of_it = shown(found)
    page = html.render(view_of_it).decode()
    assert "\x07" not in page
    assert 'data-s="wild"' not in page
    assert pdf.render(view_of_it).startswith(b"%PDF-")


def test_a_bug_in_one_run_stops_no_other(tmp_path, monkeypatch):
    for name in ("a", "b"):
        store(synthetic.single(), tmp_path / name)
    write = index.write

    def broken(comparison, folder, **options):
        if folder.name == "a":
            raise TypeError("unsupported operand")
        return write(comparison, folder, **options)

    monkeypatch.setattr(index, "write", broken)
    assert [path.parent.name for path in index.write_all(tmp_path, pdf=False)] == ["b", tmp_path.name]
    assert "Its report could not be made: TypeError: unsupported operand." in (tmp_path / "index.html").read_text()
