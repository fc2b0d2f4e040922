"""Flags on records whose answers are known: each is raised, and is not raised a little on the other side."""

import numpy as np
import pytest

from crossbackend.compare import ProblemComparison
from crossbackend.flag_groups import grouped
from crossbackend.flags import ADVICE, LEVELS, below_atol, flags, is_unstable
from crossbackend.plan import Plan
from crossbackend.record import Record, Status

CARD = {"ts": [0.0, 4.0], "breakpoints": [1.0, 2.0], "state_size": 2, "field_parameter_size": 10}


def record(backend="torchdiffeq", norm="default", rtol=1e-6, *, ends=(1.0, 2.0, 4.0), **changes):
    """A record whose forward and backward passes step onto the ends given."""
    made = Record(f"{backend}{norm}{rtol}", Plan("p", backend, norm, "native", rtol, rtol * 1e-2).as_dict(), Status.OK)
    forward, backward = np.array([0.0, *ends]), np.array([*ends[::-1], 0.0])
    for which, times in (("forward", forward), ("backward", backward)):
        count = len(times) - 1
        made.arrays |= {f"{which}/t0": times[:-1], f"{which}/t1": times[1:], f"{which}/accepted": np.full(count, True)}
    made.forward = {"nfe": 14, "accepted": len(ends), "rejected": 0, "t_min": 0.0, "t_max": 4.0, "y_max": 2.0}
    made.backward = dict(made.forward)
    made.settings = {"forward": {}, "backward": {}}
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def of(*records, card=CARD, reference=None, differing=()):
    return flags(list(records), card, reference or {"status": "ok"}, list(differing))


def names(found):
    return [flag.name for flag in found]


def test_every_flag_has_a_level_and_advice():
    assert set(LEVELS) == set(ADVICE)
    assert set(LEVELS.values()) == {"warning", "note"}


def test_a_good_record_carries_none():
    assert of(record()) == []


class TestUnstable:
    def test_where_it_is_worst_and_how_it_grows(self):
        bad = record(reconstruction_error=0.5)
        bad.arrays |= {
            "backward/reconstruction_t": np.array([0.0, 2.0]),
            "backward/reconstruction": np.array([0.5, 0.1]),
        }
        bad.backward["y_max"] = 12.0
        (flag,) = of(bad)
        assert (flag.name, flag.level) == ("backsolve_unstable", "warning")
        assert flag.evidence == (
            "integrating back, y misses the stored solution by 0.5 of its size, 5e+05 times rtol, most at t = 0; it "
            "grows to 6 times the forward solution's largest |y|"
        )

    @pytest.mark.parametrize(("factor", "raised"), [(0.99, False), (1.01, True)])
    def test_at_a_hundred_times_rtol(self, factor, raised):
        assert bool(of(record(reconstruction_error=factor * 1e-4))) is raised


LEAVES = {"params/w": 2.0, "params/v": -0.5, "params/tiny": 1e-5}


class TestMissing:
    def gradient(self, **leaves):
        made = record()
        made.arrays |= {f"gradient/params/{name}": np.array(value) for name, value in leaves.items()}
        return made

    def test_a_zero_where_the_loss_moves(self):
        bad = self.gradient(w=[1.0, 0.0], v=[0.0, 0.0], tiny=[0.0])
        (flag,) = of(bad, reference={"status": "ok", "leaves": LEAVES})
        assert flag.name == "gradient_missing"
        assert flag.evidence == (
            "the gradient is zero or absent for params/v (finite difference -0.5 along a random direction)"
        )

    def test_a_leaf_that_is_not_there(self):
        (flag,) = of(self.gradient(w=[1.0], tiny=[0.0]), reference={"status": "ok", "leaves": LEAVES})
        assert "params/v" in flag.evidence

    def test_zero_where_the_loss_stands_still_is_right(self):
        good = self.gradient(w=[1.0], v=[0.1], tiny=[0.0])
        assert of(good, reference={"status": "ok", "leaves": LEAVES}) == []

    def test_a_leaf_with_one_entry_that_is_not_zero_is_there(self):
        good = self.gradient(w=[0.0, 1e-30], v=[0.1], tiny=[1.0])
        assert of(good, reference={"status": "ok", "leaves": LEAVES}) == []


