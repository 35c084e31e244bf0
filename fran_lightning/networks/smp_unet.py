"""A segmentation-models-pytorch U-Net as an alternative generator, to compare backbones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fran_lightning.networks.generator import INPUT_CHANNELS, OUTPUT_CHANNELS, Generator


class SMPUNet(Generator):
    """U-Net of ``segmentation_models_pytorch`` with a timm encoder whose strides blur before they subsample.

    Its decoder ends at the input size without a skip connection there, so the RGB and age maps join once more
    in front of the delta head: without them fine detail would have to pass through the first stride.

    Args:
        encoder_name: an encoder of segmentation_models_pytorch; ``tu-...`` takes timm's, with timm's
            ``BlurPool2d`` wherever the encoder takes an ``aa_layer``.
        decoder_channels: channels of the deepest decoder block, halved at each of the five levels.
    """

    size_multiple = 32

    def __init__(self, encoder_name: str = "tu-resnet18", decoder_channels: int = 256) -> None:
        super().__init__()
        import segmentation_models_pytorch as smp

        self.config = {
            "architecture": "smp_unet",
            "encoder_name": encoder_name,
            "decoder_channels": decoder_channels,
        }
        widths = [max(8, decoder_channels // 2**level) for level in range(5)]
        encoder_options = {}
        if encoder_name.startswith("tu-resnet"):
            from timm.layers import BlurPool2d

            encoder_options["aa_layer"] = BlurPool2d
        self.unet = smp.Unet(
            encoder_name,
            # no pretrained weights: they exist for three channels and would have to be downloaded
            encoder_weights=None,
            decoder_channels=widths,
            decoder_interpolation="bilinear",
            in_channels=INPUT_CHANNELS,
            classes=widths[-1],
            **encoder_options,
        )
        self.detail = nn.Sequential(nn.Conv2d(widths[-1] + INPUT_CHANNELS, widths[-1], 3, padding=1), nn.LeakyReLU(0.2))
        self.head = nn.Conv2d(widths[-1], OUTPUT_CHANNELS, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def predict_delta(self, x: Tensor) -> Tensor:
        return self.head(self.detail(torch.cat([self.unet(x), x], dim=1)))
