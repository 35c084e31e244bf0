"""What an exported file computes, as modules without a branch, so that one graph serves every image size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fran_lightning.networks.generator import INPUT_AGE, INPUT_CHANNELS, OUTPUT_CHANNELS, Generator

#: side of the crops that FaceFusion hands over
FACEFUSION_SIZE = 1024


def extend_by_reflection(x: Tensor, multiple: int) -> Tensor:
    """What :func:`~.generator.pad_to_multiple` does, by indices instead of by cases.

    Sides below ``multiple`` / 2 + 1, which cannot be reflected so far, are extended in another way than there.
    """
    for axis in (2, 3):
        length = x.size(axis)
        places = torch.arange((length + multiple - 1) // multiple * multiple, device=x.device)
        mirrored = (length - 1) - ((length - 1) - places).abs()
        x = x.index_select(axis, mirrored.clamp(min=0))
    return x


class PredictDelta(nn.Module):
    """``Generator.predict_delta`` as a module: what is traced."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        return self.generator.predict_delta(x)


class DeltaGraph(nn.Module):
    """The generator itself: (B, 5, H, W) -> delta (B, 3, H, W), not clipped."""

    def __init__(self, predict_delta: nn.Module, multiple: int) -> None:
        super().__init__()
        self.predict_delta = predict_delta
        self.multiple = multiple

    def forward(self, x: Tensor) -> Tensor:
        delta = self.predict_delta(extend_by_reflection(x, self.multiple))
        return delta[:, :, : x.size(2), : x.size(3)]


class ReageGraph(nn.Module):
    """The addition inside: image (B, 3, H, W) in [-1, 1] and age maps (B, 1, H, W) in years / 100.

    Returns the re-aged image, not clipped, and the delta.
    """

    INPUTS = ("image", "source_age", "target_age")
    OUTPUTS = ("reaged", "delta")

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.delta = DeltaGraph(PredictDelta(generator), generator.size_multiple)

    def forward(self, image: Tensor, source_age: Tensor, target_age: Tensor) -> tuple[Tensor, Tensor]:
        delta = self.delta(torch.cat([image, source_age, target_age], dim=1))
        return image + delta, delta


class FaceFusionGraph(nn.Module):
    """FaceFusion's contract: target (1, 3, 1024, 1024) RGB in [0, 1] and direction (2,) -> the same image re-aged.

    ``direction`` is [source, target] in years / 100.
    """

    INPUTS = ("target", "direction")
    OUTPUTS = ("output",)

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.predict_delta = PredictDelta(generator)

    def forward(self, target: Tensor, direction: Tensor) -> Tensor:
        maps = direction.reshape(1, 2, 1, 1).expand(-1, -1, FACEFUSION_SIZE, FACEFUSION_SIZE)
        delta = self.predict_delta(torch.cat([target * 2 - 1, maps], dim=1))
        return (target + delta / 2).clamp(0, 1)


def example_input(batch: int, height: int, width: int, seed: int = 0) -> Tensor:
    """A smooth random image with age maps (B, 5, H, W), as the generator gets them."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand((batch, INPUT_CHANNELS, 8, 8), generator=random)
    x = nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    noise = torch.randn((batch, OUTPUT_CHANNELS, height, width), generator=random)
    x[:, :INPUT_AGE] = (2 * x[:, :INPUT_AGE] - 1 + 0.05 * noise).clamp(-1, 1)
    return x
