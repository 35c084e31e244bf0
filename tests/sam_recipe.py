"""Deterministic weights and inputs of the SAM, StyleGAN2 and DEX reference numbers in ``fixtures/sam``.

Every entry of a checkpoint is a pure function of its key and shape: an integer hash of (crc32(key), index),
mapped exactly to a float32 in [-1, 1), then scaled by the first rule whose pattern occurs in the key.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from pathlib import Path

import numpy as np
import torch

FIXTURES = Path(__file__).parent / "fixtures" / "sam"
SQRT3 = math.sqrt(3.0)

#: (pattern, offset, scale); a scale of None means sqrt(3 gain / fan) with the last number as gain
RULES = [
    (r"running_mean$", 0.0, 0.1),
    (r"running_var$", 1.0, 0.25),
    (r"noises\.noise_\d+$", 0.0, SQRT3),
    (r"noise\.weight$", 0.1, 0.05),
    (r"(^|\.)style\.\d+\.weight$", 0.0, 100 * SQRT3),
    (r"(^|\.)style\.\d+\.bias$", 0.0, 10.0),
    (r"modulation\.weight$", 0.0, 0.5 * SQRT3),
    (r"modulation\.bias$", 1.0, 0.1),
    (r"to_rgb(1|s\.\d+)\.conv\.weight$", 0.0, 0.25 * SQRT3),
    (r"conv\.weight$", 0.0, SQRT3),
    (r"(^|\.)input\.input$", 0.0, SQRT3),
    (r"styles\.\d+\.linear\.weight$", 0.0, 0.6 * SQRT3),
    (r"styles\.\d+\.convs\.\d+\.weight$", "gain", 1.6),
    (r"latlayer1\.weight$", "gain", 0.5),
    (r"latlayer2\.weight$", "gain", 6.0),
    (r"\.fc[12]\.weight$", "gain", 2.5),
    (r"(res_layer\.[13]|shortcut_layer\.0)\.weight$", "gain", 1.0),
    (r"(input_layer|res_layer)\.2\.weight$", 0.25, 0.1),
    (r"fc8.101\.weight$", "gain", 60.0),
    (r"latent_avg$", 0.0, 0.5),
]


def u(name: str, count: int) -> np.ndarray:
    """``count`` numbers in [-1, 1), float32."""
    x = np.arange(count, dtype=np.uint32)
    x *= np.uint32(0x9E3779B1)
    x += np.uint32(zlib.crc32(name.encode()))
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x85EBCA6B)
    x ^= x >> np.uint32(13)
    x *= np.uint32(0xC2B2AE35)
    x ^= x >> np.uint32(16)
    x >>= np.uint32(8)
    values = x.astype(np.float32)
    values *= np.float32(2.0**-23)
    values -= np.float32(1.0)
    return values


def uniform(name: str, shape: tuple[int, ...], scale: float = SQRT3, offset: float = 0.0) -> torch.Tensor:
    """offset + scale * u(name) in ``shape``; the default scale gives unit variance."""
    values = u(name, math.prod(shape))
    values *= np.float32(scale)
    values += np.float32(offset)
    return torch.from_numpy(values.reshape(shape))


def _fan_scaled(key: str, shape: tuple[int, ...], gain: float) -> torch.Tensor:
    return uniform(key, shape, math.sqrt(3 * gain / math.prod(shape[1:])))


def tensor(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The entry ``key`` of a checkpoint."""
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if key.endswith(".kernel"):
        return torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 16
    for pattern, offset, scale in RULES:
        if re.search(pattern, key):
            return _fan_scaled(key, shape, scale) if offset == "gain" else uniform(key, shape, scale, offset)
    if key.endswith("bias"):
        return uniform(key, shape, 0.1)
    return uniform(key, shape, 0.1, 1.0) if len(shape) == 1 else _fan_scaled(key, shape, 2.0)


def fill(module: torch.nn.Module, prefix: str = "") -> torch.nn.Module:
    """Give ``module`` (from any device, meta included) the recipe's weights; its keys are hashed after ``prefix``."""
    weights = {name: tensor(prefix + name, tuple(value.shape)) for name, value in module.state_dict().items()}
    module.load_state_dict(weights, assign=True)
    return module.requires_grad_(False).eval()


def mean_code() -> torch.Tensor:
    """(512,)"""
    return tensor("latent_avg", (512,))


def recipe_sam(output_size: int):
    """A SAM model of ``output_size`` with the recipe's weights."""
    from fran_lightning.synthesis.sam.model import SAM

    with torch.device("meta"):
        sam = SAM(output_size)
    fill(sam)
    sam.latent_avg = mean_code().repeat(len(sam.latent_avg), 1)
    return sam


def write_sam_checkpoint(path: Path, sam) -> Path:
    """Save ``sam`` in the layout of the official file."""
    options = {"output_size": sam.output_size, "input_nc": 4, "start_from_encoded_w_plus": True, "device": "cuda"}
    torch.save({"state_dict": sam.state_dict(), "latent_avg": sam.latent_avg, "opts": options}, path)
    return path


def image(batch: int, size: int) -> torch.Tensor:
    """Smooth RGB images (batch, 3, size, size) in about [-0.8, 0.8]."""
    b = np.arange(batch, dtype=np.float64)[:, None, None, None]
    c = np.arange(3, dtype=np.float64)[None, :, None, None]
    y = np.arange(size, dtype=np.float64)[None, None, :, None]
    x = np.arange(size, dtype=np.float64)[None, None, None, :]
    v = 0.5 * np.sin(0.05 * (c + 1) * x + 0.3 * c + 0.7 * b) * np.cos(0.037 * (c + 1) * y - 0.2 * c + 0.4 * b)
    v = v + 0.3 * np.sin(0.011 * (x + 2 * y) + c + b)
    return torch.from_numpy(v.astype(np.float32))


def photo(height: int, width: int) -> np.ndarray:
    """A smooth uint8 RGB picture (height, width, 3)."""
    y = np.arange(height, dtype=np.float64)[:, None, None]
    x = np.arange(width, dtype=np.float64)[None, :, None]
    k = np.arange(3, dtype=np.float64)[None, None, :]
    v = 127.5 + 90 * np.sin(0.02 * (k + 1) * x + k) * np.cos(0.017 * y - k)
    return np.clip(np.rint(v + 30 * np.sin(0.003 * x * (k + 1) + 0.11 * y)), 0, 255).astype(np.uint8)


def load_fixture(name: str) -> dict[str, np.ndarray]:
    """The arrays of ``fixtures/sam/<name>.npz``."""
    with np.load(FIXTURES / f"{name}.npz") as archive:
        return {key: archive[key] for key in archive.files}


def load_manifest(name: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """key -> (shape, dtype) of ``fixtures/sam/manifest_<name>.json``."""
    content = json.loads((FIXTURES / f"manifest_{name}.json").read_text())
    rows = content.get("state_dict") or content["g_ema"]
    return {key: (tuple(shape), dtype) for key, shape, dtype in rows}
