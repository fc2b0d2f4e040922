"""A baseline: what is written, what is read whatever the file holds, and what a later run is held to."""

import copy
import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from crossbackend.check import baseline, holding
from crossbackend.check.findings import Cause, Verdict
from crossbackend.compare import compare
from crossbackend.errors import UserError
from crossbackend.store import load_run
from tests.check.cases import comparison, record

EXAMPLE = Path(__file__).parents[2] / "reports" / "example"


@pytest.fixture(scope="module")
def example():
    """The committed run, of twelve problems."""
    return compare(load_run(EXAMPLE))


def against(now, then):
    """Return the findings of a run held against another one."""
    return baseline.held_against(comparison(*now), baseline.taken(comparison(*then)))


def only(now, then):
    (finding,) = against([record(**now)], [record(**then)])
    return finding


def failures(findings):
    return [finding for finding in findings if finding.verdict == Verdict.FAIL]


def test_a_run_is_its_own_baseline(example, tmp_path):
    path = tmp_path / "deep" / "baseline.json"
    baseline.write(path, example)
    found = baseline.held_against(example, baseline.read(path))
    assert [finding.verdict for finding in found] == [Verdict.PASS] * 12
    assert [finding.problem for finding in found] == [item.problem for item in example.problems]
    assert not any(baseline.UPDATE in finding.text for finding in found)


def test_the_text_is_stable_sorted_and_a_line_a_cell(example, tmp_path):
    path = tmp_path / "baseline.json"
    baseline.write(path, example)
    text = path.read_text(encoding="ascii")
    cells = [json.loads(line.rstrip(",]}") + "}") for line in text.splitlines() if line.startswith('   {"backend"')]
    assert len(cells) == len(example.records)
    assert cells[0]["backend"] == "diffrax"
    assert list(cells[0])[-4:] == ["status", "forward", "backward", "error"]
    problems = json.loads(text)["problems"]
    assert list(problems) == sorted(problems)
    reversed_ = copy.copy(example)
    reversed_.problems = [copy.copy(item) for item in reversed(example.problems)]
    for item in reversed_.problems:
        item.records = item.records[::-1]
    again = tmp_path / "again.json"
    baseline.write(again, reversed_)
    assert again.read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.json", "baseline.json"]  # no lock, nothing half done


def test_one_changed_cell_changes_one_line(tmp_path):
    path = tmp_path / "baseline.json"
    baseline.write(path, comparison(record(), record("diffrax")))
    before = path.read_text().splitlines()
    baseline.write(path, comparison(record(nfe=106), record("diffrax")))
    after = path.read_text().splitlines()
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


def test_other_problems_stay_as_they_were(tmp_path):
    path = tmp_path / "baseline.json"
    baseline.write(path, comparison(record(), record("diffrax"), record(problem="cnf")))
    baseline.write(path, comparison(record(nfe=50)))
    whole = baseline.read(path)
    assert list(whole["problems"]) == ["cnf", "linear"]
    assert [cell["forward"]["nfe"] for cell in whole["problems"]["linear"]["cells"]] == [50]
    assert baseline.held_against(comparison(record(problem="cnf")), whole)[0].verdict == Verdict.PASS


def _add(path, name):
    baseline.write(path, comparison(record(problem=name)))


def test_several_processes_share_a_file(tmp_path):
    path = tmp_path / "baseline.json"
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_add, args=(path, f"p{index}")) for index in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert list(baseline.read(path)["problems"]) == ["p0", "p1", "p2", "p3"]


def test_what_cannot_be_written_is_a_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"baseline: got .*file/baseline.json \(.*\), expected a file that can be wr"):
        baseline.write(tmp_path / "file" / "baseline.json", comparison(record()))
    path = tmp_path / "mine.json"
    path.write_text('{"my": "settings"}')
    with pytest.raises(UserError, match="got format None, expected a baseline of format 1"):
        baseline.write(path, comparison(record()))
    assert path.read_text() == '{"my": "settings"}'


