"""The 256 x 256 alignment that SAM was trained with: FFHQ's recipe on 68 landmarks.

Karras et al., "A Style-Based Generator Architecture for GANs" (2019), appendix A: a square around eyes and mouth,
with blurred reflections where it leaves the photo. (The re-ageing network's own alignment is
``perception.alignment``; SAM's encoders want exactly this one.)
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from fran_lightning.synthesis.sam.encoder import INPUT_SIZE

_LEFT_EYE, _RIGHT_EYE, _MOUTH_CORNERS = slice(36, 42), slice(42, 48), [48, 54]


def face_quad(landmarks: np.ndarray) -> np.ndarray:
    """The square around a face as corners (4, 2): top left, bottom left, bottom right, top right.

    Args:
        landmarks: (68, 2) in the iBUG order, pixels.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    left, right = points[_LEFT_EYE].mean(axis=0), points[_RIGHT_EYE].mean(axis=0)
    eyes = (left + right) / 2
    across = right - left
    down = points[_MOUTH_CORNERS].mean(axis=0) - eyes
    x = across - np.array([-down[1], down[0]])
    x *= max(2.0 * np.hypot(*across), 1.8 * np.hypot(*down)) / np.hypot(*x)
    y = np.array([-x[1], x[0]])
    centre = eyes + 0.1 * down
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def align_photo(photo: np.ndarray, landmarks: np.ndarray, size: int = INPUT_SIZE) -> np.ndarray:
    """Cut the face with these 68 landmarks out of a photo.

    Args:
        photo: uint8 RGB (H, W, 3).
        landmarks: (68, 2) pixels of the photo.
        size: side of the result.

    Returns:
        uint8 RGB (size, size, 3).
    """
    image = Image.fromarray(photo)
    quad = face_quad(landmarks)
    side = float(np.hypot(*(quad[3] - quad[0])))

    shrink = int(np.floor(side / size * 0.5))
    if shrink > 1:
        reduced = (round(image.width / shrink), round(image.height / shrink))
        image = image.resize(reduced, Image.Resampling.LANCZOS)
        quad /= shrink
        side /= shrink

    border = max(round(side * 0.1), 3)
    low, high = np.floor(quad.min(axis=0)).astype(int), np.ceil(quad.max(axis=0)).astype(int)
    box = (
        max(low[0] - border, 0),
        max(low[1] - border, 0),
        min(high[0] + border, image.width),
        min(high[1] + border, image.height),
    )
    if box[2] - box[0] < image.width or box[3] - box[1] < image.height:
        image = image.crop(tuple(int(edge) for edge in box))
        quad -= box[:2]

    low, high = np.floor(quad.min(axis=0)).astype(int), np.ceil(quad.max(axis=0)).astype(int)
    pad = np.array([border - low[0], border - low[1], high[0] - image.width + border, high[1] - image.height + border])
    pad = np.maximum(pad, 0)
    if pad.max() > border - 4:
        pad = np.maximum(pad, round(side * 0.3))
        image = _pad_blurred(image, pad, blur=side * 0.02)
        quad += pad[:2]

    # half a pixel: the quad speaks of pixel centres, Pillow's transform of pixel corners
    corners = tuple((quad + 0.5).flatten().tolist())
    warped = image.transform((size, size), Image.Transform.QUAD, corners, Image.Resampling.BILINEAR)
    return np.asarray(warped)


def _pad_blurred(image: Image.Image, pad: np.ndarray, blur: float) -> Image.Image:
    """Reflect the photo beyond its edges, blurred and then faded to its median colour with the distance.

    Args:
        pad: pixels at left, top, right, bottom.
        blur: standard deviation of the blur in pixels.
    """
    left, top, right, bottom = (int(edge) for edge in pad)
    pixels = np.pad(np.asarray(image, dtype=np.float32), ((top, bottom), (left, right), (0, 0)), mode="reflect")
    height, width = pixels.shape[:2]
    rows, columns = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
    outside = np.maximum(
        1 - np.minimum(np.float32(columns) / left, np.float32(width - 1 - columns) / right),
        1 - np.minimum(np.float32(rows) / top, np.float32(height - 1 - rows) / bottom),
    )
    blurred = gaussian_filter(pixels, (blur, blur, 0))
    pixels += (blurred - pixels) * np.clip(outside * 3 + 1, 0, 1)
    pixels += (np.median(pixels, axis=(0, 1)) - pixels) * np.clip(outside, 0, 1)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
