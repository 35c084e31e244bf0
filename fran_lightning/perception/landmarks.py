"""dlib's landmarks (5 or 68 points, Kazemi and Sullivan 2014) on upright faces.

The regression trees were trained with the boxes of dlib's HOG detector on faces that stand nearly upright. Both are
given to them here: every face is first cut out in FFHQ alignment, where that box has a known place.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import numpy as np

from fran_lightning.perception.alignment import FaceSquare, crop, template_points, transform_points
from fran_lightning.perception.bundled import bundled_file
from fran_lightning.perception.detection import Face, check_rgb

#: Pixels of the upright cut-out that dlib's networks look at; their own chips are 64 and 150 pixels of it.
CROP_SIZE = 256
_FILES: dict[int, tuple[str, ...]] = {
    5: ("models", "shape_predictor_5_face_landmarks.dat"),
    68: ("models", "shape_predictor_68_face_landmarks.dat"),
}


@functools.cache
def _predictor(count: int) -> Any:
    import dlib

    return dlib.shape_predictor(str(bundled_file("face_recognition_models", "face-recognition-models", *_FILES[count])))


def hog_rectangle(size: int) -> Any:
    """Where dlib's HOG detector puts its box (a ``dlib.rectangle``) in an FFHQ-aligned crop of ``size`` pixels.

    Measured on SAM faces, in units of the distance from the eyes' middle to the mouth's middle: the centre is 0.50
    below the eyes, the side is 2.44 (standard deviations 0.13 and 0.12).
    """
    import dlib

    points = template_points(size)
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    unit = np.linalg.norm(mouth - eyes)
    low, high = eyes + (0, 0.5 * unit) - 1.22 * unit, eyes + (0, 0.5 * unit) + 1.22 * unit
    return dlib.rectangle(*(round(float(value)) for value in (*low, *high)))


def crop_shape(aligned: np.ndarray, count: Literal[5, 68]) -> Any:
    """dlib's ``full_object_detection`` of an FFHQ-aligned uint8 RGB crop (S, S, 3)."""
    return _predictor(count)(aligned, hog_rectangle(aligned.shape[0]))


def crop_landmarks(aligned: np.ndarray, count: Literal[5, 68] = 68) -> np.ndarray:
    """Landmarks (count, 2) float64 of an FFHQ-aligned uint8 RGB crop (S, S, 3), in its pixels."""
    shape = crop_shape(check_rgb(aligned), count)
    return np.array([(part.x, part.y) for part in shape.parts()], dtype=np.float64)


def landmarks(image: np.ndarray, face: Face, count: Literal[5, 68] = 68) -> np.ndarray:
    """Landmarks (count, 2) float64 of a detected face in a uint8 RGB image (H, W, 3), in pixels of that image.

    68 points in the iBUG order: 0-16 jaw, 17-21 and 22-26 brows, 27-35 nose, 36-41 and 42-47 eyes, 48-67 mouth.
    """
    square = FaceSquare.from_points(face.points)
    # dlib reports whole pixels, so a large face is looked at on a larger crop
    size = int(np.clip(round(square.side), CROP_SIZE, 1024))
    return transform_points(square.to_frame(size), crop_landmarks(crop(check_rgb(image), square, size), count))