class TestMissedBreakpoint:
    @pytest.mark.parametrize(("shift", "raised"), [(0.0, False), (3e-9, False), (5e-9, True)])
    def test_within_1e_9_of_the_interval(self, shift, raised):
        found = of(record(ends=(1.0 + shift, 2.0, 4.0)))
        assert names(found) == (["missed_breakpoint"] if raised else [])

    def test_both_passes_are_said(self):
        (flag,) = of(record(ends=(1.0, 2.5, 4.0)))
        assert flag.evidence == (
            "in the forward pass no accepted step ends on 1 of 2: t = 2; in the backward pass no accepted step ends on "
            "1 of 2: t = 2"
        )

    def test_a_rejected_step_does_not_count(self):
        bad = record()
        bad.arrays["forward/accepted"][0] = False
        assert names(of(bad)) == ["missed_breakpoint"]

    def test_the_ends_of_the_interval_are_no_breakpoints_to_miss(self):
        assert of(record(ends=(2.0, 4.0)), card=CARD | {"breakpoints": [0.0, 2.0, 4.0, 9.0]}) == []

    def test_many_are_abbreviated(self):
        card = CARD | {"breakpoints": [0.5 * k for k in range(1, 8)]}
        (flag,) = of(record(ends=(4.0,)), card=card)
        assert "7 of 7: t = 0.5, 1, 1.5, 2, 2.5, …" in flag.evidence


def asleep(share, **changes):
    """A record of ten backward steps with a share of them below atol = 1e-8."""
    made = record(ends=tuple(0.4 * k for k in range(1, 11)), **changes)
    low = round(10 * share)
    made.arrays["backward/rms_a_y"] = np.array([1e-9] * low + [1e-3] * (10 - low))
    return made


class TestBelowAtol:
    card = CARD | {"breakpoints": []}

    @pytest.mark.parametrize(("share", "raised"), [(0.0, False), (0.5, False), (0.6, True), (1.0, True)])
    def test_more_than_half_of_the_steps(self, share, raised):
        made = asleep(share)
        assert below_atol(made) == pytest.approx(share)
        assert names(of(made, card=self.card)) == (["adjoint_below_atol"] if raised else [])

    def test_what_the_scaled_loss_gave(self):
        made = asleep(1.0, error={"all": 2e-3}, backward={"nfe": 98})
        made.scaled = {"factor": 1.2e5, "backward": {"nfe": 412}, "error": 3e-6}
        (flag,) = of(made, card=self.card)
        assert flag.evidence == (
            "on 100% of the backward steps rms(a_y) is under atol (median 1e-09, atol 1e-08); with the loss times "
            "1.2e+05: backward evaluations 98 → 412, gradient error 0.002 → 3e-06"
        )

    def test_a_scaled_loss_that_was_not_run_says_why(self):
        made = asleep(1.0, scaled={"message": "the scaled loss was not run: the worker died"})
        (flag,) = of(made, card=self.card)
        assert flag.evidence.endswith("; the scaled loss was not run: the worker died")

    def test_a_rejected_step_does_not_count(self):
        made = asleep(0.6)
        made.arrays["backward/accepted"][:2] = False
        assert below_atol(made) == pytest.approx(0.5)

    def test_not_recorded_not_judged(self):
        assert below_atol(record()) is None


class TestUncontrolled:
    def made(self, largest, share=0.0):
        made = record(norm="seminorm")
        made.arrays |= {
            "backward/ratio_a_params": np.array([1.0, largest, 3.0]),
            "backward/share_a_params": np.array([0.0, share, 0.0], np.float32),
        }
        return made

    @pytest.mark.parametrize(("largest", "raised"), [(900.0, False), (1100.0, True)])
    def test_a_thousand_times_its_tolerance(self, largest, raised):
        found = of(self.made(largest))
        assert names(found) == (["integral_uncontrolled"] if raised else [])
        if raised:
            assert found[0].evidence == (
                "under a norm that leaves a_params out, its error ratio reaches 1.1e+03 on accepted steps"
            )

    def test_a_norm_that_sees_it_controls_it(self):
        assert of(self.made(1e5, share=0.1)) == []


