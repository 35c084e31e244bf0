"""Augmentation of training pairs: one geometry for both images, one colour change for both."""

from __future__ import annotations

import os

import cv2
import numpy as np
import torch
from torch import Tensor, nn

# the library asks a server for newer versions when it is imported
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A


class PairGeometry:
    """Rotation, scale, crop and flip, the same for the source, the target and the region mask.

    Randomness comes from the seed given to each call alone. albumentations 2.0.8 gives every worker of a data
    loader the same random stream; seeding it per pair from the pair's own number avoids that, and makes a pair
    the same whichever worker makes it.

    Args:
        crop_size: side of the result in pixels.
        augment: False takes the centre crop and nothing else.
    """

    #: degrees, and factor, of the random rotation and scale
    ROTATION = 12.0
    SCALE = (0.9, 1.15)

    def __init__(self, crop_size: int, augment: bool) -> None:
        self.crop_size = crop_size
        steps: list[A.BasicTransform] = []
        if augment:
            steps = [
                A.Affine(
                    rotate=(-self.ROTATION, self.ROTATION),
                    scale=self.SCALE,
                    translate_percent=(-0.04, 0.04),
                    interpolation=cv2.INTER_LINEAR,
                    mask_interpolation=cv2.INTER_LINEAR,
                    border_mode=cv2.BORDER_REFLECT_101,
                    p=0.8,
                ),
                A.RandomCrop(crop_size, crop_size),
                A.HorizontalFlip(p=0.5),
            ]
        else:
            steps = [A.CenterCrop(crop_size, crop_size)]
        self.compose = A.Compose(steps, additional_targets={"target": "image"})

    def __call__(
        self, source: np.ndarray, target: np.ndarray, region: np.ndarray, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Transform uint8 images (H, W, 3) and a float32 mask (H, W); sides become ``crop_size``."""
        self.compose.set_random_seed(seed)
        result = self.compose(image=source, target=target, mask=region)
        return result["image"], result["target"], result["mask"]


class PairColourJitter(nn.Module):
    """The same random brightness, contrast, saturation and hue for both images of a pair, on their device.

    Args:
        strength: 1 changes brightness, contrast and saturation by up to 20 % and the hue by up to 7 degrees;
            0 changes nothing.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        from kornia.augmentation import AugmentationSequential, ColorJiggle

        change = 0.2 * strength
        self.jitter = AugmentationSequential(
            ColorJiggle(change, change, change, 0.02 * strength, p=0.8), data_keys=["input", "input"]
        )

    @torch.no_grad()
    def forward(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) in [-1, 1]; returns the same."""
        source, target = self.jitter((source + 1) / 2, (target + 1) / 2)
        return source * 2 - 1, target * 2 - 1
