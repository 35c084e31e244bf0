"""The pSp encoder: an IR-SE50 backbone, a feature pyramid, and one small head per style.

Richardson et al., "Encoding in Style" (2021). SAM uses two of them: one that sees RGB, one that sees RGB and an
age plane. The backbone is ArcFace's; with another head it is the identity network of :class:`IRSE50`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fran_lightning.synthesis.sam.stylegan2 import STYLE_SIZE, EqualizedLinear, style_count

#: (channels, units) of the four stages; the first unit of every stage halves the resolution
STAGES = ((64, 3), (128, 4), (256, 14), (512, 3))
#: Units after which the pyramid taps the backbone: 128 channels at 64 x 64, 256 at 32 x 32, 512 at 16 x 16.
TAPS = (6, 20, 23)
#: Heads on the coarsest and the middle level of the pyramid; all others read the finest.
COARSE_HEADS, MIDDLE_HEADS = 3, 4
#: side of the square images that the encoders read
INPUT_SIZE = 256


class SqueezeExcitation(nn.Module):
    """Scale channels by a gate computed from their means."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc2(F.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True))))
        return x * torch.sigmoid(gate)


class IRSEUnit(nn.Module):
    """Improved residual unit with squeeze and excitation; the second convolution carries the stride."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.shortcut_layer = (
            None
            if in_channels == channels
            else nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
        )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            SqueezeExcitation(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x[:, :, :: self.stride, :: self.stride] if self.shortcut_layer is None else self.shortcut_layer(x)
        return self.res_layer(x) + shortcut


def _stem(in_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))


def _body() -> nn.Sequential:
    units: list[nn.Module] = []
    in_channels = 64
    for channels, count in STAGES:
        for index in range(count):
            units.append(IRSEUnit(in_channels, channels, stride=2 if index == 0 else 1))
            in_channels = channels
    return nn.Sequential(*units)


class StyleHead(nn.Module):
    """Strided convolutions from a square feature map of side 2^n down to one style vector."""

    def __init__(self, convolutions: int, channels: int = STYLE_SIZE) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, channels, 3, 2, 1), nn.LeakyReLU(0.01)]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualizedLinear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convs(x).flatten(1))


def upsample_add(x: Tensor, y: Tensor) -> Tensor:
    """``x`` enlarged to the size of ``y``, plus ``y``."""
    return F.interpolate(x, size=y.shape[-2:], mode="bilinear", align_corners=True) + y


class PyramidEncoder(nn.Module):
    """Face (B, C, 256, 256) to style rows (B, N, 512), N = 2 log2(output_size) - 2.

    Args:
        in_channels: 3 for RGB in [-1, 1], 4 with an age plane (years / 100).
        output_size: image side of the generator the rows are for.
    """

    def __init__(self, in_channels: int, output_size: int = 1024) -> None:
        super().__init__()
        self.input_layer = _stem(in_channels)
        self.body = _body()
        self.styles = nn.ModuleList()
        for index in range(style_count(output_size)):
            coarse, middle = index < COARSE_HEADS, index < COARSE_HEADS + MIDDLE_HEADS
            self.styles.append(StyleHead(4 if coarse else 5 if middle else 6))
        self.latlayer1 = nn.Conv2d(256, STYLE_SIZE, 1)
        self.latlayer2 = nn.Conv2d(128, STYLE_SIZE, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine, middle, coarse = self.backbone_features(x.contiguous(memory_format=torch.channels_last))
        middle = upsample_add(coarse, self.latlayer1(middle))
        fine = upsample_add(middle, self.latlayer2(fine))
        levels = [coarse] * COARSE_HEADS + [middle] * MIDDLE_HEADS
        levels += [fine] * (len(self.styles) - len(levels))
        return torch.stack([head(level) for head, level in zip(self.styles, levels, strict=False)], dim=1)

    def backbone_features(self, x: Tensor) -> list[Tensor]:
        """The feature maps of :data:`TAPS`: 64 x 64, 32 x 32 and 16 x 16."""
        x = self.input_layer(x)
        taps = []
        for index, unit in enumerate(self.body):
            x = unit(x)
            if index in TAPS:
                taps.append(x)
        return taps


class IRSE50(nn.Module):
    """ArcFace identity network (file ``model_ir_se50.pth``): aligned face to a unit vector of 512 numbers."""

    #: the part of an FFHQ-aligned 256 x 256 face that ArcFace was trained on
    CROP = (slice(35, 223), slice(32, 220))

    def __init__(self) -> None:
        super().__init__()
        self.input_layer = _stem(3)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Dropout(),
            nn.Flatten(),
            nn.Linear(512 * 7 * 7, 512),
            nn.BatchNorm1d(512),
        )
        self.body = _body()

    def forward(self, faces: Tensor) -> Tensor:
        """FFHQ-aligned faces (B, 3, 256, 256) in [-1, 1] to unit vectors (B, 512)."""
        rows, columns = self.CROP
        x = F.adaptive_avg_pool2d(faces[:, :, rows, columns], 112)
        return F.normalize(self.output_layer(self.body(self.input_layer(x))), dim=1)
