"""BiSeNet V2 (Yu et al. 2021, "BiSeNet V2: Bilateral Network with Guided Aggregation ...", IJCV).

A wide, shallow branch keeps the detail at 1/8 of the resolution, a narrow, deep one gathers the meaning at 1/32, and
each guides the other where they meet. Parameter names are those of the public reference implementation, so that its
weights load by their own keys; it changed the heads twice, and all three layouts are here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: How logits come to full resolution. ``upsample``: the current layout, bilinear between pixel corners.
#: ``pixel_shuffle``: September 2020 to July 2021. ``plain``: August 2020, one convolution, bilinear with
#: ``align_corners``, which that version's aggregation used as well.
HeadLayout = Literal["upsample", "pixel_shuffle", "plain"]

#: sides of the input must be multiples of this
SIZE_MULTIPLE = 32
AuxiliaryHead = Literal["aux2", "aux3", "aux4", "aux5_4"]
AUXILIARY_HEADS: tuple[AuxiliaryHead, ...] = get_args(AuxiliaryHead)
#: channels of the stages that feed the auxiliary heads, and the resolution of each (1 / stride)
_AUXILIARY = {"aux2": (16, 4), "aux3": (32, 8), "aux4": (64, 16), "aux5_4": (128, 32)}


class ConvBNReLU(nn.Module):
    """Convolution without bias, batch normalisation, ReLU; the padding keeps the size at stride 1."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


