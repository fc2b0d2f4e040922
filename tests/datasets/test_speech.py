"""Speech Commands from tiny WAV files: what is read, how it is cut and standardised, and every broken file named."""

import shutil

import numpy as np
import pytest

from crossbackend import UserError
from crossbackend.datasets import speech, speech_commands
from crossbackend.datasets.mfcc import mfcc
from tests.datasets.formats import write_wav

CLIPS = 7


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with seven clips of one second a word, beside a short clip, a hidden file and a folder of noise."""
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    for word in speech.WORDS:
        for number in range(CLIPS):
            write_wav(folder / word / f"{number}.wav", rng.integers(-3000, 3000, 16_000))
        write_wav(folder / word / "short.wav", rng.integers(-3000, 3000, 15_999))
    (folder / "yes" / "._0.wav").write_bytes(b"of another system")
    write_wav(folder / "_background_noise_" / "hum.wav", np.zeros(50_000))
    return folder


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / "archive")


def raw(path):
    return mfcc(np.frombuffer(path.read_bytes()[44:], "<i2") / 32768)


def test_parts(written, tmp_path):
    found = speech_commands(written, tmp_path, allow_partial=True)
    parts = (found.train, found.validation, found.test)
    assert [len(part) for part in parts] == [50, 10, 10]
    for part, each in zip(parts, (5, 1, 1), strict=True):
        assert part.inputs.shape == (10 * each, 161, 20)
        assert part.inputs.dtype == np.float32
        np.testing.assert_array_equal(np.bincount(part.labels), np.full(10, each))
    assert found.classes == speech.WORDS


def test_standardised_by_the_training_part(written, tmp_path):
    found = speech_commands(written, tmp_path, allow_partial=True)
    np.testing.assert_allclose(found.train.inputs.mean(axis=(0, 1), dtype=float), 0, atol=1e-4)
    np.testing.assert_allclose(found.train.inputs.std(axis=(0, 1), dtype=float), 1, atol=1e-4)
    assert np.abs(found.test.inputs.mean(axis=(0, 1), dtype=float)).max() > 1e-4  # by no numbers of its own


def test_every_clip_is_there_once(written, tmp_path):
    """Standardising is affine by coefficient: undone by least squares, each clip is that of one file."""
    found = speech_commands(written, tmp_path, allow_partial=True)
    parts = (found.train, found.validation, found.test)
    got = {label: [] for label in range(10)}
    for part in parts:
        for clip, label in zip(part.inputs, part.labels, strict=True):
            got[label].append(clip)
    files = [raw(written / "up" / f"{number}.wav") for number in range(CLIPS)]
    matches = []
    for clip in got[speech.WORDS.index("up")]:
        rests = [np.corrcoef(clip[:, 1], one[:, 1])[0, 1] for one in files]
        assert max(rests) > 1 - 1e-6
        matches.append(int(np.argmax(rests)))
    assert sorted(matches) == list(range(CLIPS))


def test_seed(written, tmp_path):
    def test_part(seed):
        return speech_commands(written, tmp_path, seed=seed, allow_partial=True).test.inputs

    np.testing.assert_array_equal(test_part(1), test_part(1))
    assert not np.array_equal(test_part(1), test_part(2))


def test_cache(folder, tmp_path, monkeypatch):
    first = speech_commands(folder, allow_partial=True)
    (kept,) = folder.glob("speech_commands-*.npz")
    monkeypatch.setattr(speech, "_features", None)
    np.testing.assert_array_equal(speech_commands(folder, allow_partial=True).train.inputs, first.train.inputs)
    monkeypatch.undo()
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    np.testing.assert_array_equal(speech_commands(folder, allow_partial=True).train.inputs, first.train.inputs)
    assert kept.read_bytes() == whole
    (folder / "go" / "0.wav").rename(folder / "go" / "0b.wav")
    speech_commands(folder, allow_partial=True)
    assert len(list(folder.glob("speech_commands-*.npz"))) == 2


def test_folder_that_holds_the_archive(folder, tmp_path):
    folder.rename(tmp_path / "speech_commands_v0.02")
    assert len(speech_commands(tmp_path, allow_partial=True).test) == 10


def test_half_an_archive(written, folder, monkeypatch):
    words = "got 80 clips of one second in .*, expected 34975 of the words yes, no, .* only partly there"
    with pytest.raises(UserError, match=words):
        speech_commands(written)
    monkeypatch.setattr(speech, "CLIPS", 71)  # as many files would do, but the short ones do not count
    with pytest.raises(UserError, match="got 70 clips of one second"):
        speech_commands(folder)
    assert not list(folder.glob("*.npz"))
    monkeypatch.setattr(speech, "CLIPS", 70)
    assert len(speech_commands(folder).train) == 50
    monkeypatch.setattr(speech, "CLIPS", 71)
    with pytest.raises(UserError, match="got 70 clips of one second"):
        speech_commands(folder)


def test_no_clip_at_all(tmp_path):
    for word in speech.WORDS:
        (tmp_path / word).mkdir()
    with pytest.raises(UserError, match=r"got 0 clips of one second .* expected some WAV files"):
        speech_commands(tmp_path, allow_partial=True)


def test_missing_words_are_named_at_once(folder):
    shutil.rmtree(folder / "off")
    shutil.rmtree(folder / "go")
    words = r"without off, go, expected the extracted speech_commands_v0\.02 archive, with a folder per word"
    with pytest.raises(UserError, match=words):
        speech_commands(folder, allow_partial=True)


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match=r"Speech Commands folder: got .*none, which does not exist, expected the extr"):
        speech_commands(tmp_path / "none")


def cut(path):
    path.write_bytes(path.read_bytes()[:-3])


def header_only(path):
    path.write_bytes(path.read_bytes()[:30])


def page(path):
    path.write_bytes(b"<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut, r"a truncated file: 31997 bytes of sound, its header says 32000"),
        (header_only, "a truncated file or no PCM WAV file"),
        (page, "a truncated file or no PCM WAV file"),
        (
            lambda path: write_wav(path, np.zeros(8_000), rate=8_000),
            "16 bits, 1 channels, 8000 Hz, expected 16-bit mono",
        ),
        (lambda path: write_wav(path, np.zeros(8_000), width=1), "8 bits, 1 channels, 16000 Hz"),
        (lambda path: write_wav(path, np.zeros(32_000), channels=2), "16 bits, 2 channels, 16000 Hz"),
    ],
    ids=["cut", "header", "page", "rate", "width", "stereo"],
)
def test_unusable_wav(folder, spoil, words):
    for name in ("left/2.wav", "stop/0.wav"):
        spoil(folder / name)
    with pytest.raises(UserError, match=words) as caught:
        speech_commands(folder, allow_partial=True)
    assert [mistake.where for mistake in caught.value.mistakes] == [
        str(folder / "left/2.wav"),
        str(folder / "stop/0.wav"),
    ]


def test_many_broken_files(folder):
    for path in folder.glob("*/*.wav"):
        page(path)
    with pytest.raises(UserError, match="got 70 more files like these, expected whole files") as caught:
        speech_commands(folder, allow_partial=True)
    assert len(caught.value.mistakes) == 11


def test_cache_that_cannot_be_written(written, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cache: got .*file .*, expected a folder to write to"):
        speech_commands(written, tmp_path / "file", allow_partial=True)
