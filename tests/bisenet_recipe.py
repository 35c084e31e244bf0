"""Deterministic weights and input of the BiSeNet reference numbers in ``fixtures/bisenet`` (see its README.json)."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

FIXTURES = Path(__file__).parent / "fixtures" / "bisenet"
README = json.loads((FIXTURES / "README.json").read_text())


def manifest(name: str) -> dict[str, tuple[int, ...]]:
    """key -> shape, in the order of declaration."""
    content = json.loads((FIXTURES / f"{name}.manifest.json").read_text())
    return {row["key"]: tuple(row["shape"]) for row in content["state_dict"]}


def reference(name: str) -> dict[str, np.ndarray]:
    """The arrays of ``<name>.npz``."""
    with np.load(FIXTURES / f"{name}.npz") as archive:
        return {key: archive[key] for key in archive.files}


def _uniform(place: int, count: int) -> np.ndarray:
    """Numbers in [0, 1), float64, from an integer hash of a tensor's place and the element's index."""
    low = np.uint64(0xFFFFFFFF)

    def times(x: np.ndarray, factor: int) -> np.ndarray:
        return (x * np.uint64(factor)) & low

    h = (times(np.arange(count, dtype=np.uint64), 2654435761) + np.uint64((place + 1) * 2246822519 % 2**32)) & low
    h = times(h ^ (h >> np.uint64(15)), 2246822519)
    h = times(h ^ (h >> np.uint64(13)), 3266489917)
    return (h ^ (h >> np.uint64(16))) / 2.0**32


def recipe_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The recipe's state dictionary for keys and shapes."""
    weights = {name: torch.zeros(shape, dtype=torch.int64) for name, shape in shapes.items() if not shape}
    names = [name for name in sorted(shapes) if not name.endswith("num_batches_tracked")]
    for place, name in enumerate(names):
        shape = shapes[name]
        u = _uniform(place, math.prod(shape))
        if name.endswith("running_var"):
            values = 0.5 + u
        elif name.endswith(("running_mean", ".bias")):
            values = 0.2 * (2 * u - 1)
        elif len(shape) == 1:
            values = 0.8 + 0.4 * u
        else:
            gain = 0.15 if ".conv2." in name else 1.7
            values = (2 * u - 1) * math.sqrt(3 * gain / math.prod(shape[1:]))
        weights[name] = torch.from_numpy(values.reshape(shape).astype(np.float32))
    return {name: weights[name] for name in shapes}


def fill(network: nn.Module) -> nn.Module:
    """Give ``network`` the recipe's weights, in eval mode."""
    network.load_state_dict(recipe_weights({name: tuple(v.shape) for name, v in network.state_dict().items()}))
    return network.requires_grad_(False).eval()


def recipe_image() -> np.ndarray:
    """uint8 RGB (512, 512, 3)."""
    y, x, c = np.meshgrid(np.arange(512), np.arange(512), np.arange(3), indexing="ij")
    return ((3 * x + 5 * y + 31 * c + (x * y) // 97 + 64 * (((x // 64) + (y // 64)) % 2)) % 256).astype(np.uint8)
