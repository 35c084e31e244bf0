"""Between 8-bit pictures and the tensors of SAM, as the official code does it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fran_lightning.synthesis.sam.encoder import INPUT_SIZE


def face_tensor(pixels: np.ndarray) -> Tensor:
    """An aligned uint8 RGB face (H, W, 3) as the encoders read it: (1, 3, 256, 256) in [-1, 1].

    Resized with Pillow's bilinear filter, which averages when it shrinks; unchanged if 256 x 256 already.
    """
    resized = Image.fromarray(pixels).resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BILINEAR)
    return images_tensor([np.asarray(resized)])


def images_tensor(images: Sequence[np.ndarray]) -> Tensor:
    """uint8 RGB images (H, W, 3) of one size as a float32 tensor (B, 3, H, W) in [-1, 1]."""
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return (stacked.float() / 255 - 0.5) / 0.5


def resize_output(images: Tensor, size: int) -> Tensor:
    """Average (B, 3, S, S) down to ``size`` x ``size``, before any clamping; S is a multiple of ``size``."""
    return images if images.shape[-1] == size else F.adaptive_avg_pool2d(images, size)


def to_uint8(images: Tensor) -> np.ndarray:
    """Tensor (B, 3, H, W), nominally [-1, 1], as uint8 (B, H, W, 3): clamped, and truncated rather than rounded."""
    scaled = ((images.float() + 1) / 2).clamp(0, 1) * 255
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
