"""Colour, contrast and spectrum of a square picture: what photographs share, whatever they show."""

from __future__ import annotations

import numpy as np

SPECTRUM_BANDS = 8
#: cycles per picture between which the bands lie
BAND_EDGES = np.geomspace(1.5, 128, SPECTRUM_BANDS + 1)
_SIZE = 256  # pixels: powers are those of a picture of this size
_LUMA = np.array([0.299, 0.587, 0.114])


def windowed_power(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Power spectrum of the luma of (S, S, 3) code values, under a Hann window.

    Returns:
        power: (S, S), as of a picture of 256 pixels.
        frequency: (S, S) in cycles per picture.
    """
    size = len(pixels)
    luma = pixels.astype(np.float64) @ _LUMA / 255
    window = np.outer(np.hanning(size), np.hanning(size))
    power = np.abs(np.fft.fft2((luma - luma.mean()) * window)) ** 2 * (_SIZE / size) ** 4
    along = np.fft.fftfreq(size, 1 / size)
    return power, np.hypot(along[:, None], along)


def picture_statistics(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Statistics of a uint8 RGB picture (S, S, 3).

    Returns:
        colour: (3,) mean in [0, 1].
        contrast: (1,) standard deviation of the luma in [0, 1].
        spectrum: (SPECTRUM_BANDS,) decimal logarithm of the mean power between BAND_EDGES; -12 where a picture of
            this size has nothing.
    """
    scaled = pixels.astype(np.float64) / 255
    power, frequency = windowed_power(pixels)
    band = np.digitize(frequency, BAND_EDGES).ravel()
    total = np.bincount(band, power.ravel(), SPECTRUM_BANDS + 2)[1:-1]
    count = np.bincount(band, minlength=SPECTRUM_BANDS + 2)[1:-1]
    spectrum = np.log10(total / np.maximum(count, 1) + 1e-12)
    return scaled.mean((0, 1)), np.array([(scaled @ _LUMA).std()]), spectrum
