"""From linear light to 8-bit sRGB: exposure, a soft shoulder, sensor noise that is the same at every age."""

from __future__ import annotations

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
