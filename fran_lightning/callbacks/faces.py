"""The fixed validation faces that every sheet of a run shows, and their re-ageing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fran_lightning.ages import uniform_age_map
from fran_lightning.data.datamodule import AgePairDataModule
from fran_lightning.networks.generator import Generator


@dataclass(frozen=True)
class ValidationFace:
    """A held-out identity at all ages: ``images`` maps an age in years to (3, H, W) in [-1, 1]."""

    identity: str
    images: dict[int, Tensor]


def validation_faces(data: AgePairDataModule, count: int) -> list[ValidationFace]:
    """The first ``count`` held-out identities, whole images, the same in every run on this data and seed."""
    assert data.info is not None
    faces = []
    for identity in data.val_identities[:count]:
        images = {}
        for age in data.info.ages:
            pixels = np.array(data.reader.image(identity, age))
            images[age] = torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1
        faces.append(ValidationFace(identity, images))
    return faces


def nearest_age(ages: Sequence[int], years: float) -> int:
    """The age of the dataset nearest to ``years``."""
    return min(ages, key=lambda age: abs(age - years))


@torch.no_grad()
def predict_deltas(generator: Generator, image: Tensor, source_age: float, target_ages: Sequence[float]) -> Tensor:
    """Deltas (ages, 3, H, W) on the CPU for one image (3, H, W), one age at a time to spare memory."""
    device = next(generator.parameters()).device
    height, width = image.shape[-2:]
    deltas = []
    for age in target_ages:
        maps = [uniform_age_map(years, height, width).to(device) for years in (source_age, age)]
        deltas.append(generator(torch.cat([image[None].to(device), *maps], dim=1)).float().cpu())
    return torch.cat(deltas)
