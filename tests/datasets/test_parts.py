"""Cutting samples into parts, and arrays that are kept in a file."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossbackend.datasets.cache import kept, key
from crossbackend.datasets.split import stratified


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.sampled_from([(0.8, 0.2), (0.7, 0.15, 0.15), (1.0,)]))
def test_stratified(labels, shares):
    labels = np.array(labels)
    parts = stratified(labels, shares, np.random.default_rng(0))
    assert len(parts) == len(shares)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    for part, share in zip(parts, shares, strict=True):
        for label in np.unique(labels):
            assert abs((labels[part] == label).sum() - share * (labels == label).sum()) <= 1


def test_stratified_by_seed():
    labels = np.repeat([0, 1], 40)
    again = [stratified(labels, (0.5, 0.5), np.random.default_rng(seed))[0].tolist() for seed in (0, 0, 1)]
    assert again[0] == again[1] != again[2]
    assert again[0] != list(range(0, 20)) + list(range(40, 60))


def test_key():
    assert key({"a": 1, "b": [2.5]}) == key({"b": [2.5], "a": 1})
    assert key({"a": 1}) != key({"a": 2})
    assert len(key({})) == 16


def test_kept_is_made_once(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"a": np.arange(3), "b": np.ones((2, 2), np.float32)}

    for _ in range(2):
        found = kept(tmp_path / "x.npz", make)
        np.testing.assert_array_equal(found["a"], np.arange(3))
        assert found["b"].dtype == np.float32
    assert made == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.parametrize(
    "spoil", [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: c.replace(b"\7" * 8, b"\6" * 8)]
)
def test_damaged_file_is_made_anew(tmp_path, spoil):
    path, array = tmp_path / "x.npz", np.full(100, 7, np.uint8)
    kept(path, lambda: {"a": array})
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    assert path.read_bytes() != whole
    np.testing.assert_array_equal(kept(path, lambda: {"a": array})["a"], array)
    assert path.read_bytes() == whole


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=np.array([{}], dtype=object))
    np.testing.assert_array_equal(kept(path, lambda: {"a": np.ones(1)})["a"], 1)
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        kept(tmp_path / "y.npz", lambda: {"a": np.array([{}], dtype=object)})
    assert not (tmp_path / "y.npz").exists()
    assert [one.name for one in tmp_path.iterdir()] == ["x.npz"]
