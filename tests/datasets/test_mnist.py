"""MNIST: what tiny IDX files hold comes back, and every broken file is named."""

import gzip
import hashlib

import numpy as np
import pytest

from crossbackend import UserError
from crossbackend.datasets import idx, mnist
from tests.datasets.formats import IDX, write_mnist
from tests.datasets.formats import idx as idx_bytes


@pytest.mark.parametrize("packed", [True, False], ids=["gz", "plain"])
@pytest.mark.parametrize("inside", ["", "MNIST/raw"])
def test_what_was_written_comes_back(tmp_path, rng, packed, inside):
    written = write_mnist(tmp_path / inside, rng, packed)
    found = mnist(tmp_path, checked=False)
    for part, stem in ((found.train, "train"), (found.test, "t10k")):
        np.testing.assert_array_equal(part.inputs[:, 0], written[f"{stem}-images-idx3-ubyte"])
        np.testing.assert_array_equal(part.labels, written[f"{stem}-labels-idx1-ubyte"])
        assert part.inputs.dtype == np.uint8
        assert part.labels.dtype == np.int64
    assert found.train.inputs.shape == (12, 1, 28, 28)
    assert found.validation is None
    assert found.classes[3] == "3"


def test_other_names_of_the_files(tmp_path, rng):
    write_mnist(tmp_path, rng, packed=False)
    for name in IDX:
        (tmp_path / name).rename(tmp_path / name.replace("-idx", ".idx"))
    assert len(mnist(tmp_path, checked=False).test) == 5


def test_checksums_are_of_the_contents(tmp_path, rng, monkeypatch):
    write_mnist(tmp_path, rng, packed=True)
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz: got a file of wrong checksum") as caught:
        mnist(tmp_path)
    assert len(caught.value.mistakes) == 4
    assert "Replace the file by that of a fresh copy of MNIST." in str(caught.value)
    md5 = {name: hashlib.md5(gzip.decompress((tmp_path / f"{name}.gz").read_bytes())).hexdigest() for name in IDX}
    monkeypatch.setattr(idx, "_MD5", md5)
    assert len(mnist(tmp_path).train) == 12


@pytest.mark.parametrize("cut", [9, -1, 0])
def test_truncated_gz(tmp_path, rng, cut):
    write_mnist(tmp_path, rng, packed=True)
    path = tmp_path / f"{IDX[0]}.gz"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz: got a (truncated|file that starts)"):
        mnist(tmp_path, checked=False)


def test_flipped_byte_in_gz(tmp_path, rng):
    write_mnist(tmp_path, rng, packed=True)
    path = tmp_path / f"{IDX[0]}.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(UserError, match="truncated or broken file"):
        mnist(tmp_path, checked=False)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda whole: whole[:-1], r"a truncated or foreign file: 9423 bytes, its header says 12×28×28"),
        (lambda whole: whole + b"\0", r"a truncated or foreign file: 9425 bytes"),
        (lambda whole: whole[:6], "its header says no sizes at all"),
        (lambda whole: b"<!DO" + whole[4:], "a file that starts with 3c21444f instead of 00000803"),
        (lambda _: b"", "a file that starts with nothing instead of 00000803"),
    ],
    ids=["short", "long", "header", "page", "empty"],
)
def test_broken_idx(tmp_path, rng, broken, words):
    write_mnist(tmp_path, rng, packed=False)
    path = tmp_path / IDX[0]
    path.write_bytes(broken(path.read_bytes()))
    with pytest.raises(UserError, match=words):
        mnist(tmp_path, checked=False)


def test_every_broken_file_is_named(tmp_path, rng):
    write_mnist(tmp_path, rng, packed=False)
    for name in IDX:
        (tmp_path / name).write_bytes(b"\0")
    with pytest.raises(UserError, match="t10k-labels") as caught:
        mnist(tmp_path)
    assert [mistake.where for mistake in caught.value.mistakes] == [str(tmp_path / name) for name in IDX]


def test_labels_must_fit(tmp_path, rng):
    write_mnist(tmp_path, rng, packed=False)
    (tmp_path / IDX[1]).write_bytes(idx_bytes(np.zeros(11, np.uint8)))
    (tmp_path / IDX[3]).write_bytes(idx_bytes(np.full(5, 10, np.uint8)))
    with pytest.raises(UserError, match="11 labels for 12 images") as caught:
        mnist(tmp_path, checked=False)
    assert "t10k-labels-idx1-ubyte: got the label 10, expected labels from 0 to 9" in str(caught.value)


def test_missing_files_are_named_at_once(tmp_path, rng):
    write_mnist(tmp_path, rng, packed=True)
    (tmp_path / f"{IDX[1]}.gz").unlink()
    (tmp_path / f"{IDX[2]}.gz").unlink()
    words = r"MNIST folder: got .* without train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, expected the four"
    with pytest.raises(UserError, match=words):
        mnist(tmp_path)


@pytest.mark.parametrize(
    ("where", "words"),
    [("none", "none, which does not exist"), ("a.txt", r"a\.txt, a file"), ("bare", "bare, which is empty")],
)
def test_no_folder(tmp_path, where, words):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match=words) as caught:
        mnist(tmp_path / where)
    assert "Put train-images-idx3-ubyte.gz, " in str(caught.value)


def test_empty_name():
    with pytest.raises(UserError, match="MNIST folder: got no folder"):
        mnist("")
