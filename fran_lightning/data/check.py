"""Looks at every file of a dataset folder and names what is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from fran_lightning.data.folder import (
    PACKED_IMAGES,
    PACKED_LABELS,
    DatasetInfo,
    identity_folders,
    image_path,
    label_path,
    read_image,
    read_info,
)
from fran_lightning.errors import UserError
from fran_lightning.progress import progress_bar

#: number of classes that a label may name (CelebAMask-HQ)
CLASSES = 19


@dataclass(frozen=True)
class CheckReport:
    """What ``check_dataset`` found: the header, the number of complete identities, one line per problem."""

    info: DatasetInfo
    complete_identities: int
    images: int
    problems: list[str]


def check_dataset(root: str | os.PathLike[str], decode: bool = False) -> CheckReport:
    """Check that every identity has every age, whole and of one size.

    Reads the header and the end of every image file, which finds missing, mis-sized and truncated files;
    ``decode`` also decodes every pixel, which takes about 20 ms per megapixel of PNG.

    Raises:
        UserError: the folder is no dataset folder at all.
    """
    info = read_info(root)
    folders = identity_folders(root)
    problems = []
    if len(folders) < info.identities:
        problems.append(f"{len(folders)} of {info.identities} identities exist; the synthesis can be continued")
    with (
        ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool,
        progress_bar("Checking", len(folders), "identities") as bar,
    ):
        complete = 0
        for found in pool.map(lambda folder: list(_identity_problems(folder, info, decode)), folders):
            problems += found
            complete += not found
            bar.advance()
    return CheckReport(info, complete, complete * len(info.ages), problems)


def _identity_problems(folder: Path, info: DatasetInfo, decode: bool) -> Iterator[str]:
    if (packed := folder / PACKED_IMAGES).is_file():
        yield from _packed_problems(packed, (len(info.ages), info.image_size, info.image_size, 3))
        if (packed_labels := folder / PACKED_LABELS).is_file():
            yield from _packed_problems(packed_labels, (len(info.ages), info.image_size, info.image_size))
        # packed identities may have dropped their image files
        if not any(image_path(folder, age) for age in info.ages):
            return
    labelled = (folder / "labels").is_dir()
    for age in info.ages:
        path = image_path(folder, age)
        if path is None:
            yield f"{folder}: age {age} is missing"
        else:
            yield from _image_problems(path, info.image_size, decode)
        if labelled and (label := label_path(folder, age)) is None:
            yield f"{folder}/labels: age {age} is missing"
        elif labelled and label is not None:
            yield from _label_problems(label, info.image_size)


def _image_problems(path: Path, size: int, decode: bool) -> Iterator[str]:
    try:
        with Image.open(path) as image:
            if image.size != (size, size):
                yield f"{path}: {image.width} x {image.height} pixels, not {size} x {size}"
                return
        if not _ends_as_it_should(path):
            yield f"{path}: truncated"
        elif decode:
            read_image(path)
    except (UnidentifiedImageError, OSError, SyntaxError):
        yield f"{path}: broken or no image"
    except UserError as error:
        yield str(error)


def _label_problems(path: Path, size: int) -> Iterator[str]:
    try:
        with Image.open(path) as image:
            if image.size != (size, size) or image.mode not in ("L", "P"):
                yield f"{path}: {image.width} x {image.height} {image.mode}, not {size} x {size} with 8 bits"
                return
            if not _ends_as_it_should(path):
                yield f"{path}: truncated"
                return
            highest = int(np.asarray(image).max())
    except (UnidentifiedImageError, OSError, SyntaxError):
        yield f"{path}: broken or no image"
        return
    if highest >= CLASSES:
        yield f"{path}: class {highest}; classes go from 0 to {CLASSES - 1}"


def _packed_problems(path: Path, shape: tuple[int, ...]) -> Iterator[str]:
    try:
        array = np.load(path, mmap_mode="r")
    except (ValueError, OSError, EOFError):
        yield f"{path}: broken; delete it and run `fran pack` again"
        return
    if array.shape != shape or array.dtype != np.uint8:
        yield f"{path}: {array.dtype} {array.shape}, not uint8 {shape}; delete it and run `fran pack` again"


def _ends_as_it_should(path: Path) -> bool:
    """Whether the file ends with its format's end mark, or has the length that its header states."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(max(0, size - 12))
        tail = file.read()
    if head.startswith(b"\x89PNG"):
        return b"IEND" in tail
    if head.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in tail
    if head.startswith(b"RIFF"):
        return size >= int.from_bytes(head[4:8], "little") + 8
    return True
