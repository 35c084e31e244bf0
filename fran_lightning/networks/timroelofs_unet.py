"""The U-Net of github.com/timroelofs123/face_reaging (MIT), for the weights that its users hold.

Written from a description of the graph; no code of that repository or of ``antialiased_cnns`` (CC BY-NC-SA) is here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fran_lightning.networks.generator import INPUT_AGE, INPUT_CHANNELS, OUTPUT_CHANNELS, Generator

#: negative slope of the activations
LEAKY_SLOPE = 0.01
_LEVELS = 4


def _double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.LeakyReLU(LEAKY_SLOPE),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
        nn.LeakyReLU(LEAKY_SLOPE),
    )


class _Blur(nn.Module):
    """Filter 1-3-3-1, which is a mean of two neighbours taken three times; one more row and column at the end."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        # reflecting two pixels needs three; the deepest level of a small image may have fewer
        mode = "reflect" if min(x.shape[-2:]) > 2 else "replicate"
        x = F.pad(x, (1, 2, 1, 2), mode=mode)
        x = F.avg_pool2d(F.avg_pool2d(x, 2, stride=1), 2, stride=1)
        return F.avg_pool2d(x, 2, stride=self.stride)


class _Up(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.blur = _Blur(stride=1)
        self.conv = _double_conv(in_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.conv(torch.cat([self.blur(self.upsample(x)), skip], dim=1))


class TimRoelofsUNet(Generator):
    """U-Net with max+blur pooling and blurred transposed convolutions. Its own RGB range is [0, 1].

    Args:
        base_channels: channels at full resolution; the public weights have 64.
    """

    size_multiple = 2**_LEVELS

    def __init__(self, base_channels: int = 64) -> None:
        super().__init__()
        self.config = {"architecture": "timroelofs_unet", "base_channels": base_channels}
        channels = [base_channels * 2**level for level in range(_LEVELS + 1)]
        self.stem = _double_conv(INPUT_CHANNELS, channels[0])
        self.down = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2, stride=1), _Blur(stride=2), _double_conv(channels[i], channels[i + 1]))
            for i in range(_LEVELS)
        )
        self.up = nn.ModuleList(_Up(channels[i + 1], channels[i]) for i in reversed(range(_LEVELS)))
        self.head = nn.Conv2d(channels[0], OUTPUT_CHANNELS, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def predict_delta(self, x: Tensor) -> Tensor:
        skips = [self.stem(torch.cat([(x[:, :INPUT_AGE] + 1) / 2, x[:, INPUT_AGE:]], dim=1))]
        for block in self.down:
            skips.append(block(skips[-1]))
        x = skips.pop()
        for block in self.up:
            x = block(x, skips.pop())
        # a difference of 1 in [0, 1] is one of 2 in [-1, 1]
        return 2 * self.head(x)
