"""The camera: a pinhole in front of the head, cropped as FFHQ crops."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fran_lightning.synthesis.parametric.scene import Identity
from fran_lightning.synthesis.parametric.shape import Landmarks


@dataclass(frozen=True)
class Pinhole:
    """Looks along -z from ``position``; the crop is square.

    Attributes:
        position: (3,) in millimetres.
        centre: (2,) of the crop on the plane at distance 1.
        half: half the crop's width on that plane.
    """

    position: np.ndarray
    centre: np.ndarray
    half: float

    def project(self, points: np.ndarray, size: int) -> np.ndarray:
        """Points (N, 3) to pixel coordinates (N, 2) in an image of ``size``, integers at pixel centres."""
        plane = _to_plane(points, self.position)
        pixels = (plane - self.centre) * (size / (2 * self.half))
        return np.stack([pixels[:, 0] + size / 2, size / 2 - pixels[:, 1]], 1) - 0.5


def _to_plane(points: np.ndarray, position: np.ndarray) -> np.ndarray:
    relative = np.asarray(points, dtype=np.float64) - position
    return relative[:, :2] / -relative[:, 2:]


def frame(landmarks: Landmarks, identity: Identity) -> Pinhole:
    """FFHQ's crop around the landmarks of the reference age, upright (the head's roll stays visible).

    FFHQ: half size = max(2 x eye distance, 1.8 x eye to mouth), centre = eyes + 0.1 x eyes to mouth
    (align script of Karras et al. 2019).
    """
    camera = identity.camera
    middle = landmarks.stack()[:2].mean(0)
    position = np.array([middle[0], middle[1] - 10.0, middle[2] + camera.distance_mm])
    right, left, _, right_mouth, left_mouth = _to_plane(landmarks.stack(), position)
    eyes, mouth = (left + right) / 2, (left_mouth + right_mouth) / 2
    half = max(2.0 * np.linalg.norm(left - right), 1.8 * np.linalg.norm(mouth - eyes)) / camera.zoom
    centre = eyes + 0.1 * (mouth - eyes) + np.array(camera.shift) * 2 * half
    return Pinhole(position, centre, float(half))
