"""What changed between two runs: every change is found and named, what is no change is not, either way round."""

import copy
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import crossbackend
from crossbackend import UserError
from crossbackend.cli import parser
from crossbackend.compare import compare
from crossbackend.diff import cells, diff
from crossbackend.diff.facts import MEMORY_ALIKE
from crossbackend.diff.parts import LEAST_REPEATS
from crossbackend.record import Status
from crossbackend.speedup import AT_FLOOR
from crossbackend.store import Run, prepare, write_json, write_record, write_reference
from tests.command import call
from tests.report import synthetic

PROBLEMS, BACKENDS = ("lotka_volterra", "neural_ode"), ("diffrax", "scipy")
CELLS = (("native", "default"), ("native", "seminorm"), ("matched", "default"))
RTOLS = (1e-4, 1e-6)


def small(**about):
    """Return a run of 2 problems x 2 backends x 3 (stepping, norm) x 2 tolerances, made anew: it may be changed."""
    found = Run(Path(), synthetic.about(problems=list(PROBLEMS), **about))
    for problem in PROBLEMS:
        found.cards[problem] = synthetic.card(problem)
        found.references[problem] = {**synthetic.reference(problem), "digest": problem}
        for backend in BACKENDS:
            found.records += [synthetic.record(problem, backend, *cell, r) for cell in CELLS for r in RTOLS]
    return found


def one(run, problem="neural_ode", backend="scipy", stepping="native", norm="default", rtol=1e-6):
    """Return one record of a run."""
    wanted = (problem, backend, stepping, norm, rtol)
    (found,) = [r for r in run.records if (r.problem, r.backend, r.stepping, r.norm, r.rtol) == wanted]
    return found


def changed(change, **cell):
    """Return the difference of two runs that are alike but for one record."""
    run = small()
    change(one(run, **cell))
    return diff(compare(small()), compare(run))


def scale(record, factor):
    for name, array in record.arrays.items():
        if name.startswith("gradient/"):
            record.arrays[name] = array * factor


def single(found):
    """Return the only cell that changed, having checked that nothing else did."""
    (cell,) = found.results
    assert found.findings == 1
    assert cell.plan["problem"] == "neural_ode"
    return cell


class TestNothing:
    @pytest.mark.parametrize("made", [small, synthetic.run, lambda: synthetic.run(hostile=True)])
    def test_a_run_with_itself(self, made):
        found = diff(compare(made()), compare(made()))
        assert found.findings == 0
        assert (found.versions, found.machine, found.options, found.results) == ([], [], [], [])
        assert found.cells.same + found.cells.unfinished == found.cells.shared
        assert found.summary()[0].startswith("Nothing differs. ")

    def test_the_words(self):
        assert diff(compare(small()), compare(small())).summary() == [
            "Nothing differs. All 24 cells of both runs gave the same result to the last bit.",
            "Every time is the same, to the last digit.",
        ]

    def test_the_digest_does_not_pair_cells(self):
        run = small()
        for record in run.records:
            record.digest += "other"
        assert diff(compare(small()), compare(run)).findings == 0


