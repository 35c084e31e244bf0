"""Soft masks: where a face may change.

All masks are float32 in [0, 1], in the coordinates of an FFHQ-aligned crop, and fall to zero before its border.
They are made from dlib's 68 landmarks and the skin's colour; ``parsed_skin`` puts a face parser's answer in their place
where it can be trusted.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

MaskKind = Literal["skin", "face", "none"]

#: Softness of mask edges, as a share of the crop's side (Gaussian sigma).
_EDGE = 0.02
#: Width of the band at the crop's border in which every mask falls to zero, as a share of its side.
_BORDER = 0.06


@functools.lru_cache(maxsize=8)
def border_mask(size: int) -> np.ndarray:
    """(size, size): 1 in the middle, falling smoothly to 0 at the border of the crop. Read only."""
    distance = (np.arange(size, dtype=np.float32) + 0.5) / size
    near = np.clip(np.minimum(distance, 1 - distance) / _BORDER, 0, 1)
    # nothing at all in the outermost pixels, where cubic interpolation would reach over the border
    near[:2] = near[-2:] = 0
    ramp = near * near * (3 - 2 * near)
    mask = np.minimum.outer(ramp, ramp)
    mask.flags.writeable = False
    return mask


def face_outline(landmarks: np.ndarray) -> np.ndarray:
    """The face's outline (N, 2): the jaw, and over the brows an arch up to where hair usually begins.

    By the rule of thirds the hairline lies as far above the brows as the brows above the nose's base.
    """
    jaw, brows, nose_base = landmarks[:17], landmarks[17:27].mean(axis=0), landmarks[33]
    up = brows - nose_base
    top = brows + 0.85 * up
    centre = (jaw[0] + jaw[16]) / 2
    half_width = (jaw[16] - jaw[0]) / 2
    turn = np.linspace(0, np.pi, 17)[1:-1, None]
    # a superellipse: temples are steeper than an ellipse
    across, along = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.75, np.sin(turn) ** 0.75
    arch = centre + half_width * across + (top - centre) * along
    return np.concatenate([jaw, arch])


def fill_polygon(points: np.ndarray, size: int) -> np.ndarray:
    """A filled polygon (size, size) float32 with antialiased edges."""
    import cv2

    mask = np.zeros((size, size), dtype=np.uint8)
    # 4 fractional bits keep the edge from jumping by whole pixels
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=4)
    return mask.astype(np.float32) / 255


def soften(mask: np.ndarray, share: float = _EDGE) -> np.ndarray:
    """A mask (S, S) blurred by a Gaussian whose sigma is ``share`` of its side."""
    import cv2

    blurred = cv2.GaussianBlur(mask, (0, 0), share * mask.shape[0], borderType=cv2.BORDER_REPLICATE)
    # the kernel's float32 weights sum to a little more than 1
    return np.clip(blurred, 0, 1)


def grown(points: np.ndarray, factor: float) -> np.ndarray:
    centre = points.mean(axis=0)
    return centre + (points - centre) * factor


def _fill_grown(parts: Sequence[np.ndarray], size: int) -> np.ndarray:
    """The polygons of ``parts``, each a little grown, in one mask (size, size)."""
    return np.max([fill_polygon(grown(part, 1.1), size) for part in parts], axis=0)


def face_mask(landmarks: np.ndarray, size: int) -> np.ndarray:
    """The whole face from hairline to chin, ears not: (size, size).

    Args:
        landmarks: (68, 2) in pixels of a crop of ``size`` pixels.
    """
    return soften(fill_polygon(grown(face_outline(landmarks), 1.04), size)) * border_mask(size)


def neck_polygon(landmarks: np.ndarray, size: int) -> np.ndarray:
    """The polygon between the jaw and the crop's lower edge, a little narrower than the jaw."""
    jaw = landmarks[4:13]
    left, right = jaw[0] + 0.1 * (jaw[-1] - jaw[0]), jaw[-1] - 0.1 * (jaw[-1] - jaw[0])
    return np.concatenate([jaw, [(right[0], size), (left[0], size)]])


#: From log light of red, green and blue to the skin's features.
_FEATURES = np.array([[1 / 3, 1 / 3, 1 / 3], [1, -1, 0], [0, -1, 1]])


