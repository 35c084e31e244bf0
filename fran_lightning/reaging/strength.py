"""How strong the change is: one factor, or keyframes over a shot (``1:0,25:1`` fades it in over 25 frames)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fran_lightning.errors import UserError

_STRONGEST = 3.0


@dataclass(frozen=True)
class StrengthCurve:
    """A factor over the frames of a shot: linear between the keyframes, constant outside.

    Attributes:
        frames: frame numbers, rising; ``factors``: the factor at each.
    """

    frames: tuple[int, ...]
    factors: tuple[float, ...]

    def at(self, frame: int) -> float:
        """The factor in ``frame``."""
        return float(np.interp(frame, self.frames, self.factors))


def parse_strength(text: str | float) -> float | StrengthCurve:
    """``0.5``, or keyframes ``1:0,25:1``.

    Raises:
        UserError: neither, factors outside 0 to 3, or frames that do not rise.
    """
    words = [piece.strip() for piece in str(text).split(",")]
    if len(words) == 1 and ":" not in words[0]:
        return _parse_factor(words[0])
    frames, factors = [], []
    for word in words:
        frame, colon, factor = word.partition(":")
        if not colon or not frame.strip().isdigit():
            raise UserError(f"--strength {text!r}: write one factor like 0.5, or keyframes FRAME:FACTOR like 1:0,25:1")
        frames.append(int(frame))
        factors.append(_parse_factor(factor))
    if sorted(set(frames)) != frames:
        raise UserError(f"--strength {text!r}: the frames of the keyframes must rise")
    return StrengthCurve(tuple(frames), tuple(factors))


def _parse_factor(text: str) -> float:
    try:
        factor = float(text)
    except ValueError as error:
        raise UserError(f"--strength {text.strip()!r} is no number; write a factor from 0 to 3") from error
    if not 0 <= factor <= _STRONGEST:
        raise UserError(f"--strength {factor:g} is out of range; 0 changes nothing, 1 is normal, 3 is the most")
    return factor
