"""Five points of a face from many looks of one detector.

YuNet's points depend on how the face lies on its grid: another place, size or tilt of the same picture moves them by
3 to 6 % of the distance between the eyes. The mean over looks that differ in all three, and over mirrored ones, is
what the detector says of the face itself.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from fran_lightning.perception.detection import FaceDetector

_SIZES = (640, 800)  # pixels of the picture's longer edge; smaller ones scatter more, larger ones no less
_TILTS = (-12.0, 0.0, 12.0)  # degrees
_BORDER = 32
#: points in a mirrored picture: the eyes and the corners of the mouth change places
_MIRRORED = [1, 0, 2, 4, 3]
LOOKS = len(_SIZES) * len(_TILTS) * 2


def steady_points(detector: FaceDetector, image: np.ndarray) -> np.ndarray | None:
    """The mean of the largest face's points (5, 2) over LOOKS looks at a uint8 RGB image (H, W, 3).

    Args:
        detector: with ``refine=False``, or the points would be those of the landmarks.

    Returns:
        None if fewer than half of the looks find a face.
    """
    found = []
    shifts = np.random.default_rng(0).integers(-16, 17, (LOOKS, 2))
    for (size, mirrored, tilt), shift in zip(product(_SIZES, (False, True), _TILTS), shifts, strict=True):
        points = _look(detector, image, size / max(image.shape[:2]), mirrored, tilt, shift)
        if points is not None:
            found.append(points)
    return np.mean(found, axis=0) if 2 * len(found) >= LOOKS else None


def _look(
    detector: FaceDetector, image: np.ndarray, scale: float, mirrored: bool, tilt: float, shift: np.ndarray
) -> np.ndarray | None:
    import cv2

    height, width = image.shape[:2]
    seen = image[:, ::-1] if mirrored else image
    if scale < 1:  # what does not fit into the smaller picture must not fold into it
        seen = cv2.GaussianBlur(seen, (0, 0), 0.35 / scale)
    edge = round(max(height, width) * scale) + 2 * _BORDER
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    matrix = cv2.getRotationMatrix2D(middle.tolist(), tilt, scale)
    matrix[:, 2] += (edge - 1) / 2 - middle + shift
    seen = cv2.warpAffine(seen, matrix, (edge, edge), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    faces = detector.detect(seen)
    if not faces:
        return None
    points = (faces[0].points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    if mirrored:
        points = np.stack([width - 1 - points[:, 0], points[:, 1]], axis=1)[_MIRRORED]
    return points
