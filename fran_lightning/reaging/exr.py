"""OpenEXR files: all channels and all attributes in, and out again as they were.

Single-part scan-line images with the channels R, G and B in half or float. Compression, channel types, windows, time
codes and a studio's own attributes come back as they were read; so does every channel that nobody touches.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fran_lightning.errors import UserError
from fran_lightning.files import atomic_path

COLOUR_CHANNELS = ("R", "G", "B")
_MAGIC = b"\x76\x2f\x31\x01"
#: Flags in the file's version field, and what is wrong with such a file.
_UNREADABLE = {
    0x200: "is tiled; save it in scan lines",
    0x800: "is a deep image; flatten it",
    0x1000: "has several parts; save the part with the picture as a file of its own",
}
#: Lines packed together, by the code of the compression (none, RLE, ZIPS, ZIP, PIZ, PXR24, B44(A), DWAA, DWAB).
_LINES_PER_CHUNK = {0: 1, 1: 1, 2: 1, 3: 16, 4: 32, 5: 16, 6: 32, 7: 32, 8: 32, 9: 256}


@dataclass(frozen=True)
class ExrImage:
    """One file in memory.

    Attributes:
        header: attributes by name, as the OpenEXR bindings give them; compression, windows and line order are among
            them, the list of channels is not.
        channels: pixels (H, W) float16, float32 or uint32 by channel name, of the data window.
        origin: upper left pixel (x, y) of the data window, counted from the display window's.
        display_size: (height, width) of the display window.
        linear: names of the channels that are marked as "perceptually linear".
    """

    header: Mapping[str, Any]
    channels: dict[str, np.ndarray]
    origin: tuple[int, int]
    display_size: tuple[int, int]
    linear: frozenset[str] = frozenset()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the data window."""
        return next(iter(self.channels.values())).shape[:2]

    def rgb(self, rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray:
        """The colour of a part (h, w, 3) float32, a copy."""
        return np.stack([self.channels[name][rows, columns] for name in COLOUR_CHANNELS], axis=-1, dtype=np.float32)

    def over_display(self, image: np.ndarray) -> np.ndarray:
        """The part of a picture of the display window (H', W') that lies over the data window; 0 elsewhere."""
        (height, width), (left, top) = self.size, self.origin
        if (left, top) == (0, 0) and image.shape == (height, width):
            return image
        part = np.zeros((height, width), dtype=image.dtype)
        rows, columns = _overlap(top, height, image.shape[0]), _overlap(left, width, image.shape[1])
        part[rows, columns] = image[_shifted(rows, top), _shifted(columns, left)]
        return part


def _overlap(offset: int, length: int, other: int) -> slice:
    return slice(max(0, -offset), max(0, -offset, min(length, other - offset)))


def _shifted(part: slice, offset: int) -> slice:
    return slice(part.start + offset, part.stop + offset) if part.stop > part.start else slice(0, 0)


def read_exr(path: str | os.PathLike[str]) -> ExrImage:
    """Read all channels of a plate.

    Raises:
        UserError: missing or broken, tiled, deep, in several parts, without R, G, B, or with a channel that is not
            stored for every pixel.
    """
    header, found, linear = _load(path)
    missing = [name for name in COLOUR_CHANNELS if name not in found]
    if missing:
        names = sorted(found)
        shown = ", ".join(names[:6]) + (" ..." if len(names) > 6 else "")
        raise UserError(f"{path} has no channels R, G and B (it has {shown}); write the picture to RGB")
    for name in COLOUR_CHANNELS:
        if found[name].dtype.kind != "f":
            raise UserError(f"{path} holds whole numbers in channel {name}; colour must be half or float")
    return _image(header, found, linear)


def read_grey_exr(path: str | os.PathLike[str]) -> np.ndarray:
    """A painted image of the display window (H, W) float32: channel Y, else A where there is no colour, else R.

    Raises:
        UserError: as :func:`read_exr`, no such channel, or colour channels that differ.
    """
    header, found, _ = _load(path)
    name = next((name for name in ("Y", "R", "A") if name in found), next(iter(found)))
    colours = [found[other] for other in COLOUR_CHANNELS if other in found]
    if name == "R" and any(not np.array_equal(colours[0], other) for other in colours[1:]):
        raise UserError(f"{path} is in colour; save it in grey, or its values as channel Y")
    image = _image(header, {name: found[name]}, frozenset())
    left, top = image.origin
    height, width = image.size
    whole = np.zeros(image.display_size, dtype=np.float32)
    rows, columns = _overlap(-top, whole.shape[0], height), _overlap(-left, whole.shape[1], width)
    whole[rows, columns] = np.nan_to_num(found[name][_shifted(rows, -top), _shifted(columns, -left)], nan=0.0)
    return whole


def read_display_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) of the display window, without reading pixels.

    Raises:
        UserError: missing, broken, tiled, deep or in several parts.
    """
    stored = _check_file(Path(path)).get("displayWindow", b"")
    if len(stored) != 16:
        raise UserError(f"{path} is broken: it has no display window")
    left, top, right, bottom = struct.unpack("<4i", stored)
    return bottom - top + 1, right - left + 1


def _image(header: Mapping[str, Any], channels: dict[str, np.ndarray], linear: frozenset[str]) -> ExrImage:
    data, display = header["dataWindow"], header["displayWindow"]
    origin = int(data[0][0] - display[0][0]), int(data[0][1] - display[0][1])
    size = int(display[1][1] - display[0][1] + 1), int(display[1][0] - display[0][0] + 1)
    return ExrImage(header, channels, origin, size, linear)


def _load(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray], frozenset[str]]:
    import OpenEXR

    _use_all_cores()
    _check_file(Path(path))
    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            if len(file.parts) != 1:
                raise UserError(f"{path} is broken: its pixels cannot be read")
            channels = file.channels()
            header = {name: value for name, value in file.header().items() if name != "channels"}
            for name, channel in channels.items():
                if (channel.xSampling, channel.ySampling) != (1, 1):
                    raise UserError(f"{path} holds channel {name} at reduced resolution; save it at full resolution")
            linear = frozenset(name for name, channel in channels.items() if channel.pLinear)
            return header, {name: np.ascontiguousarray(channel.pixels) for name, channel in channels.items()}, linear
    except UnicodeDecodeError as error:
        raise UserError(f"{path} holds a text attribute that is not UTF-8; remove or rewrite it") from error
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        raise UserError(f"{path} is broken or no OpenEXR file ({error})") from error


def _check_file(path: Path) -> dict[str, bytes]:
    """Find what the bindings would answer by noise on the terminal: kinds of files we do not read, and cut files.

    Returns the attributes as they are stored, by name. The layout of the file is that of the OpenEXR documentation
    ("OpenEXR File Layout"): magic number, version and flags, attributes (name, type, size, value) up to an empty name,
    then the offsets of the chunks of lines.

    Raises:
        UserError: one of these.
    """
    if not path.is_file():
        raise UserError(f"frame {path} does not exist")
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8 or start[:4] != _MAGIC:
            raise UserError(f"{path} is broken or no OpenEXR file")
        flags = int.from_bytes(start[4:], "little")
        for flag, problem in _UNREADABLE.items():
            if flags & flag:
                raise UserError(f"{path} {problem}")
        try:
            attributes = _read_attributes(file)
            lines_per_chunk = _LINES_PER_CHUNK.get(attributes["compression"][0])
            if lines_per_chunk is None:
                return attributes
            _, top, _, bottom = struct.unpack("<4i", attributes["dataWindow"])
            count = -(-(bottom - top + 1) // lines_per_chunk)
            offsets = struct.unpack(f"<{count}Q", file.read(8 * count))
            file.seek(max(offsets))
            _, length = struct.unpack("<2i", file.read(8))
            whole = min(offsets) > 0 and max(offsets) + 8 + length <= path.stat().st_size
        except (struct.error, KeyError, IndexError, ValueError, OverflowError):
            whole = False
        if not whole:
            raise UserError(f"{path} is cut off or broken; write it again")
        return attributes


def _read_attributes(file: BinaryIO) -> dict[str, bytes]:
    attributes = {}
    while name := _read_text(file):
        _read_text(file)
        (size,) = struct.unpack("<i", file.read(4))
        attributes[name.decode("latin-1")] = file.read(size)
    return attributes


def _read_text(file: BinaryIO) -> bytes:
    text = bytearray()
    while (sign := file.read(1)) != b"\0":
        if not sign or len(text) > 255:
            raise ValueError("no end of a name")
        text += sign
    return bytes(text)


def write_exr(
    path: str | os.PathLike[str],
    header: Mapping[str, Any],
    channels: Mapping[str, np.ndarray],
    linear: frozenset[str] = frozenset(),
) -> None:
    """Write a file atomically; the header's compression, windows and attributes are kept as they are.

    ``linear``: names of the channels to be marked as "perceptually linear".
    """
    import OpenEXR

    _use_all_cores()
    described = {name: OpenEXR.Channel(name, pixels, 1, 1, name in linear) for name, pixels in channels.items()}
    with atomic_path(path) as temporary, OpenEXR.File(dict(header), described) as file:
        file.write(str(temporary))


def new_header(height: int, width: int) -> dict[str, Any]:
    """The header of a picture of our own, losslessly compressed."""
    import OpenEXR

    window = (np.zeros(2, np.int32), np.array([width - 1, height - 1], np.int32))
    return {
        "compression": OpenEXR.ZIP_COMPRESSION,
        "type": OpenEXR.scanlineimage,
        "dataWindow": window,
        "displayWindow": window,
    }


@functools.cache
def _use_all_cores() -> None:
    """Blocks of lines are packed and unpacked side by side."""
    import OpenEXR

    OpenEXR.set_global_thread_count(max(2, os.cpu_count() or 1))
