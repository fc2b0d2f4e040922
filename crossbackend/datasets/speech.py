"""Speech Commands from its extracted archive: WAV files to mel-frequency cepstral coefficients."""

from __future__ import annotations

import os
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crossbackend.datasets import cache as stored
from crossbackend.datasets import mfcc as cepstral
from crossbackend.datasets.folder import Archive, writable
from crossbackend.datasets.split import Part, Split, stratified
from crossbackend.errors import Mistake, UserError

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
CLIPS = 34_975
"""Clips of exactly one second among the ten words of version 0.02; the paper's number."""
SHARES = (0.7, 0.15, 0.15)
_SAMPLES = 16_000
_TOGETHER = 256
"""Clips transformed at a time: some 100 MB."""

_ARCHIVE = Archive(
    name="Speech Commands",
    contents="the extracted speech_commands_v0.02 archive, with a folder per word",
    fix="Extract speech_commands_v0.02.tar.gz there.",
    inside=("speech_commands_v0.02", "SpeechCommands/speech_commands_v0.02"),
    packed="speech_commands_v0.02.tar.gz",
)


def speech_commands(
    folder: str | os.PathLike[str],
    cache: str | os.PathLike[str] | None = None,
    seed: int = 0,
    allow_partial: bool = False,
) -> Split[np.ndarray]:
    """Return the ten words of Speech Commands v0.02 that the paper takes, as mel-frequency cepstral coefficients.

    Clips shorter than a second, which the archive holds too, are left out, as in the paper.

    Parameters
    ----------
    folder : path
        The extracted archive, with a folder of WAV files per word.
    cache : path, optional
        Folder for the coefficients (450 MB), which are computed once. By default the archive's own.
    seed : int, default 0
        Of the cut into 70 % training, 15 % validation and 15 % test, each with the same share of every word.
    allow_partial : bool, default False
        Whether to take what is there where it is not all 34 975 clips.

    Returns
    -------
    Split
        Coefficients of shape (n, 161, 20), float32: a frame every 1/160 s. Each coefficient has mean 0 and standard
        deviation 1 over clips and frames of the training part. Labels 0 to 9.

    Raises
    ------
    UserError
        No such folder, every word whose folder is missing, every WAV file that is truncated or not 16-bit mono at
        16 000 samples a second, too few clips, or a cache that cannot be written.

    References
    ----------
    Warden, Speech Commands (2018), arXiv 1804.03209, CC BY 4.0; Kidger, Chen, Lyons (2021), section 3.1.
    """
    place = _ARCHIVE.folder(folder)
    _ARCHIVE.find(place, {word: (word,) for word in WORDS})
    clips = [path for word in WORDS for path in sorted((place / word).glob("*.wav")) if not path.name.startswith(".")]
    least = 1 if allow_partial else CLIPS
    _enough(place, len(clips), least)
    keep = writable("cache", cache or place, "Name another folder by cache=.")
    file = keep / f"speech_commands-{_key(place, clips)}.npz"

    def compute() -> dict[str, np.ndarray]:
        features, labels = _features(clips)
        _enough(place, len(labels), least)  # before they are kept
        return {"features": features, "labels": labels}

    found = stored.kept(file, compute)
    labels = found["labels"]
    _enough(place, len(labels), least)
    train, validation, test = (
        Part(found["features"][chosen], labels[chosen])
        for chosen in stratified(labels, SHARES, np.random.default_rng(seed))
    )
    _standardise(train, validation, test)
    return Split(train, test, validation, WORDS)


def _enough(place: Path, clips: int, least: int) -> None:
    if clips < least:
        got = f"{clips} clips of one second in {place}"
        expected = f"{least} of the words {', '.join(WORDS)}" if least > 1 else "some WAV files of one second"
        fix = "The archive is only partly there, or another version: extract speech_commands_v0.02.tar.gz anew."
        raise UserError(Mistake(f"{_ARCHIVE.name} folder", got, expected, fix))


def _key(place: Path, clips: Sequence[Path]) -> str:
    """Return the key of the coefficients: of the files' names and sizes, and of how they are computed."""
    files = [(path.relative_to(place).as_posix(), path.stat().st_size) for path in clips]
    settings = (cepstral.COEFFICIENTS, cepstral.WINDOW, cepstral.MELS, cepstral.RATE, cepstral.FLOOR)
    return stored.key({"format": 1, "files": files, "mfcc": settings})


def _features(clips: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients, float32, shape (n, frames, coefficients), and labels of the clips of one second.

    Raises
    ------
    UserError
        With every file that cannot be used.
    """
    mistakes: list[Mistake] = []
    waiting: list[np.ndarray] = []
    labels, features = [], []
    for path in clips:
        samples = _samples(path, mistakes)
        if len(samples) == _SAMPLES and not mistakes:
            waiting.append(samples)
            labels.append(WORDS.index(path.parent.name))
        if len(waiting) == _TOGETHER:
            features.append(_coefficients(waiting))
            waiting = []
    _ARCHIVE.raise_all(mistakes)
    features.append(_coefficients(waiting))
    return np.concatenate(features), np.array(labels, dtype=np.int64)


def _coefficients(clips: Sequence[np.ndarray]) -> np.ndarray:
    """Return the coefficients of 16-bit clips, the samples scaled to [-1, 1)."""
    samples = np.array(clips, dtype=np.float64).reshape(-1, _SAMPLES) * 2.0**-15
    return cepstral.mfcc(samples).astype(np.float32)


def _samples(path: Path, mistakes: list[Mistake]) -> np.ndarray:
    """Return a WAV file's samples as 16-bit integers; none, and the mistake noted, where it cannot be used."""
    expected = f"16-bit mono PCM at {cepstral.RATE} Hz"
    try:
        with wave.open(str(path), "rb") as clip:
            said, content = clip.getnframes(), clip.readframes(clip.getnframes())
            kind = (8 * clip.getsampwidth(), clip.getnchannels(), clip.getframerate())
    except (wave.Error, EOFError, OSError) as error:
        got = f"a truncated file or no PCM WAV file ({error or type(error).__name__})"
        mistakes.append(_ARCHIVE.broken(path, got, expected))
        return np.empty(0, np.int16)
    if kind != (16, 1, cepstral.RATE):
        mistakes.append(_ARCHIVE.broken(path, f"{kind[0]} bits, {kind[1]} channels, {kind[2]} Hz", expected))
    elif len(content) != 2 * said:
        got = f"a truncated file: {len(content)} bytes of sound, its header says {2 * said}"
        mistakes.append(_ARCHIVE.broken(path, got, "a whole file"))
    else:
        return np.frombuffer(content, "<i2")
    return np.empty(0, np.int16)


def _standardise(train: Part[np.ndarray], *others: Part[np.ndarray]) -> None:
    """Shift and scale every coefficient, in place, to mean 0 and standard deviation 1 over the training part."""
    mean = train.inputs.mean(axis=(0, 1), dtype=np.float64)
    spread = train.inputs.std(axis=(0, 1), dtype=np.float64)
    spread[spread == 0] = 1.0
    for part in (train, *others):
        part.inputs[...] = (part.inputs - mean.astype(np.float32)) / spread.astype(np.float32)
