"""A run of stub backends: what is run, what is skipped, and what becomes of a worker that misbehaves."""

import importlib
import json
import math
import threading
from importlib.metadata import version

import numpy as np
import pytest

from crossbackend import machine
from crossbackend.compare import compare
from crossbackend.digest import problem_digest
from crossbackend.errors import UserError
from crossbackend.load import load
from crossbackend.plan import Choice
from crossbackend.record import Status
from crossbackend.study import Options, run_study
from crossbackend.study.cells import declines, plans_of

from .conftest import of


def test_every_cell_becomes_a_record(lab):
    calls = lab.run(lab.problem("p"), lab.problem("q"), steppings=("native", "matched"), norms=("default", "seminorm"))
    records = lab.stored().records
    assert len(records) == 2 * 3 * 2 * 2 * 2
    assert {r.status for r in records if (r.stepping, r.norm) == ("matched", "seminorm")} == {Status.UNSUPPORTED}
    assert {r.status for r in records if (r.stepping, r.norm) != ("matched", "seminorm")} == {Status.OK}
    assert len(of(calls, "record")) == 2 * 3 * 3 * 2
    assert len({tuple(call) for call in of(calls, "record")}) == len(of(calls, "record"))


def test_a_record_holds_what_was_found(lab):
    lab.run(lab.problem(), backends="a", rtols=(1e-4,))
    (record,) = lab.stored().records
    assert record.plan == {
        "problem": "p", "backend": "a", "norm": "default", "stepping": "native", "rtol": 1e-4, "atol": 1e-6,
        "gradient": "backsolve", "dtype": "float64", "device": "cpu", "first_step": None,
    }  # fmt: skip
    assert (record.loss, record.message, record.time) == (1.0, "", None)
    unmeasured = dict.fromkeys(("t_min", "t_max", "y_max"))
    assert record.forward == {"nfe": 8, "accepted": 1, "rejected": 0, **unmeasured}
    assert record.backward == {"nfe": 8, "accepted": 1, "rejected": 0, "spurious": None, "masked": None, **unmeasured}
    np.testing.assert_array_equal(record.arrays["gradient/y0"], [1.0, 2.0])
    np.testing.assert_array_equal(record.arrays["forward/ys"], np.ones((2, 2)))
    assert record.settings == {"forward": {"rtol": 1e-4}, "backward": {"rtol": 1e-4}}
    assert record.versions == {"crossbackend": version("crossbackend"), "crossbackend-stub": "1"}
    assert record.machine == machine.facts()
    assert record.error["all"] == pytest.approx(0.001 / 1.001, rel=1e-12)
    assert record.error["y0"] == record.error["all"]
    assert record.error["floor"] == 1e-12


def test_a_declined_plan_is_a_record_with_the_reason(lab):
    calls = lab.run(lab.problem(), backends="a", steppings=("matched",), norms=("seminorm",))
    records = lab.stored().records
    assert [(r.status, r.message) for r in records] == [("unsupported", "it does not do matched seminorms")] * 2
    assert of(calls, "compile") == []
    assert json.loads((lab.out / "run.json").read_text())["declined"] == [
        {"problem": "p", "backend": "a", "gradient": "backsolve", "norm": "seminorm", "stepping": "matched",
         "reason": "it does not do matched seminorms"}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("order", "status", "message"),
    [
        ("hang", "timeout", "no answer in 1.5 s"),
        ("exit", "crashed", "the worker ended with exit code 7: it left no words"),
        ("kill", "crashed", "the worker was killed by signal 9"),
        ("leave", "crashed", "the worker ended with exit code 3"),
        ("raise", "crashed", "ValueError: the library's own words"),
        ("memory", "out_of_memory", "GiB of 0.40 GiB allowed"),
        ("memory error", "out_of_memory", "MemoryError"),
        ("allocator", "out_of_memory", "CUDA out of memory"),
        ("user", "unsupported", "lowering: got the primitive 'fft', expected one it knows."),
        ("print", "ok", ""),
        ("nan", "nan_in_field", "both solves ended, but gradient/y0 is not finite"),
    ],
)
def test_a_worker_that_misbehaves_is_a_status_and_the_rest_goes_on(lab, order, status, message):
    lab.order("b", f"record:p:{order}" if order != "nan" else "nan")
    patience = 30 if order == "memory" else 1.5  # a machine may take a second to hand out 0.4 GiB
    lab.run(lab.problem("p"), lab.problem("q"), rtols=(1e-4,), timeout=patience, memory_gib=0.4)
    found = lab.statuses()
    assert found.pop(("p", "b")) == status
    if order == "nan":
        assert found.pop(("q", "b")) == status
    assert set(found.values()) == {"ok"}
    assert len(found) >= 4
    (record,) = (r for r in lab.stored().records if (r.problem, r.backend) == ("p", "b"))
    assert message in record.message
    assert record.error["all"] is None or status == "ok"


