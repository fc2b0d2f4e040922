"""CIFAR-10: what tiny batches hold comes back, and no pickle runs anything."""

import hashlib
import os
import pickle
import re

import numpy as np
import pytest

from crossbackend import UserError
from crossbackend.datasets import cifar, cifar10
from tests.datasets.formats import BATCHES, pickled_array, python2_batch, write_cifar


def test_what_was_written_comes_back_in_order(tmp_path, rng):
    written = write_cifar(tmp_path / "cifar-10-batches-py", rng)
    for folder in (tmp_path, tmp_path / "cifar-10-batches-py"):
        found = cifar10(folder, checked=False)
        images = np.concatenate([written[name][0] for name in BATCHES[:5]])
        np.testing.assert_array_equal(found.train.inputs.reshape(15, -1), images)
        np.testing.assert_array_equal(found.train.labels, np.concatenate([written[name][1] for name in BATCHES[:5]]))
        np.testing.assert_array_equal(found.test.inputs.reshape(3, -1), written["test_batch"][0])
        assert found.train.inputs.shape == (15, 3, 32, 32)
        assert found.train.inputs.dtype == np.uint8
        assert found.train.labels.dtype == np.int64


def test_channels_and_rows(tmp_path, rng):
    write_cifar(tmp_path, rng)
    image = np.zeros((1, 3072), np.uint8)
    image[0, 1024 + 2 * 32 + 5] = 7  # green, row 2, column 5
    (tmp_path / "test_batch").write_bytes(python2_batch(image, [4]))
    assert cifar10(tmp_path, checked=False).test.inputs[0, 1, 2, 5] == 7


def test_the_tiny_batches_are_pickles_of_arrays(rng):
    """The writer above is checked by NumPy itself."""
    images = rng.integers(0, 256, (2, 3072)).astype(np.uint8)
    loaded = pickle.loads(python2_batch(images, [3, 9]), encoding="bytes")
    np.testing.assert_array_equal(loaded[b"data"], images)
    assert loaded[b"labels"] == [3, 9]


@pytest.mark.parametrize("order", ["C", "F"])
def test_batches_pickled_anew_by_python_3(tmp_path, rng, order):
    write_cifar(tmp_path, rng)
    images = np.array(rng.integers(0, 256, (2, 3072)), dtype=np.uint8, order=order)
    (tmp_path / "test_batch").write_bytes(pickle.dumps({"data": images, "labels": [3, 9]}, protocol=4))
    np.testing.assert_array_equal(cifar10(tmp_path, checked=False).test.inputs.reshape(2, -1), images)


class Trap:
    """Unpickled, it would make a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("checked", [True, False])
def test_malicious_pickle_runs_nothing(tmp_path, rng, checked, monkeypatch):
    write_cifar(tmp_path, rng)
    made = tmp_path / "made"
    content = pickle.dumps({"data": Trap(str(made)), "labels": []})
    (tmp_path / "data_batch_2").write_bytes(content)
    monkeypatch.setattr(
        cifar, "_MD5", {name: hashlib.md5((tmp_path / name).read_bytes()).hexdigest() for name in BATCHES}
    )
    with pytest.raises(UserError, match=r"data_batch_2: got a pickle that asks for \w+\.mkdir, which was not run"):
        cifar10(tmp_path, checked=checked)
    assert not made.exists()
    pickle.loads(content)
    assert made.exists()  # the trap was a trap


@pytest.mark.parametrize(
    "asked",
    [b"cbuiltins\neval\n", b"cnumpy\nload\n", b"cnumpy\nndarray.tofile\n", b"c_codecs\nencode\n",
     b"\x8c\x05numpy\x8c\x04load\x93"],
    ids=["eval", "numpy.load", "dotted", "encode", "stacked"],
)  # fmt: skip
def test_other_names_are_refused(tmp_path, rng, asked):
    write_cifar(tmp_path, rng)
    (tmp_path / "test_batch").write_bytes(b"\x80\x04" + asked + b".")
    with pytest.raises(UserError, match=r"asks for [\w.]+, which was not run, expected a batch of CIFAR-10"):
        cifar10(tmp_path, checked=False)


def _batch(data, labels=(1,)):
    return b"\x80\x02}(U\x04data" + data + b"U\x06labels](" + b"".join(b"K" + bytes([one]) for one in labels) + b"eu."


IMAGE = np.zeros((1, 3072), np.uint8)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (python2_batch(IMAGE, [1])[:-40], "a truncated file or no pickle at all"),
        (b"", r"a truncated file or no pickle at all \(EOFError"),
        (b"<!DOCTYPE html>", "a truncated file or no pickle at all"),
        (b"\x80\x02].", "a pickled list"),
        (b"\x80\x02}.", "a pickle without data and labels"),
        (_batch(b"K\x01"), re.escape("data that are no bytes of shape (n, 3072)")),
        (_batch(pickled_array(IMAGE[:, :-1])), re.escape("data that are no bytes of shape (n, 3072)")),
        (_batch(pickled_array(IMAGE, b"O8")), re.escape("data that are no bytes of shape (n, 3072)")),
        (_batch(pickled_array(IMAGE), (1, 2)), "2 labels for 1 images"),
        (_batch(pickled_array(IMAGE), (10,)), "labels that are no list of whole numbers from 0 to 9"),
    ],
    ids=["cut", "empty", "page", "list", "bare", "number", "narrow", "objects", "labels", "label"],
)
def test_foreign_files(tmp_path, rng, content, words):
    write_cifar(tmp_path, rng)
    (tmp_path / "data_batch_3").write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        cifar10(tmp_path, checked=False)
    assert [mistake.where for mistake in caught.value.mistakes] == [str(tmp_path / "data_batch_3")]
    assert "Replace the file by that of a fresh copy of CIFAR-10." in str(caught.value)


def test_checksums_and_sizes(tmp_path, rng, monkeypatch):
    write_cifar(tmp_path, rng)
    with pytest.raises(UserError, match="data_batch_1: got a truncated file or one of wrong checksum") as caught:
        cifar10(tmp_path)
    assert len(caught.value.mistakes) == 6
    monkeypatch.setattr(
        cifar, "_MD5", {name: hashlib.md5((tmp_path / name).read_bytes()).hexdigest() for name in BATCHES}
    )
    with pytest.raises(UserError, match="test_batch: got 3 images, expected 10000 images"):
        cifar10(tmp_path)
    monkeypatch.setattr(cifar, "_BATCH", 3)
    assert len(cifar10(tmp_path).train) == 15


def test_missing_batches_are_named_at_once(tmp_path, rng):
    write_cifar(tmp_path, rng)
    (tmp_path / "data_batch_4").unlink()
    (tmp_path / "test_batch").unlink()
    with pytest.raises(UserError, match="without data_batch_4, test_batch, expected the extracted cifar-10-batches-py"):
        cifar10(tmp_path)


def test_archive_not_extracted(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"Extract cifar-10-python\.tar\.gz in that folder\."):
        cifar10(tmp_path)
