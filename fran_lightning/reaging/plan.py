"""What the network is told about one face: how old each pixel is to become, and where its answer counts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fran_lightning.ages import MAXIMUM_AGE, YEARS_PER_UNIT
from fran_lightning.perception.landmarks import CROP_SIZE
from fran_lightning.reaging.masks import SkinModel, border_mask, crop_mask
from fran_lightning.reaging.regions import regional_targets
from fran_lightning.reaging.settings import ReageSettings


@dataclass(frozen=True)
class SkinRequest:
    """What a face parser needs to replace the skin mask that was made from landmarks and colour.

    Attributes:
        crop: (256, 256, 3) float32 in [-1, 1].
        landmarks: (68, 2) in its pixels.
        floor: (256, 256) the mask by landmarks and colour.
        years: target years, of the face or per pixel (S, S).
    """

    crop: np.ndarray
    landmarks: np.ndarray
    floor: np.ndarray
    years: np.ndarray | np.float32


@dataclass(frozen=True)
class FacePlan:
    """One face, ready for the network.

    Attributes:
        crop: (S, S, 3) float32 in [-1, 1].
        source_age: years.
        target_map: (S, S) float32, years / 100; the source age outside the mask.
        mask: (S, S) float32 in [0, 1].
        strength: factor on the change.
        skin_request: what a parser needs, where the mask is to show the skin.
    """

    crop: np.ndarray
    source_age: float
    target_map: np.ndarray
    mask: np.ndarray
    strength: float = 1.0
    skin_request: SkinRequest | None = None

    def with_skin(self, skin: np.ndarray) -> FacePlan:
        """The plan with a mask (256, 256) in place of the one by landmarks and colour."""
        assert self.skin_request is not None
        mask = _enlarge(skin, self.crop.shape[0])
        target_map = _target_map(self.source_age, self.skin_request.years, mask)
        return replace(self, mask=mask, target_map=target_map, skin_request=None)


@dataclass
class FaceInFrame:
    """A face on its way through the network.

    Attributes:
        person: its number in the shot.
        to_frame: (2, 3), from pixels of its crop to those of the frame.
        plan: what the network is told.
        delta: (S, S, 3) what the network says, zero where the mask is zero.
        track: the same for one face in all frames of a shot.
    """

    person: int
    to_frame: np.ndarray
    plan: FacePlan
    delta: np.ndarray | None = None
    track: int = 0


def plan_face(
    crop: np.ndarray,
    landmarks: np.ndarray,
    source_age: float,
    target_age: float,
    settings: ReageSettings,
    *,
    skin: SkinModel | None = None,
    painted_mask: np.ndarray | None = None,
    painted_ages: np.ndarray | None = None,
    strength: float = 1.0,
) -> FacePlan:
    """Make masks and maps.

    Args:
        crop: (S, S, 3) float32 in [-1, 1].
        landmarks: (68, 2) in pixels of a 256-pixel crop.
        source_age, target_age: years.
        skin: the person's skin, learned from this crop when absent.
        painted_mask, painted_ages: the painted images' part of this crop (S, S) in [0, 1], where there are any.
        strength: factor on the change.
    """
    import cv2

    size = crop.shape[0]
    small = crop
    if size != CROP_SIZE:
        shrinks = size > CROP_SIZE
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        small = cv2.resize(crop, (CROP_SIZE, CROP_SIZE), interpolation=how)
    floor = None
    if isinstance(settings.mask, str):
        # masks are soft: 256 pixels hold all of them
        floor = crop_mask(settings.mask, small, landmarks, skin)
        mask = _enlarge(floor, size)
    else:
        mask = (painted_mask if painted_mask is not None else np.ones((size, size), np.float32)) * border_mask(size)
    if painted_ages is not None:
        years = painted_ages * np.float32(MAXIMUM_AGE)
    elif settings.regions:
        years = _enlarge(regional_targets(settings.regions, landmarks, CROP_SIZE, target_age), size)
    else:
        years = np.float32(target_age)
    request = None
    if settings.mask == "skin":
        assert floor is not None
        request = SkinRequest(small, landmarks, floor, years)
    return FacePlan(crop, source_age, _target_map(source_age, years, mask), mask, strength, request)


def _target_map(source_age: float, years: np.ndarray | np.float32, mask: np.ndarray) -> np.ndarray:
    source = np.float32(source_age)
    return (source + (years - source) * mask) / np.float32(YEARS_PER_UNIT)


def _enlarge(plane: np.ndarray, size: int) -> np.ndarray:
    import cv2

    return cv2.resize(plane, (size, size), interpolation=cv2.INTER_LINEAR) if plane.shape[0] != size else plane