class TestDiluted:
    def made(self, across="pooled", share=0.2):
        made = record("diffrax", settings={"forward": {}, "backward": {"across": across}})
        made.arrays |= {
            "backward/share_a_params": np.full(3, share, np.float32), "backward/ratio_state": np.array([0.5, 1.5, 2.0]),
        }  # fmt: skip
        return made

    def test_parameters_outnumber_the_state(self):
        (flag,) = of(self.made())
        assert (flag.name, flag.level) == ("norm_diluted", "note")
        assert flag.evidence == (
            "a_params has 10 of the norm's 14 entries and, in the median accepted step, 4% of its squared error; were "
            "that nothing, y and a_y might err 1.9 times their tolerance: 2 of 3 accepted steps did"
        )

    def test_not_under_a_maximum_not_where_they_are_few_not_for_a_seminorm(self):
        assert of(self.made(across="max")) == []
        assert of(self.made(), card=CARD | {"field_parameter_size": 4}) == []
        assert of(self.made(share=0.0)) == []


class TestOutside:
    @pytest.mark.parametrize(("beyond", "raised"), [(0.0, False), (3e-9, False), (5e-9, True)])
    def test_within_1e_9_of_the_interval(self, beyond, raised):
        made = record()
        made.forward["t_max"] = 4.0 + beyond
        assert names(of(made)) == (["evaluates_outside_interval"] if raised else [])

    def test_how_far_and_in_which_pass(self):
        made = record()
        made.backward["t_min"] = -0.2
        (flag,) = of(made)
        assert (flag.level, flag.evidence) == (
            "note", "backward pass: t = -0.2, 0.05 of the interval's length outside it",
        )  # fmt: skip


class TestOfTheProblem:
    @pytest.mark.parametrize(
        ("reference", "evidence"),
        [
            ({"status": "uncertain", "floor": 3e-4}, "its two routes differ by 0.0003 relative"),
            ({"status": "uncertain", "floor": 3e-4, "check": 1e-9},
             "its two routes differ by 0.0003 relative; finite differences agree with the first to 1e-09"),
            ({"status": "uncertain", "floor": None}, "its two routes differ"),
            ({"status": "failed", "routes": [{"message": "a"}, {"message": "a"}, {"message": ""}]},
             "no route to a reference came to its end: a"),
        ],
    )  # fmt: skip
    def test_an_uncertain_reference(self, reference, evidence):
        (flag,) = of(record(), reference=reference)
        assert (flag.name, flag.rtol, flag.evidence) == ("reference_uncertain", None, evidence)

    @pytest.mark.parametrize("status", ["ok", "exact", "missing"])
    def test_one_that_is_there_or_was_not_asked_for(self, status):
        assert of(record(), reference={"status": status}) == []

    def test_settings_side_by_side(self):
        rows = [
            {"stepping": "native", "norm": "default", "pass": "forward", "setting": "first_step",
             "values": {"diffrax": "0.01", "scipy": "Hairer"}},
            {"stepping": "native", "norm": "default", "pass": "backward", "setting": "a_t",
             "values": {"scipy": False, "torchdiffeq": True}},
            {"stepping": "matched", "norm": "default", "pass": "backward", "setting": "a_t",
             "values": {"scipy": False, "torchdiffeq": True}},
        ]  # fmt: skip
        native, matched = of(record(), differing=rows)
        assert (native.name, native.backend, native.norm, native.stepping, native.rtol, native.level) == (
            "settings_differ", "diffrax, scipy, torchdiffeq", "default", "native", None, "note",
        )  # fmt: skip
        assert native.evidence == (
            "forward first_step: diffrax 0.01, scipy Hairer; backward a_t: scipy False, torchdiffeq True"
        )
        assert matched.stepping == "matched"


@pytest.mark.parametrize("status", [s for s in Status if s != Status.OK])
def test_a_plan_without_a_gradient_is_judged_by_its_status_alone(status):
    bad = asleep(1.0, status=status, message="backward solve: m")
    found = names(of(bad, card=CARD | {"breakpoints": [1.0]}, reference={"status": "ok", "leaves": {"params/w": 1.0}}))
    of_the_solver = status in ("nan_in_field", "diverged", "step_underflow", "max_steps")
    assert found == (["backsolve_unstable"] if of_the_solver else [])


