"""What several slices of one array give backwards: joined where the parts tile it, padded and added where not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_jax import assert_same, run_both
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

ROWS, COLUMNS = 5, 12  # more elements than go to Python floats


def arguments(seed=0):
    rng = np.random.default_rng(seed)
    return {"x": rng.standard_normal((ROWS, COLUMNS)), "a": rng.standard_normal((ROWS, COLUMNS))}


def sum_of(cuts, axis=1, rest=False):
    """Return the gradient of a sum of functions of slices, each of its own."""

    def loss(x, a):
        parts = [lax.slice_in_dim(x, start, stop, axis=axis) for start, stop in cuts]
        weights = [lax.slice_in_dim(a, start, stop, axis=axis) for start, stop in cuts]
        value = sum(jnp.sum(jnp.sin((k + 1) * p) * w) for k, (p, w) in enumerate(zip(parts, weights, strict=True)))
        return value + (jnp.sum(x**3 * a) if rest else 0.0)

    return lambda x, a: jax.grad(loss)(x, a)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("rest", [False, True])
def test_parts_that_tile_the_whole_are_joined(axis, rest):
    cuts = [(0, 1), (1, 3), (3, 5)] if axis == 0 else [(0, 4), (4, 5), (5, 12)]
    program = assert_same(sum_of(cuts, axis, rest), arguments())
    assert "rt.pad" not in program.source
    assert "np.concatenate" in program.source


def test_the_order_of_the_parts_does_not_matter():
    program = assert_same(sum_of([(5, 12), (0, 4), (4, 5)]), arguments())
    assert "rt.pad" not in program.source


def test_a_part_that_comes_twice_is_added_up_first():
    program = assert_same(sum_of([(0, 4), (4, 12), (0, 4), (4, 12)]), arguments())
    assert "rt.pad" not in program.source


def test_a_part_that_comes_twice_beside_a_rest_is_added_in_the_order_asked_for():
    def ordered(x, a):
        low = lax.pad(x[:, :4], 0.0, ((0, 0, 0), (0, 8, 0)))
        again = lax.pad(0.1 * x[:, :4], 0.0, ((0, 0, 0), (0, 8, 0)))
        return ((a + low) + again) + lax.pad(x[:, 4:], 0.0, ((0, 0, 0), (4, 0, 0)))

    args = arguments()
    _, (found,), _ = run_both(ordered, args)
    x, a = args["x"], args["a"]
    np.testing.assert_array_equal(
        found, np.concatenate([(a[:, :4] + x[:, :4]) + 0.1 * x[:, :4], a[:, 4:] + x[:, 4:]], 1)
    )


@pytest.mark.parametrize("cuts", [[(0, 4), (5, 12)], [(0, 6), (4, 12)], [(2, 5)], [(0, 4), (4, 12), (0, 12), (3, 7)]])
def test_gaps_and_overlaps_are_padded_and_added(cuts):
    program = assert_same(sum_of(cuts), arguments())
    assert "rt.pad" in program.source


def test_paddings_of_two_axes_are_left_alone():
    def both(x, a):
        return jax.grad(lambda x: jnp.sum(jnp.sin(x[:2, :3]) * 2) + jnp.sum(jnp.cos(x[2:, 3:])))(x) * a

    assert "rt.pad" in assert_same(both, arguments()).source


def test_what_is_padded_with_is_not_forgotten():
    def ones(x, a):
        one = lax.pad(x[:, :4], 1.0, ((0, 0, 0), (0, 8, 0)))
        return one + lax.pad(x[:, 4:], 1.0, ((0, 0, 0), (4, 0, 0))) + a

    assert_same(ones, arguments())


def test_a_partial_sum_may_be_used_for_itself_too():
    def twice(x, a):
        low = lax.pad(x[:, :4], 0.0, ((0, 0, 0), (0, 8, 0)))
        middle = low + lax.pad(x[:, 4:6], 0.0, ((0, 0, 0), (4, 6, 0)))
        return middle + lax.pad(x[:, 6:], 0.0, ((0, 0, 0), (6, 0, 0))), middle * a

    assert_same(twice, arguments())


def test_a_padding_that_only_cuts_is_a_slice():
    program = assert_same(lambda x, a: lax.pad(x * a, 0.0, ((-1, 0, 0), (-2, -3, 0))), arguments())
    assert "rt.pad" not in program.source


def test_what_is_not_a_number_stays():
    args = arguments()
    args["x"][0, 0], args["x"][1, 5] = np.nan, np.inf
    assert_same(sum_of([(0, 4), (4, 12)]), args)


cuts = st.lists(
    st.tuples(st.integers(0, COLUMNS - 1), st.integers(1, COLUMNS)).filter(lambda cut: cut[0] < cut[1]), min_size=1,
    max_size=6,
)  # fmt: skip


@settings(max_examples=40)
@given(cuts, st.booleans(), st.integers(0, 9))
def test_any_slices(found, rest, seed):
    assert_same(sum_of(found, rest=rest), arguments(seed))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_arrays_are_stacked_by_joining(axis):
    program = assert_same(lambda x, a: jnp.stack([x, a, 2 * x], axis), arguments())
    assert "np.stack" not in program.source
