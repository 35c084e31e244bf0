"""Grey images that lie over the frame: painted masks and painted age maps, one for all frames or one for each."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

import numpy as np

from fran_lightning.ages import MAXIMUM_AGE, YEARS_PER_UNIT, painted_age_map
from fran_lightning.errors import UserError

_IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".webp", ".bmp")


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

    def __repr__(self) -> str:
        changed = [(str(path), path.stat().st_mtime_ns) for path in self.files]
        return f"FrameImages({self.what!r}, {changed!r})"

    def check_length(self, frames: int) -> None:
        """Raises: UserError, where there are several images, but fewer than ``frames``."""
        if 1 < len(self.files) < frames:
            raise UserError(f"the {self.what} has {len(self.files)} images for {frames} frames")

    def at(self, index: int, height: int, width: int) -> np.ndarray:
        """The image of frame ``index`` (from 0) at ``height`` x ``width``. Read only.

        Raises:
            UserError: no image, not grey, of another shape, or there are fewer images than frames.
        """
        if len(self.files) > 1 and index >= len(self.files):
            raise UserError(f"the {self.what} has {len(self.files)} images, but the film is longer")
        path = self.files[index if len(self.files) > 1 else 0]
        if self._last is not None and self._last[:2] == (path, (height, width)):
            return self._last[2]
        # an age map is black for 0 and white for 100 years: read as a share of the whole, it is a mask
        native = painted_age_map(path)[0, 0].numpy() * np.float32(YEARS_PER_UNIT / MAXIMUM_AGE)
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
