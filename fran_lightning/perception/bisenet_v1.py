"""BiSeNet (Yu et al. 2018) as the public face parsers use it: a ResNet without the spatial path.

What goes by the name of BiSeNet in face parsing (zllrunning's ``79999_iter.pth``, facexlib's ``parsing_bisenet.pth``,
yakhyo's ResNet18 and 34) is this network. Parameter names are zllrunning's, so that those weights load by their own
keys.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from fran_lightning.perception.bisenet_v2 import ConvBNReLU

_BLOCKS: dict[int, tuple[int, ...]] = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


class ResNetTrunk(nn.Module):
    """ResNet without its classifier: (B, 3, H, W) -> features of 128, 256 and 512 channels at 1/8, 1/16 and 1/32."""

    def __init__(self, depth: Literal[18, 34]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for number, blocks in enumerate(_BLOCKS[depth], start=1):
            outputs = 32 * 2**number
            setattr(self, f"layer{number}", _residual_stage(inputs, outputs, blocks, stride=1 if number == 1 else 2))
            inputs = outputs

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, stride=2, padding=1)
        eighth = self.layer2(self.layer1(x))
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


def _residual_stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    first = BasicBlock(inputs, outputs, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(blocks - 1)))


class AttentionRefinement(nn.Module):
    """A 3x3 convolution whose channels are weighted by what the whole picture shows."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = ConvBNReLU(inputs, outputs)
        self.conv_atten = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x)
        weights = self.bn_atten(self.conv_atten(features.mean(dim=(2, 3), keepdim=True)))
        return features * weights.sigmoid()


class ContextPath(nn.Module):
    """(B, 3, H, W) -> the trunk's and the context's features at 1/8, and the context's at 1/16."""

    def __init__(self, depth: Literal[18, 34]) -> None:
        super().__init__()
        self.resnet = ResNetTrunk(depth)
        self.arm16 = AttentionRefinement(256, 128)
        self.arm32 = AttentionRefinement(512, 128)
        self.conv_head32 = ConvBNReLU(128, 128)
        self.conv_head16 = ConvBNReLU(128, 128)
        self.conv_avg = ConvBNReLU(512, 128, kernel=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        eighth, sixteenth, deepest = self.resnet(x)
        whole = self.conv_avg(deepest.mean(dim=(2, 3), keepdim=True))
        at_32 = self.arm32(deepest) + whole
        at_16 = self.conv_head32(F.interpolate(at_32, size=sixteenth.shape[-2:], mode="nearest"))
        context = self.arm16(sixteenth) + at_16
        at_8 = self.conv_head16(F.interpolate(context, size=eighth.shape[-2:], mode="nearest"))
        return eighth, at_8, at_16


class FeatureFusion(nn.Module):
    """Joins two features at 1/8 and lets the whole picture weight the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.convblk = ConvBNReLU(256, 256, kernel=1)
        self.conv1 = nn.Conv2d(256, 64, 1, bias=False)
        self.conv2 = nn.Conv2d(64, 256, 1, bias=False)

    def forward(self, joined: Tensor) -> Tensor:
        features = self.convblk(joined)
        weights = self.conv2(F.relu(self.conv1(features.mean(dim=(2, 3), keepdim=True)))).sigmoid()
        return features * weights + features


class Output(nn.Module):
    """3x3 and 1x1 convolution to logits, at the features' resolution."""

    def __init__(self, inputs: int, middle: int, classes: int) -> None:
        super().__init__()
        self.conv = ConvBNReLU(inputs, middle)
        self.conv_out = nn.Conv2d(middle, classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))


class BiSeNetV1(nn.Module):
    """``network(x)``: x (B, 3, H, W) normalised with ImageNet's mean and deviation, sides multiples of 32; returns
    logits (B, classes, H, W), enlarged with ``align_corners``. 13.3 M parameters at depth 18, 23.4 M at 34.

    Args:
        classes: number of classes.
        depth: of the ResNet.
        auxiliary: build the two outputs that training supervises (:meth:`all_logits`).
    """

    def __init__(self, classes: int = 19, depth: Literal[18, 34] = 18, auxiliary: bool = False) -> None:
        super().__init__()
        self.cp = ContextPath(depth)
        self.ffm = FeatureFusion()
        self.conv_out = Output(256, 256, classes)
        if auxiliary:
            self.conv_out16 = Output(128, 64, classes)
            self.conv_out32 = Output(128, 64, classes)

    def forward(self, x: Tensor) -> Tensor:
        eighth, at_8, _ = self.cp(x)
        return _to_full(self.conv_out(self.ffm(torch.cat([eighth, at_8], dim=1))), x)

    def all_logits(self, x: Tensor) -> list[Tensor]:
        """The logits of the output and of the two auxiliary outputs, each (B, classes, H, W)."""
        eighth, at_8, at_16 = self.cp(x)
        logits = [
            self.conv_out(self.ffm(torch.cat([eighth, at_8], dim=1))),
            self.conv_out16(at_8),
            self.conv_out32(at_16),
        ]
        return [_to_full(each, x) for each in logits]


def _to_full(logits: Tensor, image: Tensor) -> Tensor:
    return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=True)
