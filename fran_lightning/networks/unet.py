"""The FRAN U-Net (Zoss et al. 2022, section 3.2): 5 channels in, RGB delta out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fran_lightning.networks.blur_pool import MaxBlurPool2d
from fran_lightning.networks.generator import INPUT_AGE, INPUT_CHANNELS, OUTPUT_CHANNELS, TARGET_AGE, Generator

#: negative slope of the activations
LEAKY_SLOPE = 0.2
#: how much larger the first convolution's weights of the target-age map begin than those of the colours
AGE_GAIN = 4.0


def _double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two 3 x 3 convolutions with leaky ReLU; no normalisation, which would wash out the constant age maps."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.LeakyReLU(LEAKY_SLOPE),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
        nn.LeakyReLU(LEAKY_SLOPE),
    )


class _Up(nn.Module):
    """Halve the channels, upsample bilinearly, join the skip connection, convolve."""

    def __init__(self, in_channels: int, skip_channels: int) -> None:
        super().__init__()
        # before the upsampling, where it costs a quarter
        self.reduce = nn.Conv2d(in_channels, skip_channels, 1)
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.conv = _double_conv(2 * skip_channels, skip_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.conv(torch.cat([self.upsample(self.reduce(x)), skip], dim=1))


class FRANUNet(Generator):
    """U-Net with max+blur pooling, a skip connection at full resolution and a delta head that starts at zero.

    Args:
        base_channels: channels at full resolution; doubled at every level (paper scale: 64).
        depth: number of halvings (paper scale: 4, so 64-128-256-512-1024).
    """

    def __init__(self, base_channels: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.config = {"architecture": "fran_unet", "base_channels": base_channels, "depth": depth}
        self.size_multiple = 2**depth
        channels = [base_channels * 2**level for level in range(depth + 1)]
        self.stem = _double_conv(INPUT_CHANNELS, channels[0])
        self.down = nn.ModuleList(
            nn.Sequential(MaxBlurPool2d(), _double_conv(channels[i], channels[i + 1])) for i in range(depth)
        )
        self.up = nn.ModuleList(_Up(channels[i + 1], channels[i]) for i in reversed(range(depth)))
        self.head = nn.Conv2d(channels[0], OUTPUT_CHANNELS, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=LEAKY_SLOPE)
                nn.init.zeros_(module.bias)
        nn.init.zeros_(self.head.weight)
        self._emphasise_age_difference()

    @torch.no_grad()
    def _emphasise_age_difference(self) -> None:
        """Let the first convolution begin with the difference of the two age maps, amplified.

        Ages / 100 differ by 0.3 where colours differ by 2, and what matters is their difference. Without this the
        network takes three times as many steps before the age maps have any effect.
        """
        weight = self.stem[0].weight
        weight[:, TARGET_AGE] *= AGE_GAIN
        weight[:, INPUT_AGE] -= weight[:, TARGET_AGE]

    def predict_delta(self, x: Tensor) -> Tensor:
        skips = [self.stem(x)]
        for block in self.down:
            skips.append(block(skips[-1]))
        x = skips.pop()
        for block in self.up:
            x = block(x, skips.pop())
        return self.head(x)
