"""From linear light to 8-bit sRGB: lens, focus, exposure, sensor noise and JPEG, all of them the same at every age."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fran_lightning.errors import UserError
from fran_lightning.picture_statistics import windowed_power

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
_OCTAVE = 1.25  # how much the logarithm of a photograph's power rises at most from the highest band to the next


@dataclass(frozen=True)
class Optics:
    """How strong the camera's faults are: 1 is as the identity's camera has them, 0 is none.

    Attributes:
        lens: softness of the lens.
        depth_blur: diameter of the aperture, which blurs what lies in front of and behind the eyes.
        noise: of the sensor.
        jpeg_quality: 1 to 100; None: the pictures are not compressed.
    """

    lens: float = 1.0
    depth_blur: float = 1.0
    noise: float = 1.0
    jpeg_quality: int | None = None

    def check(self) -> None:
        """Raise UserError for strengths that make no sense."""
        for option, value in (("lens", self.lens), ("depth-blur", self.depth_blur), ("noise", self.noise)):
            if not 0 <= value <= 5:
                raise UserError(f"--{option} {value:g} is not supported; choose 0 (off) to 5")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise UserError(f"--jpeg-quality {self.jpeg_quality} is not supported; choose 1 to 100")


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


def sensor_noise(random: np.random.Generator, size: int, deviation: float) -> np.ndarray:
    """Noise (size, size, 3) in code values; what is interpolated from a colour filter array is slightly soft."""
    noise = cv2.GaussianBlur(random.standard_normal((size, size, 3), dtype=np.float32), (0, 0), 0.5)
    return noise * np.float32(deviation / noise.std())


def focus_blur(linear: np.ndarray, sigma: np.ndarray, lens: float) -> np.ndarray:
    """Blur (S, S, 3) by a lens of standard deviation ``lens`` pixels and by ``sigma`` (S, S) pixels out of focus."""
    steps = np.linspace(0, float(sigma.max()), 4) if sigma.max() > 0.05 else np.zeros(1)
    levels = [
        cv2.GaussianBlur(linear, (0, 0), width) if (width := float(np.hypot(lens, step))) > 0.05 else linear
        for step in steps
    ]
    if len(levels) == 1:
        return levels[0]
    place = sigma / steps[1]
    blurred = np.zeros_like(linear)
    for k, level in enumerate(levels):
        blurred += np.clip(1 - np.abs(place - k), 0, 1).astype(np.float32)[..., None] * level
    return blurred


def compress(picture: np.ndarray, quality: int | None) -> np.ndarray:
    """What is left of a uint8 RGB picture after JPEG at ``quality``; None leaves it as it is."""
    if quality is None:
        return picture
    _, code = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1])


def lens_blur(face: np.ndarray, noise: np.ndarray, sharpness: float) -> float:
    """How soft the lens must be for a picture to be as sharp as photographs are.

    Strands and pores can be sharper than any photograph, a shaved head before a plain wall is softer.

    Args:
        face: uint8 RGB (S, S, 3), not blurred yet, in FFHQ alignment.
        noise: (S, S, 3) in code values, which will be added.
        sharpness: wanted decimal logarithm of the power in the highest band (0.28 to 0.5 cycles per pixel) of the
            windowed luminance; re-aged photographs of 256 pixels have about -0.2 to 0.3, and at most ``_OCTAVE``
            more in the band below (0.16 to 0.28).

    Returns:
        The standard deviation of the blur in pixels of ``face``.
    """
    power, frequency = windowed_power(face)
    noise_power, _ = windowed_power(noise)
    frequency = frequency / len(face)
    fine, coarse = ((frequency > low) & (frequency < high) for low, high in ((0.28, 0.5), (0.16, 0.28)))

    def detail(band: np.ndarray, sigma: float) -> float:
        passed = np.exp(-((2 * np.pi * frequency[band] * sigma) ** 2))
        return float(np.log10((power[band] * passed + noise_power[band]).mean() + 1e-12))

    def error(sigma: float) -> float:
        return abs(detail(fine, sigma) - sharpness) + max(0.0, detail(coarse, sigma) - sharpness - _OCTAVE)

    return min(np.linspace(0.25, 1.4, 47).tolist(), key=error)
