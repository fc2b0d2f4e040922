"""MFCC against the definition written out with sums and no transform of a library's."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossbackend.datasets.mfcc import _filters, mfcc


def by_definition(samples, coefficients, window, mels, rate):
    """Coefficients by explicit sums: reflection, window, Fourier sum, triangles, logarithm, cosine sum."""
    half, length = window // 2, len(samples)
    reflected = [samples[abs(i)] if i < length else samples[2 * (length - 1) - i] for i in range(-half, length + half)]
    times = np.arange(window)
    hann = np.sin(np.pi * times / window) ** 2
    mel = lambda hertz: 2595 * math.log10(1 + hertz / 700)  # noqa: E731
    edges = [700 * (10 ** (mel(rate / 2) * k / (mels + 1) / 2595) - 1) for k in range(mels + 2)]
    frames = []
    for first in range(0, length + 1, half):
        frame = np.array(reflected[first : first + window]) * hann
        power = [abs(np.sum(frame * np.exp(-2j * np.pi * k * times / window))) ** 2 for k in range(half + 1)]
        logs = []
        for low, centre, high in zip(edges[:-2], edges[1:-1], edges[2:], strict=True):
            triangle = [np.interp(k * rate / window, [low, centre, high], [0, 1, 0]) for k in range(half + 1)]
            logs.append(math.log(np.dot(triangle, power) + 1e-6))
        row = []
        for k in range(coefficients):
            scale = math.sqrt((1 if k == 0 else 2) / mels)
            row.append(scale * sum(v * math.cos(math.pi * k * (2 * m + 1) / (2 * mels)) for m, v in enumerate(logs)))
        frames.append(row)
    return np.array(frames)


@pytest.mark.parametrize(("length", "sizes"), [(460, (20, 200, 64, 16_000)), (157, (7, 40, 9, 8_000))])
def test_definition(rng, length, sizes):
    samples = rng.uniform(-0.5, 0.5, length)
    np.testing.assert_allclose(mfcc(samples, *sizes), by_definition(samples, *sizes), rtol=1e-10, atol=1e-10)


def test_a_second_has_161_frames(rng):
    samples = rng.normal(size=(2, 3, 16_000))
    found = mfcc(samples)
    assert found.shape == (2, 3, 161, 20)
    np.testing.assert_allclose(found[1, 2], mfcc(samples[1, 2]), rtol=1e-12, atol=1e-12)


def test_silence():
    """Every band is empty: only the 0th coefficient differs from zero, sqrt(64) log(1e-6)."""
    found = mfcc(np.zeros(1000))
    np.testing.assert_allclose(found[:, 0], 8 * math.log(1e-6), rtol=1e-14)
    np.testing.assert_allclose(found[:, 1:], 0, atol=1e-12)


@given(st.floats(0.5, 100.0))
def test_louder_shifts_the_0th_coefficient_alone(factor):
    """Where every band is far above the floor, a gain g adds sqrt(mels) log g^2 to coefficient 0."""
    samples = 100 * np.random.default_rng(3).normal(size=800)
    found, louder = (mfcc(samples * gain, mels=12) for gain in (1.0, factor))
    np.testing.assert_allclose(louder[:, 0] - found[:, 0], math.sqrt(12) * math.log(factor**2), atol=1e-5)
    np.testing.assert_allclose(louder[:, 1:], found[:, 1:], atol=1e-5)


def test_a_tone_lies_in_the_bands_around_it():
    """A cosine at 1 kHz has energy at 1 kHz and, by the Hann window, one line either side."""
    weights = _filters(200, 20, 16_000)
    lines = 80.0 * np.arange(101)
    reached = weights[np.abs(lines - 960) <= 160].any(axis=0)
    tone = np.cos(2 * np.pi * 960 * np.arange(4000) / 16_000)
    # All 20 coefficients: the cosine transform is orthonormal, so that its transpose brings the bands back.
    k, m = np.mgrid[:20, :20]
    matrix = np.sqrt(np.where(k == 0, 1, 2) / 20) * np.cos(np.pi * k * (2 * m + 1) / 40)
    bands = np.exp(mfcc(tone, mels=20)[5] @ matrix)
    assert (bands[~reached] < 2e-6).all()
    assert bands[reached].max() > 100


def test_neighbouring_triangles_add_up_to_one():
    """Between the first and the last centre, in frequencies that the window resolves."""
    weights = _filters(2000, 16, 16_000)
    sums = weights.sum(axis=1)
    first, last = weights[:, 0].argmax(), weights[:, -1].argmax()
    np.testing.assert_allclose(sums[first + 1 : last], 1, atol=1e-12)
