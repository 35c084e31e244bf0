"""Smooth random fields whose pattern does not depend on the resolution they are drawn at."""

from __future__ import annotations

import cv2
import numpy as np


def smooth_noise(
    random: np.random.Generator, shape: tuple[int, int], extent: tuple[float, float], scale: float | tuple[float, float]
) -> np.ndarray:
    """A field (H, W) float32 of about unit variance with features of size ``scale``.

    Args:
        shape: (H, W) of the result.
        extent: its height and width in the units of ``scale``.
        scale: size of the features, one number or (vertical, horizontal).
    """
    vertical, horizontal = (scale, scale) if np.isscalar(scale) else scale
    rows, columns = (max(4, int(np.ceil(size / s)) + 3) for size, s in zip(extent, (vertical, horizontal), strict=True))
    grid = random.standard_normal((rows, columns), dtype=np.float32)
    # map the same physical places to the same grid places at every resolution
    y = np.linspace(1, 1 + extent[0] / vertical, shape[0], dtype=np.float32)
    x = np.linspace(1, 1 + extent[1] / horizontal, shape[1], dtype=np.float32)
    y, x = np.minimum(y, rows - 1), np.minimum(x, columns - 1)
    map_x, map_y = np.meshgrid(x, y)
    return 1.4 * cv2.remap(grid, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def octaves(
    random: np.random.Generator,
    shape: tuple[int, int],
    extent: tuple[float, float],
    largest: float,
    count: int,
    gain: float = 0.5,
) -> np.ndarray:
    """A sum of ``count`` smooth fields, each of half the size and ``gain`` times the height of the one before."""
    total = np.zeros(shape, dtype=np.float32)
    weight, energy = 1.0, 0.0
    for octave in range(count):
        total += weight * smooth_noise(random, shape, extent, largest / 2**octave)
        energy += weight**2
        weight *= gain
    return total / np.sqrt(energy)
