"""CIFAR-10 from its "python version": six pickles, read without running anything that they say."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from crossbackend.datasets.folder import Archive
from crossbackend.datasets.split import Part, Split
from crossbackend.errors import Mistake

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_PIXELS = 3 * 32 * 32
_BATCH = 10_000

_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}

_ARCHIVE = Archive(
    name="CIFAR-10",
    contents="the extracted cifar-10-batches-py",
    fix="Extract cifar-10-python.tar.gz there: data_batch_1 to data_batch_5 and test_batch.",
    inside=("cifar-10-batches-py",),
    packed="cifar-10-python.tar.gz",
)


def cifar10(folder: str | os.PathLike[str], checked: bool = True) -> Split[np.ndarray]:
    """Return CIFAR-10: 50 000 training and 10 000 test images of ten kinds of things.

    Parameters
    ----------
    folder : path
        `cifar-10-batches-py`, or the folder that it was extracted in.
    checked : bool, default True
        Whether the files must have the published checksums and 10 000 images each.

    Returns
    -------
    Split
        Images of shape (n, 3, 32, 32), channels red, green, blue, uint8 from 0 to 255, in the order of the files
        `data_batch_1` to `data_batch_5`; labels 0 to 9. No validation part.

    Raises
    ------
    UserError
        Every file that is missing, truncated, no CIFAR-10 batch, or has the wrong checksum. A pickle that asks for
        anything but arrays of bytes, lists, dicts and strings is refused and nothing of it is run.

    References
    ----------
    Krizhevsky, Learning multiple layers of features from tiny images (2009).
    """
    place = _ARCHIVE.folder(folder)
    paths = _ARCHIVE.find(place, {name: (name,) for name in _MD5})
    mistakes: list[Mistake] = []
    batches = [_batch(path, _MD5[name] if checked else "", mistakes) for name, path in paths.items()]
    _ARCHIVE.raise_all(mistakes)
    parts = []
    for chosen in (batches[:5], batches[5:]):
        images, labels = zip(*chosen, strict=True)
        parts.append(Part(np.concatenate(images), np.concatenate(labels)))
    return Split(parts[0], parts[1], None, CLASSES)


def _batch(path: Path, md5: str, mistakes: list[Mistake]) -> tuple[np.ndarray, np.ndarray]:
    """Return the images and labels of one file; empty ones, and the mistake noted, where it is no batch."""
    nothing = np.empty((0, 3, 32, 32), np.uint8), np.empty(0, np.int64)
    try:
        content = path.read_bytes()
        seen = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if md5 and seen != md5:
            got = f"a truncated file or one of wrong checksum (MD5 {seen} instead of {md5})"
            mistakes.append(_ARCHIVE.broken(path, got, "the published file"))
            return nothing
        images, labels = _fields(_Unpickler(io.BytesIO(content), encoding="bytes").load())
    except _Foreign as error:
        mistakes.append(_ARCHIVE.broken(path, str(error), "a batch of CIFAR-10"))
        return nothing
    except Exception as error:  # a broken pickle may raise almost anything
        got = f"a truncated file or no pickle at all ({type(error).__name__}: {error})"
        mistakes.append(_ARCHIVE.broken(path, got, "a batch of CIFAR-10"))
        return nothing
    if md5 and len(labels) != _BATCH:
        mistakes.append(_ARCHIVE.broken(path, f"{len(labels)} images", f"{_BATCH} images"))
    return images, labels


def _fields(batch: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels of what a file held.

    Raises
    ------
    _Foreign
        It is no batch.
    """
    if not isinstance(batch, dict):
        raise _Foreign(f"a pickled {type(batch).__name__}")
    found = {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    if not {"data", "labels"} <= set(found):
        raise _Foreign("a pickle without data and labels")
    images, labels = found["data"], found["labels"]
    images = images.array() if isinstance(images, _Array) else None
    if images is None or images.ndim != 2 or images.shape[1] != _PIXELS:
        raise _Foreign(f"data that are no bytes of shape (n, {_PIXELS})")
    if not isinstance(labels, list) or any(type(label) is not int or not 0 <= label <= 9 for label in labels):
        raise _Foreign("labels that are no list of whole numbers from 0 to 9")
    if len(labels) != len(images):
        raise _Foreign(f"{len(labels)} labels for {len(images)} images")
    return images.reshape(-1, 3, 32, 32), np.array(labels, dtype=np.int64)


class _Foreign(Exception):
    """A file that is no batch of CIFAR-10; the text says what it is."""


class _Array:
    """Stands for an array while a pickle is read: keeps the state that NumPy's own would have taken over unchecked."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray | None:
        """Return the array of bytes, None where the state is another's."""
        match self.state:
            case (_, tuple() as shape, _Dtype(name=b"u1" | "u1"), by_columns, bytes() as content):
                return np.frombuffer(content, np.uint8).reshape(shape, order="F" if by_columns else "C").copy(order="C")
        return None


class _Dtype:
    """Stands for a dtype while a pickle is read. Bytes have no byte order, so that its state does not matter."""

    def __init__(self, name: Any = None, *_: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    """Builds numbers, strings, lists, dicts and the two stand-ins above, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {("numpy", "ndarray"): _Array, ("numpy", "dtype"): _Dtype}
        for core in ("numpy.core.multiarray", "numpy._core.multiarray"):
            allowed[core, "_reconstruct"] = _Array
        if (module, name) not in allowed:
            raise _Foreign(f"a pickle that asks for {module}.{name}, which was not run")
        return allowed[module, name]
