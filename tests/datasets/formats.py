"""Tiny files in the true formats, written from the formats' own definitions."""

import gzip
import struct
import wave

import numpy as np

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


def idx(array):
    """The bytes of an IDX file of unsigned bytes."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder, rng, packed, sizes=(12, 5)):
    """Write the four files and return their arrays by name."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for name in IDX:
        n = sizes[name.startswith("t10k")]
        shape, top = ((n, 28, 28), 256) if "images" in name else ((n,), 10)
        arrays[name] = rng.integers(0, top, shape).astype(np.uint8)
        content = idx(arrays[name])
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    return arrays


def _text(content):
    """A Python 2 string: SHORT_BINSTRING up to 255 bytes, BINSTRING beyond."""
    return (
        b"U" + bytes([len(content)]) + content
        if len(content) < 256
        else b"T" + struct.pack("<i", len(content)) + content
    )


def _number(value):
    return b"J" + struct.pack("<i", value)


def pickled_array(array, kind=b"u1"):
    """The opcodes by which Python 2 and its NumPy pickled an array of bytes (protocol 2)."""
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + _number(0) + b"\x85" + _text(b"b") + b"\x87R"
    dtype = b"cnumpy\ndtype\n" + _text(kind) + _number(0) + _number(1) + b"\x87R"
    dtype += b"(" + _number(3) + _text(b"|") + b"NNN" + _number(-1) + _number(-1) + _number(0) + b"tb"
    order = b"\x88" if array.flags.f_contiguous and not array.flags.c_contiguous else b"\x89"
    shape = b"(" + b"".join(map(_number, array.shape)) + b"t"
    return made + b"(" + _number(1) + shape + dtype + order + _text(array.tobytes(order="A")) + b"tb"


def python2_batch(images, labels):
    """A CIFAR-10 batch as Python 2's cPickle wrote it."""
    listed = b"](" + b"".join(map(_number, labels)) + b"e"
    fields = _text(b"batch_label") + _text(b"tiny") + _text(b"labels") + listed + _text(b"data") + pickled_array(images)
    return b"\x80\x02}(" + fields + b"u."


def write_cifar(folder, rng, n=3):
    """Write the six batches and return (images, labels) by name."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in BATCHES:
        found[name] = rng.integers(0, 256, (n, 3072)).astype(np.uint8), rng.integers(0, 10, n).tolist()
        (folder / name).write_bytes(python2_batch(*found[name]))
    return found


def write_wav(path, samples, rate=16_000, width=2, channels=1):
    """Write PCM sound; `samples` of 16-bit integers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(np.asarray(samples, dtype="<i2").tobytes())