def _depthwise(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    """3x3 convolution within each channel, and batch normalisation."""
    return [nn.Conv2d(inputs, outputs, 3, stride, 1, groups=inputs, bias=False), nn.BatchNorm2d(outputs)]


def _pointwise(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]


class DetailBranch(nn.Module):
    """(B, 3, H, W) -> (B, 128, H / 8, W / 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.S1 = nn.Sequential(ConvBNReLU(3, 64, stride=2), ConvBNReLU(64, 64))
        self.S2 = nn.Sequential(ConvBNReLU(64, 64, stride=2), ConvBNReLU(64, 64), ConvBNReLU(64, 64))
        self.S3 = nn.Sequential(ConvBNReLU(64, 128, stride=2), ConvBNReLU(128, 128), ConvBNReLU(128, 128))

    def forward(self, x: Tensor) -> Tensor:
        return self.S3(self.S2(self.S1(x)))


class StemBlock(nn.Module):
    """(B, 3, H, W) -> (B, 16, H / 4, W / 4), by convolution and by pooling side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = ConvBNReLU(3, 16, stride=2)
        self.left = nn.Sequential(ConvBNReLU(16, 8, kernel=1), ConvBNReLU(8, 16, stride=2))
        self.right = nn.MaxPool2d(3, stride=2, padding=1)
        self.fuse = ConvBNReLU(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.fuse(torch.cat([self.left(x), self.right(x)], dim=1))


class GatherExpansion(nn.Module):
    """The inverted residual of the semantic branch: 3x3, depthwise to ``expansion`` times the channels, back by 1x1."""

    def __init__(self, channels: int, expansion: int = 6) -> None:
        super().__init__()
        middle = channels * expansion
        self.conv1 = ConvBNReLU(channels, channels)
        self.dwconv = nn.Sequential(*_depthwise(channels, middle), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(*_pointwise(middle, channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(self.dwconv(self.conv1(x))) + x, inplace=True)


class GatherExpansionDown(nn.Module):
    """The same at stride 2, with a second depthwise convolution and a separable shortcut."""

    def __init__(self, inputs: int, outputs: int, expansion: int = 6) -> None:
        super().__init__()
        middle = inputs * expansion
        self.conv1 = ConvBNReLU(inputs, inputs)
        self.dwconv1 = nn.Sequential(*_depthwise(inputs, middle, stride=2))
        self.dwconv2 = nn.Sequential(*_depthwise(middle, middle), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(*_pointwise(middle, outputs))
        self.shortcut = nn.Sequential(*_depthwise(inputs, inputs, stride=2), *_pointwise(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        deep = self.conv2(self.dwconv2(self.dwconv1(self.conv1(x))))
        return F.relu(deep + self.shortcut(x), inplace=True)


class ContextEmbedding(nn.Module):
    """Adds what the whole picture shows to every place: (B, 128, h, w) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(128)
        self.conv_gap = ConvBNReLU(128, 128, kernel=1)
        self.conv_last = ConvBNReLU(128, 128)

    def forward(self, x: Tensor) -> Tensor:
        whole = self.conv_gap(self.bn(x.mean(dim=(2, 3), keepdim=True)))
        return self.conv_last(whole + x)


class SemanticBranch(nn.Module):
    """(B, 3, H, W) -> features of 16, 32, 64, 128 and 128 channels at 1/4, 1/8, 1/16, 1/32 and 1/32."""

    def __init__(self) -> None:
        super().__init__()
        self.S1S2 = StemBlock()
        self.S3 = nn.Sequential(GatherExpansionDown(16, 32), GatherExpansion(32))
        self.S4 = nn.Sequential(GatherExpansionDown(32, 64), GatherExpansion(64))
        self.S5_4 = nn.Sequential(GatherExpansionDown(64, 128), *(GatherExpansion(128) for _ in range(3)))
        self.S5_5 = ContextEmbedding()

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for stage in (self.S1S2, self.S3, self.S4, self.S5_4, self.S5_5):
            x = stage(x)
            features.append(x)
        return features


class GuidedAggregation(nn.Module):
    """Joins detail (B, 128, h, w) and meaning (B, 128, h / 4, w / 4), each weighted by the other, at (h, w)."""

    def __init__(self, corners_aligned: bool) -> None:
        super().__init__()
        self.corners_aligned = corners_aligned
        self.left1 = nn.Sequential(*_depthwise(128, 128), nn.Conv2d(128, 128, 1, bias=False))
        self.left2 = nn.Sequential(
            nn.Conv2d(128, 128, 3, 2, 1, bias=False), nn.BatchNorm2d(128), nn.AvgPool2d(3, stride=2, padding=1)
        )
        self.right1 = nn.Sequential(nn.Conv2d(128, 128, 3, 1, 1, bias=False), nn.BatchNorm2d(128))
        self.right2 = nn.Sequential(*_depthwise(128, 128), nn.Conv2d(128, 128, 1, bias=False))
        self.conv = nn.Sequential(nn.Conv2d(128, 128, 3, 1, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU(inplace=True))

    def forward(self, detail: Tensor, semantic: Tensor) -> Tensor:
        size = detail.shape[-2:]
        fine = self.left1(detail) * self._enlarged(self.right1(semantic), size).sigmoid()
        coarse = self.left2(detail) * self.right2(semantic).sigmoid()
        return self.conv(fine + self._enlarged(coarse, size))

    def _enlarged(self, x: Tensor, size: torch.Size) -> Tensor:
        if self.corners_aligned:
            return F.interpolate(x, size=size, mode="bilinear", align_corners=True)
        return F.interpolate(x, size=size, mode="nearest")


class SegmentHead(nn.Module):
    """Features at 1 / ``stride`` -> logits (B, classes, H, W) at full resolution."""

    def __init__(
        self, inputs: int, middle: int, classes: int, stride: int, layout: HeadLayout, auxiliary: bool
    ) -> None:
        super().__init__()
        self.stride = stride
        self.conv = ConvBNReLU(inputs, middle)
        self.drop = nn.Dropout(0.1)
        self.conv_out: nn.Module
        if layout == "plain":
            self.conv_out = nn.Conv2d(middle, classes, 1)
        elif layout == "upsample":
            # an auxiliary head goes half of the way with learned features
            first: nn.Module = nn.Identity()
            if auxiliary:
                first = nn.Sequential(nn.Upsample(scale_factor=2), ConvBNReLU(middle, stride**2))
            last = nn.Conv2d(stride**2 if auxiliary else middle, classes, 1)
            factor = stride // 2 if auxiliary else stride
            self.conv_out = nn.Sequential(first, last, nn.Upsample(scale_factor=factor, mode="bilinear"))
        else:
            last = nn.Conv2d(stride**2 if auxiliary else middle, classes * stride**2, 1)
            before = [ConvBNReLU(middle, stride**2)] if auxiliary else []
            self.conv_out = nn.Sequential(*before, last, nn.PixelShuffle(stride))

    def coarse(self, x: Tensor) -> Tensor:
        """The logits before they are enlarged; in the ``upsample`` layout those of an auxiliary head at 2 / stride."""
        features = self.drop(self.conv(x))
        return self.conv_out[:-1](features) if isinstance(self.conv_out, nn.Sequential) else self.conv_out(features)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.coarse(x)
        if isinstance(self.conv_out, nn.Sequential):
            return self.conv_out[-1](logits)
        return F.interpolate(logits, scale_factor=self.stride, mode="bilinear", align_corners=True)


class BiSeNetV2(nn.Module):
    """``network(x)``: x (B, 3, H, W) normalised with ImageNet's mean and deviation, sides multiples of 32; returns
    logits (B, classes, H, W). 3.36 M parameters for 19 classes, 5.23 M with the auxiliary heads of training.

    Args:
        classes: number of classes.
        layout: of the heads.
        auxiliary: which heads on the semantic branch to build; training supervises them (:meth:`coarse_logits`).
    """

    def __init__(
        self, classes: int = 19, layout: HeadLayout = "upsample", auxiliary: Sequence[AuxiliaryHead] = ()
    ) -> None:
        super().__init__()
        self.detail = DetailBranch()
        self.segment = SemanticBranch()
        self.bga = GuidedAggregation(corners_aligned=layout == "plain")
        self.head = SegmentHead(128, 1024, classes, 8, layout, auxiliary=False)
        self.auxiliary = tuple(auxiliary)
        for name in self.auxiliary:
            channels, stride = _AUXILIARY[name]
            setattr(self, name, SegmentHead(channels, 128, classes, stride, layout, auxiliary=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.bga(self.detail(x), self.segment(x)[-1]))

    def all_logits(self, x: Tensor) -> list[Tensor]:
        """The logits of the head and of every auxiliary head; each (B, classes, H, W)."""
        return [head(feature) for head, feature in self._heads(x)]

    def coarse_logits(self, x: Tensor) -> list[Tensor]:
        """As :meth:`all_logits`, but at the resolution at which each head computes (1/8 for the main one)."""
        return [head.coarse(feature) for head, feature in self._heads(x)]

    def _heads(self, x: Tensor) -> list[tuple[SegmentHead, Tensor]]:
        features = self.segment(x)
        by_name = dict(zip(AUXILIARY_HEADS, features, strict=False))
        main = (self.head, self.bga(self.detail(x), features[-1]))
        return [main, *((getattr(self, name), by_name[name]) for name in self.auxiliary)]