class Item:
    def __init__(self, records, found):
        self.records, self.flags = records, found


class TestGroups:
    def test_one_kind_is_said_once_the_gravest_first(self):
        records = [record(rtol=r) for r in (1e-4, 1e-6)] + [record("scipy", rtol=1e-4)]
        for made in records:
            made.reconstruction_error = 1e3 * made.rtol
        records[2].forward["t_max"] = 5.0
        groups = grouped(Item(records, of(*records)))
        assert [(g.name, len(g.flags)) for g in groups] == [
            ("backsolve_unstable", 3),
            ("evaluates_outside_interval", 1),
        ]
        assert groups[0].cells == "every cell: scipy and torchdiffeq; default; native; rtol 0.0001 to 1e-06"
        assert groups[1].cells == "1 of 3 cells: scipy; default; native; rtol 0.0001"
        assert "0.001 of its size" in groups[0].evidence[0]  # rtol 1e-6 comes first
        assert (len(groups[0].evidence), groups[0].more) == (2, 0)

    def test_evidence_is_cut(self):
        records = [record(rtol=10.0**-k, reconstruction_error=10.0 ** (3 - k)) for k in (4, 5, 6, 7)]
        (group,) = grouped(Item(records, of(*records)))
        assert (len(group.evidence), group.more) == (2, 2)

    def test_what_holds_for_the_problem_names_no_cells(self):
        (group,) = grouped(Item([record()], of(record(), reference={"status": "failed"})))
        assert group.cells == ""


class TestGradients:
    """What is said of backsolve is not said of the others, and no flag is about two gradients."""

    def of(self, gradient, norm="default", **changes):
        made = record(norm=norm, **changes)
        made.plan["gradient"] = gradient
        return made

    @pytest.mark.parametrize(
        ("gradient", "flagged"),
        [("backsolve", ["backsolve_unstable"]), ("interpolating", []), ("quadrature", []), ("direct", [])],
    )
    @pytest.mark.parametrize("status", [Status.OK, Status.DIVERGED])
    def test_only_backsolve_is_unstable(self, gradient, status, flagged):
        bad = self.of(gradient, status=status, reconstruction_error=0.5, message="too far")
        assert names(of(bad)) == flagged
        assert is_unstable(bad) is bool(flagged)

    def test_a_backward_pass_without_steps_misses_no_breakpoint(self):
        own = self.of("direct")
        own.arrays |= {name: array[:0] for name, array in own.arrays.items() if name.startswith("backward/")}
        assert of(own) == []
        own.arrays["forward/t1"] = own.arrays["forward/t1"] + 0.1
        (flag,) = of(own)
        assert (flag.name, flag.gradient, flag.series) == ("missed_breakpoint", "direct", "direct")
        assert flag.evidence.startswith("in the forward pass")
        assert "backward" not in flag.evidence

    def test_a_flag_tells_the_gradient(self):
        own = [self.of(g, ends=(1.0, 4.0)) for g in ("backsolve", "quadrature")]
        assert [(f.norm, f.gradient, f.series) for f in of(*own)] == [
            ("default", "backsolve", "default"), ("default", "quadrature", "quadrature"),
        ]  # fmt: skip

    def test_settings_are_flagged_within_one_gradient(self):
        row = {"stepping": "native", "norm": "default", "pass": "backward", "setting": "norm",
               "values": {"scipy": "rms", "diffrax": "max"}}  # fmt: skip
        found = of(differing=[row, row | {"gradient": "direct"}])
        assert [(f.name, f.gradient) for f in found] == [
            ("settings_differ", "backsolve"),
            ("settings_differ", "direct"),
        ]

    def test_every_cell_is_every_cell_of_that_gradient(self):
        own = [record(norm=n, reconstruction_error=0.5) for n in ("default", "seminorm")]
        own.append(self.of("direct"))
        item = ProblemComparison("p", CARD, {}, flags=of(*own), records=own)
        (group,) = grouped(item)
        assert group.cells == "every cell: torchdiffeq; default and seminorm; native; rtol 1e-06"
