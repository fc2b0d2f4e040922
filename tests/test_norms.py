"""Norms: one evaluation over blocks, one over a flat vector, and a ten-line oracle."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossbackend import norms, snapping

SHAPES = {
    "y/z": (2, 3),
    "y/logp": (2,),
    "a_y/z": (2, 3),
    "a_y/logp": (2,),
    "a_params/w": (4, 2),
    "a_params/b": (3,),
    "a_t": (),
}
CUSTOM = norms.custom("mine", {"y": 1, "a_y": 2.0, "a_params": 0.1, "a_params/b": 0.0})
POOLED = norms.custom("mine-pooled", {"y": 1, "a_y": 2.0, "a_params": 0.1, "across": "pooled"})
EVERY = [*norms.NAMED.values(), CUSTOM, POOLED, norms.resolve("mixed-integrals", "native"),
         norms.resolve("pooled-seminorm-integrals", "native")]  # fmt: skip


def oracle(norm, blocks, integrals=()):
    """The definition, written once more: RMS within, max or pooled across, over the whole state for y and a_y."""
    seen = {}
    for name, array in blocks.items():
        group, _, entry = name.partition("/")
        weight = norm.weights.get(name, norm.weights.get(group, 0.0))
        if weight and not (norm.without_integrals and group in ("y", "a_y") and entry in integrals):
            seen.setdefault((group if group in ("y", "a_y") else name, weight), []).extend(np.ravel(array))
    if norm.across == "pooled":
        parts = np.concatenate([weight * np.array(values) for (_, weight), values in seen.items()])
        count = sum(len(values) for values in seen.values())
        return math.sqrt(np.sum(parts**2) / count)
    return max(weight * math.sqrt(np.mean(np.square(values))) for (_, weight), values in seen.items())


def random_blocks(rng, shapes=SHAPES):
    return {name: 10.0 ** rng.uniform(-6, 6) * rng.standard_normal(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("norm", EVERY, ids=lambda norm: norm.name)
@given(seed=st.integers(0, 2**32 - 1))
def test_both_evaluations_equal_the_oracle(norm, seed):
    blocks = random_blocks(np.random.default_rng(seed))
    expected = oracle(norm, blocks, ("logp",))
    assert float(norms.evaluate(norm, blocks, np, ("logp",))) == pytest.approx(expected, rel=1e-13)
    vector = np.concatenate([np.ravel(array) for array in blocks.values()])
    assert norms.flat(norm, SHAPES, integrals=("logp",))(vector) == pytest.approx(expected, rel=1e-13)


def test_a_callable_sees_the_named_blocks():
    def mine(blocks):
        assert set(blocks) == set(SHAPES) - {"y/logp", "a_y/logp"}
        return abs(blocks["a_params/b"]).max() + abs(blocks["a_t"])

    norm = norms.resolve("mine-integrals", "native", {"mine-integrals": mine})
    blocks = random_blocks(np.random.default_rng(0))
    expected = np.abs(blocks["a_params/b"]).max() + abs(blocks["a_t"])
    assert float(norms.evaluate(norm, blocks, np, ("logp",))) == expected
    vector = np.concatenate([np.ravel(array) for array in blocks.values()])
    assert norms.flat(norm, SHAPES, integrals=("logp",))(vector) == expected


@pytest.mark.parametrize("norm", [norms.NAMED["mixed"], norms.NAMED["pooled"]], ids=lambda norm: norm.name)
@pytest.mark.parametrize("block", ["y/z", "a_y/logp", "a_params/w"])
def test_nan_in_any_block_seen_is_nan(norm, block):
    blocks = {name: np.ones(shape) for name, shape in SHAPES.items()}
    blocks[block] = np.full(SHAPES[block], np.nan)
    assert math.isnan(float(norms.evaluate(norm, blocks, np)))
    assert math.isnan(norms.flat(norm, SHAPES)(np.concatenate([np.ravel(a) for a in blocks.values()])))


def test_a_seminorm_does_not_see_the_parameters():
    blocks = {name: np.ones(shape) for name, shape in SHAPES.items()}
    blocks["a_params/w"] = np.full((4, 2), 1e9)
    assert float(norms.evaluate(norms.NAMED["mixed-seminorm"], blocks, np)) == 1.0
    assert float(norms.evaluate(norms.NAMED["pooled-seminorm"], blocks, np)) == 1.0
    assert float(norms.evaluate(norms.NAMED["mixed"], blocks, np)) == 1e9


def test_only_norms_with_t_see_time():
    assert {name for name, norm in norms.NAMED.items() if norm.sees_time} == {"mixed-t", "mixed-seminorm-t"}


@given(st.floats(snapping.SNAP_SMALL, 1e300))
def test_snap_moves_a_ratio_by_a_sixteenth_at_most_and_never_to_one(ratio):
    snapped = snapping.snap_float(ratio)
    assert abs(snapped - ratio) <= ratio / 16
    assert abs((snapped / ratio) ** -0.2 - 1) < 0.013  # what it does to the next step
    assert snapped != 1.0
    assert (snapped < 1) == (ratio < 1)
    assert float(snapping.snap(np.float64(ratio), np)) == snapped


@given(st.floats(0.5, 1.0, exclude_max=True), st.floats(-1e-13, 1e-13))
def test_snap_hides_rounding_almost_everywhere(ratio, noise):
    middle = snapping.snap_float(ratio)  # the middle of a bin: noise cannot leave it
    assert snapping.snap_float(middle * (1 + noise)) == middle


@given(st.floats(0, snapping.SNAP_SMALL, exclude_max=True))
def test_small_ratios_are_one_ratio(ratio):
    assert snapping.snap_float(ratio) == snapping.SNAP_TO == float(snapping.snap(np.float64(ratio), np))
    assert 9 < 0.9 * snapping.SNAP_TO**-0.2 < 10
    assert snapping.SNAP_TO < 1e-5  # Hairer's first step takes it for zero


@pytest.mark.parametrize("special", [math.inf, math.nan])
def test_snap_leaves_infinity_and_nan(special):
    np.testing.assert_equal(snapping.snap_float(special), special)
    np.testing.assert_equal(float(snapping.snap(np.float64(special), np)), special)


def test_names_resolve():
    assert norms.resolve("default", "native") is None
    assert norms.resolve("seminorm", "native") is None
    assert norms.resolve("default", "matched").name == "mixed"
    assert norms.resolve("seminorm", "matched").name == "mixed-seminorm"
    assert norms.resolve("pooled", "native") is norms.NAMED["pooled"]
    with pytest.raises(KeyError, match="nonsense"):
        norms.resolve("nonsense", "native")


def test_a_forward_norm_is_rms_y():
    blocks = {"y": np.array([3.0, 4.0])}
    for norm in EVERY:
        assert float(norms.evaluate(norm.forward(), blocks, np)) == pytest.approx(math.sqrt(12.5))


def test_formulas_read_as_in_the_documentation():
    described = {name: norm.describe() for name, norm in norms.NAMED.items()}
    assert described["mixed"] == "max(rms y, rms a_y, rms of each a_params)"
    assert described["mixed-seminorm"] == "max(rms y, rms a_y)"
    assert described["mixed-seminorm-t"] == "max(rms y, rms a_y, |a_t|)"
    assert described["pooled"] == "rms(y, a_y, a_params)"
    assert CUSTOM.describe() == "max(rms y, 2 rms a_y, 0.1 rms of each a_params)"
    assert norms.resolve("mixed-seminorm-integrals", "native").describe() == "max(rms y, rms a_y) without integrals"