@pytest.mark.parametrize("stepping", ["matched", "native"])
def test_nothing_changed(stepping):
    finding = only({"stepping": stepping}, {"stepping": stepping})
    assert (finding.verdict, finding.text) == (Verdict.PASS, "1 cell as in the baseline")
    assert (finding.what, finding.problem, finding.backend, finding.rtol) == ("baseline", "linear", "scipy", 1e-6)


@pytest.mark.parametrize("changed", [{"nfe": 101}, {"nfe": 99}, {"rejected": 3}, {"rejected": 1}])
def test_matched_counts_are_exact(changed):
    finding = only(changed, {})
    assert finding.verdict == Verdict.FAIL
    name, value = next(iter(changed.items()))
    then = {"nfe": 100, "rejected": 2}[name]
    assert f"forward {name} {then} -> {value}, must be the same" in finding.text
    assert f"backward {name} {then} -> {value}, must be the same" in finding.text
    assert finding.cause == Cause.SETTINGS


@pytest.mark.parametrize(("nfe", "verdict"), [(107, Verdict.PASS), (108, Verdict.FAIL), (40, Verdict.PASS)])
def test_native_evaluations_have_a_bound(nfe, verdict):
    finding = only({"stepping": "native", "nfe": nfe}, {"stepping": "native"})
    assert finding.verdict == verdict
    assert (finding.value, finding.limit) == ((nfe, 107) if nfe > 100 else (1e-7, 2e-7))
    if verdict == Verdict.FAIL:
        assert "forward nfe 100 -> 108, at most 107" in finding.text
        assert finding.cause == Cause.SETTINGS
        assert "only the steps changed" in finding.evidence
    assert ("fewer evaluations in 1 cell: --update-baseline would record it" in finding.text) == (nfe == 40)


def test_native_rejections_are_not_judged():
    assert only({"stepping": "native", "rejected": 9}, {"stepping": "native"}).verdict == Verdict.PASS


@pytest.mark.parametrize("stepping", ["matched", "native"])
@pytest.mark.parametrize(
    ("then", "now", "verdict"),
    [
        (1e-7, 2e-7, Verdict.PASS), (1e-7, 2.1e-7, Verdict.FAIL), (1e-7, 1e-9, Verdict.PASS),
        (1e-14, 9e-13, Verdict.PASS), (1e-14, 1.1e-12, Verdict.FAIL), (0.0, 9e-13, Verdict.PASS),
        (1e-7, None, Verdict.FAIL), (None, 1.0, Verdict.PASS), (None, None, Verdict.PASS),
    ],
)  # fmt: skip
def test_errors_have_a_bound(stepping, then, now, verdict):
    finding = only({"error": now, "stepping": stepping}, {"error": then, "stepping": stepping})
    assert finding.verdict == verdict
    assert ("smaller errors" in finding.text) == (now == 1e-9)


def test_an_error_under_ten_floors_is_not_judged():
    loose, tight = record(error=9e-6), record(error=9e-6)
    loose.error["floor"], tight.error["floor"] = 1e-6, 1e-7
    then = [record(error=1e-9)]
    assert against([loose], then)[0].verdict == Verdict.PASS
    assert against([tight], then)[0].verdict == Verdict.FAIL


def measured(size, floor):
    """A run whose records hold no error: it follows from the gradient and the run's reference, which is 1."""
    found = comparison(record(error=None))
    found.records[0].error["floor"] = None
    found.records[0].arrays = {"gradient/params/w": np.array([size])}
    found.problems[0].reference = {"status": "ok", "floor": floor, "arrays": {"gradient/params/w": np.array([1.0])}}
    return found


def test_an_error_that_was_not_stored_is_taken_from_the_runs_reference():
    then = baseline.taken(measured(1.001, None))
    assert then["problems"]["linear"]["cells"][0]["error"] == 1e-3
    assert baseline.held_against(measured(1.0019, None), then)[0].verdict == Verdict.PASS
    assert baseline.held_against(measured(1.0021, None), then)[0].verdict == Verdict.FAIL
    assert baseline.held_against(measured(1.0021, 1e-3), then)[0].verdict == Verdict.PASS
    unsure = measured(1.001, None)
    unsure.problems[0].reference["status"] = "uncertain"
    assert baseline.taken(unsure)["problems"]["linear"]["cells"][0]["error"] is None