@pytest.mark.parametrize("call", ["declines", "compile"])
def test_a_crash_before_the_solve_is_a_status_too(lab, call):
    lab.order("b", f"{call}:p:kill")
    lab.run(lab.problem("p"), lab.problem("q"), rtols=(1e-4,))
    found = lab.statuses()
    assert found.pop(("p", "b")) == "crashed"
    assert set(found.values()) == {"ok"}


def test_functions_that_bring_the_worker_down_lose_their_problem_alone(lab):
    bad = lab.problem("p")
    bad.write_text(bad.read_text().replace("return -data", "import os; os._exit(5)\n    return -data"))
    lab.run(bad, lab.problem("q"), rtols=(1e-4,))
    assert lab.statuses() == {(n, b): "crashed" if n == "p" else "ok" for n in "pq" for b in "abc"}
    assert {r.message for r in lab.stored().records if r.problem == "p"} == {
        "the worker ended with exit code 5: it left no words"
    }


class TestResume:
    def test_what_is_there_is_skipped(self, lab):
        path = lab.problem()
        assert len(of(lab.run(path), "record")) == 6
        assert lab.run(path) == []
        assert len(of(lab.run(path, rtols=(1e-4, 1e-5)), "record")) == 3
        assert len(lab.stored().records) == 9

    def test_force_runs_all_again(self, lab, monkeypatch):
        again = []
        monkeypatch.setattr("crossbackend.study.run.run_references", lambda study: again.extend(study.references))
        path = lab.problem()
        lab.run(path, backends="a")
        before = lab.stored()
        calls = lab.run(path, backends="a", force=True)
        assert len(of(calls, "record")) == 2
        assert [problem.name for problem in again] == ["p"]
        assert [r.digest for r in lab.stored().records] == [r.digest for r in before.records]

    @pytest.mark.parametrize(
        ("order", "again"),
        [("exit", True), ("raise", True), ("memory error", True), ("user", False), ("nan", False)],
    )
    def test_what_the_machine_did_is_tried_again(self, lab, order, again):
        path = lab.problem()
        lab.order("a", order if order == "nan" else f"record:{order}")
        lab.run(path, backends="a", rtols=(1e-4,))
        lab.order("a")
        calls = lab.run(path, backends="a", rtols=(1e-4,))
        assert len(of(calls, "record")) == (1 if again else 0)
        assert (lab.statuses()["p", "a"] == "ok") is again

    def test_a_damaged_record_is_made_again(self, lab):
        path = lab.problem()
        lab.run(path, backends="a")
        first = sorted((lab.out / "records").glob("*.json"))[0]
        first.write_text(first.read_text().replace('"loss": 1.0', '"loss": 2.0'))
        assert len(lab.stored().damaged) == 1
        assert len(of(lab.run(path, backends="a"), "record")) == 1
        assert lab.stored().damaged == []

    def test_an_edited_field_runs_its_cells_again_and_no_others(self, lab):
        p, q = lab.problem("p"), lab.problem("q")
        lab.run(p, q)
        old = {r.digest for r in lab.stored().records if r.problem == "p"}
        p.write_text(p.read_text().replace("-data", "-2 * data").replace("import numpy", "# a comment\nimport numpy"))
        q.write_text("# a comment\n" + q.read_text())
        calls = lab.run(p, q, rtols=(1e-4,))
        assert [call[1] for call in of(calls, "record")] == ["p"] * 3
        # The records of the old field are set aside at every tolerance, also at the one not asked for now.
        found = lab.stored().records
        assert [r.rtol for r in found if r.problem == "p"] == [1e-4] * 3
        assert len([r for r in found if r.problem == "q"]) == 6
        assert {path.stem for path in (lab.out / "superseded").glob("*.json")} >= old
        assert not old & {r.digest for r in found}

    def test_edited_data_counts_too(self, lab):
        lab.run(lab.problem("p", rate=1.0), backends="a")
        assert len(of(lab.run(lab.problem("p", rate=2.0), backends="a"), "record")) == 2

    def test_the_reference_of_an_edited_problem_is_set_aside(self, lab):
        path = lab.problem(rate=1.0)
        lab.run(path, backends="a")
        path = lab.problem(rate=2.0)
        choice = Choice(("a",), ("default",), ("native",))
        lab.order("a", "declines:kill")
        run_study([load(path)], choice, Options(lab.out, timing=False, progress=False, timeout=0.5))
        assert lab.stored().references["p"]["status"] == "failed"
        assert (lab.out / "superseded" / "p.json").exists()

    def test_an_upgrade_runs_again(self, lab):
        path = lab.problem()
        lab.run(path, backends="a", rtols=(1e-4,))
        lab.version("2")
        calls = lab.run(path, backends="a", rtols=(1e-4,))
        assert len(of(calls, "record")) == 1
        assert [r.versions["crossbackend-stub"] for r in lab.stored().records] == ["2"]


