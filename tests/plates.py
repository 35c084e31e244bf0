"""Small EXR sequences with a real face, for the tests of plates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
from films import moving_portrait

from fran_lightning.reaging.colour import PlateColour

#: (row, column) of planted pixels: on the cheek, on the forehead, and outside the face; the last two on the cheek
NAN, INFINITE, DARK, BRIGHT = (150, 190), (90, 200), (10, 10), (8, 370)
LAMP, NEGATIVE = (150, 196), (150, 184)


def light(index: int = 0, space: str = "rec709") -> np.ndarray:
    """The moving portrait as scene light (H, W, 3) float32, with highlights, and negative, NaN and infinite pixels."""
    display = moving_portrait(index).astype(np.float32) / 255
    colour = PlateColour(space)
    # what is to be added to black: the way from the display
    pixels = colour.plate_change(np.zeros_like(display), display)
    pixels[BRIGHT[0] - 4 : BRIGHT[0] + 4, BRIGHT[1] - 4 : BRIGHT[1] + 4] = 37.5
    pixels[DARK] = (-0.25, -0.0, 0.0)
    pixels[NAN] = (np.nan, 0.25, 0.125)
    pixels[INFINITE] = (0.5, np.inf, 0.25)
    pixels[LAMP] = (3.75, 1.5, 0.5)
    pixels[NEGATIVE] = (0.2, -0.02, 0.1)
    return pixels


def write_exr_frame(path: Path, pixels: np.ndarray, others: dict[str, np.ndarray] | None = None, **header: Any) -> Path:
    """One EXR with the channels R, G, B, and ``others``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    attributes = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, **header}
    channels = {name: np.ascontiguousarray(pixels[..., index]) for index, name in enumerate("RGB")}
    OpenEXR.File(attributes, {**channels, **(others or {})}).write(str(path))
    return path


def write_plates(
    folder: Path, count: int = 4, first: int = 1001, dtype: type = np.float32, space: str = "rec709"
) -> str:
    """``shot.####.exr`` in ``folder``; returns the pattern."""
    for index in range(count):
        write_exr_frame(folder / f"shot.{first + index:04d}.exr", light(index, space).astype(dtype))
    return str(folder / "shot.####.exr")


def read_channels(path: Path | str) -> dict[str, np.ndarray]:
    """All channels."""
    with OpenEXR.File(str(path), separate_channels=True) as file:
        return {name: channel.pixels for name, channel in file.channels().items()}


def read_header(path: Path | str) -> dict[str, Any]:
    """All attributes but the list of channels, in a form that can be compared."""
    with OpenEXR.File(str(path), header_only=True) as file:
        return {name: repr(value) for name, value in file.header().items() if name != "channels"}


def same_bits(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where two arrays hold the same bits; NaN equals NaN, and zero does not equal minus zero."""
    kind = {2: np.uint16, 4: np.uint32}[one.dtype.itemsize]
    return one.view(kind) == other.view(kind)
