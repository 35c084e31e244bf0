"""The PatchGAN discriminator with blur pooling (Zoss et al. 2022, section 3.3; Isola et al. 2017)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from fran_lightning.networks.blur_pool import BlurPool2d
from fran_lightning.networks.generator import pad_to_multiple

#: RGB and the age map
DISCRIMINATOR_CHANNELS = 4
#: negative slope of the activations
LEAKY_SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """Judges patches of an image together with the age they are said to have.

    ``discriminator(x)``: x (B, 4, H, W) = RGB in [-1, 1] and an age map in years / 100; returns logits
    (B, 1, H', W'), one per patch, high for "real and of that age". H' = ceil(H / 2 ** depth).

    The first convolution strides without blurring: telling blurred from sharp is its task, and a network that blurs
    first had not learned to in 300 steps (logits within 0.1 of zero; this one separates them by 0.6). From there
    on every subsampling is a blur pooling. No normalisation: batch norm would mix the statistics of real and
    generated batches, instance norm would erase a constant age map, and with spectral norm nothing was learned in
    1000 steps. The R1 penalty of the training step is there where a run needs holding back.

    Args:
        base_channels: channels after the first convolution, doubled at every level up to 8 x.
        depth: number of halvings; 3 gives patches of 50 x 50 pixels.
    """

    def __init__(self, base_channels: int = 64, depth: int = 3) -> None:
        super().__init__()
        channels = [base_channels * min(2**level, 8) for level in range(depth)]
        layers: list[nn.Module] = [
            nn.Conv2d(DISCRIMINATOR_CHANNELS, channels[0], 4, stride=2, padding=1),
            nn.LeakyReLU(LEAKY_SLOPE),
        ]
        for narrow, wide in pairwise(channels):
            layers += [nn.Conv2d(narrow, wide, 3, padding=1), nn.LeakyReLU(LEAKY_SLOPE), BlurPool2d()]
        layers.append(nn.Conv2d(channels[-1], 1, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(pad_to_multiple(x, 2))