def test_a_run_says_every_command_that_made_it_once(lab, monkeypatch):
    path = lab.problem()
    for rtol in ("1e-4", "1e-6", "1e-4"):
        monkeypatch.setattr("sys.argv", ["crossbackend", "run", str(path), "--rtol", rtol])
        lab.run(path, backends="a", rtols=(float(rtol),))
    said = json.loads((lab.out / "run.json").read_text())["command"]
    assert said == " && ".join(f"crossbackend run {path} --rtol {rtol}" for rtol in ("1e-4", "1e-6"))


class TestTiming:
    def test_backends_take_turns_and_nothing_is_counted_meanwhile(self, lab):
        calls = lab.run(lab.problem(), timing=True, rtols=(1e-4,), repeats=4, seconds=1000.0)
        timed = calls[max(i for i, call in enumerate(calls) if call[0] in ("record", "compile", "declines")) + 1 :]
        turns = [call[1] for call in timed if call[0] == "solve"]
        assert {call[0] for call in timed} == {"solve"}
        # One warm-up a backend inside the lanes, one more in turns, then four that count.
        assert turns[-15:] == ["a", "b", "c"] * 5
        assert [r.time["repeats"] for r in lab.stored().records] == [4] * 3

    @pytest.mark.parametrize("timing", [False, True])
    def test_a_sweep_compiles_once(self, lab, timing):
        """Once for counting and, where it is timed, at most once more for the bare plan: not once a tolerance."""
        calls = lab.run(lab.problem(), backends="a", timing=timing, rtols=(1e-4, 1e-6, 1e-8), repeats=1)
        assert 1 <= len(of(calls, "compile")) <= 1 + timing
        assert len(of(calls, "record")) == 3
        if timing:
            assert [r.time["compile_s"] for r in lab.stored().records] == [0.25] * 3

    def test_seconds_end_the_repeats(self, lab):
        lab.order("a", "solve:slow")
        lab.run(lab.problem(), backends="a", timing=True, rtols=(1e-4,), repeats=100, seconds=0.5)
        (record,) = lab.stored().records
        assert record.time["repeats"] == 3
        assert (
            0.2 <= record.time["min_s"] <= record.time["q1_s"] <= record.time["median_s"] <= record.time["q3_s"] < 0.4
        )
        assert record.time["first_s"] >= 0.2
        assert record.peak_memory_bytes is None or record.peak_memory_bytes > 2**20

    def test_memory_is_what_a_call_asks_for_and_not_what_the_process_holds(self, lab):
        lab.order("a", "solve:big")
        lab.run(lab.problem(), backends=("a", "b"), timing=True, rtols=(1e-4,), repeats=2)
        big, small = (next(r for r in lab.stored().records if r.backend == name) for name in "ab")
        if big.memory_rise_bytes is None:
            pytest.skip("the system does not say")
        assert 60 * 2**20 < big.memory_rise_bytes < 72 * 2**20
        assert small.memory_rise_bytes < 8 * 2**20
        assert big.memory_rise_bytes < big.peak_memory_bytes
        assert big.device_memory_bytes is None

    def test_matched_cells_have_no_time(self, lab):
        lab.run(lab.problem(), backends="a", timing=True, steppings=("native", "matched"), rtols=(1e-4,), repeats=1)
        assert {r.stepping: r.time is not None for r in lab.stored().records} == {"native": True, "matched": False}

    def test_what_was_not_timed_is_timed_later_and_not_counted_again(self, lab):
        path = lab.problem()
        lab.run(path, backends="a", rtols=(1e-4,))
        calls = lab.run(path, backends="a", rtols=(1e-4,), timing=True, repeats=1)
        assert of(calls, "record") == []
        assert lab.stored().records[0].time["repeats"] == 1
        assert lab.run(path, backends="a", rtols=(1e-4,), timing=True, repeats=1) == []

    def test_a_worker_that_died_is_warmed_before_it_is_timed(self, lab):
        """The lane's last sweep kills the worker; the one that takes its place must not time a compilation."""
        lab.order("a", "record:q:kill")
        calls = lab.run(lab.problem("p"), lab.problem("q"), backends="a", timing=True, rtols=(1e-4,), repeats=1)
        after = calls[calls.index(["record", "a", "q", "default", "native", "0.0001"]) + 1 :]
        assert [call[0] for call in after] == ["compile", "solve", "solve", "solve"]
        assert lab.stored().records[0].time["compile_s"] == 0.25

    def test_a_crash_in_the_timed_run_is_told(self, lab):
        lab.order("a", "solve:raise")
        lab.run(lab.problem(), backends="ab", timing=True, rtols=(1e-4,), repeats=2)
        a, b = lab.stored().records
        assert (a.status, a.time, a.message) == (
            Status.OK,
            None,
            "not timed: crashed: ValueError: the library's own words",
        )
        assert b.time["repeats"] == 2

    def test_counting_and_timing_are_the_only_solves(self, lab):
        calls = lab.run(lab.problem(), backends="a", rtols=(1e-4,))
        assert of(calls, "solve") == []


