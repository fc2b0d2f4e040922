"""Meter: an error taken apart by blocks, for norms by weights and for callables, against the definitions."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossbackend import norms, ratios
from crossbackend.record import Steps
from tests.test_norms import CUSTOM, EVERY, SHAPES, oracle, random_blocks

INTEGRALS = ("logp",)


def seen(norm, blocks, integrals=INTEGRALS, ratio=None):
    """What a Meter keeps of one attempt under a norm."""
    meter = ratios.Meter(norm, {name: array.shape for name, array in blocks.items()}, integrals)
    value = float(norms.evaluate(norm, blocks, np, integrals)) if ratio is None else ratio
    return meter.seen(value, meter.read(blocks, np))


def alone(norm, groups, blocks, *, zeros):
    """The oracle of a norm over some groups: the rest at zero, or not there at all."""
    if zeros:
        kept = {n: a if n.split("/")[0] in groups else np.zeros_like(a) for n, a in blocks.items()}
    else:
        kept = {n: a for n, a in blocks.items() if n.split("/")[0] in groups}
    try:
        return oracle(norm, kept, INTEGRALS)
    except (ValueError, ZeroDivisionError):  # it sees none of them
        return 0.0


@pytest.mark.parametrize("norm", EVERY, ids=lambda norm: norm.name)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_number_is_its_definition(norm, seed):
    blocks = random_blocks(np.random.default_rng(seed))
    found = seen(norm, blocks)
    whole = oracle(norm, blocks, INTEGRALS)
    assert found["ratio"] == pytest.approx(whole, rel=1e-13)
    for group in norms.GROUPS:
        bare = replace(norm, weights={group: 1.0})
        assert found[f"ratio_{group}"] == pytest.approx(oracle(bare, blocks, INTEGRALS), rel=1e-13)
        part = alone(norm, (group,), blocks, zeros=True)
        assert found[f"share_{group}"] == pytest.approx(part / whole, rel=1e-12, abs=1e-300)
    state = alone(norm, ("y", "a_y"), blocks, zeros=False)
    assert found["ratio_state"] == pytest.approx(state, rel=1e-13)


@pytest.mark.parametrize("norm", EVERY, ids=lambda norm: norm.name)
@given(seed=st.integers(0, 2**32 - 1))
def test_shares_say_who_decided(norm, seed):
    found = seen(norm, random_blocks(np.random.default_rng(seed)))
    shares = np.array([found[f"share_{group}"] for group in norms.GROUPS])
    if norm.across == "pooled":
        assert np.sum(shares**2) == pytest.approx(1.0)
    else:
        assert np.max(shares) == pytest.approx(1.0)
        # No maximum over fewer blocks is larger (docs/adjoint.md, equation 20).
        assert found["ratio_state"] <= found["ratio"] * (1 + 1e-14)


def test_a_seminorm_keeps_what_it_does_not_see():
    blocks = {name: np.ones(shape) for name, shape in SHAPES.items()} | {"a_params/w": np.full((4, 2), 7.0)}
    found = seen(norms.NAMED["mixed-seminorm"], blocks)
    assert (found["ratio"], found["ratio_state"], found["ratio_a_params"]) == (1.0, 1.0, 7.0)
    assert (found["share_a_params"], found["share_a_t"]) == (0.0, 0.0)


def test_dilution():
    """docs/adjoint.md, equation 21: 2 entries of state 1.5 times over, 98 of parameters without an error."""
    blocks = {"y": np.array([1.5]), "a_y": np.array([1.5]), "a_params/w": np.zeros(98)}
    found = seen(norms.NAMED["pooled"], blocks, ())
    assert found["ratio"] == pytest.approx(1.5 * math.sqrt(2 / 100))
    assert found["ratio_state"] == 1.5
    assert found["share_a_params"] == 0.0
    assert found["share_y"] == pytest.approx(math.sqrt(0.5))


def test_entries_of_a_tuple_are_blocks_of_their_own():
    blocks = {"y/a": np.array([3.0]), "y/b": np.array([1.0, 1.0]), "a_y/a": np.array([0.0]), "a_y/b": np.zeros(2)}
    joint, apart = norms.NAMED["mixed"], replace(norms.NAMED["mixed"], per_entry=True)
    assert seen(joint, blocks, ())["ratio_y"] == pytest.approx(math.sqrt(11 / 3))
    assert seen(apart, blocks, ())["ratio_y"] == 3.0
    assert norms.flat(apart, {n: a.shape for n, a in blocks.items()})(np.array([3.0, 1, 1, 0, 0, 0])) == 3.0
    assert apart.describe() == "max(rms of each y, rms of each a_y, rms of each a_params)"


class TestCallable:
    def by_weights(self, blocks):
        return norms.evaluate(CUSTOM, blocks, np)

    def test_one_that_does_as_weights_do_gives_the_same_numbers(self, rng):
        norm = norms.custom("called", self.by_weights)
        for _ in range(20):
            blocks = random_blocks(rng)
            expected, found = seen(CUSTOM, blocks, ()), seen(norm, blocks, ())
            for name in ("ratio", "ratio_state", *ratios.SHARES):
                assert found[name] == pytest.approx(expected[name], rel=1e-12), name

    def test_one_that_names_its_blocks_gets_zeros_for_those_that_are_left_out(self):
        def by_name(blocks):
            return abs(blocks["a_y/z"]).max() + 3 * abs(blocks["a_params/w"]).max() + len(blocks)

        blocks = {name: np.ones(shape) for name, shape in SHAPES.items()}
        found = seen(norms.custom("called", by_name), blocks, ())
        assert found["ratio"] == 4 + 7
        assert found["ratio_state"] == 1 + 4  # it sees the four arrays of y and a_y, and zeros for a_params
        assert found["share_a_params"] == (3 + 7) / 11

    def test_integrals_stay_hidden(self):
        def no_integrals(blocks):
            assert not any(name.endswith("logp") for name in blocks)
            return sum(abs(array).max() for array in blocks.values())

        norm = norms.resolve("mine-integrals", "native", {"mine-integrals": no_integrals})
        seen(norm, {name: np.ones(shape) for name, shape in SHAPES.items()})

    @pytest.mark.parametrize("library", ["torch", "jax"])
    def test_in_the_libraries(self, library, rng):
        from crossbackend import ops

        blocks = random_blocks(rng)
        for norm in (norms.NAMED["pooled"], norms.custom("called", lambda b: sum((a * a).sum() for a in b.values()))):
            meter = ratios.Meter(norm, SHAPES)
            with ops.precision(library, "float64"):
                converted = {name: ops.asarray(array, library) for name, array in blocks.items()}
                numbers = ops.to_numpy(meter.read(converted, ops.namespace(*converted.values())))
            np.testing.assert_allclose(numbers, meter.read(blocks, np), rtol=1e-12)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_step_that_went_wrong_is_kept_without_a_warning(bad):
    blocks = {name: np.ones(shape) for name, shape in SHAPES.items()} | {"y/z": np.full((2, 3), bad)}
    found = seen(norms.NAMED["mixed"], blocks, ())
    assert not found["ratio_state"] <= 1
    assert found["ratio_a_params"] == 1.0


def test_no_parameters_no_block():
    blocks = {"y": np.ones(2), "a_y": np.ones(2), "a_params/empty": np.zeros((0, 3))}
    assert "ratio_a_params" not in seen(norms.NAMED["mixed"], blocks, ())


class TestSteps:
    def steps(self, *rows, accepted):
        names = ("ratio", "ratio_state", "share_y", "share_a_y", "share_a_params")
        kept = ratios.arrays([dict(zip(names, row, strict=True)) for row in rows])
        t = np.arange(len(rows), dtype=float)
        return Steps(t, t + 1, np.array(accepted), 6, kept)

    def test_spurious_and_masked(self):
        steps = self.steps(
            (2.0, 1.0, 0.5, 0.1, 1.0), (2.0, 1.5, 1.0, 0.2, 0.1), (0.5, 0.5, 1.0, 0.0, 0.0), (0.9, 1.1, 0.1, 1.0, 0.0),
            (math.nan, math.nan, 0.0, 0.0, 0.0),
            accepted=[False, False, True, True, False],
        )  # fmt: skip
        assert steps.spurious.tolist() == [True, False, False, False, False]
        assert steps.masked.tolist() == [False, False, False, True, False]
        assert steps.decided.tolist() == [2, 0, 0, 1, -1]

    def test_nothing_recorded(self):
        steps = Steps(np.zeros(2), np.ones(2), np.array([True, False]), 6)
        assert steps.spurious is None
        assert steps.masked is None
        assert steps.decided.tolist() == [-1, -1]
        assert ratios.arrays([]) == {}
        assert ratios.arrays([{}, {}]) == {}
