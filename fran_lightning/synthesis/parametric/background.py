"""Backgrounds out of focus: studio, bokeh, indoors, outdoors, plain."""

from __future__ import annotations

import cv2
import numpy as np

from fran_lightning.synthesis.parametric.noise import octaves, smooth_noise
from fran_lightning.synthesis.parametric.scene import Background

_UNIT = (1.0, 1.0)


def paint_background(background: Background, size: int) -> np.ndarray:
    """A picture (size, size, 3) in linear RGB; the same scene at every size."""
    random = np.random.default_rng(np.random.SeedSequence([background.seed]))
    shape = (size, size)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    colours = np.array(background.colours, dtype=np.float32)
    image = np.broadcast_to(colours[0], (size, size, 3)).copy()
    if background.kind == "plain":
        image *= (1 + 0.04 * octaves(random, shape, _UNIT, 0.8, 2))[..., None]
    elif background.kind == "studio":
        centre = random.uniform(0.2, 0.8, 2)
        glow = np.exp(-(((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / random.uniform(0.15, 0.6)))
        image = image * (0.35 + 0.9 * glow)[..., None]
        image *= (1 + 0.10 * octaves(random, shape, _UNIT, 0.35, 4))[..., None]
    elif background.kind == "bokeh":
        mix = np.clip(0.5 + 0.5 * octaves(random, shape, _UNIT, 0.5, 3), 0, 1)[..., None]
        image = colours[0] * mix + colours[1] * (1 - mix)
        for _ in range(int(random.integers(10, 40))):
            centre, radius = random.uniform(0, 1, 2), random.uniform(0.015, 0.06)
            disc = np.clip((radius - np.hypot(x - centre[0], y - centre[1])) * 60, 0, 1)
            image = image + (disc * random.uniform(0.05, 0.5))[..., None] * colours[int(random.integers(4))]
    elif background.kind == "indoor":
        for _ in range(int(random.integers(4, 10))):
            left, width = random.uniform(-0.2, 1), random.uniform(0.04, 0.4)
            top, height = random.uniform(-0.3, 0.8), random.uniform(0.2, 1.2)
            block = (x > left) & (x < left + width) & (y > top) & (y < top + height)
            image[block] = colours[int(random.integers(4))] * random.uniform(0.5, 1.2)
        image *= (1 + 0.15 * octaves(random, shape, _UNIT, 0.3, 4))[..., None]
    else:
        horizon = random.uniform(0.1, 0.6) + 0.06 * smooth_noise(random, (1, size), _UNIT, (1.0, 0.2))
        leaves = octaves(random, shape, _UNIT, 0.22, 5, 0.75)
        mix = np.clip(0.5 + 0.6 * leaves, 0, 1)[..., None]
        ground = (colours[0] * mix + 0.5 * colours[1] * (1 - mix)) * np.clip(0.7 + 0.35 * leaves, 0.1, 2)[..., None]
        sky = colours[2] * 0.4 + np.array([0.55, 0.68, 0.9], np.float32) * 0.6
        above = np.clip((horizon - y) * 25, 0, 1)[..., None]
        image = ground * (1 - above) + sky * above
    image = cv2.GaussianBlur(
        np.ascontiguousarray(image, dtype=np.float32), (0, 0), 0.002 * size + 0.02 * size * background.blur
    )
    return np.clip(image, 0.002, 4).astype(np.float32)
