"""What follows from records, on records whose answers are known."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossbackend.agreement import same_steps
from crossbackend.compare import UNSTABLE_FACTOR, compare
from crossbackend.plan import Plan
from crossbackend.record import Record, Status, gradient_difference
from crossbackend.store import Run

G = {"y0": np.array([3.0, 4.0]), "params/w": np.array([0.0, 12.0])}


def record(backend="diffrax", stepping="matched", norm="default", rtol=1e-6, *, plan=None, gradient=G, **changes):
    cell = Plan("p", backend, norm, stepping, rtol, rtol * 1e-2).as_dict() | (plan or {})
    made = Record(f"{cell['problem']}{backend}{norm}{stepping}{cell['rtol']}{cell['atol']}", cell, Status.OK, loss=1.0)
    made.forward = {"nfe": 14, "accepted": 2, "rejected": 1}
    made.backward = made.forward | {"spurious": None, "masked": None}
    for name, value in changes.items():
        setattr(made, name, value)
    made.arrays = {f"gradient/{name}": array for name, array in gradient.items()} | steps()
    return made


def steps(shift=0.0, accepted=(True, False, True), which="backward"):
    arrays = {}
    for name, (t0, t1) in {"forward": ((0, 1, 1), (1, 4, 3)), "backward": ((3, 1, 1), (1, -2, 0))}.items():
        arrays[f"{name}/t0"], arrays[f"{name}/t1"] = np.array(t0, float), np.array(t1, float)
        arrays[f"{name}/accepted"] = np.array([True, False, True])
    arrays[f"{which}/t1"] = arrays[f"{which}/t1"] + shift
    arrays[f"{which}/accepted"] = np.array(accepted)
    return arrays


def of(*records, **run):
    (problem,) = compare(Run(None, records=list(records), **run)).problems  # type: ignore[arg-type]
    return problem


class TestGradientDifference:
    def test_known_value(self):
        other = {"y0": np.array([3.0, 4.0 + 5e-7]), "params/w": np.array([0.0, 12.0])}
        assert gradient_difference(G, other) == pytest.approx(1e-7, rel=1e-6)

    def test_a_small_leaf_cannot_hide(self):
        small = {"big": np.array([1e6]), "small": np.array([1.0])}
        wrong = {"big": np.array([1e6]), "small": np.array([2.0])}
        assert gradient_difference(small, wrong) == pytest.approx(1.0 / 1e3)

    def test_a_leaf_of_rounding_does_not_count(self):
        a = {"big": np.array([1.0]), "none": np.array([1e-17])}
        b = {"big": np.array([1.0]), "none": np.array([-3e-17])}
        assert gradient_difference(a, b) == pytest.approx(4e-14)

    @pytest.mark.parametrize(
        "other",
        [{"y0": G["y0"]}, G | {"y0": np.array([3.0])}, G | {"y0": np.array([3.0, np.nan])}, G | {"extra": G["y0"]}],
    )
    def test_what_cannot_be_compared_is_infinitely_far(self, other):
        assert gradient_difference(G, other) == np.inf

    @given(st.floats(1e-6, 1e6), st.integers(0, 1000))
    def test_no_unit_matters(self, scale, seed):
        rng = np.random.default_rng(seed)
        a, b = ({"u": rng.normal(size=3), "v": rng.normal(size=2)} for _ in range(2))
        scaled = ({name: scale * x for name, x in g.items()} for g in (a, b))
        assert gradient_difference(*scaled) == pytest.approx(gradient_difference(a, b), rel=1e-9)
        assert gradient_difference(a, a) == 0.0


class TestSteps:
    @pytest.mark.parametrize("which", ["forward", "backward"])
    @pytest.mark.parametrize(("shift", "same"), [(0.0, True), (2.9e-9, True), (3.1e-9, False), (-3.1e-9, False)])
    def test_ends_within_1e_9_of_the_interval(self, which, shift, same):
        a, b = record("scipy"), record("diffrax")
        b.arrays |= steps(shift, which=which)
        assert same_steps(a, b, span=3.0) is same
        assert of(a, b, cards={"p": {"ts": [0.0, 3.0]}}).matched[0].same_steps is same
        assert of(a, b).matched[0].same_steps is (same or abs(shift) < 4e-9)  # read off the attempts, [0, 4]

    def test_the_end_of_a_rejected_step_is_free(self):
        a, b = record("scipy"), record("diffrax")
        b.arrays["forward/t1"][1] += 0.5
        assert same_steps(a, b, span=3.0)

    @pytest.mark.parametrize("accepted", [(True, True, True), (False, True, True), (True, False)])
    def test_another_sequence(self, accepted):
        a, b = record("scipy"), record("diffrax")
        b.arrays |= steps(accepted=accepted)
        assert not same_steps(a, b, span=3.0)

    def test_no_steps_stored(self):
        b = record("diffrax")
        b.arrays = {name: a for name, a in b.arrays.items() if not name.startswith("backward")}
        assert not same_steps(record("scipy"), b, span=3.0)


def bent(by):
    return {"y0": G["y0"] * (1 + by), "params/w": G["params/w"]}


class TestVerdict:
    @pytest.mark.parametrize(("by", "verdict"), [(0.0, "pass"), (0.9e-9, "pass"), (1.2e-9, "fail"), (np.nan, "fail")])
    def test_by_difference(self, by, verdict):
        found = of(record("scipy"), record("torchdiffeq"), record("diffrax", gradient=bent(by))).matched
        assert [(a.norm, a.rtol, a.atol, a.verdict) for a in found] == [("default", 1e-6, 1e-8, verdict)]
        assert found[0].backends == ["scipy", "torchdiffeq", "diffrax"]
        if by == 1.2e-9:
            assert found[0].max_relative_difference == pytest.approx(by, rel=1e-6)
            assert "diffrax" in found[0].worst_pair
        if np.isnan(by):
            assert found[0].max_relative_difference is None

    def test_other_steps_fail(self):
        b = record("diffrax")
        b.arrays |= steps(1e-3)
        assert of(record("scipy"), b).matched[0].verdict == "fail"

    def test_one_backend_alone_is_missing(self):
        assert of(record("scipy")).matched[0].verdict == "missing"
        assert of(record("scipy")).matched[0].max_relative_difference is None

    @pytest.mark.parametrize(
        ("status", "verdict"),
        [("timeout", "missing"), ("out_of_memory", "missing"), ("crashed", "missing"), ("diverged", "fail"),
         ("max_steps", "fail"), ("step_underflow", "fail"), ("nan_in_field", "fail"), ("unsupported", "pass")],
    )  # fmt: skip
    def test_a_backend_that_did_not_finish(self, status, verdict):
        lost = record("torchdiffeq", status=Status(status), forward=None, backward=None)
        assert of(record("scipy"), record("diffrax"), lost).matched[0].verdict == verdict

    def test_unstable_is_an_excuse_and_a_pass_needs_none(self):
        a, b = record("scipy", reconstruction_error=1.0), record("diffrax", gradient=bent(0.1))
        assert (of(a, b).matched[0].verdict, of(a, b).matched[0].unstable) == ("unstable", True)
        assert of(a, record("diffrax")).matched[0].verdict == "pass"

    def test_an_unstable_neighbour_is_no_excuse(self):
        cells = [record("scipy"), record("diffrax", gradient=bent(0.1))]
        loose = record("scipy", rtol=1e-4, reconstruction_error=1.0)
        assert [a.verdict for a in of(*cells, loose).matched if a.rtol == 1e-6] == ["fail"]

    def test_native_cells_have_no_verdict(self):
        found = of(record("scipy", "native"), record("diffrax", "native", gradient=bent(0.1)))
        assert found.matched == []
        assert [(a.verdict, a.same_steps) for a in found.native] == [("none", True)]
        assert found.native[0].max_relative_difference == pytest.approx(0.1 / 1.1, rel=0.2)

    @pytest.mark.parametrize("plan", [{"atol": 1e-3}, {"dtype": "float32"}, {"device": "cuda"}, {"first_step": 0.1}])
    def test_another_plan_is_another_cell(self, plan):
        found = of(record("scipy"), record("diffrax"), record("torchdiffeq", plan=plan, gradient=bent(0.1))).matched
        assert sorted(a.verdict for a in found) == ["missing", "pass"]

    def test_the_largest_rounding_floor(self):
        found = of(record("scipy", rounding_floor=1e-13), record("diffrax", rounding_floor=1e-11)).matched
        assert found[0].rounding_floor == 1e-11


class TestUnstable:
    @pytest.mark.parametrize(("factor", "flagged"), [(0.99, False), (1.01, True)])
    def test_at_a_hundred_times_rtol(self, factor, flagged):
        error = factor * UNSTABLE_FACTOR * 1e-6
        found = of(record(reconstruction_error=error)).flags
        assert [(f.name, f.backend, f.norm, f.stepping, f.rtol) for f in found] == (
            [("backsolve_unstable", "diffrax", "default", "matched", 1e-6)] if flagged else []
        )
        if flagged:
            assert found[0].evidence == (
                "integrating back, y misses the stored solution by 0.0001 of its size, 1e+02 times rtol"
            )
            assert "shorten the interval" in found[0].advice

    def test_nothing_measured_nothing_flagged(self):
        assert of(record(reconstruction_error=None)).flags == []

    @pytest.mark.parametrize("status", ["diverged", "max_steps", "step_underflow", "nan_in_field"])
    def test_a_backward_solve_that_failed(self, status):
        (flag,) = of(record(status=Status(status), message="backward solve: too far")).flags
        assert flag.evidence == "it did not come to an end: backward solve: too far"

    @pytest.mark.parametrize(
        ("status", "backward"),
        [("diverged", None), ("timeout", {"nfe": 1}), ("crashed", {"nfe": 1}), ("unsupported", None)],
    )
    def test_no_other_failure(self, status, backward):
        assert of(record(status=Status(status), backward=backward)).flags == []


class TestCost:
    def test_savings(self):
        cheap = record("scipy", "native", "seminorm", backward={"nfe": 60}, error={"all": 2e-6})
        base = record("scipy", "native", "default", backward={"nfe": 80}, error={"all": 1e-6})
        other = record("diffrax", "native", "seminorm", backward={"nfe": 10})
        (saving,) = of(cheap, base, other).savings
        assert (saving.backend, saving.norm, saving.nfe, saving.nfe_default, saving.saved) == (
            "scipy", "seminorm", 60, 80, 0.25,
        )  # fmt: skip
        assert (saving.error, saving.error_default) == (2e-6, 1e-6)

    def test_savings_at_the_same_tolerances_only(self):
        base = record("scipy", "native", plan={"atol": 1e-3})
        assert of(base, record("scipy", "native", "seminorm")).savings == []

    def test_no_savings_without_evaluations(self):
        failed = record("scipy", "native", status=Status.DIVERGED)
        zero = record("diffrax", "native", backward={"nfe": 0})
        assert of(failed, zero, *(record(b, "native", "seminorm") for b in ("scipy", "diffrax"))).savings == []

    def test_settings(self):
        a = record("scipy", settings={"forward": {"solver": "RK45", "norm": "rms", "rtol": 1e-6}, "backward": {}})
        b = record(
            "diffrax", settings={"forward": {"solver": "Dopri5", "norm": "max", "rtol": 2e-6, "pi": 0}, "backward": {}}
        )
        assert of(a, b).settings_differ == [
            {"stepping": "matched", "gradient": "backsolve", "norm": "default", "pass": "forward", "setting": "norm",
             "values": {"scipy": "rms", "diffrax": "max"}},
            {"stepping": "matched", "gradient": "backsolve", "norm": "default", "pass": "forward", "setting": "pi",
             "values": {"scipy": "not applicable", "diffrax": 0}},
        ]  # fmt: skip

    def test_cheapest(self):
        def timed(backend, rtol, error, seconds, **more):
            return record(backend, "native", rtol=rtol, error={"all": error}, time={"median_s": seconds}, **more)

        found = of(
            timed("scipy", 1e-4, 1e-3, 0.5), timed("diffrax", 1e-4, 5e-3, 0.1), timed("diffrax", 1e-6, 1e-5, 0.3),
            timed("torchdiffeq", 1e-6, 0.0, 0.2), timed("diffrax", 1e-8, 1e-9, 0.01, status=Status.DIVERGED),
            record("scipy", "matched", rtol=1e-8, error={"all": 1e-9}, time={"median_s": 0.001}),
        ).cheapest  # fmt: skip
        assert [(c["wanted"], c["backend"], c["rtol"], c["median_s"]) for c in found] == [
            (1e-2, "diffrax", 1e-4, 0.1), (1e-4, "torchdiffeq", 1e-6, 0.2),
            (1e-6, "torchdiffeq", 1e-6, 0.2), (1e-8, "torchdiffeq", 1e-6, 0.2),
        ]  # fmt: skip


class TestSummary:
    def test_all_agree(self):
        found = compare(Run(None, records=[record("scipy"), record("diffrax", gradient=bent(5e-10))]))  # type: ignore[arg-type]
        assert found.summary() == [
            "On 1 of 1 problems diffrax and scipy give the same gradient, to 5.0e-10 relative, at every tolerance when "
            "they take the same steps."
        ]

    def test_what_fails_is_said_also_where_no_difference_is_finite(self):
        rows = [record("scipy"), record("diffrax", gradient=bent(np.nan))]
        rows += [record(b, plan={"problem": "q"}) for b in ("scipy", "diffrax", "torchdiffeq")]
        said = compare(Run(None, records=rows)).summary()  # type: ignore[arg-type]
        assert said[0].startswith(
            "On 1 of 2 problems diffrax, scipy and torchdiffeq give the same gradient, to 0.0e+00"
        )
        assert said[1].startswith("On p the backends do not agree although they were to take the same steps")

    def test_unstable_and_savings(self):
        norms = {"default": 80, "seminorm": 60}
        stable = [
            record(b, "native", n, plan={"problem": "s"}, backward={"nfe": nfe})
            for b in ("scipy", "diffrax") for n, nfe in norms.items()
        ]  # fmt: skip
        stable[1].backward = {"nfe": 96}
        bad = [
            record("scipy", "native", n, reconstruction_error=1.0, error={"all": e}, backward={"nfe": 1})
            for n, e in (("default", 0.2), ("seminorm", 0.5))
        ]
        bad.append(record("diffrax", "native", status=Status.UNSUPPORTED, backward=None))
        assert compare(Run(None, records=stable + bad)).summary() == [  # type: ignore[arg-type]
            "On p the reverse solve is unstable in every cell: the backsolve gradients are wrong by 0.2 to 0.5 in "
            "every library.",
            "At equal tolerance the norm seminorm saves a median of 25 % in diffrax (25 % to 25 %) and −20 % in scipy "
            "(−20 % to −20 %) of the backward evaluations against the library's default.",
        ]

    def test_spurious_rejections_under_the_default_norms(self):
        """Of 3 rejected steps 2 spurious in SciPy, and one accepted step masked; an unstable problem does not count."""

        def stepped(backend, norm="default", **changes):
            made = record(backend, "native", norm, **changes)
            made.arrays |= {
                "backward/t0": np.arange(5.0)[::-1], "backward/t1": np.arange(5.0)[::-1] - 1,
                "backward/accepted": np.array([False, False, False, True, True]),
                "backward/ratio_state": np.array([0.5, 1.0, 1.5, 1.5, 0.5]),
                "backward/share_a_params": np.array([1, 1, 0.2, 0.3, 0.3], np.float32),
                "backward/share_y": np.array([0.1, 0.5, 1, 1, 1], np.float32),
            }  # fmt: skip
            return made

        bad = stepped("diffrax", plan={"problem": "q"}, reconstruction_error=1.0)
        found = compare(Run(None, records=[stepped("scipy"), stepped("scipy", "seminorm"), bad]))  # type: ignore[arg-type]
        assert found.summary()[1] == (
            "Under the libraries' default norms, y and a_y alone would have accepted this share of the backward steps "
            "that were rejected (spurious rejections): 67 % in scipy."
        )
        (rejections, _) = found.problems[0].rejections
        assert (rejections.by_block, rejections.spurious, rejections.masked) == ({"y": 1, "a_params": 2}, 2, 1)

    def test_speed_up_at_equal_error(self):
        rows = [
            record("scipy", "native", norm, rtol=rtol, error={"all": rtol}, backward={"nfe": nfe})
            for norm, counts in (("default", (100, 200)), ("seminorm", (80, 160)))
            for rtol, nfe in zip((1e-4, 1e-6), counts, strict=True)
        ]
        assert of(*rows).speedups[0].factor == pytest.approx(1.25)
        assert compare(Run(None, records=rows)).summary()[-1] == (  # type: ignore[arg-type]
            "At equal gradient error the default takes this many times the backward evaluations of seminorm, median "
            "over the problems: 1.25 in scipy (1.25 to 1.25)."
        )

    def test_most_of_the_error_is_the_forward_solves(self):
        def split(forward, residual=0.0):
            share = {"forward": forward, "reconstruction": 0.0, "a_y": 1 - forward, "a_params": 0.0}
            return {"whole": 1e-6, "parts": share, "share": share, "residual": residual, "replay": 0.0}

        rows = [
            record("scipy", "native", plan={"problem": name}, error_split=made)
            for name, made in zip("abcd", (split(0.6), split(0.95), split(0.2), split(1.0, 0.3)), strict=True)
        ]
        assert compare(Run(None, records=rows)).summary() == [  # type: ignore[arg-type]
            "On 2 of 3 problems the forward solve makes most of the gradient's error in SciPy (60 % to 95 %), which no "
            "norm of the backward solve can change."
        ]

    def test_what_did_not_finish(self):
        rows = [record("scipy", status=Status.TIMEOUT), record("diffrax", status=Status.CRASHED), record("torchdiffeq")]
        run = Run(None, records=rows, references={"p": {"status": "uncertain"}}, damaged=["records/x.json: cut"])  # type: ignore[arg-type]
        assert compare(run).summary() == [
            "2 of 3 plans did not finish: crashed and timeout.",
            "No reference gradient for p: errors are not shown there.",
            "1 file was damaged and skipped.",
        ]


def test_the_json():
    rows = [record("scipy", reconstruction_error=1.0), record("diffrax")]
    reference = {"status": "ok", "floor": 1e-12, "check": 1e-9, "routes": [], "arrays": {"x": np.ones(2)}}
    run = Run(None, {"problems": ["p"]}, rows, {"p": {"ts": [0.0, 3.0]}}, {"p": reference}, ["records/x.json: cut"])  # type: ignore[arg-type]
    found = json.loads(json.dumps(compare(run).as_dict(), allow_nan=False))
    assert found["damaged"] == ["records/x.json: cut"]
    (problem,) = found["problems"]
    assert problem["problem"] == "p"
    assert problem["reference"] == {
        "status": "ok", "floor": 1e-12, "check": 1e-9, "leaves": None, "routes": [],
    }  # fmt: skip
    (cell,) = problem["matched"]
    assert {key: cell[key] for key in ("norm", "rtol", "max_relative_difference", "same_steps")} == {
        "norm": "default", "rtol": 1e-6, "max_relative_difference": 0.0, "same_steps": True,
    }  # fmt: skip
    (flag,) = problem["flags"]
    assert set(flag) == {"name", "backend", "gradient", "norm", "stepping", "rtol", "evidence", "advice", "level"}
    assert set(problem["records"][0]) == {
        "digest", "problem", "backend", "gradient", "norm", "stepping", "rtol", "atol", "dtype", "device", "first_step",
        "status", "message", "loss", "forward", "backward", "error", "reconstruction_error", "rounding_floor", "scaled",
        "error_split", "time", "peak_memory_bytes", "memory_rise_bytes", "device_memory_bytes", "settings", "machine",
        "versions",
    }  # fmt: skip


def test_problems_in_the_order_of_the_run():
    rows = [record("scipy", plan={"problem": name}) for name in "abc"]
    found = compare(Run(None, {"problems": ["c", "gone", "a"]}, rows))  # type: ignore[arg-type]
    assert [item.problem for item in found.problems] == ["c", "a", "b"]
    assert found.records == [rows[2], rows[0], rows[1]]


def test_a_table_has_a_row_a_record_and_a_column_a_field():
    rows = [record("scipy", time={"median_s": 0.5}, error={"all": 1e-7}), record("diffrax", status=Status.DIVERGED)]
    table = compare(Run(None, records=rows)).to_pandas()  # type: ignore[arg-type]
    by_backend = table.set_index("backend")
    assert by_backend.loc["scipy", "time.median_s"] == 0.5
    assert by_backend.loc["scipy", "error.all"] == 1e-7
    assert by_backend.loc["diffrax", "status"] == "diverged"
    assert list(by_backend["backward.nfe"]) == [14, 14]
    assert not any(name.startswith(("settings", "machine", "versions")) for name in table.columns)


class TestGradients:
    @pytest.mark.parametrize("stepping", ["matched", "native"])
    def test_agreement_is_of_one_gradient(self, stepping):
        rows = [record(b, stepping) for b in ("scipy", "diffrax")]
        rows += [
            record(b, stepping, plan={"gradient": "direct"}, gradient=bent(0.1)) for b in ("torchdiffeq", "diffrax")
        ]
        cells = getattr(of(*rows), stepping)
        assert [(a.gradient, a.series, a.backends, a.max_relative_difference) for a in cells] == [
            ("backsolve", "default", ["scipy", "diffrax"], 0.0), ("direct", "direct", ["torchdiffeq", "diffrax"], 0.0),
        ]  # fmt: skip

    def test_settings_are_compared_within_one(self):
        settings = [{"forward": {"solver": name, "norm": norm}, "backward": {}} for name, norm in
                    (("RK45", "rms"), ("Dopri5", "rms"), ("none", "max"))]  # fmt: skip
        rows = [record("scipy", settings=settings[0]), record("diffrax", settings=settings[1])]
        rows += [record("diffrax", plan={"gradient": "direct"}, settings=settings[2])]
        assert of(*rows).settings_differ == []
        rows += [record("torchdiffeq", plan={"gradient": "direct"}, settings=settings[0])]
        (found,) = of(*rows).settings_differ
        assert (found["gradient"], found["values"]) == ("direct", {"diffrax": "max", "torchdiffeq": "rms"})

    def test_savings_and_speed_ups_tell_it(self):
        spent = {
            ("backsolve", "default"): (100, 200), ("backsolve", "mixed-integrals"): (80, 160),
            ("quadrature", "default"): (40, 80), ("quadrature", "mixed-integrals"): (10, 20),
        }  # fmt: skip
        rows = [
            record("scipy", "native", norm, rtol, plan={"gradient": gradient}, error={"all": rtol}, backward={"nfe": n})
            for (gradient, norm), counts in spent.items()
            for rtol, n in zip((1e-4, 1e-6), counts, strict=True)
        ]
        found = of(*rows)
        saved = {(s.gradient, s.series): s.saved for s in found.savings}
        factors = {(s.gradient, s.series): s.factor for s in found.speedups if s.cost == "backward_nfe"}
        cells = ("backsolve", "mixed-integrals"), ("quadrature", "quadrature mixed-integrals")
        assert saved == pytest.approx(dict(zip(cells, (0.2, 0.75), strict=True)))
        assert factors == pytest.approx(dict(zip(cells, (1.25, 4.0), strict=True)))

    def test_only_a_backward_solve_rejects(self):
        rows = [record("scipy", "native"), record("diffrax", "native", plan={"gradient": "direct"})]
        for row in rows:
            row.arrays["backward/ratio_state"] = np.ones(3)
        assert [(r.backend, r.gradient) for r in of(*rows).rejections] == [("scipy", "backsolve")]
