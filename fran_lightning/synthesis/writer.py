"""Writes dataset folders: one identity at a time, atomic, resumable, in shards."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from fran_lightning.data.folder import DatasetInfo, identity_name, read_info
from fran_lightning.errors import UserError
from fran_lightning.files import write_json

ImageFormat = Literal["png", "webp", "jpg"]
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    # level 3 halves the time of the default level 6 and costs about 4 % in size
    "png": {"compress_level": 3},
    "webp": {"lossless": True, "quality": 50, "method": 2},
    "jpg": {"quality": 95, "subsampling": 0},
}


def parse_shard(text: str) -> tuple[int, int]:
    """``"i/n"`` (i from 0 to n - 1) as two numbers.

    Raises:
        UserError: anything else.
    """
    try:
        index, count = (int(part) for part in text.split("/"))
    except ValueError as error:
        raise UserError(f"--shard {text!r} is not of the form i/n, for example 0/4") from error
    if not 0 <= index < count:
        raise UserError(f"--shard {text}: i must lie between 0 and n - 1")
    return index, count


class DatasetWriter:
    """Writes the identities of one dataset folder.

    An identity appears under its final name only when all of its files are complete: everything is written
    into a hidden folder beside it, which is then renamed. A killed run leaves at most such a hidden folder,
    removed by the next run. Running the same command again continues with the identities that are missing.

    Args:
        root: the dataset folder; created if missing.
        info: what ``dataset.json`` will say. If the folder holds one already, it must agree.
        shard: (i, n): this process is responsible for the identities whose index is i modulo n.
        image_format: png, webp (both lossless) or jpg (quality 95, no chroma subsampling).

    Raises:
        UserError: the folder was made with other settings (the message names the first that differs), or it
            is not empty and no dataset folder.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        info: DatasetInfo,
        shard: tuple[int, int] = (0, 1),
        image_format: ImageFormat = "png",
    ) -> None:
        self.root = Path(root)
        self.info = info
        self.shard = shard
        self.image_format = image_format
        self.root.mkdir(parents=True, exist_ok=True)
        # looked at before dataset.json, which comes first: another shard may be starting at this moment
        holds_files = any(path for path in self.root.iterdir() if not path.name.startswith("."))
        if (self.root / "dataset.json").is_file():
            self._refuse_other_settings(read_info(self.root))
        else:
            if holds_files:
                raise UserError(f"{self.root} holds files but no dataset.json; choose an empty folder")
            write_json(self.root / "dataset.json", info.to_json())
        self._remove_leftovers()

    def _refuse_other_settings(self, existing: DatasetInfo) -> None:
        # a round trip through JSON, because tuples come back as lists
        wanted = _flatten(json.loads(json.dumps(self.info.to_json())))
        present = _flatten(existing.to_json() | {"ages": list(existing.ages)})
        for name in sorted(wanted.keys() | present.keys()):
            if wanted.get(name) != present.get(name):
                raise UserError(
                    f"{self.root} was made with {name} = {present.get(name)}, not {wanted.get(name)}; "
                    "use the same settings or another folder"
                )

    def _remove_leftovers(self) -> None:
        index, count = self.shard
        for path in self.root.glob(".partial-*"):
            identity = int(path.name.split("-")[1])
            if identity % count == index:
                shutil.rmtree(path, ignore_errors=True)

    def missing(self) -> list[int]:
        """The identities of this shard that are not written yet, in order."""
        index, count = self.shard
        return [i for i in range(index, self.info.identities, count) if not (self.root / identity_name(i)).is_dir()]

    def write_identity(
        self,
        index: int,
        images: Sequence[np.ndarray],
        labels: Sequence[np.ndarray] | None = None,
        record: dict[str, Any] | None = None,
        depths: Sequence[np.ndarray] | None = None,
    ) -> Path:
        """Write one identity and return its folder.

        Args:
            index: number of the identity.
            images: uint8 RGB (size, size, 3), one per age of ``info.ages``.
            labels: uint8 class maps (size, size), one per age.
            record: content of ``identity.json``.
            depths: uint16 (size, size), one per age: distance from the camera, written as 16-bit ``depth/{age}.png``.
        """
        with self._identity_folder(index) as folder:
            for age, pixels in zip(self.info.ages, images, strict=True):
                path = folder / f"{age}.{self.image_format}"
                Image.fromarray(pixels).save(path, **_SAVE_OPTIONS[self.image_format])
            for name, maps in (("labels", labels), ("depth", depths)):
                if maps is not None:
                    (folder / name).mkdir()
                    for age, values in zip(self.info.ages, maps, strict=True):
                        Image.fromarray(values).save(folder / name / f"{age}.png", **_SAVE_OPTIONS["png"])
            if record is not None:
                write_json(folder / "identity.json", record)
        return self.root / identity_name(index)

    def copy_identity(self, index: int, images: Sequence[Path], record: dict[str, Any] | None = None) -> Path:
        """Like :meth:`write_identity`, from image files that are copied byte for byte, one per age."""
        with self._identity_folder(index) as folder:
            for age, path in zip(self.info.ages, images, strict=True):
                shutil.copyfile(path, folder / f"{age}{path.suffix.lower()}")
            if record is not None:
                write_json(folder / "identity.json", record)
        return self.root / identity_name(index)

    @contextmanager
    def _identity_folder(self, index: int) -> Iterator[Path]:
        """A hidden folder to fill; it gets the identity's name when the block ends well, and else is removed."""
        partial = self.root / f".partial-{identity_name(index)}-{uuid.uuid4().hex[:8]}"
        try:
            partial.mkdir()
            yield partial
            self._publish(partial, self.root / identity_name(index))
        finally:
            if partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)

    @staticmethod
    def _publish(partial: Path, final: Path) -> None:
        try:
            os.rename(partial, final)
        except OSError:
            # another process with the same settings was quicker: its files are the same
            if not final.is_dir():
                raise


def _flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
