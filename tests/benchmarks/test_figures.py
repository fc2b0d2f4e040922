"""The figures of `make bench`: what a line says, what holds, what is kept, and that each measures something."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import compiling, orchestration, page, scaling, solver, startup, table
from benchmarks.__main__ import FIGURES, ON_CUDA, chosen, main
from benchmarks.family import Sizes, member, named
from benchmarks.figure import AT_LEAST, Figure, Options, figure, kept
from benchmarks.turns import asked
from crossbackend import cli
from crossbackend.load import gallery
from crossbackend.store import load_run

ROOT = Path(__file__).parents[2]
README = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")


class TestLine:
    def test_a_result_is_a_median_with_its_quartiles(self):
        one = figure("overhead.diffrax", "linear", 1.03, [1.0, 1.01, 1.02, 1.03, 9.0])
        assert (one.result, one.spread, one.holds) == (1.02, (1.01, 1.03), True)

    @pytest.mark.parametrize(
        ("name", "result", "holds"),
        [("startup", 0.9, True), ("startup", 1.0, True), ("startup", 1.1, False),
         ("orchestration", 0.9, False), ("orchestration", 1.0, True), ("orchestration", 1.1, True)],
    )  # fmt: skip
    def test_a_goal_is_read_in_its_own_direction(self, name, result, holds):
        assert kept(name, 1.0, result) is holds
        assert kept(name, None, result) is None

    def test_a_row_says_all(self):
        words = table.row(figure("orchestration", "linear", 0.75, [0.5])).split()
        assert words == ["orchestration", "linear", "≥", "0.75", "0.5", "0.5", "..", "0.5", "NO"]
        assert table.row(figure("scaling.nfe", "x", None, [1.0])).split() == ["scaling.nfe", "x", "1", "1", "..", "1"]

    def test_the_closing_note_names_what_misses(self):
        good, bad = figure("startup", "help", 0.3, [0.2]), figure("orchestration", "linear", 0.75, [0.5])
        assert table.closing([good, figure("scaling.nfe", "x", None, [1.0])]) == "All 1 goals hold."
        assert table.closing([figure("scaling.nfe", "x", None, [1.0])]) == "None of these has a goal."
        said = table.closing([good, bad])
        assert said == "1 goals hold; 1 missed:\n  orchestration on linear: 0.5, goal ≥ 0.75"


class TestMerging:
    KNOWN = (
        figure("startup", "help", 0.3, [0.4]), figure("solver_overhead.scipy", "spiral", 1.6, [2.0]),
        figure("long_gone", "x", None, [1.0]),
    )  # fmt: skip

    def test_new_lines_take_the_place_of_old_ones_in_the_order_of_the_table(self):
        new = figure("startup", "help", 0.3, [0.2])
        found = table.merged(self.KNOWN, [new], tuple(FIGURES), False)
        assert found == [self.KNOWN[1], new]

    def test_a_figure_that_was_measured_whole_keeps_no_other_line(self):
        new = figure("startup", "other", 0.3, [0.2])
        assert table.merged(self.KNOWN, [new], tuple(FIGURES), True) == [self.KNOWN[1], new]
        assert len(table.merged(self.KNOWN, [new], tuple(FIGURES), False)) == 3

    def test_what_is_written_is_read_again(self, tmp_path, monkeypatch):
        monkeypatch.setattr(table, "FOLDER", tmp_path)
        path = table.write("cpu", self.KNOWN)
        assert table.read(path) == list(self.KNOWN)
        assert table.read(table.results_path("cuda")) == []
        assert set(json.loads(path.read_text())[0]) == {"figure", "problem", "goal", "result", "spread", "holds"}

    def test_the_stored_results_hold_what_they_say(self):
        found = table.read(ROOT / "benchmarks" / "results.json")
        assert found
        for one in found:
            assert one.holds is kept(one.figure, one.goal, one.result)
            assert one.spread[0] <= one.result <= one.spread[1]


class TestRegistry:
    def test_every_figure_is_explained_on_the_page_and_in_the_readme(self):
        assert list(page.MEANING) == list(FIGURES)
        rows = re.findall(r"^\| `([\w.]+)` \|", README, re.MULTILINE)
        assert sorted(rows) == sorted(FIGURES)
        assert set(AT_LEAST) | set(ON_CUDA) <= set(FIGURES)

    def test_a_first_part_names_several(self):
        assert chosen(["overhead", "startup"], "cpu") == [*(n for n in FIGURES if n.startswith("overhead")), "startup"]
        assert chosen(None, "cpu") == list(FIGURES)
        assert chosen(None, "cuda") == [name for name in FIGURES if name in ON_CUDA]
        with pytest.raises(SystemExit, match="no figure nothing: there are overhead"):
            chosen(["nothing"], "cpu")

    def test_a_figures_problems_can_be_chosen(self):
        assert Options(("b",)).chosen(("a", "b")) == ("b",)
        assert Options().chosen(("a", "b")) == ("a", "b")

    def test_one_figure_from_the_command_line(self, tmp_path, monkeypatch, capsys):
        for module in (table, scaling):
            monkeypatch.setattr(module, "FOLDER", tmp_path)
        made = figure("startup", "crossbackend --help, CPU s", 0.3, [0.2])
        monkeypatch.setitem(FIGURES, "startup", lambda options: iter([made]))
        main(["--only", "startup", "--out", str(tmp_path / "page")])
        assert "All 1 goals hold." in capsys.readouterr().out
        assert table.read(tmp_path / "results.json") == [made]
        assert "crossbackend --help" in (tmp_path / "page" / "index.html").read_text(encoding="utf-8")


class TestOrchestration:
    def test_the_command_is_that_of_make_compare_with_a_short_timing(self, tmp_path):
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        norms = re.search(r"^NORMS := (.*)$", makefile, re.MULTILINE)
        assert norms[1].replace("--norm", "").split() == list(orchestration.NORMS)
        args = cli.parser().parse_args(orchestration.command(gallery(), tmp_path, "cpu")[3:])
        assert (args.repeats, args.seconds, args.no_report, args.out) == (1, 0.01, True, tmp_path)
        assert args.norm == list(orchestration.NORMS)

    def test_the_share_is_of_all_cores(self):
        assert orchestration.share({"solver_cpu_s": 15.0, "wall_s": 10.0, "cores": 2}) == 0.75


class TestStartup:
    def test_records_that_are_stored_again_are_whole(self, tmp_path):
        count = sum(1 for _ in (startup.EXAMPLE / "records").glob("*.json")) + 20
        assert startup.stored(tmp_path, count) == count
        found = load_run(tmp_path)
        assert len({record.digest for record in found.records}) == len(found.records) == count
        assert found.damaged == []

    def test_a_commands_cpu_time(self):
        (found,) = startup.cpu_seconds(["--version"], 1)
        assert 0 < found < 60


class TestScaling:
    def test_a_power_law_is_found_exactly(self):
        sizes = [1, 4, 16, 64]
        slope, error = scaling.exponent(sizes, [3 * n**1.5 for n in sizes])
        assert (slope, error) == (pytest.approx(1.5), pytest.approx(0, abs=1e-7))

    def test_the_standard_error_is_that_of_least_squares(self, rng):
        sizes = np.array([1.0, 3.0, 7.0, 20.0, 70.0])
        found = sizes**0.7 * np.exp(0.1 * rng.normal(size=5))
        slope, error = scaling.exponent(sizes, found)
        coefficients, covariance = np.polyfit(np.log(sizes), np.log(found), 1, cov="unscaled")
        rest = np.log(found) - np.polyval(coefficients, np.log(sizes))
        assert slope == pytest.approx(coefficients[0])
        assert error == pytest.approx(np.sqrt(covariance[0, 0] * rest @ rest / 3))

    def test_a_member_of_the_family_has_the_sizes_of_its_name(self):
        sizes = Sizes(batch=3, state=4, width=5, outputs=6)
        problem = named(sizes.name)
        assert np.shape(problem.initial) == (3, 4)
        assert len(problem.ts) == 6
        assert sum(np.size(leaf) for leaf in problem.params.values()) == sizes.parameters == 2 * 4 * 5 + 5 + 4
        assert scaling.size_of("parameters", sizes) == 49
        assert scaling.size_of("outputs", sizes) == 6
        assert named("linear").name == "linear"

    def test_an_axis_grows_and_nothing_else_does(self):
        for axis, every in scaling.AXES.items():
            grown = [scaling.size_of(axis, sizes) for sizes in every]
            assert grown == sorted(set(grown))
            field = "width" if axis == "parameters" else axis
            assert len({tuple(v for k, v in vars(s).items() if k != field) for s in every}) == 1

    @pytest.mark.slow
    def test_points_of_all_backends(self):
        found = scaling.points("batch", Sizes(batch=2, state=2, width=3), ("scipy", "torchdiffeq"), Options(repeats=1))
        assert [one["backend"] for one in found] == ["scipy", "torchdiffeq"]
        for one in found:
            assert one["quartiles"][0] <= one["seconds"] <= one["quartiles"][1]
            assert (one["size"], one["nfe"] > one["forward_nfe"] > 0) == (2, True)


@pytest.mark.slow
class TestTinyForms:
    """The measuring itself, once; what it gives is no matter here."""

    @pytest.mark.parametrize("library", ["scipy", "torchdiffeq", "diffrax"])
    def test_solver_overhead(self, library):
        found = solver.measure(library, "linear", 1e-3, 2)
        assert len(found["ratios"]) == 2
        assert all(ratio > 0 for ratio in found["ratios"])
        assert min(found["nfe"]) > 0

    @pytest.mark.parametrize("library", ["scipy", "torchdiffeq"])
    def test_sweep_compile(self, library):
        assert compiling.measure(library, "linear", 2) > 0

    def test_memory_of_a_worker(self):
        assert startup.memory("scipy", "linear") > 50

    def test_a_process_that_fails_says_why(self):
        with pytest.raises(RuntimeError, match=r"benchmarks\.startup scipy nowhere failed: (.|\n)*nowhere"):
            asked("benchmarks.startup", "scipy", "nowhere")


def test_a_figure_is_what_the_file_holds():
    one = Figure("startup", "x", 1.0, 0.5, (0.4, 0.6), True)
    assert one.as_dict() == {
        "figure": "startup", "problem": "x", "goal": 1.0, "result": 0.5, "spread": [0.4, 0.6], "holds": True,
    }  # fmt: skip


def test_the_family_moves_alike_at_all_sizes():
    slopes = []
    for sizes in (Sizes(), Sizes(state=64), Sizes(width=256), Sizes(batch=1024)):
        problem = member(sizes)
        slopes.append(
            np.sqrt(np.mean(problem.vector_field(0.0, np.asarray(problem.initial), problem.params, None) ** 2))
        )
    assert max(slopes) / min(slopes) < 1.5
