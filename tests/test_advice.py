"""Advice: the cheapest plan that reaches an error, the others behind it, and what is not known."""

import pytest

from crossbackend.advice import advice_for, cheapest, cheapest_of, text
from crossbackend.compare import ProblemComparison
from crossbackend.plan import Plan
from crossbackend.record import Record, Status


def record(backend, norm="default", rtol=1e-6, error=1e-5, seconds=0.1, nfe=100, **changes):
    plan = Plan("p", backend, norm, changes.pop("stepping", "native"), rtol, rtol * 1e-2).as_dict()
    made = Record(f"{backend}{norm}{rtol}{plan['stepping']}", plan, Status.OK, error={"all": error})
    made.forward, made.backward = {"nfe": nfe // 2}, {"nfe": nfe - nfe // 2}
    made.time = None if seconds is None else {"median_s": seconds, "compile_s": changes.pop("compile_s", 0.0)}
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def of(*records, wanted=1e-4, by="time", reference=None):
    return advice_for(ProblemComparison("p", {}, reference or {"status": "ok", "floor": 1e-12}, records=list(records)),
                      wanted, by)  # fmt: skip


RUN = (
    record("scipy", rtol=1e-4, error=5e-4, seconds=0.02, nfe=50),
    record("scipy", rtol=1e-6, error=5e-6, seconds=0.04, nfe=110),
    record("scipy", rtol=1e-8, error=5e-8, seconds=0.09, nfe=210),
    record("diffrax", rtol=1e-4, error=9e-5, seconds=0.01, nfe=120, compile_s=4.5),
    record("diffrax", "seminorm", rtol=1e-6, error=1e-5, seconds=0.03, nfe=90, compile_s=5.0),
    record("torchdiffeq", rtol=1e-4, error=1e-3, seconds=0.5, nfe=60),
)


def test_by_time():
    found = of(*RUN)
    assert [(c.backend, c.norm, c.rtol, c.cost) for c in found.choices] == [
        ("diffrax", "default", 1e-4, 0.01), ("diffrax", "seminorm", 1e-6, 0.03), ("scipy", "default", 1e-6, 0.04),
    ]  # fmt: skip
    assert [c.ratio for c in found.choices] == pytest.approx([1, 3, 4])
    (short,) = found.short
    assert short == {"backend": "torchdiffeq", "gradient": "backsolve", "norm": "default", "rtol": 1e-4, "error": 1e-3}


def test_by_evaluations_of_both_passes():
    found = of(*RUN, by="nfe")
    assert [(c.backend, c.norm, c.cost) for c in found.choices] == [
        ("diffrax", "seminorm", 90), ("scipy", "default", 110), ("diffrax", "default", 120),
    ]  # fmt: skip


def test_the_error_wanted_is_enough():
    assert of(record("scipy", error=1e-4)).choices
    assert not of(record("scipy", error=1.0000001e-4)).choices


def test_matched_plans_are_no_choice():
    found = of(record("scipy", stepping="matched"))
    assert found.choices == []
    assert found.unknown == ["the run has no native plan"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": Status.DIVERGED}, "scipy, default did not finish at rtol 1e-06"),
        ({"status": Status.UNSUPPORTED}, "scipy, default was declined at rtol 1e-06"),
        ({"seconds": None}, "scipy, default was not timed at rtol 1e-06"),
        ({"reconstruction_error": 1.0}, "scipy, default has an unstable reverse solve at rtol 1e-06"),
    ],
)
def test_what_was_not_measured_is_said(changes, words):
    assert words in of(record("scipy", **changes)).unknown


def test_by_evaluations_nothing_needs_a_time():
    assert of(record("scipy", seconds=None), by="nfe").unknown == ["tolerances other than rtol 1e-06"]


@pytest.mark.parametrize(
    ("reference", "wanted", "words"),
    [
        ({"status": "uncertain", "floor": 1e-3}, 1e-4, "no reference gradient (uncertain), so no error is known"),
        ({"status": "ok", "floor": 1e-6}, 1e-6, "the reference is good to 1e-06 only, so an error of 1e-06 cannot be "
         "told from 0"),
    ],
)  # fmt: skip
def test_a_reference_that_is_no_help_is_said(reference, wanted, words):
    assert words in of(record("scipy"), wanted=wanted, reference=reference).unknown


def test_no_plan_that_cheats():
    """A failed plan, one without an error and one without a cost are not the cheapest."""
    rows = [record("a", status=Status.TIMEOUT), record("b", error=None), record("c", seconds=None)]
    assert cheapest_of(rows, 1e-4, "time") is None


def test_the_text():
    lines = text(of(*RUN)).splitlines()
    assert lines == [
        "p, gradient error at most 0.0001, by time",
        "  diffrax, default, rtol 0.0001, atol 1e-06: 0.01 s, the cheapest; error 9.0e-05; 4.5 s more for the first",
        "  diffrax, seminorm, rtol 1e-06, atol 1e-08: 0.03 s, 3 times that; error 1.0e-05; 5 s more for the first",
        "  scipy, default, rtol 1e-06, atol 1e-08: 0.04 s, 4 times that; error 5.0e-06",
        "  not reached by torchdiffeq, default: at best 1.0e-03 at rtol 0.0001",
        "  Not known: tolerances other than rtol 0.0001, 1e-06, 1e-08.",
    ]


def test_the_text_where_nothing_reaches_it():
    lines = text(of(*RUN, wanted=1e-9, by="nfe")).splitlines()
    assert lines[1] == "  no plan of this run is known to reach it"
    assert "  not reached by scipy, default: at best 5.0e-08 at rtol 1e-08" in lines


def test_each_gradient_is_a_way_of_its_own():
    rows = [record("scipy", rtol=1e-6, error=5e-5, seconds=0.04), record("scipy", rtol=1e-4, error=2e-3, seconds=0.02)]
    rows += [record("scipy", rtol=r.rtol, error=r.error["all"] / 100, seconds=r.time["median_s"] / 2) for r in rows]
    rows.append(record("diffrax", error=2e-3))
    for one in rows[2:]:
        one.plan["gradient"] = "quadrature" if one.backend == "scipy" else "direct"
    found = of(*rows)
    assert [(c.backend, c.gradient, c.norm, c.rtol) for c in found.choices] == [
        ("scipy", "quadrature", "default", 1e-4), ("scipy", "backsolve", "default", 1e-6),
    ]  # fmt: skip
    assert [(s["backend"], s["gradient"]) for s in found.short] == [("diffrax", "direct")]
    lines = text(found).splitlines()
    assert lines[1] == "  scipy, quadrature, rtol 0.0001, atol 1e-06: 0.01 s, the cheapest; error 2.0e-05"
    assert lines[2].startswith("  scipy, default, rtol 1e-06")
    assert lines[3] == "  not reached by diffrax, direct: at best 2.0e-03 at rtol 1e-06"
    best = {c["wanted"]: c for c in cheapest(rows)}
    assert (best[1e-4]["gradient"], best[1e-4]["norm"]) == ("quadrature", "default")


def test_other_gradients_that_a_backend_declines_are_named_once():
    rows = [record("scipy", n, r, status=Status.UNSUPPORTED) for n in ("default", "seminorm") for r in (1e-4, 1e-6)]
    for one in rows:
        one.plan["gradient"] = "direct"
    found = of(record("scipy"), *rows)
    assert found.unknown == ["scipy declined direct and direct seminorm", "tolerances other than rtol 0.0001, 1e-06"]
