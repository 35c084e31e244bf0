"""Ages in years, and the age maps that tell the generator how old each pixel is.

An age map is a float32 tensor (B, 1, H, W) of years / 100, the encoding of the FRAN paper (Zoss et al. 2022,
section 3.2). Every public signature here speaks of years.

Three kinds of map exist: *uniform* (one age everywhere), *regional* (a soft mask chooses where the target age
applies; elsewhere the target is the input age, so the network is asked to change nothing there) and *painted*
(an artist's image, one grey level per age).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fran_lightning.errors import UserError

MINIMUM_AGE = 0.0
MAXIMUM_AGE = 100.0
#: An age map holds years divided by this.
YEARS_PER_UNIT = 100.0


def even_ages(count: int = 14, youngest: int = 18, oldest: int = 85) -> tuple[int, ...]:
    """``count`` whole ages spread evenly over [youngest, oldest] years (the paper: 14 between 18 and 85)."""
    return tuple(round(age) for age in np.linspace(youngest, oldest, count).tolist())


#: 18 23 28 33 39 44 49 54 59 64 70 75 80 85: the default of the generators. A dataset names its own ages.
DEFAULT_AGES = even_ages()


def validate_years(years: Tensor | Sequence[float] | float, what: str = "age") -> Tensor:
    """``years`` as a float32 tensor, checked to be finite and within 0 to 100.

    Raises:
        UserError: NaN, infinity or an age outside the range; the message names ``what`` and the first bad value.
    """
    values = torch.as_tensor(years, dtype=torch.float32)
    bad = ~torch.isfinite(values) | (values < MINIMUM_AGE) | (values > MAXIMUM_AGE)
    if bad.any():
        first = values[bad].flatten()[0].item()
        raise UserError(f"{what} {first:g} is not an age; give years from {MINIMUM_AGE:g} to {MAXIMUM_AGE:g}")
    return values


def parse_ages(text: str | Iterable[float]) -> tuple[int, ...]:
    """A list of distinct whole ages from ``"18,23,85"`` or from numbers, sorted.

    Raises:
        UserError: fewer than two ages, a repeated one, a word that is not a number, or an age out of range.
    """
    words = text.replace(",", " ").split() if isinstance(text, str) else list(text)
    try:
        ages = sorted(int(word) for word in words)
    except ValueError as error:
        raise UserError(f"ages {text!r} are not whole numbers; write them like 18,35,65") from error
    if len(ages) < 2 or len(set(ages)) != len(ages):
        raise UserError(f"ages {text!r} must be at least two different ages")
    validate_years([float(age) for age in ages])
    return tuple(ages)


def uniform_age_map(years: Tensor | Sequence[float] | float, height: int, width: int) -> Tensor:
    """Age maps (B, 1, H, W) that hold one age each; ``years`` is a number or (B,) numbers.

    The returned tensor is a broadcast view: it costs no memory, and must not be written to in place.

    Raises:
        UserError: ages out of range, or ``years`` with more than one dimension.
    """
    values = validate_years(years)
    if values.ndim > 1:
        raise UserError(f"ages must be a number or a list of numbers, not an array of shape {tuple(values.shape)}")
    return (values.reshape(-1, 1, 1, 1) / YEARS_PER_UNIT).expand(-1, 1, height, width)


def regional_age_map(input_years: Tensor | float, target_years: Tensor | float, mask: Tensor) -> Tensor:
    """Target-age maps (B, 1, H, W): the target age where ``mask`` is 1, the input age where it is 0.

    Args:
        input_years: age of the face in the picture, a number or (B,).
        target_years: age wanted inside the mask, a number or (B,).
        mask: (B, 1, H, W) in [0, 1]; soft values blend the two ages linearly.

    Raises:
        UserError: ages out of range, a mask of another shape, with NaN, or with values outside [0, 1].
    """
    if mask.ndim != 4 or mask.shape[1] != 1:
        raise UserError(f"a region mask must have the shape (B, 1, H, W), not {tuple(mask.shape)}")
    if not torch.isfinite(mask).all() or mask.min() < 0 or mask.max() > 1:
        raise UserError("a region mask must hold numbers from 0 to 1 and no NaN")
    batch, _, height, width = mask.shape
    start = uniform_age_map(input_years, height, width).to(mask).expand(batch, -1, -1, -1)
    target = uniform_age_map(target_years, height, width).to(mask).expand(batch, -1, -1, -1)
    return start + (target - start) * mask


def painted_age_map(path: str | os.PathLike[str], height: int | None = None, width: int | None = None) -> Tensor:
    """An age map (1, 1, H, W) from a grey image: black is 0 years, white is 100 years, 8 or 16 bit.

    Resized bilinearly to ``height`` x ``width`` where these are given.

    Raises:
        UserError: the file is missing, is no image, or is a colour image whose channels differ.
    """
    import cv2

    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if Path(path).is_file() else None
    if pixels is None:
        raise UserError(f"age map {path} is missing or no image; give a grey PNG or TIFF, black = 0, white = 100 years")
    if not np.issubdtype(pixels.dtype, np.integer):
        raise UserError(f"age map {path} has {pixels.dtype} pixels; save it with 8 or 16 bits per channel")
    full_scale = float(np.iinfo(pixels.dtype).max)
    if pixels.ndim == 3:
        colour = pixels[..., :3]
        if (colour != colour[..., :1]).any():
            raise UserError(f"age map {path} is a colour image; paint it in grey, black = 0, white = 100 years")
        pixels = colour[..., 0]
    plane = pixels.astype(np.float32) / full_scale
    if height is not None and width is not None and plane.shape != (height, width):
        plane = cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(plane)[None, None] * (MAXIMUM_AGE / YEARS_PER_UNIT)


def validate_age_map(age_map: Tensor, height: int, width: int) -> Tensor:
    """Check an age map (B, 1, ``height``, ``width``) that comes from outside; return it as float32.

    Raises:
        UserError: another shape, NaN, or ages outside 0 to 100 years.
    """
    if age_map.ndim != 4 or age_map.shape[1] != 1 or age_map.shape[2:] != (height, width):
        raise UserError(f"an age map must have the shape (B, 1, {height}, {width}), not {tuple(age_map.shape)}")
    if math.prod(age_map.shape) == 0:
        raise UserError("an age map must not be empty")
    validate_years(age_map * YEARS_PER_UNIT, what="age map value")
    return age_map.float()
