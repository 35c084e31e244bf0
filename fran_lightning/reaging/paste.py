"""Bringing a crop's delta back into the frame: the delta is added, the crop is never pasted.

So the frame keeps its own grain and sharpness, and where the delta is zero its pixels stay as they are, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fran_lightning.perception.alignment import (
    compose,
    magnification,
    pixel_grid_matrix,
    transform_points,
)


@dataclass(frozen=True)
class Patch:
    """Values (h, w[, C]) float32 for the part of a frame whose upper left pixel is ``left``, ``top``."""

    left: int
    top: int
    values: np.ndarray

    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the frame that the patch covers."""
        height, width = self.values.shape[:2]
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def weighted(self, weights: np.ndarray) -> Patch:
        """The values times a frame's weights (H, W)."""
        part = weights[self.window()]
        return Patch(self.left, self.top, self.values * (part[..., None] if self.values.ndim == 3 else part))


def sum_patches(patches: Sequence[Patch]) -> Patch:
    """One patch that holds the sum of ``patches``; those of no size do not count.

    Raises:
        ValueError: there is none.
    """
    seen = [patch for patch in patches if patch.values.size] or list(patches[:1])
    if len(seen) == 1:
        return seen[0]
    left, top = min(patch.left for patch in seen), min(patch.top for patch in seen)
    right = max(patch.left + patch.values.shape[1] for patch in seen)
    bottom = max(patch.top + patch.values.shape[0] for patch in seen)
    total = np.zeros((bottom - top, right - left, *seen[0].values.shape[2:]), dtype=np.float32)
    for patch in seen:
        total[Patch(patch.left - left, patch.top - top, patch.values).window()] += patch.values
    return Patch(left, top, total)


def spread(values: np.ndarray, to_image: np.ndarray, height: int, width: int) -> Patch:
    """Crop values (S, S[, C]) float32 on the pixel grid of a ``height`` x ``width`` image.

    ``to_image`` (2, 3) leads from crop to image pixels. The values must fall to zero at the crop's border, or the
    border shows. Cubic interpolation; where the crop is denser than the image it is averaged first. Values of zero
    stay zero, but for the two pixels beside others.
    """
    import cv2

    size = values.shape[0]
    coarser = max(1, round(1 / magnification(to_image)))
    if coarser > 1:
        small = max(1, round(size / coarser))
        values = cv2.resize(values, (small, small), interpolation=cv2.INTER_AREA)
        to_image = compose(to_image, pixel_grid_matrix(size / small))
        size = small
    edge = np.array([(-0.5, -0.5), (size - 0.5, -0.5), (size - 0.5, size - 0.5), (-0.5, size - 0.5)])
    corners = transform_points(to_image, edge)
    left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 1, (width, height))
    if right <= left or bottom <= top:
        return Patch(0, 0, np.zeros((0, 0, *values.shape[2:]), dtype=np.float32))
    matrix = to_image.copy()
    matrix[:, 2] -= (left, top)
    shape = (int(right - left), int(bottom - top))
    region = cv2.warpAffine(values, matrix, shape, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
    return Patch(int(left), int(top), region)


def add_delta(image: np.ndarray, delta: Patch) -> None:
    """Add a delta in the network's units (a span of 2 from black to white) to an image (H, W, C), in place.

    Integer images are rounded and clipped. Float images are in [-1, 1]; values that lie beyond it already may stay
    there, but the delta does not carry any pixel further out.
    """
    region = image[delta.window()]
    if image.dtype.kind == "f":
        result = region + delta.values
        np.clip(result, np.minimum(region, -1), np.maximum(region, 1), out=result)
        region[...] = result
    else:
        white = np.iinfo(image.dtype).max
        add_codes(region, delta.values * np.float32(white / 2), white)


def add_codes(region: np.ndarray, change: np.ndarray, white: int) -> None:
    """Add ``change`` (float32) to uint8 or uint16 values in place, rounded and clipped to [0, ``white``]."""
    import cv2

    if not region.size:
        return
    depth = cv2.CV_8U if region.dtype == np.uint8 else cv2.CV_16U
    total = cv2.add(region, change, dtype=depth)
    region[...] = total if white == np.iinfo(region.dtype).max else np.minimum(total, np.array(white, total.dtype))
