"""From linear light to 8-bit sRGB: exposure, a soft shoulder, sensor noise that is the same at every age."""

from __future__ import annotations

import cv2
import numpy as np

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)


def develop(linear: np.ndarray, exposure: float, grain: np.ndarray | None = None) -> np.ndarray:
    """Linear RGB (H, W, 3) to uint8 sRGB; ``grain`` (H, W, 3) is added in code values."""
    light = np.maximum(linear * np.float32(exposure), 0)
    knee = np.float32(0.55)
    light = np.where(light < knee, light, knee + (1 - knee) * (1 - np.exp(-(light - knee) / (1 - knee))))
    # transfer function of IEC 61966-2-1
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.power(np.maximum(light, 1e-8), 1 / 2.4) - 0.055)
    codes = 255 * encoded
    if grain is not None:
        codes = codes + grain
    return np.clip(np.rint(codes), 0, 255).astype(np.uint8)


def lens_blur(picture: np.ndarray, sharpness: float) -> float:
    """How soft the lens must be for a picture to be as sharp as photographs are.

    Strands and pores can be sharper than any photograph, a shaved head before a plain wall is softer.

    Args:
        picture: uint8 RGB (S, S, 3), not blurred yet.
        sharpness: wanted decimal logarithm of the power in the highest band (0.28 to 0.5 cycles per pixel) of the
            windowed luminance at 256 pixels; re-aged photographs have about -0.2 to 0.3.

    Returns:
        The standard deviation of the blur in pixels of ``picture``.
    """
    size = 256
    seen = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA if len(picture) > size else cv2.INTER_CUBIC)
    luminance = seen @ np.array([0.299, 0.587, 0.114]) / 255
    window = np.outer(np.hanning(size), np.hanning(size))
    power = np.abs(np.fft.fft2((luminance - luminance.mean()) * window)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    band = (frequency > 0.28) & (frequency < 0.5)

    def detail(sigma: float) -> float:
        passed = np.exp(-((2 * np.pi * frequency[band] * sigma) ** 2))
        return float(np.log10((power[band] * passed).mean() + 1e-12))

    sigmas = np.linspace(0.3, 1.4, 45)
    best = sigmas[np.argmin([abs(detail(sigma) - sharpness) for sigma in sigmas])]
    return float(max(0.4, best * len(picture) / size))
