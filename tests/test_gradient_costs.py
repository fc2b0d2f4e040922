"""What other gradients cost against backsolve, on power laws whose factor is known, and what is said of it."""

import json
import math

import pytest

from crossbackend.compare import compare
from crossbackend.explain import Explanation
from crossbackend.gradient_costs import gradient_costs
from crossbackend.plan import Plan
from crossbackend.record import Record, Status
from crossbackend.series import gradient_of, series, series_of
from crossbackend.store import Run

RTOLS = (1e-3, 1e-5, 1e-7)
FORWARD = 100


def record(
    gradient="backsolve", norm="default", rtol=1e-5, backend="scipy", *, nfe=50, seconds=1.0, error=None, **more
):
    plan = Plan("p", backend, norm, "native", rtol, rtol / 100, gradient).as_dict() | more.pop("plan", {})
    made = Record(" ".join(map(str, plan.values())), plan, Status.OK, error={"all": error or rtol})
    made.forward, made.backward = {"nfe": FORWARD}, {"nfe": nfe}
    made.time = {"median_s": seconds}
    for name, value in more.items():
        setattr(made, name, value)
    return made


def sweep(gradient="backsolve", norm="default", backend="scipy", *, scale=1.0, power=0.2, errors=RTOLS, **more):
    """Backward evaluations `scale error^-power`, a hundredth of a second each."""
    return [
        record(gradient, norm, r, backend, nfe=scale * e**-power, seconds=0.01 * scale * e**-power, error=e, **more)
        for r, e in zip(RTOLS, errors, strict=True)
    ]


def of(*sweeps, unstable=(), floor=None):
    return gradient_costs([r for rows in sweeps for r in rows], floor, set(unstable))


def row(rows, gradient, backend="scipy", norm="default"):
    (found,) = [r for r in rows if (r.gradient, r.backend, r.norm) == (gradient, backend, norm)]
    return found


class TestFactor:
    @pytest.mark.parametrize("cost", ["backward_nfe", "time"])
    def test_of_parallel_power_laws(self, cost):
        """Half the evaluations of default and four fifths of those of seminorm, whatever the error."""
        rows = of(sweep(), sweep(norm="seminorm", scale=0.625), sweep("quadrature", scale=0.5))
        for norm, factor in (("default", 2.0), ("seminorm", 1.25)):
            found = row(rows, "quadrature").found(norm, cost)
            assert (found.factor, found.low, found.high) == pytest.approx((factor, factor, factor))
            assert found.errors == pytest.approx((1e-7, 1e-3))
            assert found.reason == ""

    def test_of_crossing_power_laws(self):
        """3 e^-0.1 against e^-0.2: the ratio is e^-0.1 / 3, its mean that of the logarithm's middle, 1e-5."""
        found = row(of(sweep(), sweep("direct", scale=3.0, power=0.1)), "direct").found("default", "backward_nfe")
        assert found.factor == pytest.approx(1e5**0.1 / 3)
        assert (found.low, found.high) == pytest.approx((1e3**0.1 / 3, 1e7**0.1 / 3))

    def test_of_both_passes_together(self):
        """(100 + 300) / (100 + 100), where backward evaluations alone are 3 times fewer."""
        rows = of([record(rtol=r, nfe=300) for r in RTOLS], [record("direct", rtol=r, nfe=100) for r in RTOLS])
        assert of([record(rtol=r, nfe=300 + k) for k, r in enumerate(RTOLS)]) == []
        assert row(rows, "direct").found("default", "total_nfe").reason.endswith("error against cost")  # one point each
        rising = [[record(g, rtol=r, nfe=n + k) for k, r in enumerate(RTOLS)] for g, n in
                  (("backsolve", 300), ("direct", 100))]  # fmt: skip
        found = row(of(*rising), "direct").found("default", "total_nfe")
        assert found.factor == pytest.approx(2.0, rel=0.01)
        assert row(of(*rising), "direct").found("default", "backward_nfe").factor == pytest.approx(3.0, rel=0.02)

    def test_over_the_errors_that_both_reach(self):
        rows = of(sweep(), sweep("interpolating", errors=(1e-5, 1e-7, 1e-9)))
        assert row(rows, "interpolating").found("default", "time").errors == pytest.approx((1e-7, 1e-5))
        rows = of(sweep(), sweep("interpolating", errors=(1e-8, 1e-9, 1e-10)))
        assert row(rows, "interpolating").found("default", "time").reason == (
            "no error that both reach: backsolve under default 1e-07 to 0.001, this gradient 1e-10 to 1e-08"
        )

    def test_errors_at_the_floor_have_no_part(self):
        found = row(of(sweep(), sweep("quadrature"), floor=1e-7), "quadrature").found("default", "time")
        assert found.errors == pytest.approx((1e-5, 1e-3))


