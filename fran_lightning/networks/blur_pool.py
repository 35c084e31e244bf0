"""Anti-aliased downsampling (Zhang 2019, "Making Convolutional Networks Shift-Invariant Again").

A binomial filter is a row of averages of neighbouring pixels, so blur pooling is written here with average
pooling alone: on CPU it is several times faster than the depthwise convolution that libraries use. Both layers
are symmetric about the 2 x 2 block that an output pixel stands for, which is where bilinear upsampling puts it.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def _pad_by_one(x: Tensor) -> Tensor:
    # reflection needs two pixels; the deepest level of a small image may have one
    mode = "reflect" if min(x.shape[-2:]) > 1 else "replicate"
    return F.pad(x, (1, 1, 1, 1), mode=mode)


def _average_neighbours(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2, stride=1)


def _average_blocks(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2, stride=2, ceil_mode=True)


class BlurPool2d(nn.Module):
    """Filter 1-3-3-1 at stride 2: (B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2)). No parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return _average_blocks(_average_neighbours(_average_neighbours(_pad_by_one(x))))


class MaxBlurPool2d(nn.Module):
    """Dense 2 x 2 maximum, then filter 1-2-1 at stride 2: (B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2)).

    No parameters. Output pixel i sees the input pixels 2i - 1 to 2i + 2.
    """

    def forward(self, x: Tensor) -> Tensor:
        return _average_blocks(_average_neighbours(F.max_pool2d(_pad_by_one(x), 2, stride=1)))