class TestResults:
    def test_a_changed_count_is_found_and_named(self):
        def change(record):
            record.backward["nfe"] = 2 * record.backward["nfe"]

        found = changed(change)
        cell = single(found)
        nfe = one(small()).backward["nfe"]
        assert cell.counts == {"backward nfe": (nfe, 2 * nfe)}
        assert (cell.changed, cell.gradient) == (["counts"], 0.0)
        assert "neural_ode, scipy, default, native, rtol 1e-06: backward NFE" in str(found)
        assert (
            "Evaluations or steps changed in 1 cell, on neural_ode by scipy; backward evaluations by +100 %."
            in found.summary()
        )
        assert found.summary()[0] == "Of 24 cells in both runs 1 changed and 23 are the same to the last bit."

    @pytest.mark.parametrize(("factor", "is_found"), [(1 + 1e-11, False), (1 + 1e-7, True)])
    def test_a_gradient(self, factor, is_found):
        found = changed(lambda record: scale(record, factor))
        if is_found:
            assert single(found).changed == ["gradient"]
            assert single(found).gradient == pytest.approx(1e-7, rel=1e-3)
            said = "Gradients differ by more than rounding in 1 cell, by 1.0e-07 at most (neural_ode, scipy, default"
            assert any(line.startswith(said) for line in found.summary())
        else:
            assert found.findings == 0
            assert (found.cells.rounding, found.cells.same) == (1, 23)
            assert found.cells.largest == pytest.approx(1e-11, rel=1e-3)
            assert "1 differ by rounding alone (gradients by 1.0e-11 at most)" in found.summary()[0]

    def test_single_precision_rounds_more(self):
        both = [small(), small()]
        for run in both:
            one(run).plan["dtype"] = "float32"
        scale(one(both[1]), 1 + 1e-6)
        assert diff(*map(compare, both)).findings == 0
        scale(one(both[1]), 1.001)
        found = diff(*map(compare, both))
        assert single(found).changed == ["gradient"]
        assert "rtol 1e-06, float32:" in str(found)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda arrays: arrays.pop("gradient/params/mlp/0/b"), "params/mlp/0/b is missing in B"),
            (lambda arrays: arrays.update({"gradient/params/c": np.ones(2)}), "params/c is missing in A"),
            (
                lambda arrays: [arrays.pop(name) for name in list(arrays) if name.startswith("gradient/")],
                "params/mlp/0/b and 2 more are missing in B",
            ),
            (lambda arrays: arrays.update({"gradient/y0": np.ones(3)}), "y0 has shape (2,) in A and (3,) in B"),
            (lambda arrays: arrays.update({"gradient/y0": np.array([1.0, np.inf])}), "y0 is not finite in B"),
        ],
    )
    def test_gradients_that_cannot_be_compared(self, change, words):
        found = changed(lambda record: change(record.arrays))
        cell = single(found)
        assert (cell.incomparable, cell.gradient, cell.changed) == (words, None, ["gradient"])
        said = f"Gradients cannot be compared in 1 cell, on neural_ode by scipy: {words}."
        assert said in found.summary()
        json.dumps(found.as_dict(), allow_nan=False)

    def test_a_difference_that_overflows_has_no_number(self):
        words = "their difference is too large to be computed"
        assert cells.gradients({"y0": np.ones(2)}, {"y0": np.full(2, 1e200)}) == (None, words)

    def test_a_status(self):
        def change(record):
            synthetic.fail(record, Status.TIMEOUT, "600 s are over")
            record.forward["nfe"] += 6

        found = changed(change)
        cell = single(found)
        assert (cell.status, cell.changed, cell.counts) == (("ok", "timeout"), ["status"], {})
        assert "The status went ok -> timeout in 1 cell, on neural_ode by scipy." in found.summary()

    def test_solves_that_failed_alike_are_neither_changed_nor_the_same(self):
        both = [small(), small()]
        for run in both:
            synthetic.fail(one(run), Status.TIMEOUT, "600 s are over")
        found = diff(*map(compare, both))
        assert (found.findings, found.cells.unfinished, found.cells.same) == (0, 1, 23)
        assert found.summary()[0].endswith("23 are the same to the last bit and 1 finished in neither run.")

    def test_a_loss(self):
        assert single(changed(lambda record: setattr(record, "loss", 0.25 * (1 + 1e-6)))).changed == ["loss"]
        lost = changed(lambda record: setattr(record, "loss", None))
        assert single(lost).loss == (0.25, None)
        assert "loss 0.25 -> none" in str(lost)
        assert changed(lambda record: setattr(record, "loss", 0.25 * (1 + 1e-12))).findings == 0

    @pytest.mark.parametrize(
        ("factor", "floor", "ratio", "is_found"),
        [(1.05, 0.0, 1.05, False), (1.5, 0.0, 1.5, True), (0.5, 0.0, 0.5, True), (1.5, 1.0, None, False),
         (1.5, None, 1.5, True)],
    )  # fmt: skip
    def test_a_gradient_error(self, factor, floor, ratio, is_found):
        """An error that is at the reference's floor, in one run or both, has no ratio."""
        both = [small(), small()]
        for run, times in zip(both, (1.0, factor), strict=True):
            error = one(run).error["all"] * times
            one(run).error |= {"all": error, "floor": None if floor is None else floor * error / AT_FLOOR * 1.01}
        found = diff(*map(compare, both))
        assert [cell.changed for cell in found.results] == ([["error"]] if is_found else [])
        if is_found:
            assert found.results[0].error_ratio == pytest.approx(ratio)
            verb = "grew in 1 cell, up to" if factor > 1 else "shrank in 1 cell, down to"
            assert any(line.startswith(f"The gradient error {verb} {ratio:.2f} times (") for line in found.summary())

    @pytest.mark.parametrize("floors", [(1e-12, 1.0), (1.0, 1e-12)])
    def test_a_gradient_error_at_the_floor_in_one_run_has_no_ratio(self, floors):
        both = [small(), small()]
        for run, floor in zip(both, floors, strict=True):
            one(run).error |= {"all": 1e-3 * floor**0.1, "floor": floor}
        assert diff(*map(compare, both)).results == []

    def test_a_reconstruction_error(self):
        assert single(changed(lambda r: setattr(r, "reconstruction_error", 2 * r.reconstruction_error))).changed == [
            "reconstruction"
        ]
        both = [small(), small()]
        for run, error in zip(both, (1e-15, 8e-13), strict=True):
            one(run).reconstruction_error = error
        assert diff(*map(compare, both)).findings == 0

    def test_what_is_large_stands_first_and_what_is_excused_last(self):
        run = small()
        scale(one(run, rtol=1e-6), 1 + 1e-5)
        scale(one(run, rtol=1e-4), 1 + 1e-4)
        synthetic.fail(one(run, backend="diffrax"), Status.CRASHED, "")
        scale(one(run, norm="seminorm"), 2.0)
        one(run, norm="seminorm").reconstruction_error = 1.0
        one(run, stepping="matched").forward["rejected"] += 1
        found = diff(compare(small()), compare(run))
        assert [(c.plan["backend"], c.plan["stepping"], c.plan["norm"], c.plan["rtol"]) for c in found.results] == [
            ("diffrax", "native", "default", 1e-6), ("scipy", "native", "default", 1e-6),
            ("scipy", "native", "default", 1e-4), ("scipy", "matched", "default", 1e-6),
            ("scipy", "native", "seminorm", 1e-6),
        ]  # fmt: skip
        assert found.results[-1].unstable
        assert "In 1 changed cell the reverse solve is unstable" in "\n".join(found.summary())

    def test_cells_that_changed_alike_are_said_once(self):
        run = small()
        for record in run.records:
            if record.backend == "scipy" and record.problem == "neural_ode":
                synthetic.fail(record, Status.OUT_OF_MEMORY, "")
        said = str(diff(compare(small()), compare(run)))
        cells = "6 cells: scipy; default and seminorm; native and matched; rtol 0.0001 to 1e-06"
        assert said.count(f"neural_ode, {cells}: ok -> out_of_memory") == 1

    def test_a_text_stays_short(self):
        run = synthetic.run()
        for index, record in enumerate(run.records):
            if record.forward:
                record.forward["nfe"] += 1 + index
        found = diff(compare(synthetic.run()), compare(run))
        assert len(found.results) > 300
        assert len(found.as_dict()["results"]) == len(found.results)
        assert len(str(found).splitlines()) < 80
        assert re.search(r"\n  and 3\d\d more, which --json has\n", str(found))


