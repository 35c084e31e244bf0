"""How steady an edited film is (research terms: warping error, T-Age, TL-ID).

* *Warping error* (Lai et al. 2018): the mean absolute difference between a frame and the next one carried back by the
  optical flow of the **original** film, where that flow is not occluded. Colours in [0, 1], times 100. The flow is
  estimated, but for parametric clips, which know it exactly.
* *T-Age*: mean of |age(t + 1) - age(t)| in years.
* *TL-ID* (Tzaban et al. 2022): mean similarity of the face with itself one frame later, divided by the same in the
  original; 1.0 is as steady as the source.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fran_lightning.perception.age import AgeEstimator
from fran_lightning.perception.alignment import FaceSquare, crop
from fran_lightning.perception.identity import IdentityEmbedder
from fran_lightning.perception.landmarks import CROP_SIZE

#: Forward and backward flow may disagree by so many pixels where nothing is hidden.
_FLOW_TOLERANCE = 1.0


@dataclass(frozen=True)
class Steadiness:
    """Measures of one film; see the module's description."""

    warping_error: float
    t_age: float
    tl_id: float


class FlowWarp:
    """Carries the next frame back to this one by the optical flow of the original film."""

    def __init__(self, flow: np.ndarray, visible: np.ndarray) -> None:
        """``flow`` (H, W, 2) pixels to where each pixel lies in the next frame; ``visible`` (H, W) bool, where so."""
        rows, columns = np.indices(visible.shape, dtype=np.float32)
        self._columns, self._rows = columns + flow[..., 0], rows + flow[..., 1]
        self.visible = visible

    @classmethod
    def estimated(cls, now: np.ndarray, following: np.ndarray) -> FlowWarp:
        """By an estimate of the flow between two uint8 RGB frames (H, W, 3) of the original."""
        import cv2

        method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (now, following)]
        forward, backward = method.calc(*grey, None), method.calc(*grey[::-1], None)
        height, width = grey[0].shape
        warp = cls(forward, np.ones((height, width), dtype=bool))
        returned = warp._carry(backward)
        inside = (warp._columns >= 0) & (warp._columns <= width - 1) & (warp._rows >= 0) & (warp._rows <= height - 1)
        # where nothing is hidden the way back leads to where one came from
        warp.visible = inside & (np.linalg.norm(forward + returned, axis=-1) < _FLOW_TOLERANCE)
        return warp

    def _carry(self, picture: np.ndarray) -> np.ndarray:
        import cv2

        return cv2.remap(picture, self._columns, self._rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def error(self, now: np.ndarray, following: np.ndarray, where: np.ndarray) -> float:
        """Mean absolute difference of ``now`` and the carried ``following`` (uint8 RGB) over ``where``, in percent."""
        counted = self.visible & where
        if not counted.any():
            return 0.0
        difference = np.abs(now.astype(np.float32) - self._carry(following.astype(np.float32)))
        return float(difference[counted].mean() / 255 * 100)


def square_mask(square: FaceSquare, height: int, width: int) -> np.ndarray:
    """(H, W) bool: the inside of a face's square."""
    import cv2

    mask = np.zeros((height, width), dtype=np.uint8)
    cv2.fillConvexPoly(mask, np.round(square.corners()).astype(np.int32), 1)
    return mask.astype(bool)


@dataclass(frozen=True)
class FramePair:
    """Two neighbouring frames of the original film and of the films that are compared with it.

    Attributes:
        squares: the face's square in the first and in the second frame.
        films: (frame, next frame) of every film, uint8 RGB (H, W, 3), the original first.
        warp: the original's motion.
    """

    squares: tuple[FaceSquare, FaceSquare]
    films: Sequence[tuple[np.ndarray, np.ndarray]]
    warp: FlowWarp


def measure_pairs(pairs: Iterable[FramePair]) -> list[Steadiness]:
    """Measure films beside each other: one :class:`Steadiness` per film, the original's first (its TL-ID is 1)."""
    ages, identities = AgeEstimator(), IdentityEmbedder()
    rows = []
    for pair in pairs:
        square, next_square = pair.squares
        face = square_mask(square, *pair.films[0][0].shape[:2])
        row = []
        for now, following in pair.films:
            crops = np.stack([crop(now, square, CROP_SIZE), crop(following, next_square, CROP_SIZE)])
            years = ages.estimate_aligned(crops)
            one, other = identities.embed_aligned(crops)
            similarity = float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
            row.append((pair.warp.error(now, following, face), abs(float(years[1] - years[0])), similarity))
        rows.append(row)
    means = np.mean(rows, axis=0)
    return [Steadiness(float(warp), float(age), float(same / means[0, 2])) for warp, age, same in means]
