"""One frame of an image sequence: what detection sees of it, what the network sees, and how a delta goes into it.

EXR frames hold scene light, PNG and TIFF frames hold display values with 8 or 16 bits. Both leave every pixel as it is,
to the bit, that the delta does not touch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fran_lightning.errors import UserError
from fran_lightning.perception.alignment import FaceSquare, needed_part, sample
from fran_lightning.perception.picture import ArrayPicture, Picture, reduced_size
from fran_lightning.reaging.colour import PlateColour, named_by_chromaticities
from fran_lightning.reaging.exr import COLOUR_CHANNELS, ExrImage, read_exr, write_exr
from fran_lightning.reaging.paste import Patch, add_delta
from fran_lightning.reaging.photo import Photo, read_photo, write_photo
from fran_lightning.reaging.provenance import PROPERTIES
from fran_lightning.reaging.reager import to_8_bit, to_unit_range
from fran_lightning.reaging.sequences import EXR_SUFFIX
from fran_lightning.reaging.tracks import SEARCH_SIDE

_HALF_MAXIMUM = 65504.0
_FADE = 0.05  # below white, in scene light: over it a delta fades out, so that no edge shows where it ends


class PlateFrame(Protocol):
    """A frame in memory, (height, width) pixels."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the stored picture."""

    @property
    def kind(self) -> str:
        """In words, what all frames of one sequence must have in common."""

    def picture(self) -> Picture:
        """What the search for faces sees."""

    def read_crop(self, to_frame: np.ndarray, size: int) -> np.ndarray:
        """A crop (S, S, 3) float32 in [-1, 1]; ``to_frame`` (2, 3) leads from crop to frame pixels."""

    def from_display(self, image: np.ndarray) -> np.ndarray:
        """The part of a picture (H', W') over the whole view that lies over the stored picture (H, W)."""

    def display_size(self) -> tuple[int, int]:
        """(height, width) of the whole view."""

    def add(self, delta: Patch, tell: bool) -> Patch | None:
        """Add a delta in the network's units in place.

        Returns, if it is to ``tell``, what was added in the frame's own units (float32 scene light, or codes as a share
        of white).
        """

    def write(self, path: Path, layers: Mapping[str, np.ndarray], marked: bool) -> tuple[str, ...]:
        """Write the frame with further channels (H, W), if its format holds such.

        ``marked``: say in its metadata that a generative model edited it. Returns sentences about what was not kept.
        """