class TestCells:
    def test_cells_of_one_run_are_summarised_and_not_lost(self):
        run = small()
        run.records = [r for r in run.records if (r.problem, r.backend) != ("neural_ode", "scipy")]
        found = diff(compare(small()), compare(run))
        (alone,), none = found.only
        assert (alone.problem, alone.backend, len(alone.plans), none) == ("neural_ode", "scipy", 6, [])
        assert found.cells.shared == 18
        assert "Run A alone holds 6 cells: 6 of neural_ode." in found.summary()
        assert "  A: neural_ode, 6 cells: scipy; default and seminorm; native and matched" in str(found)

    @pytest.mark.parametrize(("part", "value"), [("atol", 1e-7), ("device", "cuda"), ("first_step", 0.1)])
    def test_every_part_of_a_plan_counts(self, part, value):
        found = changed(lambda record: record.plan.update({part: value}))
        assert [len(rows) for rows in found.only] == [1, 1]
        assert str(value) in str(found).split("  B: ")[1].partition("\n")[0]

    def test_runs_of_different_problems(self):
        run = small()
        for record in run.records:
            record.plan["problem"] = f"other_{record.problem}"
        found = diff(compare(small()), compare(run))
        assert found.cells.shared == 0
        assert found.summary()[0] == "The runs have no cell in common, so no result can be compared."

    def test_an_empty_run(self):
        nothing = compare(Run(Path()))
        assert diff(nothing, nothing).summary() == ["Neither run holds a record."]
        assert diff(compare(small()), nothing).summary()[0] == "Run B holds no record to compare with."
        assert diff(nothing, compare(small())).summary()[0] == "Run A holds no record to compare with."

    def test_two_records_of_one_plan(self):
        run = small()
        run.records.append(copy.deepcopy(one(run)))
        assert diff(compare(run), compare(run)).cells.shared == 24


def timed(a, b, repeats=(5, 5)):
    """Return the difference of two runs one of whose cells has these (first quartile, median, third quartile)."""
    both = [small(), small()]
    for run, quartiles, n in zip(both, (a, b), repeats, strict=True):
        time = None if quartiles is None else dict(zip(("q1_s", "median_s", "q3_s"), quartiles, strict=True))
        one(run).time = time and {**time, "repeats": n}
    return diff(*map(compare, both))


