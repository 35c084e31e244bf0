"""What every generator has in common: five channels in, a delta out, any image size."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

#: RGB, input-age map, target-age map
INPUT_CHANNELS = 5
#: channels of the two maps
INPUT_AGE, TARGET_AGE = 3, 4
#: RGB delta
OUTPUT_CHANNELS = 3


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Extend the right and the bottom of (B, C, H, W) by reflection to a multiple of ``multiple``.

    Images too small to be reflected are extended by their last row and column.
    """
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if not (bottom or right):
        return x
    mode = "reflect" if bottom < height and right < width else "replicate"
    return F.pad(x, (0, right, 0, bottom), mode=mode)


class Generator(nn.Module):
    """Predicts the RGB delta that re-ages a face.

    ``generator(x)``: x (B, 5, H, W) = RGB in [-1, 1], input-age map and target-age map in years / 100;
    returns the delta (B, 3, H, W), to be added to the RGB. Any H and W.

    Subclasses implement :meth:`predict_delta` for sizes that are multiples of :attr:`size_multiple`, and start
    with a delta of zero, so that an untrained generator changes nothing.
    """

    #: sides handed to ``predict_delta`` are multiples of this
    size_multiple: int
    #: constructor arguments and ``architecture``: enough to build the same network again
    config: dict[str, Any]

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return self.predict_delta(pad_to_multiple(x, self.size_multiple))[..., :height, :width]

    @abstractmethod
    def predict_delta(self, x: Tensor) -> Tensor:
        """The delta (B, 3, H, W) for x (B, 5, H, W) with H and W multiples of :attr:`size_multiple`."""
