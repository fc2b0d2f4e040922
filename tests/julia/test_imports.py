"""`crossbackend import`: what another program wrote becomes records of a run, or one clear message says why not."""

import json
import pickle
import re

import numpy as np
import pytest

from crossbackend import UserError, compare, import_results
from crossbackend.cli import parser
from crossbackend.digest import problem_digest
from crossbackend.plan import Choice
from crossbackend.problem import Problem
from crossbackend.store import load_run, prepare, write_json, write_reference
from crossbackend.study.cells import cells, set_aside
from tests.command import call
from tests.julia.results import CARD, Results


@pytest.fixture
def results(tmp_path):
    made = Results(tmp_path / "exported" / "results")
    made.record()
    made.card()
    return made


@pytest.fixture
def run(tmp_path):
    return tmp_path / "run"


def refused(results, run, *patterns):
    """Assert that nothing is imported, with one message for each pattern and no other."""
    with pytest.raises(UserError) as raised:
        import_results(results.folder, run)
    said = [str(mistake) for mistake in raised.value.mistakes]
    assert len(said) == len(patterns), said
    for sentence, pattern in zip(said, patterns, strict=True):
        assert re.search(pattern, sentence), sentence
    assert not list(run.glob("records/*"))


def test_a_record_is_one_of_the_run(results, run):
    found = import_results(results.folder, run)
    stored = load_run(run)
    (record,) = stored.records
    assert stored.damaged == []
    assert (record.backend, record.rtol, record.loss, record.status) == ("julia:mine", 1e-6, 0.5, "ok")
    assert record.versions == {"julia": "1.5.3"}
    assert record.gradient()["params/w"].shape == (2, 3)
    assert record.digest == found.records[0].digest
    assert stored.cards["p"]["parameters"] == CARD["parameters"]
    assert [item.problem for item in compare(run).problems] == ["p"]


def test_the_exported_folder_does_as_well_as_its_results(results, run):
    assert len(import_results(results.folder.parent, run).records) == 1


def test_the_command_says_what_it_did(results, run, capsys):
    results.record("two", rtol=1e-4, atol=1e-6)
    code, out, err = call(capsys, "import", results.folder, run)
    assert (code, err) == (0, "")
    assert out == f"p  julia:mine: 2 records\nimported into {run}; `crossbackend report {run}` writes the report\n"
    code, out, _ = call(capsys, "import", results.folder, run)
    assert code == 0
    assert "moved" not in out, "the same record again takes nobody's place"


def test_a_record_of_the_same_plan_takes_its_place(results, run):
    import_results(results.folder, run)
    results.record(versions={"julia": "1.10.0"}, loss=0.25)
    found = import_results(results.folder, run)
    assert found.replaced == 1
    assert f"1 earlier of the same plans moved to {run / 'superseded'}" in found.lines()
    assert [record.loss for record in load_run(run).records] == [0.25]
    assert len(list((run / "superseded").glob("*.json"))) == 1


def test_the_error_against_the_runs_reference_is_filled_in(results, run):
    prepare(run)
    write_json(run / "run.json", {"format": 1, "name": "run", "problems": ["q"]})
    truth = {name: array for name, array in Results.arrays().items() if name.startswith("gradient/")}
    truth["gradient/y0"] = truth["gradient/y0"] * (1 + 1e-4)
    write_reference(run, "p", {"status": "ok", "floor": 1e-12, "digest": "d"}, truth)
    import_results(results.folder, run)
    (record,) = load_run(run).records
    assert record.error["y0"] == pytest.approx(1e-4, rel=1e-3)
    assert record.error["params"] == 0
    assert load_run(run).about["problems"] == ["q", "p"]


def test_a_card_may_be_named(results, run, tmp_path):
    (tmp_path / "exported" / "card.json").rename(tmp_path / "mine.json")
    import_results(results.folder, run)
    assert load_run(run).cards == {}
    import_results(results.folder, run, card=tmp_path / "mine.json")
    assert load_run(run).cards["p"]["state"] == {"": [2]}


def _p(rate):
    def field(t, y, params, data):
        return -params["w"][0, :2] * y - params["layer"]["b"] * data["rate"]

    params = {"layer": {"b": np.array(1.0)}, "w": np.ones((2, 3))}
    return Problem("p", field, lambda ys, params, data: (ys**2).sum(), params, np.ones(2), [0.0, 0.5, 1.0],
                   {"rate": np.array(rate)})  # fmt: skip


