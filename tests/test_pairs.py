"""Stored arrays come back as NumPy reads them, and bytes that are none are no arrays."""

import io
import zipfile

import numpy as np
import pytest

from crossbackend.pairs import npz_arrays, npz_bytes

ARRAYS = {
    "float": np.linspace(0.0, 1.0, 7), "scalar": np.array(2.5), "flags": np.array([True, False]),
    "empty": np.zeros((0, 3)), "numbers": np.arange(6, dtype=np.int32).reshape(2, 3), "single": np.ones(3, np.float32),
    "big": np.arange(3, dtype=">f8"), "words": np.array(["a", "bc"]),
}  # fmt: skip


def archived(**parts):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in parts.items():
            archive.writestr(f"{name}.npy", content)
    return out.getvalue()


def npy(array, **options):
    part = io.BytesIO()
    np.lib.format.write_array(part, array, **options)
    return part.getvalue()


def test_arrays_come_back_as_numpy_reads_them():
    content = npz_bytes(ARRAYS)
    found, known = npz_arrays(content), np.load(io.BytesIO(content))
    assert sorted(found) == sorted(ARRAYS)
    for name, array in found.items():
        assert (array.dtype, array.shape) == (known[name].dtype, known[name].shape)
        np.testing.assert_array_equal(array, known[name])
        array[...] = array  # it may be written to


def test_two_arrays_of_one_header_are_two():
    a, b = (npz_arrays(npz_bytes({"x": np.full(3, value)}))["x"] for value in (1.0, 2.0))
    a[0] = 5.0
    np.testing.assert_array_equal(b, [2.0, 2.0, 2.0])


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_other_versions_and_orders(version):
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    found = npz_arrays(archived(x=npy(array, version=version)))["x"]
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x00\xff\xff{}", npy(np.arange(3.0))[:-1],
        npy(np.arange(3.0)).replace(b"(3,)", b"(4,)"), npy(np.arange(3.0)).replace(b"'<f8'", b"'|O' "),
        npy(np.arange(3.0)).replace(b"(3,)", b"(-3)"), npy(np.array([{}]), allow_pickle=True),
    ],
)  # fmt: skip
def test_bytes_that_are_no_array(content):
    with pytest.raises(ValueError, match="no npz of plain arrays"):
        npz_arrays(archived(x=content))
