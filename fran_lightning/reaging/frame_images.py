"""Grey images that lie over the frame: painted masks and painted age maps, one for all frames or one for each."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fran_lightning.ages import MAXIMUM_AGE, YEARS_PER_UNIT, painted_age_map
from fran_lightning.errors import UserError
from fran_lightning.reaging.sequences import describe_numbers

_IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".exr", ".jpg", ".jpeg", ".webp", ".bmp")


def find_sequence(text: str) -> list[Path]:
    """The files that ``text`` names, in the order of their numbers.

    ``text`` is a file, a folder, a glob (``masks/*.png``), or a pattern (``mask.####.png``, ``mask.%04d.png``).

    Raises:
        UserError: nothing there.
    """
    path = Path(text)
    if path.is_dir():
        found = [entry for entry in path.iterdir() if entry.suffix.lower() in _IMAGE_SUFFIXES]
    elif path.is_file():
        return [path]
    else:
        pattern = re.sub(r"#+|%0?\d*d", "*", text)
        found = [Path(name) for name in glob.glob(pattern)] if pattern != text or "*" in text or "?" in text else []
    if not found:
        raise UserError(f"{text} is no file, folder, glob or numbered pattern that finds anything")
    return sorted(found, key=_number_order)


def _number_order(path: Path) -> tuple[object, ...]:
    """Natural order: shot.9 before shot.10."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name))


def _last_number(path: Path) -> int | None:
    numbers = re.findall(r"\d+", path.stem)
    return int(numbers[-1]) if numbers else None


class FrameImages:
    """One grey image for all frames, or one per frame, as float32 (H, W) in [0, 1] (black to white)."""

    def __init__(self, source: str | os.PathLike[str], what: str) -> None:
        """``source`` as in :func:`find_sequence`; ``what`` is how messages call it.

        Raises:
            UserError: nothing there.
        """
        self.what = what
        self.files = find_sequence(os.fspath(source))
        self._last: tuple[Path, tuple[int, int], np.ndarray] | None = None
        self._by_number = {number: path for path in self.files if (number := _last_number(path)) is not None}

    def __repr__(self) -> str:
        changed = [(str(path), path.stat().st_mtime_ns) for path in self.files]
        return f"FrameImages({self.what!r}, {changed!r})"

    def check_length(self, frames: int) -> None:
        """Raises: UserError, where there are several images, but fewer than ``frames``."""
        if 1 < len(self.files) < frames:
            raise UserError(f"the {self.what} has {len(self.files)} images for {frames} frames")

    def check_numbers(self, numbers: Sequence[int]) -> None:
        """Raises: UserError, where there are several images, but not one for each of the frames' ``numbers``."""
        missing = [number for number in numbers if number not in self._by_number]
        if len(self.files) > 1 and missing:
            raise UserError(f"the {self.what} has no image for frame {describe_numbers(missing)}")

    def check_sizes(self, numbers: Sequence[int], height: int, width: int) -> None:
        """Look at the images of the frames with these ``numbers``: all headers, pixels of the first and the last.

        Raises:
            UserError: no such image, one that is broken, or one of another size than ``height`` x ``width``.
        """
        self.check_numbers(numbers)
        paths = list(dict.fromkeys(self._path_of(number) for number in numbers))
        for path in paths:
            found = _size_of(path)
            if found != (height, width):
                shown, wanted = f"{found[1]} x {found[0]}", f"{width} x {height}"
                raise UserError(f"the {self.what} {path} is {shown}; it must have the size of the frames, {wanted}")
        for path in {paths[0], paths[-1]}:
            self._read(path, height, width)

    def at(self, index: int, height: int, width: int) -> np.ndarray:
        """The image of frame ``index`` (from 0, in the order of the images) at ``height`` x ``width``. Read only.

        Raises:
            UserError: no image, not grey, of another shape, or there are fewer images than frames.
        """
        return self._read(self.path_at(index), height, width)

    def path_at(self, index: int) -> Path:
        """The file of frame ``index``. Raises: UserError, where there are fewer images than frames."""
        if len(self.files) > 1 and index >= len(self.files):
            raise UserError(f"the {self.what} has {len(self.files)} images, but the film is longer")
        return self.files[index if len(self.files) > 1 else 0]

    def of_number(self, number: int, height: int, width: int) -> np.ndarray:
        """As :meth:`at`, for the frame with a ``number``, which is the last number in the images' names."""
        self.check_numbers([number])
        return self._read(self._path_of(number), height, width)

    def _path_of(self, number: int) -> Path:
        return self._by_number[number] if len(self.files) > 1 else self.files[0]

    def _read(self, path: Path, height: int, width: int) -> np.ndarray:
        if self._last is not None and self._last[:2] == (path, (height, width)):
            return self._last[2]
        native = _read_share(path)
        if abs(native.shape[1] * height - native.shape[0] * width) > 0.02 * native.shape[0] * width:
            shown = f"{native.shape[1]} x {native.shape[0]}"
            raise UserError(
                f"the {self.what} {path} is {shown}; it must have the shape of the picture, {width} x {height}"
            )
        if native.shape != (height, width):
            import cv2

            shrinks = native.shape[0] > height
            native = cv2.resize(native, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        image = np.clip(native, 0, 1)
        image.flags.writeable = False
        self._last = (path, (height, width), image)
        return image


def _size_of(path: Path) -> tuple[int, int]:
    """(height, width) by the file's header; of an EXR its display window. Raises: UserError, where there is none."""
    if path.suffix.lower() == ".exr":
        from fran_lightning.reaging.exr import read_display_size

        return read_display_size(path)
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.height, image.width
    except OSError as error:
        raise UserError(f"{path} is broken or no image that can be read") from error


def _read_share(path: Path) -> np.ndarray:
    """A grey image (H, W) float32, black at 0 and white at 1."""
    if path.suffix.lower() == ".exr":
        from fran_lightning.reaging.exr import read_grey_exr

        return read_grey_exr(path)
    # an age map is black for 0 and white for 100 years: read as a share of the whole, it is a mask
    return painted_age_map(path)[0, 0].numpy() * np.float32(YEARS_PER_UNIT / MAXIMUM_AGE)