class TestTimes:
    @pytest.mark.parametrize(
        ("a", "b", "repeats", "verdict"),
        [
            ((1.0, 1.1, 1.3), (1.2, 1.4, 1.5), (5, 5), "within"),
            ((1.0, 1.1, 1.3), (1.3, 1.4, 1.5), (5, 5), "within"),
            ((1.0, 1.1, 1.2), (1.3, 1.4, 1.5), (5, 5), "slower"),
            ((1.3, 1.4, 1.5), (1.0, 1.1, 1.2), (5, 5), "faster"),
            ((1.0, 1.1, 1.2), (1.3, 1.4, 1.5), (5, 2), "unknown"),
            ((1.0, 1.1, 1.2), (1.3, 1.4, 1.5), (None, 5), "unknown"),
            ((1.0, 1.1, None), (1.3, 1.4, 1.5), (5, 5), "unknown"),
        ],
    )
    def test_a_change_is_one_where_the_quartiles_do_not_overlap(self, a, b, repeats, verdict):
        found = timed(a, b, repeats)
        assert found.findings == (verdict in ("slower", "faster"))
        assert found.times[0].verdict == verdict
        assert found.times[0].ratio == pytest.approx(b[1] / a[1])
        row = next(row for row in found.backends if row.backend == "scipy")
        assert getattr(row, verdict) == (8 if verdict == "within" else 1)
        assert (row.cells, row.ratio, max(row.low, row.high, key=lambda r: abs(math.log(r)))) == (
            8, pytest.approx(1.0), pytest.approx(b[1] / a[1]),
        )  # fmt: skip

    def test_the_words(self):
        said = timed((1.0, 1.0, 1.2), (1.3, 1.5, 1.6)).summary()
        assert (
            "In B scipy takes 1.00 times its time in A (median of 8 cells, 1.00 to 1.50): 1 slower beyond the spread "
            "of the repeats, 7 within it." in said
        )
        assert said[-1] == (
            "The versions behind diffrax and scipy are the same in both runs, so 1.00 to 1.50 times is what the "
            "machine alone does from run to run."
        )

    def test_what_the_machine_does_alone_is_said_where_it_matters(self):
        words = "what the machine alone does"
        assert words not in str(timed((1.0, 1.1, 1.3), (1.2, 1.2, 1.5)))
        both = [small(), small(machine={**synthetic.about()["machine"], "cores": 64})]
        for name in ("q1_s", "median_s", "q3_s"):
            one(both[1]).time[name] *= 10
        found = diff(*map(compare, both))
        assert found.findings == 1
        assert words not in str(found)

    def test_the_median_is_of_logarithms(self):
        both = [small(), small()]
        ratios = iter((4.0, 0.25, 0.25, 9.0, 0.25, 4.0, 0.25, 4.0))
        for record in both[1].records:
            if record.backend == "scipy" and record.time:
                record.time["median_s"] *= next(ratios)
        row = diff(*map(compare, both)).backends[1]
        assert (row.backend, row.ratio, row.low, row.high) == (
            "scipy", pytest.approx(1.0), pytest.approx(0.25), pytest.approx(9.0),
        )  # fmt: skip

    def test_a_run_without_times(self):
        both = [small(), small()]
        for record in both[1].records:
            record.time = None
        a, b = map(compare, both)
        assert "Run B measured no times, so times cannot be compared." in diff(a, b).summary()
        assert "Run A measured no times, so times cannot be compared." in diff(b, a).summary()
        assert "Neither run measured times." in diff(b, b).summary()
        for record in both[0].records:
            record.time = None if record.backend == "scipy" else record.time
        for record in both[1].records:
            record.time = {"median_s": 1.0} if record.backend == "scipy" else None
        assert "No cell that can be compared is timed in both runs." in diff(*map(compare, both)).summary()

    def test_other_versions_are_no_control(self):
        both = [small(), small()]
        for record in both[1].records:
            if record.backend == "scipy":
                record.versions = {**record.versions, "scipy": "9.9"}
        for name in ("q1_s", "median_s", "q3_s"):
            one(both[1]).time[name] *= 10
        found = diff(*map(compare, both))
        assert [row.same_versions for row in found.backends] == [True, False]
        assert "The versions behind diffrax are the same" in found.summary()[-1]
        assert "Versions differ: scipy 1.2.3 -> 9.9." in found.summary()


