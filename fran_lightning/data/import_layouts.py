"""Turns other layouts of longitudinal data into dataset folders."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from fran_lightning.ages import parse_ages
from fran_lightning.data.folder import IMAGE_SUFFIXES, DatasetInfo, read_image
from fran_lightning.errors import UserError
from fran_lightning.progress import progress_bar

#: the layout of public SAM samples: aged_images/{age}_seed{id}.png
_AGE_SEED = re.compile(r"^(?P<age>\d+)_seed(?P<identity>\d+)$")


def import_aged_images(source: str | os.PathLike[str], out: str | os.PathLike[str]) -> int:
    """Make the dataset folder ``out`` from ``{age}_seed{id}.png`` files (or .jpg, .webp); returns the identities.

    ``source`` is the folder with the files, or the one that holds it as ``aged_images``. Files are copied
    unchanged. ``identity.json`` records the original id.

    Raises:
        UserError: no such files, an identity without one of the ages, a broken image, or two sizes.
    """
    from fran_lightning.synthesis.writer import DatasetWriter

    folder = Path(source)
    if not folder.is_dir():
        raise UserError(f"folder {folder} does not exist; give the folder that holds {{age}}_seed{{id}}.png files")
    if (folder / "aged_images").is_dir():
        folder = folder / "aged_images"
    faces = find_aged_images(folder)
    ages = parse_ages(sorted({age for images in faces.values() for age in images}))
    for identity, images in faces.items():
        if lacking := [age for age in ages if age not in images]:
            raise UserError(
                f"identity {identity} in {folder} has no image of age {lacking[0]}; "
                "every identity needs the same ages: add the image or remove the identity"
            )
    size = _common_size([path for images in faces.values() for path in images.values()])
    info = DatasetInfo(source="imported", image_size=size, ages=ages, identities=len(faces))
    writer = DatasetWriter(out, info)
    names = sorted(faces, key=int)
    todo = writer.missing()
    with progress_bar("Importing", len(todo), "identities") as bar:
        for index in todo:
            images = faces[names[index]]
            for path in images.values():
                read_image(path)  # a truncated image is found now, not in the middle of a training
            writer.copy_identity(index, [images[age] for age in ages], {"imported_from": names[index]})
            bar.advance()
    return len(faces)


def find_aged_images(folder: Path) -> dict[str, dict[int, Path]]:
    """The ``{age}_seed{id}`` images of a folder: identity -> age -> file.

    Raises:
        UserError: there are none.
    """
    faces: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in sorted(folder.iterdir()):
        match = _AGE_SEED.match(path.stem)
        if match and path.suffix.lower() in IMAGE_SUFFIXES:
            faces[match["identity"]][int(match["age"])] = path
    if not faces:
        raise UserError(f"{folder} holds no files named like 35_seed0007.png, so there are no aged faces in it")
    return dict(faces)


def _common_size(paths: list[Path]) -> int:
    sizes: dict[Path, tuple[int, int]] = {}
    for path in paths:
        try:
            with Image.open(path) as image:
                sizes[path] = image.size
        except (UnidentifiedImageError, OSError) as error:
            raise UserError(f"image {path} is broken or no image; replace it and import again") from error
    (width, height), _ = Counter(sizes.values()).most_common(1)[0]
    for path, (w, h) in sizes.items():
        if (w, h) != (width, height):
            raise UserError(f"{path} is {w} x {h} pixels, but most are {width} x {height}; all must have one size")
    if width != height:
        raise UserError(f"the images in {paths[0].parent} are {width} x {height}; faces must be cropped to squares")
    return width
