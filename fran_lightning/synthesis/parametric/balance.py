"""Brightness of background and face: a photographer's choice that gives a picture the contrast of photographs.

Without it too many faces stand before something just as bright, or a dark head fills a dark picture.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from fran_lightning.picture_statistics import picture_statistics
from fran_lightning.synthesis.parametric.film import develop

_BACKGROUNDS = np.concatenate([np.geomspace(0.14, 0.8, 6), [1.0], np.geomspace(1.3, 3.2, 4)])
_FACES = (0.8, 0.9, 1.0, 1.12, 1.25)
#: what 112 re-aged photographs of eight people span, narrowed by about 8 % on both sides (by 16 % where
#: ageing moves a value): mean of red, green and blue, deviation of the luma, the six coarsest bands of the spectrum
_LOWEST = np.array([0.42, 0.33, 0.28, 0.137, 5.02, 4.47, 4.02, 3.21, 2.57, 1.79])
_HIGHEST = np.array([0.74, 0.67, 0.64, 0.302, 5.76, 5.08, 4.64, 3.84, 3.09, 2.34])


def balance(face: np.ndarray, background: np.ndarray, exposure: float) -> tuple[float, float]:
    """By which factors to change the light of background and foreground.

    Args:
        face: (S, S, 3) linear light, in FFHQ alignment.
        background: (S, S) share of the background in every pixel.
        exposure: of the picture.

    Returns:
        The factors of background and foreground: those that leave least outside of what photographs span, and else
        the smallest changes.
    """
    share = background[..., None]

    def cost(factors: tuple[float, float]) -> float:
        behind, before = factors
        picture = develop(face * (share * behind + (1 - share) * before).astype(np.float32), exposure)
        colour, contrast, spectrum = picture_statistics(picture)
        values = np.concatenate([colour, contrast, spectrum[:6]])
        outside = np.maximum(_LOWEST - values, 0) + np.maximum(values - _HIGHEST, 0)
        change = 0.04 * abs(np.log(behind)) + 0.15 * abs(np.log(before))
        return float((outside / (_HIGHEST - _LOWEST)).sum() + change)

    return min(product(_BACKGROUNDS.tolist(), _FACES), key=cost)
