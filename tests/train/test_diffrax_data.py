"""Data as integers and back: no bit is lost, and no leaf is one that diffrax differentiates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from crossbackend import ops, tree

pytest.importorskip("jax")

KINDS = [np.float64, np.float32, np.int64, np.int32, np.uint32, np.int8, np.bool_]
SHAPES = array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=2)


def leaf():
    return st.sampled_from(KINDS).flatmap(lambda kind: arrays(kind, SHAPES))


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from("abc"), st.one_of(leaf(), st.lists(leaf(), max_size=3))))
def test_round_trip_to_the_last_bit(data):
    from jax import numpy as jnp

    from crossbackend.backends.diffrax_data import as_integers

    with ops.precision("jax", "float64"):
        put = tree.map_leaves(jnp.asarray, data)
        integers, back = as_integers(put)
        assert not any(jnp.issubdtype(one.dtype, jnp.inexact) for one in integers)
        found = back(integers)
        assert tree.structure(found) == tree.structure(put)
        for one, other in zip(tree.values(found), tree.values(data), strict=True):
            assert one.dtype == other.dtype
            assert np.asarray(one).tobytes() == other.tobytes()


def test_in_a_traced_program():
    import jax

    from crossbackend.backends.diffrax_data import as_integers

    data = {"a": np.array([0.1, np.nan, -0.0]), "b": [np.array(3), np.array([True, False])]}

    def there_and_back(data):
        integers, back = as_integers(data)
        return back(integers)

    with ops.precision("jax", "float64"):
        found = jax.jit(there_and_back)(data)
    for one, other in zip(tree.values(found), tree.values(data), strict=True):
        assert np.asarray(one).tobytes() == other.tobytes()