class TestFacts:
    def test_versions_and_machine(self):
        machine = {**synthetic.about()["machine"], "cores": 64, "python": "3.12.1", "memory_bytes": 1}
        versions = {"crossbackend": "0.1.0", "numpy": "2.4.1", "torch": "3.0", "julia": "2"}
        found = diff(compare(small()), compare(small(machine=machine, versions=versions, command="x", timing=False)))
        assert {fact.name: fact.values for fact in found.versions} == {
            "torch": ("2.9.0", "3.0"), "jax": ("0.8.0", None), "julia": (None, "2"),
        }  # fmt: skip
        assert [fact.name for fact in found.machine] == ["cores", "memory_bytes", "python"]
        assert [fact.name for fact in found.options] == ["command", "timing"]
        assert found.findings == 0
        said = found.summary()
        assert "Versions differ: torch 2.9.0 -> 3.0, jax 0.8.0 -> none and julia none -> 2." in said
        assert any(line.startswith("The machines differ (cores and memory): every time may differ") for line in said)
        assert "On the machine: python 3.11.7 -> 3.12.1." in said
        assert not any("Nothing differs" in line for line in said)

    @pytest.mark.parametrize(("share", "differs"), [(0.5 * MEMORY_ALIKE, 0), (2 * MEMORY_ALIKE, 1)])
    def test_memory_that_a_restart_moved_is_no_other_machine(self, share, differs):
        machine = synthetic.about()["machine"]
        other = {**machine, "memory_bytes": machine["memory_bytes"] * (1 + share)}
        assert len(diff(compare(small()), compare(small(machine=other))).machine) == differs

    def test_a_resumed_run_has_two_versions(self):
        run = small()
        run.records[0].versions = {"numpy": "2.5.0"}
        (fact,) = diff(compare(small()), compare(run)).versions
        assert (fact.name, fact.values) == ("numpy", ("2.4.1", "2.4.1 and 2.5.0"))

    @pytest.mark.parametrize("about", [{}, {"versions": None, "machine": []}, {"machine": {"cores": float("nan")}}])
    def test_a_run_that_says_little_of_itself(self, about):
        found = diff(compare(small()), compare(Run(Path(), about, small().records)))
        assert found.cells.same == 24
        json.dumps(found.as_dict(), allow_nan=False)
        assert str(found)

    def test_nothing_explains_it(self):
        def change(record):
            record.forward["nfe"] += 1

        line = "No version, machine, setting or problem differs: nothing that is recorded explains what changed."
        assert line in changed(change).summary()
        other = small(versions={"torch": "3.0"})
        change(one(other))
        assert line not in diff(compare(small()), compare(other)).summary()

    def test_a_problem_that_is_another_one(self):
        run = small()
        run.cards["neural_ode"]["ts"] = [0.0, 3.0]
        scale(one(run), 3.0)
        found = diff(compare(small()), compare(run))
        (change,) = found.problems
        assert (change.problem, [fact.name for fact in change.facts], change.code) == ("neural_ode", ["ts"], False)
        assert found.results[0].expected
        assert {row.plan["problem"] for row in found.times} == {"lotka_volterra"}
        said = found.summary()
        assert (
            "neural_ode is not the same problem in both runs (ts): its results are expected to differ (1 cell did), "
            "and its times are not compared." in said
        )
        assert not any("more than rounding" in line for line in said)

    @pytest.mark.parametrize("entry", ["description", "source", "picture", "tolerances"])
    def test_prose_makes_no_other_problem(self, entry):
        run = small()
        run.cards["neural_ode"][entry] = "other"
        assert diff(compare(small()), compare(run)).findings == 0

    def test_a_card_that_says_less_makes_no_other_problem(self):
        run = small()
        run.cards["neural_ode"] = {"ts": run.cards["neural_ode"]["ts"]}
        assert diff(compare(small()), compare(run)).problems == []

    @pytest.mark.parametrize(
        ("about", "is_found"),
        [({}, True), ({"versions": {"crossbackend": "9.9"}}, False), ({"machine": {"python": "3.12.0"}}, False),
         ({"machine": {"python": "3.11.9"}}, True)],
    )  # fmt: skip
    def test_the_digest_of_its_functions(self, about, is_found):
        """It is of use only where the same crossbackend and the same Python made both."""
        run = small(**about)
        run.references["neural_ode"]["digest"] = "other"
        found = diff(compare(small()), compare(run))
        assert [(change.problem, change.code) for change in found.problems] == [("neural_ode", True)] * is_found
        assert ("neural_ode: its functions or data" in str(found)) is is_found

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"status": "uncertain"}, "status ok -> uncertain"),
            ({"floor": 3e-9}, "floor 3.0e-13 -> 3.0e-09"),
            ({"floor": None}, "floor 3.0e-13 -> none"),
            ({"arrays": {"gradient/y0": np.array([1.0, 1.0 + 1e-6])}}, "it moved by 7.1e-07"),
        ],
    )
    def test_a_reference(self, changes, words):
        both = [small(), small()]
        for run in both:
            run.references["neural_ode"]["arrays"] = {"gradient/y0": np.array([1.0, 1.0])}
        both[1].references["neural_ode"] |= changes
        found = diff(*map(compare, both))
        (row,) = found.references
        assert row.problem == "neural_ode"
        assert f"The reference gradient of neural_ode changed: {words}." in found.summary()

    def test_a_reference_may_move_by_rounding(self):
        both = [small(), small()]
        for run, shift in zip(both, (0.0, 1e-13), strict=True):
            run.references["neural_ode"] |= {"arrays": {"gradient/y0": np.ones(2) + shift}, "floor": 3e-13 + shift}
        assert diff(*map(compare, both)).findings == 0

    def test_settings(self):
        run = small()
        for record in run.records:
            if record.backend == "scipy" and record.stepping == "native":
                record.settings["backward"]["accept"] = "ratio <= 1"
        found = diff(compare(small()), compare(run))
        (row,) = found.settings
        assert (row.backend, row.solve, row.setting, row.values) == (
            "scipy", "backward", "accept", (None, "ratio <= 1"),
        )  # fmt: skip
        assert len(row.plans) == 8
        assert "Effective settings changed: scipy accept." in found.summary()


