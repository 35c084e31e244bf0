"""dlib's landmarks (5 or 68 points, Kazemi and Sullivan 2014) on upright faces.

The regression trees were trained with the boxes of dlib's HOG detector on faces that stand nearly upright. Both are
given to them here: every face is first cut out in FFHQ alignment, where that box has a known place.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from fran_lightning.perception.alignment import FaceSquare, template_points, transform_points
from fran_lightning.perception.bundled import bundled_file
from fran_lightning.perception.face import Face, check_rgb
from fran_lightning.perception.picture import Picture, as_picture

#: Pixels of the upright cut-out that dlib's networks look at; their own chips are 64 and 150 pixels of it.
CROP_SIZE = 256
#: Aligned squares below this many pixels show no landmarks.
_SMALLEST_SIDE = 24
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
    centre = (eyes[0], eyes[1] + 0.5 * unit)
    corners = [value + sign * 1.22 * unit for sign in (-1, 1) for value in centre]
    return dlib.rectangle(*(round(float(value)) for value in corners))


def crop_shape(aligned: np.ndarray, count: Literal[5, 68]) -> Any:
    """dlib's ``full_object_detection`` of an FFHQ-aligned uint8 RGB crop (S, S, 3)."""
    return _predictor(count)(aligned, hog_rectangle(aligned.shape[0]))


def crop_landmarks(aligned: np.ndarray, count: Literal[5, 68] = 68) -> np.ndarray:
    """Landmarks (count, 2) float64 of an FFHQ-aligned uint8 RGB crop (S, S, 3), in its pixels."""
    shape = crop_shape(check_rgb(aligned), count)
    return np.array([(part.x, part.y) for part in shape.parts()], dtype=np.float64)


@functools.cache
def mean_landmarks() -> np.ndarray:
    """The mean face's 68 landmarks in a crop of 256 pixels: what the trees answer where there is nothing to see."""
    return crop_landmarks(np.full((CROP_SIZE, CROP_SIZE, 3), 127, dtype=np.uint8), 68)


def landmarks(image: np.ndarray, face: Face, count: Literal[5, 68] = 68) -> np.ndarray:
    """Landmarks (count, 2) float64 of a detected face in a uint8 RGB image (H, W, 3), in pixels of that image.

    68 points are in the iBUG order (:class:`Face`); 5 are the corners of the eyes and the nose's base.
    """
    if count == 68 and face.landmarks is not None:
        return face.landmarks
    return _landmarks_in_square(as_picture(image), FaceSquare.from_points(face.points), count)


def _landmarks_in_square(picture: Picture, square: FaceSquare, count: Literal[5, 68]) -> np.ndarray:
    matrix = square.to_frame(CROP_SIZE)
    return transform_points(matrix, crop_landmarks(picture.cut_out(square, CROP_SIZE), count))


def five_points(landmarks68: np.ndarray) -> np.ndarray:
    """The middles of the eyes, the nose's tip and the mouth's corners (5, 2) of 68 landmarks."""
    eyes = [landmarks68[36:42].mean(axis=0), landmarks68[42:48].mean(axis=0)]
    return np.stack([*eyes, *landmarks68[[30, 48, 54]]])


def refine_face(image: np.ndarray | Picture, face: Face) -> Face:
    """``face`` of a uint8 RGB image (H, W, 3) or another picture, with landmarks, and with points taken from them.

    The face is cut out by its points, so they are found again until the cut-out stays: a detector sees only about
    half of a head's tilt. A face on which the landmarks disagree with the detector (a profile, say) keeps its points.
    """
    picture = as_picture(image)
    square = FaceSquare.from_points(face.points)
    if square.side < _SMALLEST_SIDE:
        return face
    for _ in range(3):
        found = _landmarks_in_square(picture, square, 68)
        points = five_points(found)
        better = FaceSquare.from_points(points)
        moved = np.hypot(better.x - square.x, better.y - square.y) / square.side + abs(better.angle - square.angle)
        square = better
        if moved < 0.06:
            break
    first = FaceSquare.from_points(face.points)
    shift = np.hypot(square.x - first.x, square.y - first.y)
    if shift > 0.2 * first.side or not 0.7 < square.side / first.side < 1.4:
        return face
    return replace(face, points=points.astype(np.float32), landmarks=found)
