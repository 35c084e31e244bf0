"""Deterministic weights and inputs of the reference numbers of two public FRAN U-Nets in ``fixtures/unet``."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path

import numpy as np
import torch
from sam_recipe import image, uniform

FIXTURES = Path(__file__).parent / "fixtures" / "unet"
NETWORKS = ("timroelofs_unet", "rylu_unet")


def tensor(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The entry ``key`` of a checkpoint."""
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if key.endswith(".filt"):
        return (torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64).repeat(*shape[:2], 1, 1)
    if key.endswith(("running_mean", "bias")):
        return uniform(key, shape, 0.1)
    if key.endswith("running_var"):
        return uniform(key, shape, 0.25, 1.0)
    if len(shape) == 1:
        return uniform(key, shape, 0.1, 1.0)
    if key.endswith("blur_upsample.0.weight"):
        return uniform(key, shape, math.sqrt(3 * 1.5 / shape[0]))
    gain = 1.0 if shape[2:] == (1, 1) else 2.0
    return uniform(key, shape, math.sqrt(3 * gain / math.prod(shape[1:])))


@functools.cache
def state_dict(network: str) -> dict[str, torch.Tensor]:
    """The network's checkpoint under its own keys. Read only."""
    rows = json.loads((FIXTURES / f"{network}.manifest.json").read_text())
    return {key: tensor(key, tuple(shape)) for key, shape, _ in rows}


def graph_input() -> torch.Tensor:
    """(2, 5, 128, 128) as the networks' own graphs get it."""
    source = torch.full((2, 1, 128, 128), 0.35)
    x = np.arange(128) / 127
    rows = np.stack([0.35 + 0.30 * (b + 1) / 2 * x for b in range(2)]).astype(np.float32)
    target = torch.from_numpy(rows)[:, None, None].expand(2, 1, 128, 128)
    return torch.cat([image(2, 128), source, target], dim=1)


def reference(network: str) -> dict[str, np.ndarray]:
    """``output`` at every second row and column, ``output_mean`` and ``output_std`` of the whole delta."""
    with np.load(FIXTURES / f"{network}.npz") as archive:
        return {key: archive[key] for key in archive.files}