class TestMistakes:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"repeats": 0}, r"--repeats: got 0, expected a whole number of 1 or more\."),
            ({"seconds": 0.0}, r"--seconds: got 0, expected a positive number\."),
            ({"timeout": -1.0}, r"--timeout: got -1, expected a positive number\."),
            ({"memory_gib": math.nan}, r"--memory: got nan, expected a positive number\."),
            ({"memory_gib": math.inf}, r"--memory: got inf, expected a positive number\."),
        ],
    )
    def test_options(self, lab, options, words):
        with pytest.raises(UserError, match=words):
            lab.run(lab.problem(), **options)

    def test_all_at_once(self, lab):
        with pytest.raises(UserError) as caught:
            lab.run(lab.problem(), repeats=0, seconds=0.0)
        assert len(caught.value.mistakes) == 2

    def test_one_name_twice(self, lab):
        with pytest.raises(UserError, match=r"problems: got the name 'p' twice, expected a name of its own"):
            lab.run(lab.problem(), lab.problem())

    def test_no_backend(self, lab):
        with pytest.raises(UserError, match=r"--backend: got no backend, expected one whose libraries are installed\."):
            lab.run(lab.problem(), backends=())

    def test_a_backend_twice_runs_once(self, lab):
        assert len(of(lab.run(lab.problem(), backends="aa", rtols=(1e-4, 1e-4)), "record")) == 1

    def test_a_mistake_in_a_function_comes_before_any_solve(self, lab):
        path = lab.problem()
        path.write_text(path.read_text().replace("* y\n", "* y[:1]\n"))
        with pytest.raises(UserError, match=r"vector_field under numpy: got \(1,\), expected y's own structure \(2,\)"):
            lab.run(path)
        assert lab.calls("record", "compile") == []

    def test_a_file_that_is_random(self, lab):
        path = lab.problem()
        path.write_text(path.read_text().replace("np.ones(2)", "np.random.default_rng().normal(size=2)"))
        with pytest.raises(UserError, match=r"got another problem when it is run again.* Seed what is random in it"):
            lab.run(path, backends="a")


def test_a_reference_of_another_version_is_made_again(lab):
    """What a reference holds changes between versions: the leaves' finite differences came with 0.2."""
    from crossbackend.study.references import MADE_BY, has_reference

    path = lab.problem()
    lab.reference(path)
    digest = problem_digest(load(path))
    stored = lab.stored()
    assert has_reference(load(path), digest, stored)
    for about in ({"made_by": "crossbackend 0.1.0"}, {"made_by": None}):
        stored.references["p"] |= about
        assert not has_reference(load(path), digest, stored)
    stored.references["p"] |= {"made_by": MADE_BY, "digest": "other"}
    assert not has_reference(load(path), digest, stored)


