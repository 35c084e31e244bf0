"""Passes: what was done to a picture, as pictures of their own, for whoever puts the shot together.

======== ==========================================================================================================
result   the re-aged picture (always written)
delta    result - plate in the plate's own units: scene light for EXR, a share of white for everything else
mask     where the picture may have changed, 0 to 1; above 0 wherever the delta is not 0
age_map  the age that the network was told to make of each pixel, years / 100; 0 outside of all faces
aligned  each face as the network saw it, upright, and beside it with its delta added; display values
======== ==========================================================================================================

An age map in a 16-bit file is black for 0 and white for 100 years, as ``--age-map`` reads it; a mask is one that
``--mask`` reads.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from fran_lightning.errors import UserError
from fran_lightning.files import atomic_path
from fran_lightning.reaging.exr import new_header, write_exr
from fran_lightning.reaging.paste import Patch, spread, sum_patches
from fran_lightning.reaging.photo import Photo
from fran_lightning.reaging.plan import FaceInFrame
from fran_lightning.reaging.sequences import FramePattern

PassName = Literal["result", "delta", "mask", "age_map", "aligned"]
#: Smallest value of a 16-bit file: a pixel that may have changed has a mask of at least this.
_FAINTEST = np.float32(1 / 65535)


def parse_passes(text: str) -> tuple[PassName, ...]:
    """``result,delta,mask`` as names, ``result`` always first.

    Raises:
        UserError: an unknown pass.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in get_args(PassName):
            raise UserError(f"--passes {name!r} is unknown; choose among {', '.join(get_args(PassName))}")
    return tuple(name for name in get_args(PassName) if name in names or name == "result")


@dataclass(frozen=True)
class FramePasses:
    """The passes of one picture, (H, W) pixels.

    Attributes:
        delta: (H, W, 3) float32 in the plate's units.
        mask, age_map: (H, W) float32 in [0, 1].
        aligned: (S, 2 S, 3) float32 in [0, 1] by person.
    """

    delta: np.ndarray
    mask: np.ndarray
    age_map: np.ndarray
    aligned: Mapping[int, np.ndarray]


def make_passes(
    faces: Sequence[FaceInFrame],
    added: Patch | None,
    shape: tuple[int, int],
    frame_mask: np.ndarray | None = None,
) -> FramePasses:
    """The passes of a frame.

    Args:
        faces: with their deltas.
        added: what was added to the frame in its own units; None where there was no face.
        shape: (height, width) of the frame.
        frame_mask: the painted mask over the frame (H, W), where there is one.
    """
    delta = np.zeros((*shape, 3), dtype=np.float32)
    mask, age_map = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    if added is not None:
        delta[added.window()] = added.values
    for face in faces:
        own_mask = spread(face.plan.mask, face.to_frame, *shape)
        told = face.plan.target_map
        share = spread(np.ones_like(told), face.to_frame, *shape).values
        # beside the square's border the sum holds less than all of a pixel, and cubic interpolation overshoots
        ages = spread(told, face.to_frame, *shape).values / np.maximum(share, 0.5)
        ages = np.clip(ages, max(0, told.min()), min(1, told.max()))
        window = own_mask.window()
        # where two squares overlap the age is that of the face with the greater mask
        ahead = (share > 0.5) & ((own_mask.values > mask[window]) | (age_map[window] == 0))
        age_map[window][ahead] = ages[ahead]
        mask[window] = np.maximum(mask[window], np.clip(own_mask.values, 0, 1))
    if frame_mask is not None:
        mask *= frame_mask
    mask = np.where((delta != 0).any(axis=-1), np.maximum(mask, _FAINTEST), mask)
    return FramePasses(delta, mask, age_map, {face.person: _aligned(face) for face in faces})


def photo_passes(
    before: Photo, after: Photo, faces: Sequence[FaceInFrame], frame_mask: np.ndarray | None = None
) -> FramePasses:
    """The passes of a photo; the delta is in shares of white, exact in the photo's codes."""
    white = np.float32(np.iinfo(before.pixels.dtype).max)
    old, new = (_written_colour(photo).astype(np.float32) for photo in (before, after))
    return make_passes(faces, Patch(0, 0, (new - old) / white), before.pixels.shape[:2], frame_mask)


def _written_colour(photo: Photo) -> np.ndarray:
    """The colour (H, W, 3) of the file: a grey photo's three channels become one."""
    channels = photo.channels()
    if not photo.grey:
        return photo.pixels
    return np.repeat(channels.reshape(*photo.pixels.shape[:2], -1)[..., :1], 3, axis=2)