class TestFlags:
    def test_one_that_appeared_and_vanished(self):
        run = small()
        one(run).reconstruction_error = 1.0
        a, b = compare(small()), compare(run)
        for found, appeared in ((diff(a, b), True), (diff(b, a), False)):
            (row,) = found.flags
            assert (row.name, row.problem, row.level, row.appeared) == (
                "backsolve_unstable", "neural_ode", "warning", appeared,
            )  # fmt: skip
            assert [plan["rtol"] for plan in row.plans] == [1e-6]
            verb = "appeared" if appeared else "vanished"
            assert f"Flags {verb}: backsolve_unstable on neural_ode (1 cell)." in found.summary()
            assert f"warning backsolve_unstable {verb} on neural_ode, scipy, default, native, rtol 1e-06: " in str(
                found
            )

    def test_of_a_cell_that_only_one_run_holds(self):
        run = small()
        one(run).reconstruction_error = 1.0
        both = compare(small()), compare(run)
        run.records.remove(one(run))
        assert diff(both[1], compare(run)).flags == []

    def test_of_a_cell_that_did_not_finish_in_the_other_run(self):
        """A warning that a failed solve raises has appeared; one that it cannot raise has not vanished."""
        both = [small(), small()]
        one(both[0]).reconstruction_error = 1.0
        synthetic.fail(one(both[1]), Status.TIMEOUT, "")
        one(both[1], rtol=1e-4).status = Status.DIVERGED
        rows = diff(*map(compare, both)).flags
        assert [(row.name, row.appeared, row.plans[0]["rtol"]) for row in rows] == [("backsolve_unstable", True, 1e-4)]

    def test_of_several_backends_and_of_the_whole_problem(self):
        """A flag of the whole problem is in all its cells; a backend that is gone changes no other one's."""
        run = small()
        run.references["neural_ode"]["status"] = "uncertain"
        rows = diff(compare(small()), compare(run)).flags
        assert [(row.name, len(row.plans)) for row in rows] == [("reference_uncertain", 12)]
        run = synthetic.run()
        flagged = [flag for item in compare(run).problems for flag in item.flags if flag.name == "settings_differ"]
        assert any(flag.backend == "diffrax, scipy, torchdiffeq" for flag in flagged)
        fewer = synthetic.run()
        fewer.records = [record for record in fewer.records if record.backend != "diffrax"]
        rows = diff(compare(run), compare(fewer)).flags
        assert not [row for row in rows if row.name == "settings_differ"]

    def test_of_one_gradient_alone(self):
        """A flag that one gradient's cell loses is gone, though backsolve's cell still carries one of that name."""
        both = [small(), small()]
        for run in both:
            run.cards["neural_ode"]["breakpoints"] = [5.0]
            run.records = [synthetic.record("neural_ode", "scipy", "native", "default", 1e-6)]
            run.records.append(synthetic.otherwise("neural_ode", "scipy", "quadrature", 1e-6))
        for which in ("forward", "backward"):
            both[1].records[1].arrays[f"{which}/t1"][:] = 5.0
        found = diff(*map(compare, both))
        (row,) = found.flags
        assert (row.name, row.appeared) == ("missed_breakpoint", False)
        assert [plan["gradient"] for plan in row.plans] == ["quadrature"]
        assert "scipy, default, native, rtol 1e-06, quadrature:" in str(found)


class TestVerdicts:
    def test_of_one_gradient_alone(self):
        both = [small(), small()]
        for run in both:
            for record in list(run.records):
                if record.stepping == "matched":
                    other = copy.deepcopy(record)
                    other.plan["gradient"], other.digest = "direct", f"{record.digest}-direct"
                    run.records.append(other)
        scale(both[1].records[-1], 1.01)
        both[1].records = [r for r in both[1].records if r.stepping == "native" or r.plan["gradient"] == "direct"]
        (row,) = diff(*map(compare, both)).verdicts
        assert (row.gradient, row.series, row.verdict) == ("direct", "direct", ("pass", "fail"))
        assert "verdict pass -> fail on neural_ode, direct, matched, rtol" in str(diff(*map(compare, both)))

    def test_one_that_changed(self):
        found = changed(lambda record: scale(record, 1.5), stepping="matched")
        (row,) = found.verdicts
        assert (row.problem, row.norm, row.rtol, row.verdict) == ("neural_ode", "default", 1e-6, ("pass", "fail"))
        assert row.difference[1] == pytest.approx(0.5)
        assert "The verdict went pass -> fail in 1 matched cell, on neural_ode." in found.summary()
        assert "verdict pass -> fail on neural_ode, default, matched, rtol 1e-06: gradients differ by" in str(found)

    def test_a_backend_that_is_gone_is_named(self):
        run = small()
        run.records.remove(one(run, stepping="matched"))
        found = diff(compare(small()), compare(run))
        (row,) = found.verdicts
        assert (row.verdict, row.backends) == (("pass", "missing"), (["diffrax", "scipy"], ["diffrax"]))
        assert "gradients from diffrax and scipy -> diffrax" in " ".join(str(found).split())