class TestRows:
    def test_backsolve_alone_has_none(self):
        assert of(sweep(), sweep(norm="seminorm"), sweep(norm="mixed")) == []

    def test_baselines_come_first_and_are_compared_with_nothing(self):
        rows = of(sweep("quadrature"), sweep(norm="mixed"), sweep(), sweep(norm="seminorm"))
        assert [(r.gradient, r.norm, r.baseline, bool(r.against)) for r in rows] == [
            ("backsolve", "default", True, False), ("backsolve", "seminorm", True, False),
            ("quadrature", "default", False, True), ("backsolve", "mixed", False, True),
        ]  # fmt: skip

    def test_a_backend_is_compared_with_itself_alone(self):
        rows = of(sweep(), sweep("direct", backend="diffrax", scale=0.5))
        assert row(rows, "direct", "diffrax").against == []
        rows = of(sweep(scale=8.0), sweep(backend="diffrax"), sweep("direct", backend="diffrax", scale=0.5))
        assert row(rows, "direct", "diffrax").found("default", "time").factor == pytest.approx(2.0)

    def test_another_precision_is_another_comparison(self):
        coarse = {"plan": {"dtype": "float32"}}
        rows = of(sweep(), sweep("direct", scale=0.5), sweep(scale=8.0, **coarse), sweep("direct", **coarse))
        assert [r.found("default", "time").factor for r in rows if r.against] == pytest.approx([2.0, 8.0])

    def test_native_plans_that_were_tried(self):
        matched = sweep("quadrature", plan={"stepping": "matched"})
        assert of(sweep(), matched, sweep("direct", status=Status.UNSUPPORTED)) == []

    def test_the_smallest_error_and_the_median_memory(self):
        own = sweep("quadrature", errors=(1e-3, 1e-8, 1e-7))
        for one, rise in zip(own, (1, 5, 3), strict=True):
            one.memory_rise_bytes, one.peak_memory_bytes = rise, 100 * rise
        own[0].device_memory_bytes = 7
        found = row(of(sweep(), own), "quadrature")
        assert (found.error, found.rtol) == (1e-8, 1e-5)
        assert (found.memory_rise_bytes, found.peak_memory_bytes, found.device_memory_bytes) == (3.0, 300.0, 7.0)
        assert row(of(sweep(), own), "backsolve").memory_rise_bytes is None

    def test_where_backsolve_is_unstable_there_is_no_factor_and_an_error_all_the_same(self):
        bad = sweep(errors=(0.5, 0.4, 0.6))
        rows = of(bad, sweep("quadrature"), unstable=[r.digest for r in bad])
        assert (row(rows, "backsolve").unstable, row(rows, "backsolve").error) == (True, 0.4)
        found = row(rows, "quadrature")
        assert (found.unstable, found.error) == (False, 1e-7)
        assert {a.reason for a in found.against} == {
            "the reverse solve is unstable: no tolerance buys a smaller error"
        }  # fmt: skip


def comparison(*sweeps, reference=None):
    records = [r for rows in sweeps for r in rows]
    references = {r.problem: reference or {"status": "ok", "floor": 1e-13} for r in records}
    return compare(Run(None, records=records, references=references))  # type: ignore[arg-type]


