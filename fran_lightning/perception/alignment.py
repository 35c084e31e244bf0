"""FFHQ alignment: the square of a frame that holds a face upright, and the way there and back.

A square is four numbers (centre, side, angle), the four degrees of freedom of a similarity transform. They mean
something in the frame, so a film's path of squares can be smoothed number by number.

Coordinates are pixels with integer values at pixel centres. The square of side ``s`` around ``c`` reaches from
``c - s / 2`` to ``c + s / 2``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: FFHQ's mean face in a crop of 512 pixels: left eye, right eye, nose, left and right mouth corner (x, y).
FFHQ_POINTS_512 = np.array(
    [
        (192.98138, 239.94708),
        (318.90277, 240.19360),
        (256.63416, 314.01935),
        (201.26117, 371.41043),
        (313.08905, 371.15118),
    ]
)


def template_points(size: float) -> np.ndarray:
    """Where FFHQ's five points lie in a crop of ``size`` pixels: (5, 2) float64, pixel centres at integers."""
    return (FFHQ_POINTS_512 + 0.5) * (size / 512) - 0.5


@dataclass(frozen=True)
class FaceSquare:
    """A rotated square of a frame.

    Attributes:
        x, y: centre in pixels of the frame.
        side: length of an edge in pixels of the frame.
        angle: radians by which the face is turned clockwise as seen on the screen (y points down).
    """

    x: float
    y: float
    side: float
    angle: float

    @classmethod
    def from_points(cls, points: np.ndarray) -> FaceSquare:
        """The square whose FFHQ template fits five points (5, 2) of a frame best, in the least-squares sense.

        The closed form over all five points, no RANSAC: a robust estimator changes its set of inliers from one
        frame to the next, and the crop would jump.
        """
        # a similarity is one complex line: frame = rotation_scale * template + shift
        frame = np.asarray(points, dtype=np.float64) @ np.array([1, 1j])
        template = template_points(1.0) @ np.array([1, 1j])
        centred = template - template.mean()
        factor = np.vdot(centred, frame - frame.mean()) / np.vdot(centred, centred).real
        # in a crop of one pixel the middle of the square is the middle of that pixel, the origin
        centre = frame.mean() - factor * template.mean()
        return cls(float(centre.real), float(centre.imag), float(abs(factor)), float(np.angle(factor)))

    def to_frame(self, size: int) -> np.ndarray:
        """The affine matrix (2, 3) float64 from pixels of a ``size`` x ``size`` crop to pixels of the frame."""
        scale = self.side / size
        cosine, sine = scale * np.cos(self.angle), scale * np.sin(self.angle)
        middle = (size - 1) / 2
        return np.array(
            [
                [cosine, -sine, self.x - cosine * middle + sine * middle],
                [sine, cosine, self.y - sine * middle - cosine * middle],
            ]
        )

    def to_crop(self, size: int) -> np.ndarray:
        """The affine matrix (2, 3) float64 from pixels of the frame to pixels of a ``size`` x ``size`` crop."""
        scale = size / self.side
        cosine, sine = scale * np.cos(self.angle), scale * np.sin(self.angle)
        middle = (size - 1) / 2
        return np.array(
            [
                [cosine, sine, middle - cosine * self.x - sine * self.y],
                [-sine, cosine, middle + sine * self.x - cosine * self.y],
            ]
        )

    def corners(self) -> np.ndarray:
        """The four corners (4, 2) in the frame, clockwise from the one at the face's upper left."""
        half = self.side / 2
        signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        return signs @ np.array([[cosine, sine], [-sine, cosine]]) + (self.x, self.y)


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (N, 2) moved by an affine ``matrix`` (2, 3)."""
    return np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The affine matrix (2, 3) that applies ``inner`` first and ``outer`` second."""
    return outer @ np.vstack([inner, (0, 0, 1)])


def magnification(matrix: np.ndarray) -> float:
    """By how much an affine matrix (2, 3) enlarges lengths, on the geometric mean of both directions."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def pixel_grid_matrix(factor_x: float, factor_y: float | None = None) -> np.ndarray:
    """The matrix from pixels of a grid to those of one that is finer by a factor: corners stay, centres do not."""
    factor_y = factor_x if factor_y is None else factor_y
    return np.array([[factor_x, 0, (factor_x - 1) / 2], [0, factor_y, (factor_y - 1) / 2]])


def quarter_turn_matrix(turns: int, height: int, width: int) -> np.ndarray:
    """The matrix (2, 3) from ``np.rot90(stored, turns)`` back to a stored picture of ``height`` x ``width``."""
    return {
        0: np.array([[1.0, 0, 0], [0, 1, 0]]),
        1: np.array([[0.0, -1, width - 1], [1, 0, 0]]),
        2: np.array([[-1.0, 0, width - 1], [0, -1, height - 1]]),
        3: np.array([[0.0, 1, 0], [-1, 0, height - 1]]),
    }[turns % 4]


def crop(image: np.ndarray, square: FaceSquare, size: int) -> np.ndarray:
    """Cut ``square`` out of an image (H, W) or (H, W, C), upright, as (size, size[, C]) of the same type.

    As :func:`sample`.
    """
    return sample(image, square.to_frame(size), size)


def sample(image: np.ndarray, to_image: np.ndarray, size: int) -> np.ndarray:
    """A crop (size, size[, C]) of an image (H, W[, C]), where ``to_image`` (2, 3) leads from crop to image pixels.

    Cubic interpolation; where the crop is coarser than the image, the image is averaged to about the crop's
    resolution first, so that nothing aliases. What lies outside the image is its mirror image.
    """
    import cv2

    left, top, right, bottom = needed_part(to_image, size, image.shape[:2])
    region = np.ascontiguousarray(image[top:bottom, left:right])
    matrix = to_image.copy()
    matrix[:, 2] -= (left, top)
    coarser = round(magnification(to_image))
    if coarser > 1:
        height, width = region.shape[:2]
        small = (max(1, round(width / coarser)), max(1, round(height / coarser)))
        region = cv2.resize(region, small, interpolation=cv2.INTER_AREA)
        matrix = compose(pixel_grid_matrix(small[0] / width, small[1] / height), matrix)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(region, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101)


def needed_part(to_image: np.ndarray, size: int, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of an image that a crop shows; the whole image if the crop leaves it, for its mirror images."""
    height, width = shape
    last = size - 1
    corners = transform_points(to_image, np.array([(0, 0), (last, 0), (last, last), (0, last)]))
    left, top = np.floor(corners.min(axis=0)).astype(int) - 3
    right, bottom = np.ceil(corners.max(axis=0)).astype(int) + 4
    if min(left, top) < 0 or right > width or bottom > height:
        return 0, 0, width, height
    return int(left), int(top), int(right), int(bottom)
