"""Data sets that come inside installed packages: JapaneseVowels in aeon, the 8x8 digits in scikit-learn."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from crossbackend.datasets.split import Part, Split, stratified
from crossbackend.errors import Mistake, UserError

_DIGITS_SHARES = (0.8, 0.2)


def japanese_vowels() -> Split[tuple[np.ndarray, ...]]:
    """Return the JapaneseVowels speech data, through aeon.

    Nine speakers say /ae/; who speaks is the class. Twelve cepstral (LPC) coefficients a frame, 7 to 29 frames.

    Returns
    -------
    Split
        `train` of 270 and `test` of 370 series, float64 arrays of shape (length, 12); labels 0 to 8.
        No validation part.

    Raises
    ------
    UserError
        aeon is not installed.

    References
    ----------
    Kudo, Toyama, Shimbo, Japanese Vowels, UCI Machine Learning Repository (1999), CC BY 4.0.
    """
    load = _module("japanese_vowels", "aeon", "aeon.datasets").load_japanese_vowels
    parts = []
    for name in ("train", "test"):
        series, speakers = load(split=name)
        inputs = tuple(np.ascontiguousarray(one.T, dtype=np.float64) for one in series)
        parts.append(Part(inputs, np.array([int(speaker) - 1 for speaker in speakers], dtype=np.int64)))
    return Split(parts[0], parts[1], None, tuple(f"speaker {number}" for number in range(1, 10)))


def digits(seed: int = 0) -> Split[np.ndarray]:
    """Return scikit-learn's 1 797 handwritten digits, cut by a seed.

    Parameters
    ----------
    seed : int, default 0
        Of the cut into 80 % training and 20 % test, each with the same share of every digit.

    Returns
    -------
    Split
        Images of shape (n, 1, 8, 8), uint8 from 0 to 16, and labels 0 to 9. No validation part.

    Raises
    ------
    UserError
        scikit-learn is not installed.

    References
    ----------
    Alpaydin, Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (1998), CC BY 4.0.
    """
    found = _module("digits", "scikit-learn", "sklearn.datasets").load_digits()
    images, labels = found.images[:, None].astype(np.uint8), found.target.astype(np.int64)
    train, test = stratified(labels, _DIGITS_SHARES, np.random.default_rng(seed))
    parts = (Part(images[chosen], labels[chosen]) for chosen in (train, test))
    return Split(next(parts), next(parts), None, tuple("0123456789"))


def _module(what: str, package: str, name: str) -> Any:
    """Import what holds a data set, or say which extra brings it."""
    try:
        return import_module(name)
    except ImportError as error:
        fix = "Run pip install 'crossbackend[paper]'."
        raise UserError(Mistake(what, f"no {package} ({error})", f"{package}, which holds the data", fix)) from error