def said(*sweeps):
    return [point.text for point in comparison(*sweeps).points() if point.topic == "Gradient methods"]


class TestWords:
    def test_time_and_evaluations_against_both_norms(self):
        assert said(sweep(), sweep(norm="seminorm", scale=0.8), sweep("quadrature", scale=0.4)) == [
            "At equal gradient error quadrature in scipy takes 0.40 times the time of backsolve under default and 0.50 "
            "times under seminorm, 0.40 and 0.50 times its backward evaluations."
        ]

    def test_over_problems(self):
        other = {"plan": {"problem": "q"}}
        own = [sweep(), sweep("direct", scale=0.5), sweep(**other), sweep("direct", scale=2.0, **other)]
        assert said(*own) == [
            "At equal gradient error direct in scipy takes 1.25 times the time of backsolve under default (0.50 to "
            "2.00), 1.25 times its backward evaluations (medians over 2 problems)."
        ]

    def test_without_times_of_evaluations_alone(self):
        rows = sweep(), sweep("direct", scale=0.5)
        for one in (r for own in rows for r in own):
            one.time = None
        (text,) = said(*rows)
        assert text.endswith("direct in scipy takes 0.50 times the backward evaluations of backsolve under default.")

    def test_what_is_reached_where_backsolve_is_wrong(self):
        bad = sweep(errors=(0.5, 0.4, 0.6), reconstruction_error=1.0)
        found = said(bad, sweep("quadrature"), sweep("direct", errors=(1e-2, 1e-4, 2e-9)))
        assert found == [
            "On p, where backsolve is wrong by 0.4 or more, direct in scipy reaches an error of 2.0e-09 and quadrature "
            "in scipy 1.0e-07."
        ]

    def test_nothing_of_it_where_all_is_backsolve(self):
        assert said(sweep(), sweep(norm="seminorm")) == []
        assert "Gradient methods" not in str(Explanation(comparison(sweep()).problems[0]))

    def test_in_the_explanation(self):
        bad = sweep(errors=(0.5, 0.4, 0.6), reconstruction_error=1.0)
        text = str(Explanation(comparison(sweep(), sweep("quadrature", scale=0.5, memory_rise_bytes=3e6)).problems[0]))
        (line,) = [line for line in text.splitlines() if line.startswith("  scipy    quadrature")]
        assert line.split()[2:6] == ["default", "2.00x", "(2.00", "to"]
        assert line.endswith("1.0e-07  3.0 MB")
        text = str(Explanation(comparison(bad, sweep("quadrature")).problems[0]))
        assert "4.0e-01, unstable" in text
        assert "none: the reverse solve is unstable: no tolerance buys a smaller error" in text

    def test_the_json(self):
        found = comparison(sweep(), sweep("quadrature", scale=0.5)).as_dict()["problems"][0]["gradients"]
        base, own = json.loads(json.dumps(found, allow_nan=False))
        assert (base["gradient"], base["against"]) == ("backsolve", [])
        assert [(a["norm"], a["cost"]) for a in own["against"]] == [
            ("default", "backward_nfe"), ("default", "time"), ("default", "total_nfe"),
        ]  # fmt: skip
        assert own["against"][0]["factor"] == pytest.approx(2.0)
        assert math.isclose(own["error"], 1e-7)


@pytest.mark.parametrize(
    ("norm", "gradient", "name"),
    [("default", "backsolve", "default"), ("seminorm", "backsolve", "seminorm"), ("default", "direct", "direct"),
     ("mixed-integrals", "quadrature", "quadrature mixed-integrals"), ("", "", "")],
)  # fmt: skip
def test_a_series_is_called_by_its_norm_or_its_gradient(norm, gradient, name):
    assert series(norm, gradient) == name


@pytest.mark.parametrize("plan", [{"norm": "mixed"}, {"norm": "mixed", "gradient": None}])
def test_a_plan_that_names_no_gradient_is_backsolves(plan):
    assert (gradient_of(plan), series_of(plan)) == ("backsolve", "mixed")
