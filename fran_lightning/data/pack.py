"""Packs the images of each identity into one uint8 array, so that a crop needs no decoding."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fran_lightning.data.folder import (
    PACKED_IMAGES,
    PACKED_LABELS,
    DatasetInfo,
    identity_folders,
    image_path,
    label_path,
    read_image,
    read_info,
    read_labels,
)
from fran_lightning.errors import UserError
from fran_lightning.files import atomic_path
from fran_lightning.progress import progress_bar


def pack_dataset(root: str | os.PathLike[str]) -> tuple[int, int]:
    """Write ``packed.npy`` (ages, H, W, 3) into every identity folder that has none.

    Identities with class maps get ``packed_labels.npy`` (ages, H, W) as well. The image files stay.

    Returns:
        The number of identities packed now, and their size in bytes.

    Raises:
        UserError: no dataset folder; an image that is missing, broken or of another size.
    """
    info = read_info(root)
    todo = [folder for folder in identity_folders(root) if not (folder / PACKED_IMAGES).is_file()]
    size = 0
    with (
        ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool,
        progress_bar("Packing", len(todo), "identities") as bar,
    ):
        for written in pool.map(lambda folder: _pack_identity(folder, info), todo):
            size += written
            bar.advance()
    return len(todo), size


def _pack_identity(folder: Path, info: DatasetInfo) -> int:
    shape = (info.image_size, info.image_size)
    images = []
    for age in info.ages:
        path = image_path(folder, age)
        if path is None:
            raise UserError(f"{folder} has no image of age {age}; run `fran check-data {folder.parent}`")
        images.append(_of_shape(read_image(path), shape, path))
    pack_labels(folder, info)
    # last, because its presence says that the identity is packed
    return _save(folder / PACKED_IMAGES, np.stack(images))


def pack_labels(folder: Path, info: DatasetInfo) -> None:
    """Write ``packed_labels.npy`` (ages, H, W) for an identity that has a class map at every age.

    Raises:
        UserError: a class map that is broken or of another size.
    """
    paths = [path for age in info.ages if (path := label_path(folder, age)) is not None]
    if len(paths) == len(info.ages):
        shape = (info.image_size, info.image_size)
        _save(folder / PACKED_LABELS, np.stack([_of_shape(read_labels(path), shape, path) for path in paths]))


def _of_shape(pixels: np.ndarray, shape: tuple[int, int], path: Path) -> np.ndarray:
    if pixels.shape[:2] != shape:
        raise UserError(f"{path} is {pixels.shape[1]} x {pixels.shape[0]} pixels, not {shape[1]} x {shape[0]}")
    return pixels


def _save(path: Path, array: np.ndarray) -> int:
    with atomic_path(path) as temporary:
        np.save(temporary, array)
    return array.nbytes