CHANGES = {
    "gradient": lambda record: scale(record, 1.25),
    "counts": lambda record: record.backward and record.backward.update(nfe=record.backward["nfe"] + 6),
    "error": lambda record: record.error.update({"all": 1e-2}),
    "unstable": lambda record: setattr(record, "reconstruction_error", 1.0),
    "status": lambda record: synthetic.fail(record, Status.TIMEOUT, ""),
    "time": lambda record: record.time and record.time.update(median_s=9.0, q1_s=8.0, q3_s=10.0),
    "leaf": lambda record: record.arrays.pop("gradient/y0", None),
    "setting": lambda record: record.settings["forward"].update(accept="always"),
    "plan": lambda record: record.plan.update(first_step=0.5),
}
PICKS = st.lists(st.tuples(st.sampled_from(sorted(CHANGES)), st.integers(0, 23), st.booleans()), max_size=6)


@settings(max_examples=40)
@given(PICKS)
def test_the_other_way_round_everything_is_mirrored(picks):
    both = [small(), small()]
    for name, index, second in picks:
        CHANGES[name](both[second].records[index])
    a, b = map(compare, both)
    there, back = diff(a, b), diff(b, a)
    assert there.findings == back.findings
    assert there.cells == back.cells
    assert [len(rows) for rows in there.only] == [len(rows) for rows in back.only][::-1]
    found = {json.dumps(cell.plan): cell for cell in back.results}
    assert len(found) == len(there.results)
    for cell in there.results:
        other = found[json.dumps(cell.plan)]
        assert (cell.status, cell.loss, cell.error, cell.reconstruction) == (
            other.status[::-1], other.loss[::-1], other.error[::-1], other.reconstruction[::-1],
        )  # fmt: skip
        assert cell.counts == {name: pair[::-1] for name, pair in other.counts.items()}
        assert (cell.gradient, cell.changed, cell.unstable) == (other.gradient, other.changed, other.unstable)
        assert (cell.error_ratio is None) == (other.error_ratio is None)
        if cell.error_ratio is not None:
            assert cell.error_ratio == pytest.approx(1 / other.error_ratio)
    for row, other in zip(there.backends, back.backends, strict=True):
        assert (row.slower, row.faster, row.within, row.unknown) == (
            other.faster, other.slower, other.within, other.unknown,
        )  # fmt: skip
        assert row.ratio == pytest.approx(1 / other.ratio)
        assert (row.low, row.high) == pytest.approx((1 / other.high, 1 / other.low))
    flags = {(row.problem, row.name, row.appeared, len(row.plans)) for row in there.flags}
    assert flags == {(row.problem, row.name, not row.appeared, len(row.plans)) for row in back.flags}
    assert {(row.problem, row.norm, row.rtol, row.verdict) for row in there.verdicts} == {
        (row.problem, row.norm, row.rtol, row.verdict[::-1]) for row in back.verdicts
    }
    assert json.loads(json.dumps(there.as_dict(), allow_nan=False))["findings"] == there.findings


def test_json_holds_finite_numbers_only():
    run = synthetic.hostile_name_run()
    run.about["machine"]["cores"] = float("inf")
    run.records[0].loss = float("nan")
    run.records[1].error["all"] = np.float64(1e-3)
    run.cards[synthetic.HOSTILE]["ts"] = [0.0, float("nan")]
    run.cards[synthetic.HOSTILE]["dtype"] = {"a": {1, 2}}
    found = diff(compare(synthetic.hostile_name_run()), compare(run))
    back = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert back["format"] == 1
    assert back["summary"] == found.summary()
    assert back["problems"][0]["problem"] == synthetic.HOSTILE
    assert next(fact for fact in back["machine"] if fact["name"] == "cores")["values"] == [2, None]


