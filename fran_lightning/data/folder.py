"""The dataset folder: the contract between synthesis, training and users' own data.

::

    <root>/dataset.json            {"format": 1, "source": "parametric|sam|imported", "image_size": 512,
                                    "ages": [...], "identities": N, "seed": ..., "generator": {...}}
    <root>/000042/18.png ... 85.png     RGB 8 bit, one size, pixel-aligned across ages (or .webp, .jpg)
    <root>/000042/labels/18.png ...     optional class map per age (19 CelebAMask-HQ classes)
    <root>/000042/identity.json         optional: what the generator knows
    <root>/000042/packed.npy            optional: uint8 (ages, H, W, 3), written by ``fran pack``
    <root>/000042/packed_labels.npy     optional: uint8 (ages, H, W)
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from fran_lightning.ages import parse_ages
from fran_lightning.errors import UserError

FORMAT = 1
IMAGE_SUFFIXES = (".png", ".webp", ".jpg", ".jpeg")
PACKED_IMAGES = "packed.npy"
PACKED_LABELS = "packed_labels.npy"
Source = Literal["parametric", "sam", "imported"]


@dataclass(frozen=True)
class DatasetInfo:
    """The content of ``dataset.json``."""

    source: Source
    image_size: int
    ages: tuple[int, ...]
    identities: int
    seed: int | None = None
    generator: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "source": self.source,
            "image_size": self.image_size,
            "ages": list(self.ages),
            "identities": self.identities,
            "seed": self.seed,
            "generator": self.generator,
        }


def read_info(root: str | os.PathLike[str]) -> DatasetInfo:
    """Read ``<root>/dataset.json``.

    Raises:
        UserError: no such folder or file, broken JSON, another format, or a missing entry.
    """
    path = Path(root) / "dataset.json"
    if not Path(root).is_dir():
        raise UserError(f"dataset folder {root} does not exist; make one with `fran synthesize` or `fran import-data`")
    if not path.is_file():
        raise UserError(f"{root} has no dataset.json, so it is no dataset folder; `fran import-data` makes one")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise UserError(f"{path} has format {content['format']}; this version reads format {FORMAT}")
        return DatasetInfo(
            source=content["source"],
            image_size=int(content["image_size"]),
            ages=parse_ages(content["ages"]),
            identities=int(content["identities"]),
            seed=content.get("seed"),
            generator=content.get("generator") or {},
        )
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is broken ({type(error).__name__}: {error}); make the dataset again") from error


def identity_name(index: int) -> str:
    """The folder name of an identity: six digits."""
    return f"{index:06d}"


def identity_folders(root: str | os.PathLike[str]) -> list[Path]:
    """The identity folders below ``root`` in the order of their names; temporary folders are passed over."""
    return sorted(path for path in Path(root).iterdir() if path.is_dir() and path.name.isdigit())


def image_path(folder: Path, age: int) -> Path | None:
    """The image of ``age`` in an identity folder, or None."""
    for suffix in IMAGE_SUFFIXES:
        if (path := folder / f"{age}{suffix}").is_file():
            return path
    return None


def label_path(folder: Path, age: int) -> Path | None:
    """The class map of ``age`` in an identity folder, or None."""
    path = folder / "labels" / f"{age}.png"
    return path if path.is_file() else None


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """An image file as uint8 RGB (H, W, 3).

    Raises:
        UserError: the file is missing, truncated, or no image.
    """
    import cv2

    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UserError(f"image {path} cannot be read ({error.strerror})") from error
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    if pixels is None:
        raise UserError(f"image {path} is broken or no image; run `fran check-data` and replace it")
    return pixels


def read_labels(path: str | os.PathLike[str]) -> np.ndarray:
    """A class map as uint8 (H, W).

    Raises:
        UserError: the file is missing, truncated, or no image.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image, dtype=np.uint8)
    except (OSError, SyntaxError) as error:
        raise UserError(f"class map {path} is broken or no image; run `fran check-data` and replace it") from error
