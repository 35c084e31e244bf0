"""Pictures and generators that several re-ageing tests share."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from skimage.data import astronaut
from torch import Tensor, nn

from fran_lightning.networks.unet import FRANUNet
from fran_lightning.networks.weights import save_generator


@functools.cache
def portrait() -> np.ndarray:
    """NASA's portrait of Eileen Collins (public domain) at 384 x 320, uint8 RGB. Read only."""
    pixels = np.ascontiguousarray(astronaut()[:320, 60:444])
    pixels.flags.writeable = False
    return pixels


class Darken(nn.Module):
    """Darkens everything by ``amount``, a delta whose effect is known."""

    def __init__(self, amount: float = 0.25) -> None:
        super().__init__()
        self.amount = nn.Parameter(torch.tensor(amount))

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :3]) - self.amount


class AgeDifference(nn.Module):
    """Brightens by target age minus input age, pixel by pixel: what the network was told, made visible."""

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, 4:5] - x[:, 3:4]).expand(-1, 3, -1, -1)


def save_random_generator(path: Path, image_size: int = 128) -> Path:
    """A small FRAN U-Net with random weights that does change pictures."""
    torch.manual_seed(0)
    generator = FRANUNet(base_channels=4, depth=2)
    nn.init.normal_(generator.head.weight, std=0.2)
    save_generator(path, generator, {"image_size": image_size, "ages": [18, 85]})
    return path