def store(run, folder):
    prepare(folder)
    write_json(folder / "run.json", run.about)
    for record in run.records:
        write_record(folder, record)
    for name, card in run.cards.items():
        write_json(folder / "problems" / f"{name}.json", card)
    for name, about in run.references.items():
        write_reference(folder, name, {k: v for k, v in about.items() if k != "arrays"}, about["arrays"])
    return folder


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Two runs on disk; the second took other steps in one cell, and no digest is as it was."""
    folder, run = tmp_path_factory.mktemp("runs"), small(name="after")
    one(run).backward["nfe"] += 60
    for record in run.records:
        record.digest += "-after"
    return store(small(name="before"), folder / "before"), store(run, folder / "after")


class TestCommand:
    def test_text(self, capsys, stored):
        code, out, err = call(capsys, "diff", *stored)
        assert (code, err) == (0, "")
        assert out == str(crossbackend.diff(*stored))
        assert out.startswith(
            f"A  {stored[0]}, 2026-03-04T15:06:07+00:00, Example CPU @ 2.0 GHz, 2 cores, 24 records\n"
        )
        assert "\nOf 24 cells in both runs 1 changed and 23 are the same to the last bit.\n" in out
        assert "neural_ode, scipy, default, native, rtol 1e-06: backward NFE" in out

    def test_json(self, capsys, stored):
        code, out, err = call(capsys, "diff", *stored, "--json")
        assert (code, err) == (0, "")
        found = json.loads(out)
        assert (found["findings"], len(found["results"]), found["names"]) == (1, 1, [str(path) for path in stored])

    def test_a_run_with_itself(self, capsys, stored):
        code, out, err = call(capsys, "diff", stored[0], stored[0])
        assert (code, err) == (0, "")
        assert "\nNothing differs. All 24 cells" in out

    def test_page(self, capsys, stored, tmp_path):
        path = tmp_path / "new" / "page.html"
        code, out, err = call(capsys, "diff", *stored, "--page", path)
        assert (code, err) == (0, "")
        assert out == f"{crossbackend.diff(*stored)}wrote {path}\n"
        assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
        assert list(path.parent.iterdir()) == [path]
        code, out, err = call(capsys, "diff", *stored, "--json", "--page", path)
        assert (code, err, json.loads(out)["findings"]) == (0, f"wrote {path}\n", 1)

    def test_a_damaged_file_is_named(self, capsys, stored, tmp_path):
        folder = store(small(), tmp_path / "run")
        path = next((folder / "records").glob("*scipy*1e-06.json"))
        path.write_text(path.read_text()[:50])
        code, out, err = call(capsys, "diff", folder, stored[0])
        assert code == 0
        assert re.fullmatch(rf"skipped in A: records/{re.escape(path.name)}: cannot be read \(.*\)\n", err)
        assert "1 file of run A was damaged and skipped." in out

    def test_runs_that_are_not_there_are_named_both_at_once(self, capsys, tmp_path, stored):
        code, out, err = call(capsys, "diff", tmp_path / "x", tmp_path)
        assert (code, out) == (2, "")
        first, second = err.splitlines()
        assert re.fullmatch(r"error: RUN_A: got .*/x, which is no folder, expected the folder of a run\. Make.*", first)
        assert re.fullmatch(r"error: RUN_B: got .*, which holds no run\.json, expected the folder of a run\..*", second)
        code, out, err = call(capsys, "diff", stored[0], tmp_path)
        assert (code, out) == (2, "")
        assert re.fullmatch(r"error: RUN_B: .*\n", err)

    @pytest.mark.parametrize("bad", [".", "file/page.html"])
    def test_a_page_that_cannot_be_written(self, capsys, tmp_path, stored, bad):
        (tmp_path / "file").write_text("")
        code, out, err = call(capsys, "diff", *stored, "--page", tmp_path / bad)
        assert (code, out) == (2, "")
        assert re.fullmatch(
            r"error: --page: got .* \(.*\), expected a file that can be written\. Write another.*\n", err
        )

    def test_two_runs_are_needed(self, capsys, stored):
        code, out, err = call(capsys, "diff", stored[0])
        assert (code, out) == (2, "")
        assert "the following arguments are required: RUN_B" in err


class TestApi:
    def test_comparisons_in_memory_will_do(self, stored):
        a, b = map(compare, (small(), small()))
        found = crossbackend.diff(a, b)
        assert (found.names, found.findings) == (("latest", "latest"), 0)
        assert repr(found) == str(found)
        assert crossbackend.diff(a, stored[1]).names == ("latest", str(stored[1]))

    def test_mistakes(self, tmp_path):
        words = r"RUN_A: got .*nowhere, which is no folder, .*\nRUN_B: got .*, which holds no run\.json"
        with pytest.raises(UserError, match=words):
            crossbackend.diff(str(tmp_path / "nowhere"), tmp_path)

    def test_the_text_needs_no_heavy_library(self, stored):
        code = """
import sys, crossbackend
print(crossbackend.diff(*sys.argv[1:]).findings)
print([name for name in ("torch", "jax", "matplotlib", "jinja2", "pandas", "typst") if name in sys.modules])
"""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, *map(str, stored)], capture_output=True, text=True, check=False
        )
        assert (done.stdout, done.stderr) == ("1\n[]\n", "")


class TestPageOfWords:
    """docs/diff.md is true."""

    PAGE = (Path(__file__).parents[1] / "docs/diff.md").read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        ("words", "value"),
        [
            ("1e-9 relative in float64, 1e-4 in float32", cells.ROUNDING == {"float64": 1e-9, "float32": 1e-4}),
            ("by more than a tenth", cells.ALIKE == 1.1), ("fewer than three repeats", LEAST_REPEATS == 3),
            ("ten times the reference's floor", AT_FLOOR == 10), ("above 1e-12", cells.TINY == 1e-12),
        ],
    )  # fmt: skip
    def test_thresholds(self, words, value):
        assert words in " ".join(self.PAGE.split())
        assert value

    def test_commands_parse(self):
        shown = re.findall(r"^\.venv/bin/crossbackend (.*?)(?:\s+#.*)?$", self.PAGE, re.MULTILINE)
        assert len(shown) >= 2
        for line in shown:
            parser().parse_args(line.split())

    def test_every_part_of_the_json_is_named(self):
        named = set(re.findall(r"`(\w+)`", self.PAGE))
        found = diff(compare(small()), compare(small())).as_dict()
        assert set(found) - {"format", "summary", "findings"} <= named
