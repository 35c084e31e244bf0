"""Facial regions from landmarks, so that each can get its own age (``--regions skin=65,eyes=40,neck=70``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np

from fran_lightning.ages import validate_years
from fran_lightning.errors import UserError
from fran_lightning.reaging.masks import fill_polygon, neck_polygon, soften

Region = Literal["skin", "forehead", "eyes", "nose", "cheeks", "mouth", "chin", "neck"]
#: Softness of the borders between regions, as a share of the crop's side.
_BLEND = 0.025


def parse_regions(text: str | None) -> dict[str, float]:
    """``skin=65,eyes=40`` as ages in years by region; ``skin`` is all that no other region claims.

    Raises:
        UserError: an unknown region, or no age.
    """
    ages: dict[str, float] = {}
    for piece in filter(None, (text or "").split(",")):
        name, _, age = (part.strip() for part in piece.partition("="))
        if name not in get_args(Region):
            raise UserError(f"--regions {name!r} is unknown; choose among {', '.join(get_args(Region))}")
        try:
            years = float(age)
        except ValueError as error:
            raise UserError(f"--regions {piece!r}: write NAME=AGE, like eyes=40") from error
        validate_years(years, f"--regions {name}")
        ages[name] = years
    return ages


def region_mask(region: Region, landmarks: np.ndarray, size: int) -> np.ndarray:
    """Where a region is (size, size) float32 in [0, 1], for landmarks (68, 2) in pixels of the crop."""
    points = landmarks
    unit = np.linalg.norm(points[36:42].mean(axis=0) - points[42:48].mean(axis=0))
    down = points[8] - points[27]
    down = down / np.linalg.norm(down)
    parts = {
        "skin": [np.array([(0, 0), (size, 0), (size, size), (0, size)])],
        "forehead": [np.concatenate([points[17:27] + 0.05 * unit * down, points[26:16:-1] - 1.1 * unit * down])],
        # brows, lids, bags and crow's feet
        "eyes": [
            np.concatenate([points[17:22], points[[27]], points[[29]], points[[31]] - 0.3 * unit * down, points[[1]]]),
            np.concatenate(
                [points[26:21:-1], points[[27]], points[[29]], points[[35]] - 0.3 * unit * down, points[[15]]]
            ),
        ],
        "nose": [np.concatenate([points[[27, 31]], points[31:36], points[[35, 27]]]), points[[39, 42, 35, 31]]],
        "cheeks": [points[[1, 2, 3, 4, 48, 31, 29]], points[[15, 14, 13, 12, 54, 35, 29]]],
        "mouth": [points[48:60] + 0.2 * (points[48:60] - points[48:60].mean(axis=0))],
        "chin": [np.concatenate([points[4:13], points[[54, 57, 48]]])],
        "neck": [neck_polygon(points, size)],
    }[region]
    return soften(np.max([fill_polygon(part, size) for part in parts], axis=0), _BLEND)


def regional_targets(regions: Mapping[str, float], landmarks: np.ndarray, size: int, target_age: float) -> np.ndarray:
    """Target years per pixel (size, size): ``target_age`` where no region of ``regions`` says otherwise."""
    years = np.full((size, size), np.float32(regions.get("skin", target_age)))
    for name, age in regions.items():
        if name != "skin":
            mask = region_mask(name, landmarks, size)
            years += (np.float32(age) - years) * mask
    return years