def test_a_problem_made_in_memory_travels(lab):
    lab.run(load(lab.problem()).replace(name="made"), backends="a", rtols=(1e-4,))
    assert [(r.problem, r.status) for r in lab.stored().records] == [("made", "ok")]


def test_a_problem_made_in_memory_takes_its_modules_along(lab, monkeypatch):
    """A script's folder is on its path, and not on a worker's."""
    folder = lab.folder / "beside"
    folder.mkdir()
    (folder / "made_beside.py").write_text("def field(t, y, params, data):\n    return -y\n")
    monkeypatch.syspath_prepend(str(folder))
    field = importlib.import_module("made_beside").field
    lab.run(load(lab.problem()).replace(vector_field=field), backends="a", rtols=(1e-4,))
    assert [(r.status, r.message) for r in lab.stored().records] == [("ok", "")]


def test_a_problem_that_cannot_travel(lab):
    held = threading.Lock()
    made = load(lab.problem()).replace(vector_field=lambda t, y, params, data: y if held else -y)
    words = (
        r"Problem\('p'\): got what cannot be sent to a worker process \(TypeError: cannot pickle '_thread.lock' object"
    )
    with pytest.raises(UserError, match=words):
        lab.run(made, backends="a")


def test_a_run_is_compared(lab):
    lab.run(lab.problem(), steppings=("matched",), rtols=(1e-4,))
    (problem,) = compare(lab.stored()).problems
    assert [(a.verdict, a.backends, a.same_steps) for a in problem.matched] == [("pass", ["a", "b", "c"], True)]


def test_progress_goes_to_standard_error(lab, capsys):
    lab.run(lab.problem(), backends="a", progress=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert "2/2" in said.err


def test_a_worker_that_cannot_say_what_it_declines_is_a_reason(lab):
    """Looking for a GPU is left to a worker."""
    problem = load(lab.problem())
    choice = Choice(("a", "b"), ("default",), ("native",), (1e-4,), device="cuda")
    lab.order("b", "declines:exit")
    found = [reason for _, reason in declines(problem, plans_of(problem, choice))]
    assert found == [None, "crashed: the worker ended with exit code 7: it left no words"]


def test_several_workers_a_backend_count_the_same_cells(lab):
    paths = [lab.problem(name, rate) for name, rate in (("p", 1.0), ("q", 2.0), ("r", 3.0))]
    calls = of(lab.run(*paths, backends="a", jobs=2), "record")
    assert sorted((call[1], float(call[4])) for call in calls) == [(n, r) for n in "pqr" for r in (1e-6, 1e-4)]
    assert lab.statuses() == {(name, "a"): "ok" for name in "pqr"}
    assert lab.run(*paths, backends="a") == []  # nothing is left to do


def test_where_anything_is_timed_a_backend_has_one_worker(lab):
    lab.order("a", "record:pid")
    lab.run(lab.problem(), lab.problem("q", 2.0), backends="a", jobs=2, timing=True, repeats=1)
    assert len({row[0] for row in of(lab.calls(), "pid")}) == 1
    lab.run(lab.problem(), lab.problem("q", 2.0), backends="a", jobs=2, force=True)
    assert len({row[0] for row in of(lab.calls(), "pid")}) == 3


def test_in_a_lenient_run_a_mistaken_problem_costs_its_own_cells(lab):
    path = lab.problem("bad")
    path.write_text(path.read_text().replace('return -data["rate"] * y', "return y[:1]"))
    with pytest.raises(UserError, match="vector_field"):
        lab.run(path, lab.problem())
    assert lab.stored().records == []
    lab.run(path, lab.problem(), backends="a", lenient=True)
    assert lab.statuses() == {("bad", "a"): "unsupported", ("p", "a"): "ok"}
    messages = {record.message for record in lab.stored().records if record.problem == "bad"}
    assert all("vector_field" in message for message in messages)


def test_xla_is_told_not_to_optimise_beside_what_the_user_tells_it(monkeypatch, tmp_path):
    from crossbackend.study.bench import UNOPTIMISED, worker

    monkeypatch.setenv("XLA_FLAGS", "--xla_mine=1")
    handles = [worker("scipy", Options(tmp_path, optimise=on), "cpu") for on in (True, False)]
    plain, quick = (handle.environment for handle in handles)
    for handle in handles:
        handle.kill()
    assert "XLA_FLAGS" not in plain
    assert quick["XLA_FLAGS"] == f"--xla_mine=1 {UNOPTIMISED}"
