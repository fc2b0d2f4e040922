"""What a run measures to explain itself, on real backends, and what comes of a failure there."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from crossbackend import api, ops
from crossbackend.plan import Plan
from crossbackend.problem import Problem
from crossbackend.record import Gradient, Outcome, Record, Status, Steps, from_outcome
from crossbackend.study.explained import explain, lacks
from crossbackend.study.pool import Failed
from tests import cases
from tests.test_adjoint import zero_initialised
from tests.test_scaling import mean_of_many

pytest.importorskip("torch")
pytest.importorskip("jax")


def jumping():
    """A field that jumps on a regular grid, where native torchdiffeq steps over some: see docs/upstream.md."""
    knots = np.arange(1.0, 9.0)

    def field(t, y, params, data):
        xp = ops.namespace(y)
        return xp.sum(xp.astype(data["knots"] <= t, y.dtype)) * xp.sin(1.5 * t) * params["w"] * xp.ones_like(y)

    def loss(ys, params, data):
        return ops.namespace(ys).sum(ys[-1, ...])

    return Problem(
        "jumping", field, loss, {"w": np.array(1.0)}, np.zeros(1), (0.0, 8.5), {"knots": knots}, (1e-4,), knots
    )


def lost_leaf():
    """A field whose parameter w2 was forgotten in `field_params`: its adjoint is integrated by no one."""
    return cases.forced(2).replace(name="lost_leaf", field_params=("w1", "b1"))


@pytest.fixture(scope="module")
def found():
    """Runs whose answers the tests below know, native and untimed."""
    common = {"steppings": "native", "timing": False, "progress": False}
    parts = [
        api.run(["forced_mlp", "dissipative"], backends=["torchdiffeq", "scipy"], rtols=1e-6,
                norms=["default", "mixed-seminorm"], **common),
        api.run(jumping(), backends="torchdiffeq", norms="default", **common),
        api.run(mean_of_many(1000), backends=["torchdiffeq", "scipy"], norms="default", rtols=(1e-2, 1e-3),
                atol_factor=1.0, **common),
        api.run("linear", backends="scipy", rtols=1e-6, norms="default", explain=False, **common),
        api.run(lost_leaf(), backends=["torchdiffeq", "scipy"], norms="default", rtols=1e-4, **common),
        api.run(zero_initialised().replace(norms={"light": {"y": 1, "a_y": 1, "a_params": 0.1}}),
                backends=["torchdiffeq", "scipy"], norms=["default", "seminorm", "light"], rtols=(1e-4, 1e-8),
                **common),
    ]  # fmt: skip
    return {item.problem: item for part in parts for item in part.problems}


def flags(item, name):
    return [flag for flag in item.flags if flag.name == name]


@pytest.mark.slow
class TestRuns:
    def test_a_t_rejects_the_steps_of_a_field_that_depends_on_t(self, found):
        rows = {(r.backend, r.norm): r for r in found["forced_mlp"].rejections if r.rtol == 1e-6}
        default = rows["torchdiffeq", "default"]
        assert default.by_block["a_t"] > 0
        assert default.spurious > 0
        assert rows["scipy", "default"].by_block["a_params"] > 0
        assert rows["scipy", "default"].spurious > 0
        for backend in ("torchdiffeq", "scipy"):
            assert rows[backend, "mixed-seminorm"].rejected > 0
            assert rows[backend, "mixed-seminorm"].spurious == 0

    def test_the_counts_are_in_the_records(self, found):
        item = found["forced_mlp"]
        rows = {(r.backend, r.norm, r.rtol): r for r in item.rejections}
        for record in item.records:
            row = rows[record.backend, record.norm, record.rtol]
            assert (record.backward["spurious"], record.backward["masked"]) == (row.spurious, row.masked)
            assert record.backward["rejected"] == row.rejected == sum(row.by_block.values())

    def test_an_unstable_reverse_solve(self, found):
        bad = flags(found["dissipative"], "backsolve_unstable")
        assert len(bad) == len(found["dissipative"].records)
        assert "integrating back, y misses the stored solution by" in bad[0].evidence
        assert flags(found["forced_mlp"], "backsolve_unstable") == []

    def test_a_missed_breakpoint(self, found):
        (flag,) = flags(found["jumping"], "missed_breakpoint")
        assert (flag.backend, flag.stepping) == ("torchdiffeq", "native")
        assert "in the forward pass no accepted step ends on 4 of 8: t = 5, 6, 7, 8" in flag.evidence

    def test_a_gradient_that_lost_a_leaf(self, found):
        lost = flags(found["lost_leaf"], "gradient_missing")
        assert {flag.backend for flag in lost} == {"torchdiffeq", "scipy"}
        for flag in lost:
            assert "zero or absent for params/w2 (finite difference" in flag.evidence
            assert "w1" not in flag.evidence
        for name in ("forced_mlp", "jumping", "linear"):
            assert flags(found[name], "gradient_missing") == []

    def test_a_seminorm_that_sees_nothing(self, found):
        item = found[zero_initialised().name]
        blind = flags(item, "integral_uncontrolled")
        assert {(f.backend, f.norm) for f in blind} == {("torchdiffeq", "seminorm"), ("scipy", "seminorm")}
        errors = {(r.norm, r.rtol): r.error["all"] for r in item.records if r.backend == "scipy"}
        assert errors["seminorm", 1e-8] == pytest.approx(errors["seminorm", 1e-4])
        assert errors["default", 1e-8] < 1e-6
        assert errors["light", 1e-8] < 1e-6
        for name in ("forced_mlp", "linear", "dissipative"):
            assert flags(found[name], "integral_uncontrolled") == []

    def test_an_adjoint_below_atol_and_the_loss_at_another_scale(self, found):
        item = found["mean_of_many"]
        assert len(flags(item, "adjoint_below_atol")) == len(item.records) == 4
        for flag, record in zip(flags(item, "adjoint_below_atol"), item.records, strict=True):
            assert record.scaled["below_atol"] == 0.0
            assert record.scaled["factor"] == pytest.approx(1e3, rel=0.5)
            assert 0 < record.scaled["error"] < 0.3
            assert "with the loss times" in flag.evidence
            assert "gradient error" in flag.evidence
            names = {name.removeprefix("scaled/") for name in record.arrays if name.startswith("scaled/")}
            assert names == set(record.gradient())

    def test_one_plan_a_sweep_is_taken_apart(self, found):
        assert [split["rtol"] for split in found["mean_of_many"].splits] == [1e-3]  # the one next to 1e-6

    def test_the_native_scipy_plans_are_taken_apart(self, found):
        item = found["forced_mlp"]
        assert [(s["backend"], s["norm"], s["rtol"]) for s in item.splits] == [
            ("scipy", "default", 1e-6), ("scipy", "mixed-seminorm", 1e-6),
        ]  # fmt: skip
        for split in item.splits:
            assert split["residual"] <= 0.01
            (record,) = [r for r in item.records if (r.backend, r.norm, r.rtol) == ("scipy", split["norm"], 1e-6)]
            assert split["whole"] == pytest.approx(record.error["all"], rel=1e-6)

    def test_nothing_of_it_where_it_was_not_asked_for(self, found):
        item = found["linear"]
        assert item.splits == []
        assert [record.scaled for record in item.records] == [None]
        assert item.rejections != []

    def test_the_text(self, found):
        from crossbackend.explain import Explanation

        said = str(Explanation(found["forced_mlp"]))
        assert said.startswith("forced_mlp at rtol 1e-06\n")
        assert "the forward solve makes " in said
        assert "settings_differ, in scipy and torchdiffeq" in said
        assert all(len(line) <= 120 for line in said.splitlines())
        assert "the parts do not add up" in str(Explanation(found["dissipative"]))


def test_a_problem_for_torch_alone_is_scaled_on_scipy_too():
    from crossbackend.study.worker import Worker

    case = cases.decay()
    worker = Worker()
    worker.problems["k"] = case.replace(
        vector_field={"torch": case.vector_field}, loss={"torch": case.loss}, exact=None, name="torch_only"
    )
    plan = Plan("torch_only", "scipy", "default", "native", 1e-4, 1e-6)
    factor, outcome = worker.scaled("k", plan, {"": np.array([[2.0], [0.5]])})
    assert factor == pytest.approx(1 / 2.0)  # dL/dys of a mean of two squares is ys itself
    exact = case.exact(case.params, None)
    assert outcome.gradient.loss == pytest.approx(exact["loss"], rel=1e-3)
    assert outcome.gradient.params["rate"] == pytest.approx(exact["params"]["rate"], rel=1e-3)


class Dying:
    """A worker that dies of every question but those it knows."""

    def __init__(self, **known):
        self.known = known

    def ask(self, problem, do, **arguments):
        if do not in self.known:
            raise Failed(Status.CRASHED, "the worker ended with exit code 7")
        return self.known[do]


def cell(**known):
    plan = Plan("p", "scipy", "default", "native", 1e-6, 1e-8)
    t0, t1 = np.array([1.0]), np.array([0.0])
    back = Steps(t0, t1, np.array([True]), 8, {"rms_a_y": np.array([1e-12])})
    gradient = Gradient(1.0, {"": np.ones(2)}, {})
    outcome = Outcome(Status.OK, "", gradient, {"": np.ones((2, 2))}, Steps(t1, t0, np.array([True]), 8), back)
    made = SimpleNamespace(plan=plan, problem=None)
    study = SimpleNamespace(workers={"scipy": Dying(**known)}, usual={plan.sweep_key: 1e-6})
    return study, made, from_outcome("x", plan.as_dict(), outcome, {}), outcome


def test_a_worker_that_dies_of_an_explanation_leaves_the_record_and_the_reason():
    study, made, record, outcome = cell()
    explain(study, made, record, outcome)
    assert record.status == Status.OK
    assert record.scaled == {"message": "the scaled loss was not run: the worker ended with exit code 7"}
    assert record.error_split == {"message": "the worker ended with exit code 7"}


def test_a_scaled_loss_that_fails_is_told():
    bad = Outcome(Status.DIVERGED, "backward solve: too far")
    study, made, record, outcome = cell(scaled=(1e5, bad), error_split={"message": "m"})
    explain(study, made, record, outcome)
    assert record.scaled["message"] == "with the loss times 1e+05 it ended diverged"
    assert record.scaled["backward"] is None
    assert record.error_split == {"message": "m"}


def test_a_loss_without_a_scale_says_so():
    study, made, record, outcome = cell(scaled=(None, None), error_split={})
    explain(study, made, record, outcome)
    assert record.scaled == {"message": "the loss does not depend on the solution, so it has no other scale"}


def test_a_failed_plan_is_not_explained():
    study, made, _, outcome = cell()
    record = Record("x", made.plan.as_dict(), Status.DIVERGED)
    explain(study, made, record, outcome)
    assert (record.scaled, record.error_split) == (None, None)


class TestResume:
    def record(self, **changes):
        study, made, record, _ = cell()
        for name, value in changes.items():
            setattr(record, name, value)
        return record, made.plan, study.usual

    def test_a_record_without_its_explanations_is_made_again(self):
        assert lacks(*self.record())
        assert lacks(*self.record(scaled={"factor": 2.0}))
        assert lacks(*self.record(error_split={"message": "m"}))
        assert not lacks(*self.record(scaled={"message": "m"}, error_split={"message": "m"}))
        assert not lacks(*self.record(status=Status.DIVERGED))

    @pytest.mark.parametrize("changes", [{"rtol": 1e-4}, {"stepping": "matched"}, {"backend": "diffrax"}])
    def test_other_plans_are_not_taken_apart(self, changes):
        record, plan, usual = self.record(scaled={"message": "m"})
        assert not lacks(record, dataclasses.replace(plan, **changes), usual)

    def test_a_run_without_explanations_is_explained_by_the_next(self, tmp_path):
        common = {"backends": "scipy", "norms": "default", "steppings": "native", "timing": False, "progress": False}
        first = api.run("linear", rtols=(1e-6, 1e-8), out=tmp_path / "run", explain=False, **common)
        second = api.run("linear", rtols=(1e-6, 1e-8), out=tmp_path / "run", **common)
        assert (first.problems[0].splits, [s["rtol"] for s in second.problems[0].splits]) == ([], [1e-6])
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "records").iterdir()}
        api.run("linear", rtols=(1e-6, 1e-8), out=tmp_path / "run", **common)
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "records").iterdir()} == before

    def test_a_tolerance_added_later_is_taken_apart_only_if_it_stands_for_the_sweep(self, tmp_path):
        common = {"backends": "scipy", "norms": "default", "steppings": "native", "timing": False, "progress": False}
        api.run("linear", rtols=1e-6, out=tmp_path / "run", **common)
        found = api.run("linear", rtols=(1e-6, 1e-8), out=tmp_path / "run", **common)
        assert [s["rtol"] for s in found.problems[0].splits] == [1e-6]
