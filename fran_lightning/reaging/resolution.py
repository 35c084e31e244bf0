"""At which size the network sees a face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SizeRule = Literal["auto", "full"]

#: Faces whose aligned square is smaller than this (eyes 12 pixels apart) hold nothing that could be re-aged.
SMALLEST_SIDE = 48
#: A face is enlarged towards this size where the network was trained at it or above.
COMFORTABLE_SIZE = 256
#: ... but never by more than this: what is not in the frame cannot be re-aged.
LARGEST_ENLARGEMENT = 2.0
_MULTIPLE = 16


@dataclass(frozen=True)
class CropSize:
    """The size in pixels at which a face is handed to the network, and in words why it is not the face's own."""

    size: int
    note: str = ""


def choose_size(side: float, trained_size: int | None, rule: SizeRule | int = "auto") -> CropSize | None:
    """The crop size for a face whose aligned square has ``side`` pixels in the frame; None if it is too small.

    ``"auto"`` takes the face's own size, but not more than the ``trained_size`` of the network: a network that
    learned wrinkles of one pixel draws them one pixel wide at any size. ``"full"`` takes the face's own size
    however large, a number takes that many pixels. Small faces are enlarged up to twofold.
    """
    if side < SMALLEST_SIDE:
        return None
    if isinstance(rule, int):
        return CropSize(_round_up(rule), f"the network saw it at {_round_up(rule)} of {side:.0f} pixels")
    limit = float("inf") if rule == "full" or trained_size is None else float(trained_size)
    comfortable = min(COMFORTABLE_SIZE, limit)
    if side < comfortable:
        size = _round_up(min(comfortable, LARGEST_ENLARGEMENT * side))
        return CropSize(size, f"small face, {side:.0f} pixels, enlarged to {size} for the network")
    if side > limit:
        size = _round_up(limit)
        return CropSize(size, f"the network saw it at {size}, its trained size, of {side:.0f} pixels")
    return CropSize(_round_up(side))


def _round_up(value: float) -> int:
    return int(-(-value // _MULTIPLE) * _MULTIPLE)