class ExrFrame:
    """A frame of scene light.

    Pixels with a value below 0, above 1, NaN or infinite are never touched: a screen shows nothing of what they hold,
    so neither does the network see it. NaN and infinite ones are filled from their surroundings for its eyes.
    """

    def __init__(self, image: ExrImage, colour: PlateColour) -> None:
        self.image = image
        self._colour = colour

    @property
    def size(self) -> tuple[int, int]:
        return self.image.size

    @property
    def kind(self) -> str:
        height, width = self.size
        left, top = self.image.origin
        shown = " x ".join(str(side) for side in reversed(self.image.display_size))
        return f"{width} x {height} pixels at {left}, {top} of {shown}"

    def picture(self) -> Picture:
        return _ExrPicture(self)

    def reduced(self, longest_side: int) -> np.ndarray:
        """All of it as a screen shows it, uint8 in the size of :func:`reduced_size`."""
        import cv2

        height, width = reduced_size(self.size, longest_side)
        planes = [self.image.channels[name].astype(np.float32, copy=False) for name in COLOUR_CHANNELS]
        # light is averaged as a lens would, before the curve
        small = [cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in planes]
        display = self._colour.to_display(_without_holes(np.stack(small, axis=-1)))
        return np.rint(np.clip(display, 0, 1) * 255).astype(np.uint8)

    def read_crop(self, to_frame: np.ndarray, size: int) -> np.ndarray:
        left, top, right, bottom = needed_part(to_frame, size, self.size)
        light = _without_holes(self.image.rgb(slice(top, bottom), slice(left, right)))
        # clipped before it is resampled: a lamp of 100 times white must not ring over its neighbours
        display = np.clip(self._colour.to_display(light), 0, 1)
        matrix = to_frame.copy()
        matrix[:, 2] -= (left, top)
        return np.clip(sample(display, matrix, size) * 2 - 1, -1, 1)

    def from_display(self, image: np.ndarray) -> np.ndarray:
        return self.image.over_display(image)

    def display_size(self) -> tuple[int, int]:
        return self.image.display_size

    def add(self, delta: Patch, tell: bool) -> Patch | None:
        height, width = delta.values.shape[:2]
        inside = np.flatnonzero((delta.values != 0).any(axis=-1))
        rows, columns = np.divmod(inside, max(width, 1))
        # flat indices are several times faster than masks
        flat = (rows + delta.top) * self.size[1] + columns + delta.left
        channels = [self.image.channels[name].reshape(-1) for name in COLOUR_CHANNELS]
        values = [channel[flat].astype(np.float32, copy=False) for channel in channels]
        brightest = np.maximum(np.maximum(values[0], values[1]), values[2])
        # false for NaN, too
        seen = (brightest <= 1) & (np.minimum(np.minimum(values[0], values[1]), values[2]) >= 0)
        plate = np.stack(values, axis=-1)
        if not seen.all():
            inside, flat, plate, brightest = inside[seen], flat[seen], plate[seen], brightest[seen]
        wanted = delta.values.reshape(-1, 3)[inside] / 2
        bright = np.flatnonzero(brightest > 1 - _FADE)
        wanted[bright] *= ((1 - brightest[bright]) / _FADE)[:, None]
        change = self._colour.plate_change(plate, wanted)
        for index, channel in enumerate(channels):
            total = plate[:, index] + change[:, index]
            if channel.dtype == np.float16:
                total = np.clip(total, -_HALF_MAXIMUM, _HALF_MAXIMUM).astype(np.float16)
                # what rounding to half left of the change
                change[:, index] = total.astype(np.float32) - plate[:, index]
            # minus zero is not to become zero
            before = plate[:, index].astype(channel.dtype, copy=False)
            channel[flat] = np.where(total == before, before, total)
        if not tell:
            return None
        added = np.zeros((height * width, 3), dtype=np.float32)
        added[inside] = change
        return Patch(delta.left, delta.top, added.reshape(height, width, 3))

    def write(self, path: Path, layers: Mapping[str, np.ndarray], marked: bool) -> tuple[str, ...]:
        header, notes = lossless(self.image.header)
        write_exr(
            path, {**header, **(PROPERTIES if marked else {})}, {**self.image.channels, **layers}, self.image.linear
        )
        return notes


class _ExrPicture:
    """An EXR frame as a :class:`Picture`; only what is looked at goes to the display."""

    def __init__(self, frame: ExrFrame) -> None:
        self._frame = frame
        # made where the frame was read, while the search runs in another thread
        self._reduced = {SEARCH_SIDE: frame.reduced(SEARCH_SIDE)}

    @property
    def shape(self) -> tuple[int, int]:
        return self._frame.size

    def reduced(self, longest_side: int) -> np.ndarray:
        if longest_side not in self._reduced:
            self._reduced[longest_side] = self._frame.reduced(longest_side)
        return self._reduced[longest_side]

    def cut_out(self, square: FaceSquare, size: int) -> np.ndarray:
        return to_8_bit(self._frame.read_crop(square.to_frame(size), size))


