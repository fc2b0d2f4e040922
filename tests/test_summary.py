"""The summary in words: what each sentence is about, and the numbers in it."""

import numpy as np
import pytest

from crossbackend.compare import compare
from crossbackend.record import Status
from crossbackend.store import Run
from tests.report import synthetic
from tests.test_compare import G, record


def points(*records, **run):
    found = compare(Run(None, records=list(records), **run)).points()  # type: ignore[arg-type]
    return {point.topic: [p.text for p in found if p.topic == point.topic] for point in found}


def off(by):
    return {"y0": np.array([3.0, 4.0 + 5 * by]), "params/w": G["params/w"]}


def timed(backend, seconds, rtol=1e-6, compiled=0.0, **more):
    return record(backend, "native", rtol=rtol, time={"median_s": seconds, "compile_s": compiled}, **more)


def test_how_far_the_libraries_differ_by_themselves():
    """At the usual tolerance, the nearest and the furthest stable problem; an unstable one has no part in it."""
    rows = [record("scipy", "native", plan={"problem": name}) for name in "abc"]
    rows += [
        record("diffrax", "native", gradient=off(d), plan={"problem": n}) for n, d in {"a": 2e-7, "b": 3e-5}.items()
    ]
    rows += [
        record(b, "native", rtol=1e-2, gradient=g, plan={"problem": "a"}) for b, g in (("scipy", G), ("x", off(1)))
    ]
    rows += [record("diffrax", "native", gradient=off(7.0), reconstruction_error=1.0, plan={"problem": "c"})]
    rows[2].reconstruction_error = 1.0
    assert points(*rows)["Own steps"] == [
        "As the libraries run by themselves, their gradients differ by 2.0e-07 on a to 3.0e-05 on b at rtol 1e-06."
    ]


def test_one_problem_is_its_own_range():
    said = points(record("scipy", "native"), record("diffrax", "native", gradient=off(2e-7)))["Own steps"]
    assert said == ["As the libraries run by themselves, their gradients differ by 2.0e-07 on p at rtol 1e-06."]


def test_one_backend_differs_from_nothing():
    assert "Own steps" not in points(record("scipy", "native"), record("scipy:jax", "native"))


def test_times_are_ratios_to_the_fastest_over_the_plans_that_all_have():
    rows = [timed("diffrax", s, r, 3.0) for s, r in ((1e-3, 1e-4), (2e-3, 1e-6), (3e-3, 1e-8))]
    rows += [timed("torchdiffeq", s, r) for s, r in ((40e-3, 1e-4), (300e-3, 1e-6), (9.0, 1e-7))]
    assert points(*rows)["Time"] == [
        "One loss and gradient, in multiples of diffrax's time, median over 2 plans: torchdiffeq 95 times (40 to 150); "
        "diffrax first compiles for 3 s (median)."
    ]


def test_what_does_not_compile_does_not_wait():
    rows = [timed("scipy", 1e-3), timed("torchdiffeq", 1.4e-3)]
    assert points(*rows)["Time"][0].endswith("torchdiffeq 1.4 times (1.4 to 1.4).")


@pytest.mark.parametrize("rows", [[timed("scipy", 1.0)], [timed("scipy", 1.0), record("diffrax", "native")]])
def test_no_times_no_ratio(rows):
    assert "Time" not in points(*rows)


def test_masked_steps_have_a_sentence_of_their_own():
    found = points(*[r for r in synthetic.run().records if r.problem == "neural_ode"])
    assert len(found["Rejected steps"]) <= 2
    assert "spurious" in found["Rejected steps"][0]


def test_topics_in_reading_order():
    topics = list(dict.fromkeys(point.topic for point in synthetic.full().points()))
    assert topics == [
        "Same steps", "Own steps", "Reverse solve", "Rejected steps", "Equal tolerance", "Equal error", "Whose error",
        "Time", "Missing",
    ]  # fmt: skip
    assert synthetic.full().summary() == [point.text for point in synthetic.full().points()]


def test_what_is_missing():
    said = points(record("scipy"), record("diffrax", status=Status.TIMEOUT), damaged=["records/1.json: cut short"])
    assert said["Missing"] == ["1 of 2 plans did not finish: timeout.", "1 file was damaged and skipped."]


def other(gradient, *rows):
    """The same records, taken by another gradient."""
    for row in rows:
        row.plan["gradient"] = gradient
        row.digest += gradient
    return list(rows)


class TestGradients:
    def test_agreement_is_said_of_each_by_itself(self):
        rows = [record("scipy"), record("diffrax", gradient=off(1e-10))]
        rows += other("direct", record("torchdiffeq", gradient=off(0.5)), record("diffrax", gradient=off(0.5 + 4e-10)))
        rows += other("quadrature", record("scipy", gradient=off(0.2)))
        first, second = points(*rows)["Same steps"]
        assert first.startswith("On 1 of 1 problems diffrax and scipy give the same gradient, to 1.0e-10 relative")
        assert second.startswith("On 1 of 1 problems diffrax and torchdiffeq give the same gradient, to ")
        assert second.endswith("when they take the same steps with the gradient direct.")
        rows[2].arrays["gradient/y0"] = rows[2].arrays["gradient/y0"] * 2
        assert "the reverse solve is no excuse with the gradient direct" in points(*rows)["Same steps"][1]

    def test_native_differences_and_times_too(self):
        rows = [timed("scipy", 1.0), timed("diffrax", 2.0, gradient=off(2e-7))]
        rows += other("direct", timed("torchdiffeq", 0.1), timed("diffrax", 0.5, gradient=off(3e-5)))
        rows += other("quadrature", timed("scipy", 0.3))
        found = points(*rows)
        assert found["Own steps"] == [
            "As the libraries run by themselves, their gradients differ by 2.0e-07 on p at rtol 1e-06.",
            "As the libraries run by themselves with the gradient direct, their gradients differ by 3.0e-05 on p at "
            "rtol 1e-06.",
        ]
        assert found["Time"] == [
            "One loss and gradient, in multiples of scipy's time, median over 1 plans: diffrax 2 times (2 to 2).",
            "One loss and gradient with the gradient direct, in multiples of torchdiffeq's time, median over 1 plans: "
            "diffrax 5 times (5 to 5).",
        ]

    def test_norms_are_judged_by_backsolve_alone(self):
        counts = {"default": 100, "mixed-integrals": 50}
        rows = other("quadrature", *(record("scipy", "native", n, backward={"nfe": c}) for n, c in counts.items()))
        assert [s.series for s in compare(Run(None, records=rows)).problems[0].savings] == [  # type: ignore[arg-type]
            "quadrature mixed-integrals"
        ]
        assert "Equal tolerance" not in points(*rows)

    def test_unstable_in_every_cell_of_backsolve(self):
        rows = [record("scipy", "native", reconstruction_error=1.0, error={"all": 0.2})]
        rows += other("quadrature", record("scipy", "native", error={"all": 1e-9}))
        assert points(*rows)["Reverse solve"] == [
            "On p the reverse solve is unstable in every cell: the backsolve gradients are wrong by 0.2 to 0.2 in "
            "every library."
        ]
