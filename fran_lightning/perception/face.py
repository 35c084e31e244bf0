"""What a detector says about a face.

Coordinates are pixels of the image given, x to the right and y down, with integer values at pixel centres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fran_lightning.errors import UserError


class NoFaceError(UserError):
    """A picture or a film shows no face (that is large enough to work on)."""


@dataclass(frozen=True)
class Face:
    """One detected face.

    Attributes:
        box: (4,) float32 left, top, right, bottom.
        points: (5, 2) float32: the eye at image left, the eye at image right, nose tip, mouth corner at image
            left, mouth corner at image right.
        score: the detector's confidence in [0, 1].
        landmarks: (68, 2) float64 in the iBUG order, where they were found: 0-16 jaw, 17-21 and 22-26 brows,
            27-35 nose, 36-41 and 42-47 eyes, 48-67 mouth.
    """

    box: np.ndarray
    points: np.ndarray
    score: float
    landmarks: np.ndarray | None = None

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        left, top, right, bottom = self.box
        return float(max(right - left, 0) * max(bottom - top, 0))

    @property
    def interocular(self) -> float:
        """Distance between the eyes in pixels."""
        return float(np.linalg.norm(self.points[1] - self.points[0]))


def check_rgb(image: np.ndarray) -> np.ndarray:
    """``image`` as a contiguous uint8 (H, W, 3) array.

    Raises:
        UserError: another type or shape.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UserError(f"an image for detection must be uint8 (H, W, 3), not {image.dtype} {image.shape}")
    return np.ascontiguousarray(image)
