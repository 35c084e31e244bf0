"""The PatchGAN discriminator with blur pooling (Zoss et al. 2022, section 3.3; Isola et al. 2017)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from fran_lightning.networks.blur_pool import BlurPool2d

#: RGB and the age map
DISCRIMINATOR_CHANNELS = 4


class PatchDiscriminator(nn.Module):
    """Judges patches of an image together with the age they are said to have.

    ``discriminator(x)``: x (B, 4, H, W) = RGB in [-1, 1] and an age map in years / 100; returns logits
    (B, 1, H', W'), one per patch, high for "real and of that age". H' = ceil(H / 2 ** depth).

    Every convolution is spectrally normalised (Miyato et al. 2018): batch norm would mix the statistics of
    real and generated batches, and instance norm would erase a constant age map.

    Args:
        base_channels: channels after the first convolution, doubled at every level up to 8 x.
        depth: number of halvings; 3 gives patches of 68 x 68 pixels.
    """

    def __init__(self, base_channels: int = 64, depth: int = 3) -> None:
        super().__init__()
        channels = [base_channels * min(2**level, 8) for level in range(depth + 1)]
        layers: list[nn.Module] = []
        previous = DISCRIMINATOR_CHANNELS
        for level in range(depth):
            layers += [
                spectral_norm(nn.Conv2d(previous, channels[level], 3, padding=1)),
                nn.LeakyReLU(0.2),
                BlurPool2d(),
            ]
            previous = channels[level]
        layers += [
            spectral_norm(nn.Conv2d(previous, channels[depth], 3, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(channels[depth], 1, 3, padding=1)),
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
