"""Before and after in one film, to look at: side by side, or a wipe whose edge wanders."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from fran_lightning.reaging.film import FilmInfo
from fran_lightning.reaging.film_metadata import append_xmp_box, film_metadata

if TYPE_CHECKING:
    import av

PreviewKind = Literal["side", "wipe"]
_WIDEST = 1920
#: Frames in which the edge of the wipe goes from left to right and back.
_WIPE_PERIOD = 120


def join(before: np.ndarray, after: np.ndarray, kind: PreviewKind, index: int) -> np.ndarray:
    """One uint8 RGB picture of two (H, W, 3): beside each other, or split by a white line (frame ``index``)."""
    if kind == "side":
        return np.concatenate([before, after], axis=1)
    width = before.shape[1]
    edge = round((0.5 - 0.5 * np.cos(2 * np.pi * index / _WIPE_PERIOD)) * (width - 1))
    joined = before.copy()
    joined[:, :edge] = after[:, :edge]
    joined[:, max(edge - 1, 0) : edge + 1] = 255
    return joined


class PreviewWriter:
    """Writes an H.264 film of at most 1920 pixels width, upright, with the source's times, without sound.

    ``edited``: whether the metadata say that a generative model edited the pictures.
    """

    def __init__(self, path: Path, info: FilmInfo, kind: PreviewKind, edited: bool = False) -> None:
        import av

        self._kind, self._turns = kind, info.quarter_turns
        self._path, self._container = path, av.open(str(path), "w")
        self._metadata = film_metadata({}, self._container.format.name, edited)
        self._container.metadata.update(self._metadata.tags)
        self._stream = self._container.add_stream("libx264", rate=info.rate, options={"crf": "18", "preset": "fast"})
        height, width = (info.width, info.height) if info.quarter_turns % 2 else (info.height, info.width)
        width *= 2 if kind == "side" else 1
        scale = min(1.0, _WIDEST / width)
        # H.264 with half-size chroma needs even sides
        self._stream.width, self._stream.height = (max(2, round(side * scale / 2) * 2) for side in (width, height))
        self._stream.pix_fmt = "yuv420p"
        self._index = 0

    def write(self, before: np.ndarray, after: av.VideoFrame) -> None:
        """Add a frame: ``before`` is uint8 RGB, both as stored."""
        import av

        pictures = [np.rot90(picture, self._turns) for picture in (before, after.to_ndarray(format="rgb24"))]
        joined = av.VideoFrame.from_ndarray(np.ascontiguousarray(join(*pictures, self._kind, self._index)), "rgb24")
        joined = joined.reformat(self._stream.width, self._stream.height, "yuv420p", interpolation="AREA")
        joined.pts, joined.time_base = after.pts, after.time_base
        if after.time_base and self._stream.codec_context.time_base != after.time_base and self._index == 0:
            self._stream.codec_context.time_base = Fraction(after.time_base)
        self._container.mux(self._stream.encode(joined))
        self._index += 1

    def __enter__(self) -> PreviewWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()
        if kind is None and self._metadata.box is not None:
            append_xmp_box(self._path, self._metadata.box)
