"""The age regressor SAM was trained against: DEX, a VGG-16 over 101 ages.

Rothe et al., "DEX: Deep EXpectation of apparent age" (2015), in the version fine-tuned by SAM's authors
(``dex_age_classifier.pth``). It reads the aligned 256 x 256 face, RGB in [-1, 1], without any mean subtraction.
SAM's notion of age *is* this network's, so it cannot judge SAM independently.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: output channels of the convolutions of the five blocks; a 2 x 2 max pooling follows every block
BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
ALIGNED_SIZE = 256
NETWORK_SIZE = 224


class DEX(nn.Module):
    """Ages in years from aligned faces."""

    def __init__(self) -> None:
        super().__init__()
        in_channels = 3
        for block, widths in enumerate(BLOCKS, start=1):
            for index, channels in enumerate(widths, start=1):
                self.add_module(f"conv{block}_{index}", nn.Conv2d(in_channels, channels, 3, padding=1))
                in_channels = channels
        self.fc6 = nn.Linear(512 * 7 * 7, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8_101 = nn.Linear(4096, 101)

    def logits(self, x: Tensor) -> Tensor:
        """Faces (B, 3, 224, 224) in [-1, 1] to the logits (B, 101) of the ages 0 to 100."""
        x = x.contiguous(memory_format=torch.channels_last)
        for block, widths in enumerate(BLOCKS, start=1):
            for index in range(1, len(widths) + 1):
                x = F.relu(getattr(self, f"conv{block}_{index}")(x))
            x = F.max_pool2d(x, 2)
        x = F.relu(self.fc6(x.flatten(1)))
        return self.fc8_101(F.relu(self.fc7(x)))

    def forward(self, faces: Tensor) -> Tensor:
        """FFHQ-aligned faces (B, 3, S, S) in [-1, 1], S a multiple of 256 or less than it, to years (B,)."""
        if faces.shape[-1] > ALIGNED_SIZE:
            faces = F.adaptive_avg_pool2d(faces, ALIGNED_SIZE)
        faces = F.interpolate(faces, size=(NETWORK_SIZE, NETWORK_SIZE), mode="bilinear", align_corners=False)
        return expected_age(self.logits(faces))


def expected_age(logits: Tensor) -> Tensor:
    """The expectation of the age in years under softmax(logits)."""
    years = torch.arange(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    return logits.softmax(dim=-1) @ years
