"""Upright cut-outs for dlib's networks, from photos with detected faces or from images that are aligned already."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from fran_lightning.errors import UserError
from fran_lightning.perception.alignment import FaceSquare, crop
from fran_lightning.perception.face import Face, check_rgb
from fran_lightning.perception.landmarks import CROP_SIZE


def face_crops(image: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """FFHQ-aligned crops (N, 256, 256, 3) uint8 of the faces of a uint8 RGB image."""
    image = check_rgb(image)
    crops = [crop(image, FaceSquare.from_points(face.points), CROP_SIZE) for face in faces]
    return np.stack(crops) if crops else np.empty((0, CROP_SIZE, CROP_SIZE, 3), dtype=np.uint8)


def as_aligned_crops(images: Tensor | np.ndarray) -> np.ndarray:
    """FFHQ-aligned images of any square size as uint8 crops (N, 256, 256, 3).

    Args:
        images: float tensor (N, 3, S, S) in [-1, 1], or uint8 array (N, S, S, 3) or (S, S, 3).

    Raises:
        UserError: another shape or type.
    """
    import cv2

    if isinstance(images, Tensor):
        if images.ndim != 4 or images.shape[1] != 3:
            raise UserError(f"faces must be a tensor (N, 3, S, S), not {tuple(images.shape)}")
        scaled = images.detach().float().clamp(-1, 1).add(1).mul(127.5).round()
        array = scaled.byte().permute(0, 2, 3, 1).cpu().numpy()
    else:
        array = images[None] if images.ndim == 3 else images
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1] != array.shape[2] or array.shape[3] != 3:
        raise UserError(f"aligned faces must be square RGB images, not {array.dtype} {array.shape}")
    if array.shape[1] == CROP_SIZE:
        return np.ascontiguousarray(array)
    how = cv2.INTER_AREA if array.shape[1] > CROP_SIZE else cv2.INTER_CUBIC
    resized = [cv2.resize(image, (CROP_SIZE, CROP_SIZE), interpolation=how) for image in array]
    return np.stack(resized) if resized else np.empty((0, CROP_SIZE, CROP_SIZE, 3), dtype=np.uint8)
