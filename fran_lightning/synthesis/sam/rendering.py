"""One face at many ages: number formats, batches, image size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fran_lightning.synthesis.sam.model import SAM
from fran_lightning.synthesis.sam.pixels import resize_output, to_uint8

Precision = Literal["float32", "tf32", "bfloat16", "float16"]


def feature_dtype(precision: Precision) -> torch.dtype:
    """Number format of the generator's feature maps from 128 x 128 on (the rest is always float32)."""
    return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision, torch.float32)


def set_float32_products(precision: Precision) -> None:
    """Let GPUs multiply float32 numbers in full (``float32``) or with TF32's 10 bits (all others)."""
    products = "ieee" if precision == "float32" else "tf32"
    torch.backends.cuda.matmul.fp32_precision = products
    torch.backends.cudnn.conv.fp32_precision = products


@dataclass(frozen=True)
class RenderSettings:
    """How images are made.

    Args:
        ages: target ages in years.
        image_size: side of the images; the network's output size or that divided by a whole number.
        batch_size: ages computed at once; 0 takes one on the CPU and all on a GPU.
        precision: see :func:`feature_dtype` and :func:`set_float32_products`.
    """

    ages: tuple[int, ...]
    image_size: int
    batch_size: int = 0
    precision: Precision = "float32"


def chosen_batch_size(settings: RenderSettings, device_type: str) -> int:
    """The number of ages computed at once; on a CPU one by one is fastest, and takes the least memory."""
    return settings.batch_size or (1 if device_type == "cpu" else len(settings.ages))


def render_ages(sam: SAM, face: Tensor, settings: RenderSettings) -> np.ndarray:
    """One face at all ages.

    Args:
        sam: the networks.
        face: (1, 3, 256, 256) in [-1, 1] on the device of ``sam``, FFHQ-aligned.
        settings: ages, size and number format.

    Returns:
        uint8 RGB (ages, size, size, 3).
    """
    dtype = feature_dtype(settings.precision)
    # age-independent, so once per identity
    identity_codes = sam.identity_codes(face)
    images = []
    step = chosen_batch_size(settings, face.device.type)
    for start in range(0, len(settings.ages), step):
        codes = sam.aged_codes(face, settings.ages[start : start + step], identity_codes)
        images.append(to_uint8(resize_output(sam.render(codes, dtype), settings.image_size)))
    return np.concatenate(images)
