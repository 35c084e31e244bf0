"""Class maps by a face parser for datasets that come without."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from fran_lightning.data.folder import (
    PACKED_IMAGES,
    PACKED_LABELS,
    identity_folders,
    image_path,
    label_path,
    read_image,
    read_info,
)
from fran_lightning.data.pack import pack_labels
from fran_lightning.files import atomic_path
from fran_lightning.perception.parsing import FaceParser
from fran_lightning.progress import progress_bar


def write_class_maps(root: Path, parser: FaceParser) -> tuple[int, int]:
    """Write ``labels/<age>.png`` for every image that has none; packed identities get their packed class maps too.

    Returns:
        Class maps written, and those that were there.

    Raises:
        UserError: no dataset folder, or a broken image.
    """
    info = read_info(root)
    folders = identity_folders(root)
    todo, kept = [], 0
    for folder in folders:
        images = [(age, path) for age in info.ages if (path := image_path(folder, age)) is not None]
        missing = [(age, path) for age, path in images if label_path(folder, age) is None]
        kept += len(images) - len(missing)
        todo.append((folder, missing))
    total = sum(len(missing) for _, missing in todo)
    with progress_bar("parsing faces", total, "images") as bar:
        for folder, missing in todo:
            for age, path in missing:
                image = torch.from_numpy(read_image(path)).permute(2, 0, 1)[None].float() / 127.5 - 1
                classes = parser.classes(image)[0].cpu().numpy()
                (folder / "labels").mkdir(exist_ok=True)
                with atomic_path(folder / "labels" / f"{age}.png") as temporary:
                    Image.fromarray(classes).save(temporary)
                bar.advance()
            if (folder / PACKED_IMAGES).is_file() and not (folder / PACKED_LABELS).is_file():
                pack_labels(folder, info)
    return total, kept
