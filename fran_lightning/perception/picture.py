"""What looking for faces needs of a picture: small copies of all of it, and cut-outs of its faces.

A film's frame can make both from the way it is stored, without ever becoming a full-size RGB picture
(:mod:`fran_lightning.reaging.frame_picture`).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from fran_lightning.perception.alignment import FaceSquare, crop
from fran_lightning.perception.face import check_rgb


class Picture(Protocol):
    """An upright picture, however it is stored."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels, to which all coordinates refer."""

    def reduced(self, longest_side: int) -> np.ndarray:
        """All of it as uint8 RGB in the size of :func:`reduced_size`."""

    def cut_out(self, square: FaceSquare, size: int) -> np.ndarray:
        """A square of it, upright, as uint8 RGB (size, size, 3)."""


class ArrayPicture:
    """A uint8 RGB array (H, W, 3)."""

    def __init__(self, image: np.ndarray) -> None:
        """
        Raises:
            UserError: another type or shape.
        """
        self._image = check_rgb(image)

    @property
    def shape(self) -> tuple[int, int]:
        return self._image.shape[0], self._image.shape[1]

    def reduced(self, longest_side: int) -> np.ndarray:
        import cv2

        height, width = reduced_size(self.shape, longest_side)
        if (height, width) == self.shape:
            return self._image
        shrinks = width < self.shape[1]
        return cv2.resize(self._image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)

    def cut_out(self, square: FaceSquare, size: int) -> np.ndarray:
        return crop(self._image, square, size)


def as_picture(image: np.ndarray | Picture) -> Picture:
    """``image`` itself, or the picture that an array is.

    Raises:
        UserError: an array of another type or shape than uint8 RGB.
    """
    return ArrayPicture(image) if isinstance(image, np.ndarray) else image


def reduced_size(shape: tuple[int, int], longest_side: int) -> tuple[int, int]:
    """Height and width of a copy whose sides are at most ``longest_side``, but 32 at least."""
    scale = min(1.0, longest_side / max(shape))
    # YuNet needs a few cells of its coarsest grid (32 pixels) to look at
    return max(32, round(shape[0] * scale)), max(32, round(shape[1] * scale))
