"""The generator of github.com/ry-lu/pytorch-face-reaging-network (MIT), for the weights that its users hold.

Written from a description of the graph; no code of that repository is here.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fran_lightning.networks.generator import INPUT_CHANNELS, OUTPUT_CHANNELS, Generator

#: negative slope of the activations
LEAKY_SLOPE = 0.01
_LEVELS = 4
#: part of a pixel's neighbourhood of three in the Gaussian of sigma 1.5 cut to three pixels
_NEIGHBOURHOOD = 3 * math.exp(-0.5 / 1.5**2) / (1 + 2 * math.exp(-0.5 / 1.5**2))


def _double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(LEAKY_SLOPE),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(LEAKY_SLOPE),
    )


class _MaxBlurPool(nn.Module):
    """Dense 2 x 2 maximum, then filter 1-2-1 at stride 2 with zeros beyond the border."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(F.max_pool2d(x, 2, stride=1), (1, 1, 1, 1))
        return F.avg_pool2d(F.avg_pool2d(x, 2, stride=1), 2, stride=2)


class _GaussianBlur(nn.Module):
    """3 x 3 Gaussian of sigma 1.5, the border reflected.

    Rows, then columns: a-b-a with a + b + a = 1 lies on the line from the pixel itself to the mean of three.
    """

    def forward(self, x: Tensor) -> Tensor:
        mode = "reflect" if min(x.shape[-2:]) > 1 else "replicate"
        for padding, window in (((1, 1, 0, 0), (1, 3)), ((0, 0, 1, 1), (3, 1))):
            x = x.lerp(F.avg_pool2d(F.pad(x, padding, mode=mode), window, stride=1), _NEIGHBOURHOOD)
        return x


class _Up(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.blur = _GaussianBlur()
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.conv = _double_conv(in_channels + out_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.conv(torch.cat([self.upsample(self.blur(x)), skip], dim=1))


class RyLuUNet(Generator):
    """U-Net with batch normalisation, max+blur pooling and blurred bilinear upsampling. RGB range [-1, 1].

    Args:
        base_channels: channels at full resolution; the public weights have 64.
    """

    size_multiple = 2**_LEVELS

    def __init__(self, base_channels: int = 64) -> None:
        super().__init__()
        self.config = {"architecture": "rylu_unet", "base_channels": base_channels}
        channels = [base_channels * 2**level for level in range(_LEVELS + 1)]
        self.stem = nn.ModuleList(
            nn.Conv2d(width, channels[0], 3, padding=1) for width in (INPUT_CHANNELS, channels[0])
        )
        # one normalisation, used after both convolutions
        self.stem_norm = nn.BatchNorm2d(channels[0])
        self.down = nn.ModuleList(
            nn.Sequential(_MaxBlurPool(), _double_conv(channels[i], channels[i + 1])) for i in range(_LEVELS)
        )
        self.up = nn.ModuleList(_Up(channels[i + 1], channels[i]) for i in reversed(range(_LEVELS)))
        self.head = nn.Conv2d(channels[0], OUTPUT_CHANNELS, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def predict_delta(self, x: Tensor) -> Tensor:
        for convolution in self.stem:
            x = F.leaky_relu(self.stem_norm(convolution(x)), LEAKY_SLOPE)
        skips = [x]
        for block in self.down:
            skips.append(block(skips[-1]))
        x = skips.pop()
        for block in self.up:
            x = block(x, skips.pop())
        return self.head(x)
