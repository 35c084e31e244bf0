"""One face re-aged without a mask and with one, side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fran_lightning.evaluation.extent import change_by_part, change_outside
from fran_lightning.perception.alignment import FaceSquare, crop
from fran_lightning.perception.face import NoFaceError
from fran_lightning.perception.landmarks import CROP_SIZE, crop_landmarks
from fran_lightning.reaging.masks import MaskKind, border_mask, skin_mask
from fran_lightning.reaging.parsed_skin import parse_skin
from fran_lightning.reaging.plan import SkinRequest
from fran_lightning.reaging.reager import Reager

#: factor on differences, so that they can be seen
_GAIN = 4
_TILE = 512


@dataclass(frozen=True)
class Outcome:
    """One re-ageing.

    Attributes:
        mask: where the face could change, (S, S, 3) uint8, white where it could wholly.
        after: the face afterwards, uint8 RGB (S, S, 3).
        parts: mean absolute change of each part of the face, in 8-bit steps; inside, outside: of the skin mask.
    """

    mask: np.ndarray
    after: np.ndarray
    parts: dict[str, float]
    inside: float
    outside: float


@dataclass(frozen=True)
class MaskFigure:
    """What ``fran mask-figure`` shows, all cut out around the face, (S, S, 3) uint8."""

    before: np.ndarray
    without: Outcome
    masked: Outcome


def compare_masks(reager: Reager, pixels: np.ndarray, source_age: float, target_age: float) -> MaskFigure:
    """Re-age the largest face of a uint8 RGB picture (H, W, 3) twice.

    Raises:
        UserError: no face, or ages out of range.
    """
    faces = reager.detector.detect(pixels)
    if not faces:
        raise NoFaceError("no face found in the picture; is it upright, and are the eyes to be seen?")
    assert reager.parser is not None
    square = FaceSquare.from_points(faces[0].points)
    before = crop(pixels, square, _TILE)
    probabilities = reager.parser.probabilities(torch.from_numpy(before).permute(2, 0, 1)[None].float() / 127.5 - 1)
    small = crop(pixels, square, CROP_SIZE)
    floats, landmarks = small.astype(np.float32) / 127.5 - 1, crop_landmarks(small)
    request = SkinRequest(floats, landmarks, skin_mask(floats, landmarks), np.float32(0))
    mask = parse_skin(reager.parser, [request])[0].over(request.floor)
    mask = crop(mask, FaceSquare((CROP_SIZE - 1) / 2, (CROP_SIZE - 1) / 2, CROP_SIZE, 0.0), _TILE).clip(0, 1)

    def outcome(kind: MaskKind, used: np.ndarray) -> Outcome:
        after = crop(reager.reage(pixels, target_age, source_age, kind), square, _TILE)
        outside, inside = change_outside(before, after, mask)
        picture = np.rint(np.repeat(used[..., None], 3, axis=2) * 255).astype(np.uint8)
        return Outcome(picture, after, change_by_part(before, after, probabilities[0].cpu().numpy()), inside, outside)

    return MaskFigure(before, outcome("none", border_mask(_TILE)), outcome("skin", mask))


def difference_picture(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """``after - before``, four times as strong, on mid-grey."""
    return np.clip(128 + _GAIN * (after.astype(np.int16) - before), 0, 255).astype(np.uint8)