@dataclass(frozen=True)
class SkinModel:
    """How one person's skin looks: a normal distribution of brightness and chroma.

    Attributes:
        mean: (3,) of the features of :meth:`features`.
        spread: (3,) standard deviations, widened for shading and make-up.
    """

    mean: np.ndarray
    spread: np.ndarray

    @staticmethod
    def features(crop: np.ndarray) -> np.ndarray:
        """(H, W, 3) float32 RGB in [-1, 1] -> log brightness and two log colour ratios, steady under shading."""
        import cv2

        return cv2.transform(_log_light(crop), _FEATURES)

    @classmethod
    def from_crop(cls, crop: np.ndarray, landmarks: np.ndarray) -> SkinModel:
        """Learn from cheeks and nose of a crop (S, S, 3) in [-1, 1] with landmarks (68, 2)."""
        size = crop.shape[0]
        cheeks = ([2, 3, 48, 31, 40, 41], [14, 13, 54, 35, 47, 46], [27, 31, 33, 35])
        inside = np.max([fill_polygon(landmarks[part], size) for part in cheeks], axis=0) > 0.5
        samples = cls.features(crop)[inside] if inside.sum() >= 50 else cls.features(crop).reshape(-1, 3)
        # median and quartiles: highlights and stray hair must not widen the distribution
        low, middle, high = np.percentile(samples, [25, 50, 75], axis=0)
        spread = np.maximum((high - low) / 1.35, (0.35, 0.07, 0.09))
        return cls(middle.astype(np.float32), spread.astype(np.float32))

    @classmethod
    def median(cls, models: Sequence[SkinModel]) -> SkinModel:
        """The middle of several models of one person."""
        return cls(
            np.median([model.mean for model in models], axis=0).astype(np.float32),
            np.median([model.spread for model in models], axis=0).astype(np.float32),
        )

    def distance(self, crop: np.ndarray) -> np.ndarray:
        """(H, W) Mahalanobis distance of every pixel of a crop from this skin."""
        import cv2

        # features, less the mean, by the spread: one affine map
        affine = np.column_stack([_FEATURES, -self.mean]) / self.spread[:, None]
        deviations = cv2.transform(_log_light(crop), affine)
        return np.sqrt(cv2.transform(cv2.multiply(deviations, deviations), np.ones((1, 3))))


def _log_light(crop: np.ndarray) -> np.ndarray:
    """Binary logarithm of light, 0 black and 1 white, a little above zero: (H, W, 3) float32 RGB."""
    import cv2

    light = np.maximum(crop * np.float32(0.5) + np.float32(0.5), 0) + np.float32(0.02)
    return cv2.log(light) * np.float32(1 / np.log(2))


def eyes_and_open_mouth(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Between the lids and between the lips, by landmarks: (size, size), softly."""
    return soften(_fill_grown([landmarks[36:42], landmarks[42:48], landmarks[60:68]], size), 0.006)


def skin_mask(crop: np.ndarray, landmarks: np.ndarray, model: SkinModel | None = None) -> np.ndarray:
    """Skin with brows, lips, ears and neck, without eyes, open mouth, hair and glasses as far as colour tells: (S, S).

    Args:
        crop: (S, S, 3) float32 in [-1, 1].
        landmarks: (68, 2) in pixels of the crop.
        model: the person's skin; learned from this crop when absent. A film uses one for a whole track, so that
            the mask does not breathe with the light.
    """
    size = crop.shape[0]
    distance = (model or SkinModel.from_crop(crop, landmarks)).distance(crop)
    face = soften(fill_polygon(face_outline(landmarks), size))
    around = fill_polygon(grown(face_outline(landmarks), 1.22), size)
    around = soften(np.maximum(around, fill_polygon(neck_polygon(landmarks, size), size)))
    # inside the outline only what is plainly no skin is left out; around it only what plainly is gets in
    limit = 3.0 + 2.5 * face
    likely = np.clip(limit - distance, 0, 1)
    mask = around * soften(likely, 0.008)
    kept = [landmarks[17:22], landmarks[22:27], landmarks[48:60]]
    mask = np.maximum(mask, soften(_fill_grown(kept, size), 0.008) * face)
    mask = mask * (1 - eyes_and_open_mouth(landmarks, size))
    return (mask * border_mask(size)).astype(np.float32)


def crop_mask(kind: MaskKind, crop: np.ndarray, landmarks: np.ndarray, model: SkinModel | None = None) -> np.ndarray:
    """The mask of ``kind`` for a crop (S, S, 3) in [-1, 1] with landmarks (68, 2): (S, S)."""
    size = crop.shape[0]
    if kind == "none":
        return border_mask(size)
    if kind == "face":
        return face_mask(landmarks, size)
    return skin_mask(crop, landmarks, model)