def film_passes(
    faces: Sequence[FaceInFrame], shape: tuple[int, int], frame_mask: np.ndarray | None, quarter_turns: int
) -> FramePasses:
    """The passes of a film's frame, upright; the delta is that of R'G'B' in shares of white, before rounding to codes.

    Args:
        faces: in the coordinates of the stored frame, with their deltas.
        shape: (height, width) of the stored frame; ``frame_mask`` (H, W) lies over it.
        quarter_turns: how often players turn it by 90 degrees counter-clockwise.
    """
    added = None
    if faces:
        delta = sum_patches([spread(face.delta / 2, face.to_frame, *shape) for face in faces if face.delta is not None])
        added = delta if frame_mask is None else delta.weighted(frame_mask)
    passes = make_passes(faces, added, shape, frame_mask)
    turned = (np.ascontiguousarray(np.rot90(one, quarter_turns)) for one in (passes.delta, passes.mask, passes.age_map))
    return FramePasses(*turned, passes.aligned)


def _aligned(face: FaceInFrame) -> np.ndarray:
    assert face.delta is not None
    pair = np.concatenate([face.plan.crop, face.plan.crop + face.delta], axis=1)
    return np.clip(pair * 0.5 + 0.5, 0, 1)


def exr_layers(passes: FramePasses, wanted: Sequence[PassName]) -> dict[str, np.ndarray]:
    """Channels for the EXR file of the result itself: ``fran.delta.R``, ``fran.mask.A``, ``fran.age_map.Y``."""
    layers: dict[str, np.ndarray] = {}
    if "delta" in wanted:
        for index, name in enumerate("RGB"):
            # half would round the sum with the plate
            layers[f"fran.delta.{name}"] = np.ascontiguousarray(passes.delta[..., index])
    if "mask" in wanted:
        layers["fran.mask.A"] = passes.mask.astype(np.float16)
    if "age_map" in wanted:
        layers["fran.age_map.Y"] = passes.age_map.astype(np.float16)
    return layers


class PassFiles:
    """Writes passes as files beside a result."""

    def __init__(
        self, output: FramePattern, wanted: Sequence[PassName], header: Mapping[str, Any] | None = None
    ) -> None:
        """``header``: that of the plate, if it is an EXR: its passes are EXR files with the same windows."""
        self._output, self._wanted, self._header = output, wanted, header

    def paths(self, number: int) -> list[Path]:
        """The files of a frame whose names are known before its faces are."""
        return [self._pattern(name).path(number) for name in self._wanted if name not in ("result", "aligned")]

    def _pattern(self, name: str) -> FramePattern:
        return self._output.beside(name, ".exr" if name == "delta" or self._header is not None else ".png")

    def write(self, number: int, passes: FramePasses) -> None:
        """Write the passes of a frame, each file atomically."""
        if "delta" in self._wanted:
            planes = {name: np.ascontiguousarray(passes.delta[..., index]) for index, name in enumerate("RGB")}
            self._write_exr("delta", number, planes)
        for name, values in (("mask", passes.mask), ("age_map", passes.age_map)):
            if name not in self._wanted:
                continue
            if self._header is not None:
                self._write_exr(name, number, {"Y": values})
            else:
                # what is above 0 stays above 0
                codes = np.maximum(np.rint(values * 65535), values > 0).astype(np.uint16)
                write_16_bit_png(self._pattern(name).path(number), codes)
        if "aligned" in self._wanted:
            for person, pair in passes.aligned.items():
                path = self._output.beside(f"aligned{person}", ".png").path(number)
                write_16_bit_png(path, np.rint(pair * 65535).astype(np.uint16))

    def _write_exr(self, name: str, number: int, channels: Mapping[str, np.ndarray]) -> None:
        header = self._header or new_header(*next(iter(channels.values())).shape)
        write_exr(self._pattern(name).path(number), header, channels)


@contextlib.contextmanager
def film_pass_files(output: Path, wanted: Sequence[PassName], keep: bool) -> Iterator[PassFiles]:
    """Files ``shot.passes/shot.delta.000001.exr`` for the film ``shot.mov``, numbered from 1.

    Until the block ends they lie in ``.shot.passes``; when it ends by an exception they are removed, unless ``keep``
    says that the job will go on later.
    """
    folder, hidden = output.with_name(f"{output.stem}.passes"), output.with_name(f".{output.stem}.passes")
    if not keep:
        shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True, exist_ok=True)
    try:
        yield PassFiles(FramePattern(hidden, f"{output.stem}.", 6, output.suffix), wanted)
        shutil.rmtree(folder, ignore_errors=True)
        hidden.replace(folder)
    finally:
        if not keep:
            shutil.rmtree(hidden, ignore_errors=True)


def write_16_bit_png(path: Path, codes: np.ndarray) -> None:
    """Write (H, W) or (H, W, 3) uint16 atomically."""
    import cv2

    done, encoded = cv2.imencode(".png", codes if codes.ndim == 2 else codes[..., ::-1])
    if not done:
        raise UserError(f"{path.name} could not be encoded as a 16-bit PNG")
    with atomic_path(path) as temporary:
        encoded.tofile(temporary)
