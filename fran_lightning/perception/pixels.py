"""What the parsers' and classifiers' networks take."""

from __future__ import annotations

from torch import Tensor

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def imagenet_normalised(image: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in [-1, 1] -> the same with ImageNet's mean and deviation taken out."""
    mean = image.new_tensor(_MEAN).view(1, 3, 1, 1)
    deviation = image.new_tensor(_DEVIATION).view(1, 3, 1, 1)
    return ((image + 1) / 2 - mean) / deviation
