"""MNIST from its four IDX files, compressed or not."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import zlib
from pathlib import Path

import numpy as np

from crossbackend.datasets.folder import Archive
from crossbackend.datasets.split import Part, Split
from crossbackend.errors import Mistake

_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""Of the contents, not of the .gz: a file that was compressed anew is as good."""

_ARCHIVE = Archive(
    name="MNIST",
    contents="the four IDX files",
    fix=f"Put {', '.join(f'{name}.gz' for name in _MD5)} there (extracted or not).",
    inside=("MNIST/raw", "raw"),
)


def mnist(folder: str | os.PathLike[str], checked: bool = True) -> Split[np.ndarray]:
    """Return MNIST: 60 000 training and 10 000 test images of handwritten digits.

    Parameters
    ----------
    folder : path
        Holds the four IDX files, each plain or as .gz.
    checked : bool, default True
        Whether the contents must have the checksums of the published files. Without, files of any size are read.

    Returns
    -------
    Split
        Images of shape (n, 1, 28, 28), uint8 from 0 to 255, and labels 0 to 9. No validation part.

    Raises
    ------
    UserError
        Every file that is missing, truncated, no IDX file, or has the wrong checksum.

    References
    ----------
    LeCun, Cortes, Burges, The MNIST database of handwritten digits (1998).
    """
    place = _ARCHIVE.folder(folder)
    names = {}
    for name in _MD5:
        dotted = name.replace("-idx", ".idx")  # as some copies name them
        names[name] = (f"{name}.gz", name, f"{dotted}.gz", dotted)
    paths = _ARCHIVE.find(place, names)
    mistakes: list[Mistake] = []
    found = {name: _array(path, 3 if "images" in name else 1, _MD5[name] if checked else "", mistakes)
             for name, path in paths.items()}  # fmt: skip
    _ARCHIVE.raise_all(mistakes)
    for images, labels in (list(_MD5)[:2], list(_MD5)[2:]):
        mistakes += _unfit(paths[labels], found[images], found[labels])
    _ARCHIVE.raise_all(mistakes)
    train, test = (
        Part(found[f"{stem}-images-idx3-ubyte"][:, None], found[f"{stem}-labels-idx1-ubyte"].astype(np.int64))
        for stem in ("train", "t10k")
    )
    return Split(train, test, None, tuple("0123456789"))


def _array(path: Path, axes: int, md5: str, mistakes: list[Mistake]) -> np.ndarray:
    """Return the array of unsigned bytes in an IDX file; an empty one, and the mistake noted, where there is none.

    The format: two zero bytes, the type (8: unsigned byte), the number of axes, each axis' length as 32 bits with the
    highest byte first, the values with the last axis running fastest.
    """
    expected = "the published file" if md5 else f"a whole IDX file of bytes with {axes} axes"
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        mistakes.append(_ARCHIVE.broken(path, f"a truncated or broken file ({error})", expected))
        return np.empty(0, np.uint8)
    got = ""
    start = 4 + 4 * axes
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist()) if len(content) >= start else ()
    if content[:4] != bytes((0, 0, 8, axes)):
        got = f"a file that starts with {content[:4].hex() or 'nothing'} instead of {bytes((0, 0, 8, axes)).hex()}"
    elif not shape or len(content) - start != math.prod(shape):
        size = "×".join(map(str, shape)) or "no sizes at all"
        got = f"a truncated or foreign file: {len(content)} bytes, its header says {size}"
    elif md5 and (seen := hashlib.md5(content, usedforsecurity=False).hexdigest()) != md5:
        got = f"a file of wrong checksum (MD5 {seen} instead of {md5})"
    if got:
        mistakes.append(_ARCHIVE.broken(path, got, expected))
        return np.empty(0, np.uint8)
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def _unfit(path: Path, images: np.ndarray, labels: np.ndarray) -> list[Mistake]:
    """Return what keeps labels from being those of the images."""
    if len(images) != len(labels):
        return [_ARCHIVE.broken(path, f"{len(labels)} labels for {len(images)} images", "one label an image")]
    if labels.size and labels.max() > 9:
        return [_ARCHIVE.broken(path, f"the label {labels.max()}", "labels from 0 to 9")]
    return []
