"""Colour spaces of plates: from scene light to what the network knows, and the way back for a change.

The network learned from pictures as a screen shows them (sRGB's curve over Rec. 709 primaries, 0 to 1). A plate is
taken there by OpenColorIO and its built-in ACES configuration. The curve is not clipped on the way of the result:
colours outside Rec. 709 have display values above white and below black, so

    result = plate + to_plate(display + delta) - to_plate(display)

keeps them, and is the plate itself where the delta is zero (no pixel goes to the display and back).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fran_lightning.errors import UserError

if TYPE_CHECKING:
    import PyOpenColorIO

#: Short names, beside those of the configuration.
SHORT_NAMES = {"rec709": "Linear Rec.709 (sRGB)", "acescg": "ACEScg", "aces2065-1": "ACES2065-1"}
_DISPLAY = "sRGB Encoded Rec.709 (sRGB)"
#: Red, green, blue, white (x, y) as an EXR's ``chromaticities`` holds them.
_PRIMARIES = {
    "rec709": (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290),
    "acescg": (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767),
    "aces2065-1": (0.73470, 0.26530, 0.0, 1.0, 0.00010, -0.0770, 0.32168, 0.33767),
}
_TOLERANCE = 2e-3


class PlateColour:
    """One colour space.

    Attributes:
        name: as the user wrote it.
    """

    def __init__(self, name: str) -> None:
        """``name``: one of :data:`SHORT_NAMES` in any case, or a colour space of OpenColorIO's built-in configuration.

        Raises:
            UserError: no such space.
        """
        self.name = name
        space = SHORT_NAMES.get(name.lower(), name)
        known = _configuration().getColorSpace(space)
        if known is None or known.isData():
            shown = ", ".join(SHORT_NAMES)
            raise UserError(
                f"--colorspace {name!r} is unknown; choose {shown}, or another of OpenColorIO's built-in configuration"
            )
        self._to_display = _processor(space, _DISPLAY)
        self._from_display = _processor(_DISPLAY, space)

    def to_display(self, rgb: np.ndarray) -> np.ndarray:
        """Display values (H, W, 3) float32, black at 0 and white at 1, of finite plate values; not clipped."""
        return _applied(self._to_display, rgb)

    def plate_change(self, rgb: np.ndarray, display_delta: np.ndarray) -> np.ndarray:
        """What is to be added to plate values for a change of the display values.

        Args:
            rgb: (..., 3) float32, finite.
            display_delta: (..., 3) float32, in a span of 1 from black to white. It carries nothing below black, or
                further below.
        """
        display = self.to_display(rgb)
        wanted = np.maximum(display + display_delta, np.minimum(display, 0))
        return _applied(self._from_display, wanted) - _applied(self._from_display, display)


@functools.cache
def _configuration() -> PyOpenColorIO.Config:
    import PyOpenColorIO as ocio

    return ocio.Config.CreateFromFile("ocio://default")


def _processor(source: str, target: str) -> PyOpenColorIO.CPUProcessor:
    import PyOpenColorIO as ocio

    # the default's fast powers are off by 1e-4
    return _configuration().getProcessor(source, target).getOptimizedCPUProcessor(ocio.OPTIMIZATION_LOSSLESS)


def _applied(processor: PyOpenColorIO.CPUProcessor, rgb: np.ndarray) -> np.ndarray:
    result = np.array(rgb, dtype=np.float32, order="C")
    if result.size:
        processor.applyRGB(result)
    return result


def named_by_chromaticities(chromaticities: Sequence[float] | None) -> str | None:
    """The short name of the linear space with these primaries, Rec. 709 where there are none; None if unknown."""
    if chromaticities is None:
        return "rec709"
    for name, primaries in _PRIMARIES.items():
        if np.allclose(chromaticities, primaries, rtol=0, atol=_TOLERANCE):
            return name
    return None