class DisplayFrame:
    """A PNG or TIFF frame, treated as a photo: its values are what a screen shows."""

    def __init__(self, photo: Photo) -> None:
        self.photo = photo.with_pixels(np.require(photo.pixels, requirements=["C", "W"]))

    @property
    def size(self) -> tuple[int, int]:
        return self.photo.pixels.shape[:2]

    @property
    def kind(self) -> str:
        height, width = self.size
        bits = self.photo.pixels.dtype.itemsize * 8
        return f"{width} x {height} pixels of {bits} bits"

    def picture(self) -> Picture:
        return ArrayPicture(to_8_bit(self.photo.pixels))

    def read_crop(self, to_frame: np.ndarray, size: int) -> np.ndarray:
        return to_unit_range(sample(self.photo.pixels, to_frame, size))

    def from_display(self, image: np.ndarray) -> np.ndarray:
        return image

    def display_size(self) -> tuple[int, int]:
        return self.size

    def add(self, delta: Patch, tell: bool) -> Patch | None:
        white = np.float32(np.iinfo(self.photo.pixels.dtype).max)
        region = self.photo.pixels[delta.window()]
        before = region.astype(np.float32)
        add_delta(self.photo.pixels, delta)
        return Patch(delta.left, delta.top, (region.astype(np.float32) - before) / white)

    def write(self, path: Path, layers: Mapping[str, np.ndarray], marked: bool) -> tuple[str, ...]:
        return write_photo(path, self.photo.marked_as_edited() if marked else self.photo)


def lossless(header: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The header with a compression that keeps every bit, and what had to be changed."""
    import OpenEXR

    lossy = (
        OpenEXR.PXR24_COMPRESSION,
        OpenEXR.B44_COMPRESSION,
        OpenEXR.B44A_COMPRESSION,
        OpenEXR.DWAA_COMPRESSION,
        OpenEXR.DWAB_COMPRESSION,
        OpenEXR.LJ2K_COMPRESSION,
    )
    if header["compression"] not in lossy:
        return dict(header), ()
    name = header["compression"].name.removesuffix("_COMPRESSION")
    note = f"{name} compression changes pixels when it is repeated: written as ZIP, without loss"
    return {**header, "compression": OpenEXR.ZIP_COMPRESSION}, (note,)


def read_frame(path: Path, colour: PlateColour | None) -> PlateFrame:
    """Read a frame; ``colour`` is that of EXR frames.

    Raises:
        UserError: broken, or no picture.
    """
    if path.suffix.lower() == EXR_SUFFIX:
        assert colour is not None
        return ExrFrame(read_exr(path), colour)
    return DisplayFrame(read_photo(path))


def choose_colour(first: Path, wanted: str | None) -> tuple[PlateColour | None, str]:
    """The colour space of a sequence, and in words where it comes from.

    Args:
        first: the first frame.
        wanted: the space's name as the user gave it; the file's own primaries, else Rec. 709, where absent.

    Raises:
        UserError: an unknown space, or one for frames that are no EXR.
    """
    if first.suffix.lower() != EXR_SUFFIX:
        if wanted is not None:
            raise UserError(f"--colorspace is for EXR; {first.suffix} frames are taken as a screen shows them")
        return None, "display values, as in a photo"
    if wanted is not None:
        return PlateColour(wanted), f"{wanted}, as asked"
    chromaticities = read_exr(first).header.get("chromaticities")
    name = named_by_chromaticities(chromaticities)
    if name is None:
        shown = " ".join(f"{value:g}" for value in chromaticities or ())
        raise UserError(f"{first} has primaries that are not known here ({shown}); name its space with --colorspace")
    source = "by the files' chromaticities" if chromaticities else "assumed, for the files do not say"
    return PlateColour(name), f"{name}, {source}"


def _without_holes(light: np.ndarray) -> np.ndarray:
    """Scene light (H, W, 3) with the surroundings' mean in place of NaN, and large numbers for infinite ones."""
    import cv2

    # one pass, and only now and then a second: the sum of anything and NaN is NaN
    if np.isfinite(light.sum(dtype=np.float64)):
        return light
    light = np.nan_to_num(light, nan=np.nan, posinf=_HALF_MAXIMUM, neginf=-_HALF_MAXIMUM)
    holes = np.isnan(light).any(axis=-1)
    reach = 3
    while holes.any():
        known = (~holes).astype(np.float32)
        share = cv2.blur(known, (reach, reach), borderType=cv2.BORDER_CONSTANT)
        total = cv2.blur(np.where(holes[..., None], 0, light), (reach, reach), borderType=cv2.BORDER_CONSTANT)
        filled = holes & (share > 1e-6)
        if not known.any():
            return np.zeros_like(light)
        light[filled] = total[filled] / share[filled][:, None]
        holes &= ~filled
        reach = 2 * reach + 1
    return light