@pytest.mark.parametrize(
    ("then", "now", "stepping", "verdict", "cause"),
    [
        ("ok", "timeout", "native", Verdict.FAIL, Cause.MACHINE), ("ok", "diverged", "matched", Verdict.FAIL, None),
        ("diverged", "ok", "native", Verdict.PASS, None), ("diverged", "ok", "matched", Verdict.FAIL, None),
        ("diverged", "max_steps", "native", Verdict.FAIL, None),
    ],
)  # fmt: skip
def test_a_solve_that_ends_otherwise(then, now, stepping, verdict, cause):
    finding = only({"status": now, "stepping": stepping}, {"status": then, "stepping": stepping})
    assert (finding.verdict, finding.cause) == (verdict, cause)
    assert f"status {then} -> {now}" in finding.text


def sweep(errors, **more):
    return [record(rtol=10.0**-n, error=error, **more) for n, error in zip((4, 6, 8), errors, strict=True)]


def test_an_error_that_grew_and_stays_is_mathematics():
    found = failures(against(sweep([3e-2, 3e-2, 3e-2]), sweep([1e-5, 1e-7, 1e-9])))
    assert [finding.cause for finding in found] == [Cause.MATHEMATICS] * 3
    assert "does not fall with it (0.03 at rtol 0.0001, 0.03 at 1e-08)" in found[0].evidence


def test_an_error_that_grew_and_falls_is_the_tolerance():
    found = failures(against(sweep([1e-4, 1e-6, 1e-8]), sweep([1e-5, 1e-7, 1e-9])))
    assert [finding.cause for finding in found] == [Cause.TOLERANCE] * 3


def test_an_error_that_grew_at_one_tolerance_alone():
    found = failures(against([record(error=1e-3)], [record(error=1e-7)]))
    assert found[0].cause is None
    assert "one tolerance cannot say" in found[0].evidence


def test_steps_that_changed_where_no_error_is_known():
    found = failures(against([record(nfe=101, error=None)], [record(error=None)]))
    assert found[0].cause is None


def test_the_versions_that_changed_are_the_evidence():
    old, new = (
        {"crossbackend": "0.4.0", "diffrax": "0.7.0", "jax": "0.9"},
        {"crossbackend": "0.4.0", "diffrax": "0.7.2"},
    )
    then = [record("diffrax", versions=old), record("scipy", versions={"scipy": "1.14"})]
    now = [record("diffrax", versions=new, nfe=101), record("scipy", versions={"scipy": "1.14"}, nfe=101)]
    by_backend = {finding.backend: finding.evidence for finding in against(now, then)}
    assert by_backend["diffrax"].endswith("; versions changed: diffrax 0.7.0 -> 0.7.2")
    assert by_backend["scipy"].endswith("; no version changed, so it is the problem, a setting or the machine")


def test_cells_that_are_lacking_fail_and_new_ones_warn():
    then = [record(), record("diffrax"), record("diffrax", stepping="native"), record(rtol=1e-4), record(problem="cnf")]
    found = against([record(), record("torchdiffeq")], then)
    assert [(f.verdict, f.backend) for f in found] == [
        (Verdict.FAIL, "diffrax"), (Verdict.FAIL, "scipy"), (Verdict.WARN, "torchdiffeq"), (Verdict.PASS, "scipy")
    ]  # fmt: skip
    assert found[0].text == "2 cells of the baseline not in this run (default, matched, rtol 1e-06, ...)"
    assert "diffrax did not run at all" in found[0].evidence
    assert "scipy ran with other norms" in found[1].evidence
    assert found[2].text == "1 cell not in the baseline; --update-baseline would record what is new"
    assert {finding.problem for finding in found} == {"linear"}  # cnf was not checked


