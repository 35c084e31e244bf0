"""A film's frame as a :class:`~fran_lightning.perception.picture.Picture`: only what is looked at becomes RGB."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from fran_lightning.perception.alignment import FaceSquare, compose, quarter_turn_matrix
from fran_lightning.perception.picture import reduced_size
from fran_lightning.reaging.planes import PlaneLayout, as_planar, read_8_bit_crop

if TYPE_CHECKING:
    import av


class FramePicture:
    """A decoded frame, turned upright by ``quarter_turns`` of 90 degrees counter-clockwise."""

    def __init__(self, frame: av.VideoFrame, quarter_turns: int = 0) -> None:
        self._frame = frame
        self._turns = quarter_turns % 4
        self._reduced: dict[int, np.ndarray] = {}

    @property
    def shape(self) -> tuple[int, int]:
        height, width = self._frame.height, self._frame.width
        return (width, height) if self._turns % 2 else (height, width)

    def reduced(self, longest_side: int) -> np.ndarray:
        small = self._reduced.get(longest_side)
        if small is None:
            height, width = reduced_size((self._frame.height, self._frame.width), longest_side)
            copy = self._frame.reformat(width, height, "rgb24", interpolation="AREA").to_ndarray()
            small = self._reduced[longest_side] = np.ascontiguousarray(np.rot90(copy, self._turns))
        return small

    def cut_out(self, square: FaceSquare, size: int) -> np.ndarray:
        frame, layout = self._planar
        back = quarter_turn_matrix(self._turns, frame.height, frame.width)
        return read_8_bit_crop(frame, layout, compose(back, square.to_frame(size)), size)

    @functools.cached_property
    def _planar(self) -> tuple[av.VideoFrame, PlaneLayout]:
        frame = as_planar(self._frame)
        return frame, PlaneLayout.of(frame)
