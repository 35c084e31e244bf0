"""Pictures to paint with: photographs, noise, gradients, stripes and strands, float32 RGB (H, W, 3) in [0, 1]."""

from __future__ import annotations

import functools

import cv2
import numpy as np

#: scikit-image's sample pictures that lie in its wheel, all CC0 or in the public domain; none shows a face
_PHOTOGRAPHS = (
    "brick", "chelsea", "coffee", "coins", "grass", "gravel", "hubble_deep_field", "immunohistochemistry", "moon",
    "rocket", "stereo_motorcycle",
)  # fmt: skip


@functools.cache
def photographs() -> tuple[np.ndarray, ...]:
    """The sample photographs, uint8 RGB."""
    import skimage.data

    pictures = []
    for name in _PHOTOGRAPHS:
        picture = getattr(skimage.data, name)()
        picture = picture[0] if isinstance(picture, tuple) else picture
        pictures.append(np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture[..., :3])
    return tuple(pictures)


def _noise(rng: np.random.Generator, height: int, width: int, cells: float, channels: int) -> np.ndarray:
    """Smooth noise (H, W, channels) of about unit variance with about ``cells`` bumps along the height."""
    rows = max(2, round(cells))
    columns = max(2, round(cells * width / height))
    coarse = rng.standard_normal((rows, columns, channels)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, channels)


def colour(rng: np.random.Generator) -> np.ndarray:
    """A random colour (3,), saturated or not."""
    grey = rng.uniform(0.02, 1.0)
    tint = rng.uniform(-1, 1, 3) * rng.choice([0.05, 0.2, 0.6])
    return np.clip(grey + tint, 0, 1).astype(np.float32)


def photograph(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A random cut of a sample photograph, mirrored, turned, scaled, and in other colours."""
    pictures = photographs()
    picture = pictures[int(rng.integers(len(pictures)))]
    side = int(rng.uniform(0.15, 1.0) * min(picture.shape[:2]))
    side = max(side, 24)
    top = int(rng.integers(picture.shape[0] - side + 1))
    left = int(rng.integers(picture.shape[1] - side + 1))
    cut = picture[top : top + side, left : left + side]
    cut = np.rot90(cut, int(rng.integers(4)))
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    cut = cv2.resize(np.ascontiguousarray(cut), (width, height), interpolation=cv2.INTER_LINEAR)
    cut = cut.astype(np.float32) / 255
    if rng.random() < 0.5:
        cut = cut[..., rng.permutation(3)]
    return np.clip((cut - 0.5) * rng.uniform(0.4, 1.3) + rng.uniform(0.2, 0.8), 0, 1)


def clouds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Colours that run into each other, from soft to grainy."""
    first, second = colour(rng), colour(rng)
    weight = np.zeros((height, width, 1), np.float32)
    cells, strength = rng.uniform(1.5, 6), 1.0
    for _ in range(int(rng.integers(1, 6))):
        weight += strength * _noise(rng, height, width, min(cells, height), 1)
        cells, strength = cells * 2.2, strength * rng.uniform(0.4, 0.8)
    weight = 1 / (1 + np.exp(-1.5 * weight))
    return first * weight + second * (1 - weight)


def gradient(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A linear run from one colour to another, or one flat colour."""
    first = colour(rng)
    second = first if rng.random() < 0.3 else colour(rng)
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    run = (x / width - 0.5) * np.cos(angle) + (y / height - 0.5) * np.sin(angle)
    weight = np.clip(run / rng.uniform(0.6, 1.4) + 0.5, 0, 1)[..., None].astype(np.float32)
    return first * (1 - weight) + second * weight


def stripes(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Stripes or checks, as on cloth."""
    period, angle = rng.uniform(4, 40), rng.uniform(0, np.pi)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = -x * np.sin(angle) + y * np.cos(angle)
    weight = (np.sin(along * 2 * np.pi / period) > rng.uniform(-0.6, 0.6)).astype(np.float32)
    if rng.random() < 0.4:
        weight = 0.5 * (weight + (np.sin(across * 2 * np.pi / period) > 0))
    return colour(rng) * weight[..., None] + colour(rng) * (1 - weight[..., None])


def strands(rng: np.random.Generator, height: int, width: int, tint: np.ndarray) -> np.ndarray:
    """Hair of a mean colour ``tint`` (3,): fine streaks in waves, with broad lights and shadows."""
    grain = rng.standard_normal((height, width)).astype(np.float32)
    length = int(rng.integers(7, 41)) | 1
    kernel = np.zeros((length, length), np.float32)
    middle, angle = length // 2, rng.uniform(0, np.pi)
    offset = np.array([np.cos(angle), np.sin(angle)]) * middle
    ends = [tuple(round(float(middle + sign * o)) for o in offset) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1)
    streaks = cv2.filter2D(grain, -1, kernel / np.sqrt(kernel.sum()))
    bend = _noise(rng, height, width, rng.uniform(2, 6), 2) * rng.uniform(0, 12)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    streaks = cv2.remap(streaks, x + bend[..., 0], y + bend[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    lights = _noise(rng, height, width, rng.uniform(2, 8), 1)[..., 0]
    shade = 1 + rng.uniform(0.03, 0.35) * streaks + rng.uniform(0.05, 0.4) * lights
    return np.clip(tint * np.clip(shade, 0.1, 3)[..., None], 0, 1)


def hair_colour(rng: np.random.Generator) -> np.ndarray:
    """A hair colour (3,): black to white by way of brown, red and blond, sometimes dyed."""
    if rng.random() < 0.1:
        return colour(rng)
    tones = np.array(
        [(0.03, 0.03, 0.035), (0.12, 0.08, 0.06), (0.3, 0.19, 0.12), (0.42, 0.2, 0.1), (0.72, 0.58, 0.38),
         (0.45, 0.44, 0.43), (0.85, 0.84, 0.82)], np.float32,
    )  # fmt: skip
    first, second = tones[rng.integers(len(tones), size=2)]
    weight = rng.uniform(0, 1) ** 2
    return np.clip((first * (1 - weight) + second * weight) * rng.uniform(0.7, 1.3), 0, 1)


def any_texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Any of the above, sharp or out of focus, fine or coarse."""
    kind = rng.random()
    if kind < 0.45:
        picture = photograph(rng, height, width)
    elif kind < 0.65:
        picture = clouds(rng, height, width)
    elif kind < 0.85:
        picture = gradient(rng, height, width)
    else:
        picture = stripes(rng, height, width)
    if rng.random() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.6, 12))
    return np.ascontiguousarray(picture, dtype=np.float32)