def test_a_problem_that_the_baseline_lacks_warns():
    (finding,) = against([record(problem="new")], [record()])
    assert (finding.verdict, finding.problem) == (Verdict.WARN, "new")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"none\.json: got a file that does not exist.*--update-baseline writes it\."):
        baseline.read(tmp_path / "none.json")
    with pytest.raises(UserError, match="got a file that cannot be read"):
        baseline.read(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "got no JSON"), (b"\xff\xfe", "got no JSON"), (b"[" * 200_000, "got no JSON"), (b"[]", "got a list"),
        (b"null", "got a NoneType"), (b'{"format": 2}', "got format 2, expected a baseline of format 1"),
        (b'{"format": true, "problems": {}}', "got format True"), (b'{"format": ' + b"9" * 5000 + b"}", "got no JSON"),
        (b'{"format": 1}', "problems: got None, expected an object by problem"),
        (b'{"format": 1, "problems": {"a": 3}}', "problems.a.cells: got None, expected a list"),
        (b'{"format": 1, "problems": {"a": {"cells": [], "versions": {"x": 1}}}}', "problems.a.versions: got"),
        (b'{"format": 1, "problems": {"a": {"cells": [3], "versions": {}}}}', r"cells\[0\]: got 3, expected an obj"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_baseline(tmp_path, content, said):
    path = tmp_path / "baseline.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        baseline.read(path)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("rtol", -1, "got -1, expected a finite number above 0"), ("rtol", None, "rtol: got nothing, expected a value"),
        ("rtol", float("nan"), "got nan"), ("error", "1", "got '1', expected a finite number"),
        ("status", "fine", "got 'fine', expected one of ok, "), ("stepping", "none", "expected one of native, matched"),
        ("forward", [1], "forward: got .*expected an object"), ("backward", {"nfe": 1.5}, "backward.nfe: got 1.5"),
        ("backend", {}, "backend: got {}, expected text"), ("forward", {"nfe": 10**400}, "forward.nfe: got 1000"),
    ],
)  # fmt: skip
def test_a_cell_that_is_none(tmp_path, field, value, said):
    whole = baseline.taken(comparison(record(), record("diffrax")))
    whole["problems"]["linear"]["cells"][1][field] = value
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps(whole))
    with pytest.raises(UserError, match=rf"problems.linear.cells\[1\].*{said}"):
        baseline.read(path)


def test_all_mistakes_at_once_and_no_end_of_them(tmp_path):
    whole = baseline.taken(comparison(*(record(rtol=10.0**-n) for n in range(2, 14))))
    path = tmp_path / "baseline.json"
    for cell in whole["problems"]["linear"]["cells"]:
        cell["status"] = "fine"
    path.write_text(json.dumps(whole))
    with pytest.raises(UserError, match="fine") as error:
        baseline.read(path)
    assert len(error.value.mistakes) == 10
    twice = baseline.taken(comparison(record()))
    twice["problems"]["linear"]["cells"] *= 2
    path.write_text(json.dumps(twice))
    with pytest.raises(UserError, match=r"cells\[1\]: got a cell that is there already, expected each cell once"):
        baseline.read(path)


def test_what_else_a_file_holds_is_not_written_again(tmp_path):
    whole = baseline.taken(comparison(record(), record(problem="cnf")))
    cell = whole["problems"]["cnf"]["cells"][0]
    cell |= {"more": float("nan"), "forward": {**cell["forward"], "deep": [[[]]]}}
    whole["problems"]["cnf"]["versions"]["odd"] = "\ud800"
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps(whole))
    baseline.write(path, comparison(record()))
    assert "more" not in path.read_text()
    assert "deep" not in path.read_text()
    assert baseline.read(path)["problems"]["cnf"]["versions"]["odd"] == "\ud800"


def test_limits_are_those_that_are_documented():
    said = " ".join((Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8").split())
    assert (holding.NFE_FACTOR, holding.NFE_MORE, holding.ERROR_FACTOR, holding.LEAST_ERROR) == (1.05, 2, 2, 1e-12)
    assert "1.05 times the baseline's and 2 more" in said
    assert "at most twice the baseline's" in said
    assert "under 1e-12 or ten times the reference's floor" in said
