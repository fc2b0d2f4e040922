"""Mel-frequency cepstral coefficients, by the definition of torchaudio's `MFCC` with `log_mels=True`.

The spectrogram is the squared magnitude of a short-time Fourier transform with a periodic Hann window, half a window
between frames, the signal continued by reflection at both ends. Triangular filters, evenly spaced on the mel scale
of HTK and not normalised, sum it to mel bands; the orthonormal discrete cosine transform (type II) of their
logarithms gives the coefficients.
"""

from __future__ import annotations

from functools import cache

import numpy as np

COEFFICIENTS, WINDOW, MELS, RATE = 20, 200, 64, 16_000
"""Kidger, Chen, Lyons (2021), Speech Commands: coefficients, samples a window, mel bands, samples a second."""
FLOOR = 1e-6
"""Added to every mel band before the logarithm."""


def mfcc(
    samples: np.ndarray, coefficients: int = COEFFICIENTS, window: int = WINDOW, mels: int = MELS, rate: int = RATE
) -> np.ndarray:
    """Return the mel-frequency cepstral coefficients of signals.

    Parameters
    ----------
    samples : array of float64, shape (..., length)
        With length > window / 2.
    coefficients : int, default 20
        How many, from the 0th.
    window : int, default 200
        Samples in a window, even.
    mels : int, default 64
        Mel bands between 0 Hz and half the rate. Where the window resolves fewer frequencies than that, as by
        default, some of the lowest bands are empty and their logarithm is that of 1e-6.
    rate : int, default 16000
        Samples a second.

    Returns
    -------
    array of float64, shape (..., frames, coefficients)
        With frames = length // (window / 2) + 1.

    References
    ----------
    torchaudio, `torchaudio.transforms.MFCC`; Davis, Mermelstein (1980).
    """
    from scipy.fft import dct, rfft

    half = window // 2
    padded = np.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(half, half)], mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, window, axis=-1)[..., ::half, :]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    spectrum = np.asarray(rfft(frames * hann, axis=-1))
    power = np.real(spectrum) ** 2 + np.imag(spectrum) ** 2
    bands = power.reshape(-1, half + 1) @ _filters(window, mels, rate)  # one product of matrices, not one a signal
    logarithms = np.log(bands.reshape(*power.shape[:-1], mels) + FLOOR)
    return np.asarray(dct(logarithms, type=2, axis=-1, norm="ortho"))[..., :coefficients]


@cache
def _filters(window: int, mels: int, rate: int) -> np.ndarray:
    """Return the weights of frequencies in mel bands, shape (window / 2 + 1, mels).

    A band rises linearly in frequency from the centre of the band below to 1 at its own and falls to the centre of
    the band above.
    """
    frequencies = np.linspace(0.0, rate / 2, window // 2 + 1)
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0.0, top, mels + 2) / 2595) - 1)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (frequencies[:, None] - low) / (centre - low)
    falling = (high - frequencies[:, None]) / (high - centre)
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights.setflags(write=False)
    return weights
