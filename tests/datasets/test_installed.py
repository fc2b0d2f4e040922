"""Data sets inside installed packages."""

import sys

import numpy as np
import pytest

from crossbackend import UserError
from crossbackend.datasets import digits, japanese_vowels


def test_japanese_vowels():
    pytest.importorskip("aeon")
    found = japanese_vowels()
    assert (len(found.train), len(found.test), found.validation) == (270, 370, None)
    np.testing.assert_array_equal(np.bincount(found.train.labels), np.full(9, 30))
    for part in (found.train, found.test):
        assert isinstance(part.inputs, tuple)
        assert {one.shape[1] for one in part.inputs} == {12}
        assert {one.dtype for one in part.inputs} == {np.dtype(float)}
        assert np.isfinite(np.concatenate(part.inputs)).all()
        assert set(part.labels.tolist()) == set(range(9))
        assert part.labels.dtype == np.int64
    lengths = [len(one) for one in (*found.train.inputs, *found.test.inputs)]
    assert (min(lengths), max(lengths)) == (7, 29)
    assert len(found.classes) == 9


def test_digits():
    pytest.importorskip("sklearn")
    found = digits()
    assert (len(found.train) + len(found.test), found.validation) == (1797, None)
    everything = np.concatenate([found.train.inputs, found.test.inputs])
    assert everything.shape == (1797, 1, 8, 8)
    assert everything.dtype == np.uint8
    assert (everything.min(), everything.max()) == (0, 16)
    train, test = (np.bincount(part.labels, minlength=10) for part in (found.train, found.test))
    assert (np.abs(train - 0.8 * (train + test)) <= 0.5).all()
    assert (train + test).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # the data set's own table


def test_digits_by_seed():
    pytest.importorskip("sklearn")
    np.testing.assert_array_equal(digits(1).test.inputs, digits(1).test.inputs)
    assert not np.array_equal(digits(1).test.labels, digits(2).test.labels)


@pytest.mark.parametrize(("load", "module", "package"), [(japanese_vowels, "aeon", "aeon"),
                                                         (digits, "sklearn", "scikit-learn")])  # fmt: skip
def test_missing_package(monkeypatch, load, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, f"{module}.datasets", None)
    with pytest.raises(UserError, match=rf"got no {package} \(.*Run pip install 'crossbackend\[paper\]'\."):
        load()