def _left(problem, run, backend):
    """Return the backends of the records that a study of a problem would leave in a run."""
    digests = {"p": problem_digest(problem)}
    known = load_run(run)
    set_aside(cells([problem], Choice((backend,), rtols=(1e-6,)), digests), digests, known)
    return [record.backend for record in known.records]


def test_a_study_leaves_records_of_ones_own_program_alone(results, run):
    import_results(results.folder, run)
    assert _left(_p(1.0), run, "scipy") == ["julia:mine"]


def test_a_study_sets_results_of_an_edited_problem_aside(results, run):
    results.record(backend="julia", problem_digest=problem_digest(_p(1.0)))
    import_results(results.folder, run)
    assert _left(_p(1.0), run, "scipy") == ["julia"]
    assert _left(_p(2.0), run, "scipy") == []


def test_a_gradient_may_lack_the_initial_state(results, run):
    arrays = {name: array for name, array in Results.arrays().items() if name != "gradient/y0"}
    (results.records / "one" / "gradient" / "y0.npy").unlink()
    results.record(arrays=arrays)
    assert len(import_results(results.folder, run).records) == 1


class TestBadInput:
    def test_no_results(self, run, tmp_path, capsys):
        code, _, err = call(capsys, "import", tmp_path, run)
        assert code == 2
        assert err.startswith(
            f"error: import: got {tmp_path}, which holds no folder `records`, expected the results of"
        )
        (tmp_path / "records").mkdir()
        with pytest.raises(UserError, match=r"which holds no record, expected records/KEY\.json"):
            import_results(tmp_path, run)

    def test_a_run_that_is_none(self, results, run):
        run.mkdir()
        (run / "thesis.tex").write_text("")
        with pytest.raises(UserError, match=r"RUN: got .* which holds other files, expected an empty folder or a run"):
            import_results(results.folder, run)

    def test_another_format(self, results, run):
        results.record(format=2)
        refused(results, run, r"records/one\.json: got format 2, expected a record of format 1\. Export .* again")

    def test_no_json(self, results, run):
        (results.records / "one.json").write_text('{"format": 1, "problem": ')
        refused(results, run, r"records/one\.json: got what cannot be read \(.*\), expected a JSON object\.")

    def test_half_written(self, results, run):
        """The arrays are written first, the JSON file last."""
        (results.records / "two").mkdir()
        np.save(results.records / "two" / "x.npy", np.zeros(2))
        refused(results, run, r"records/two: got arrays without the JSON file, .* or remove 'two'\.")

    def test_a_missing_array(self, results, run):
        (results.records / "one/gradient/params/w.npy").unlink()
        refused(results, run, r"one/gradient/params/w\.npy: got no file, expected the array that one\.json lists\.")

    def test_an_array_too_many(self, results, run):
        np.save(results.records / "one" / "gradient" / "params" / "old.npy", np.zeros(3))
        refused(results, run, r"one/gradient/params/old\.npy: got an array, expected nothing: one\.json does not list")

    def test_an_array_cut_short(self, results, run):
        path = results.records / "one/gradient/params/w.npy"
        path.write_bytes(path.read_bytes()[:-8])
        refused(
            results, run, r"params/w\.npy: got 40 bytes of numbers where 48 belong, expected an array of <f8, shape"
        )

    def test_another_shape_than_the_list_says(self, results, run):
        np.save(results.records / "one/gradient/y0.npy", np.zeros(3))
        refused(
            results, run, r"gradient/y0\.npy: got an array of <f8, shape \[3\], expected an array of <f8, shape \[2\]"
        )

    def test_another_shape_than_the_problem_has(self, results, run):
        results.record(arrays=Results.arrays() | {"gradient/params/w": np.zeros((3, 2))})
        words = r"one\.json: gradient/params/w: got shape \[3, 2\], expected shape \[2, 3\], the problem's\."
        refused(results, run, words)

    def test_another_dtype(self, results, run):
        results.record(arrays=Results.arrays() | {"gradient/params/w": np.zeros((2, 3), dtype=np.int64)})
        refused(
            results, run, r"gradient/params/w: got an array of <i8, expected <f8, for the record's dtype is float64"
        )

    def test_leaves_of_another_problem(self, results, run):
        arrays = Results.arrays()
        arrays["gradient/params/v"] = arrays.pop("gradient/params/w")
        (results.records / "one/gradient/params/w.npy").unlink()
        results.record(arrays=arrays)
        refused(
            results, run, r"gradient/params/w: got no such array, expected one of shape \[2, 3\]",
            r"gradient/params/v: got a leaf that the problem has not, expected one of gradient/y0, gradient/params/lay",
        )  # fmt: skip

    def test_everything_at_once(self, results, run):
        """Two records, four things wrong: four messages."""
        results.record(arrays=Results.arrays() | {"gradient/params/layer/b": np.array(1, dtype=np.int32)})
        np.save(results.records / "one/gradient/y0.npy", np.zeros(3))
        (results.records / "one/forward/t1.npy").unlink()
        results.record("two", rtol="tight")
        refused(
            results, run, r"one/gradient/y0\.npy: got", r"one/forward/t1\.npy: got no file",
            r"one\.json: got a record that cannot be compared \(forward/t1: got nothing",
            r"one\.json: gradient/params/layer/b: got an array of <i4",
            r"two\.json: got missing or of the wrong kind: rtol",
        )  # fmt: skip

    def test_a_number_of_another_kind(self, results, run):
        results.record(time={"median_s": -1.0})
        refused(results, run, r"cannot be compared \(time\.median_s: got -1\.0, expected seconds above 0")

    def test_names_that_lead_out_of_the_folder(self, results, run):
        outside = results.folder.parent / "secret.npy"
        np.save(outside, np.zeros(2))
        fields = results.record()
        fields["arrays"]["../../../secret"] = {"dtype": "<f8", "shape": [2]}
        (results.records / "one.json").write_text(json.dumps(fields))
        refused(
            results, run, r"one\.json: got an array called '\.\./\.\./\.\./secret', expected names of files in its own"
        )
        results.record(problem="../p")
        refused(results, run, r"one\.json: got the problem '\.\./p': letters, digits, '_' and '-' name one")

    def test_a_pickle_is_not_loaded(self, results, run, tmp_path):
        class Bomb:
            def __reduce__(self):
                return (tmp_path.joinpath("loaded").touch, ())

        path = results.records / "one/gradient/y0.npy"
        np.save(path, np.array([Bomb(), Bomb()], dtype=object), allow_pickle=True)
        refused(results, run, r"gradient/y0\.npy: got an array of \|O, shape \[2\]")
        path.write_bytes(pickle.dumps(Bomb()))
        refused(results, run, r"gradient/y0\.npy: got .*magic string is not correct")
        assert not (tmp_path / "loaded").exists()

    def test_ok_without_a_gradient(self, results, run):
        arrays = {name: array for name, array in Results.arrays().items() if not name.startswith("gradient/")}
        for path in (results.records / "one" / "gradient").rglob("*.npy"):
            path.unlink()
        results.record(arrays=arrays, problem="q")
        refused(results, run, r"one\.json: gradient: got no array, expected a gradient, for its status is ok")

    def test_results_of_an_edited_problem(self, results, run):
        prepare(run)
        write_json(run / "run.json", {"format": 1, "name": "run"})
        write_reference(run, "p", {"status": "ok", "digest": "a" * 64}, {})
        results.record(problem_digest="b" * 64)
        refused(
            results, run, r"got results of another 'p' than the run's, expected the problem of digest aaaaaaaaaaaa\."
        )

    def test_one_plan_twice(self, results, run):
        results.record("two")
        refused(
            results, run, *(rf"records/{key}\.json: got a plan that another record has too" for key in ("one", "two"))
        )

    def test_a_card_of_another_format(self, results, run):
        (results.folder.parent / "card.json").write_text('{"format": 3, "name": "p"}')
        refused(results, run, r"card\.json: got format 3, expected a card of format 1\. Export the problem again\.")


def test_a_failed_solve_is_a_record_too(results, run):
    for path in (results.records / "one" / "gradient").rglob("*.npy"):
        path.unlink()
    arrays = {name: array for name, array in Results.arrays().items() if not name.startswith("gradient/")}
    results.record(arrays=arrays, status="diverged", message="backward solve: max|y| reached 1e9", loss=None)
    import_results(results.folder, run)
    (record,) = load_run(run).records
    assert (record.status, record.message) == ("diverged", "backward solve: max|y| reached 1e9")


def test_the_command_has_two_places():
    args = parser().parse_args(["import", "results", "run"])
    assert (str(args.results), str(args.run), args.card) == ("results", "run", None)
