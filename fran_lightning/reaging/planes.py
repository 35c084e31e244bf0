"""Film frames as they are stored: planes of Y, Cb, Cr (or G, B, R) with 8 to 16 bits, chroma often at half size.

Crops are read from the planes and deltas are added to the planes, each at its own resolution and bit depth. The frame
is never converted to RGB and back, so whatever the delta does not touch stays as it was decoded, to the bit.
The colour model is an affine function of RGB (ITU-R BT.601, 709, 2020), hence a delta of RGB is a delta of YCbCr.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fran_lightning.perception.alignment import compose, pixel_grid_matrix, sample
from fran_lightning.reaging.paste import add_codes, spread

if TYPE_CHECKING:
    import av

#: Weights of red and blue in luma, by the code of the "matrix coefficients" (ITU-T H.273).
_LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601, 625 lines
    6: (0.299, 0.114),  # BT.601, 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
    10: (0.2627, 0.0593),
}
_FULL_RANGE = 2

#: Formats that are not stored as planes, and the planar one that holds the same values.
_PLANAR_TWIN = {
    "nv12": "yuv420p",
    "nv21": "yuv420p",
    "nv16": "yuv422p",
    "nv24": "yuv444p",
    "yuyv422": "yuv422p",
    "uyvy422": "yuv422p",
    "yvyu422": "yuv422p",
    "p010le": "yuv420p10le",
    "p012le": "yuv420p12le",
    "p016le": "yuv420p16le",
    "p210le": "yuv422p10le",
    "p216le": "yuv422p16le",
    "y210le": "yuv422p10le",
    "v30xle": "yuv444p10le",
    "monob": "gray",
    "monow": "gray",
    "ya8": "gray",
    "gray16be": "gray16le",
    "rgb48le": "gbrp16le",
    "rgb48be": "gbrp16le",
    "bgr48le": "gbrp16le",
    "rgba64le": "gbrap16le",
    "rgba64be": "gbrap16le",
    "rgba": "gbrap",
    "bgra": "gbrap",
    "argb": "gbrap",
    "abgr": "gbrap",
}


@dataclass(frozen=True)
class _Component:
    """One colour plane: its index, and the matrix (2, 3) from pixels of the frame to pixels of the plane."""

    plane: int
    from_frame: np.ndarray
    #: pixels of the frame per pixel of the plane, across and down
    step: tuple[int, int]


@dataclass(frozen=True)
class PlaneLayout:
    """How the planes of a pixel format stand for RGB: ``codes = matrix @ rgb + offset`` with rgb in [0, 1].

    Attributes:
        format: the planar pixel format.
        components: the colour planes in the order of the rows of ``matrix``; alpha is none of them.
        matrix: (C, 3); offset: (C,); inverse: (3, C).
        white: the largest code.
    """

    format: str
    components: tuple[_Component, ...]
    matrix: np.ndarray
    offset: np.ndarray
    inverse: np.ndarray
    white: int

    @classmethod
    def of(cls, frame: av.VideoFrame) -> PlaneLayout:
        """The layout of a decoded frame; its tags decide, and where they are silent what players assume."""
        import av

        name = planar_format(frame.format.name)
        video_format = av.VideoFormat(name, frame.width, frame.height)
        colour = [component for component in video_format.components if not component.is_alpha]
        bits = colour[0].bits
        white = 2**bits - 1
        full = frame.color_range == _FULL_RANGE or name.startswith("yuvj")
        if name.startswith("gbr"):
            # planes in the file's order green, blue, red; libav's components are red, green, blue
            matrix, offset = np.eye(3) * white, np.zeros(3)
        elif len(colour) == 1:
            weights = _weights(frame.colorspace, frame.height)
            # grey in films is full range as a rule, and a delta hardly depends on it
            matrix, offset = weights[None] * white, np.zeros(1)
        else:
            matrix, offset = _ycbcr(_weights(frame.colorspace, frame.height), bits, full)
        inverse = np.linalg.pinv(matrix) if len(colour) == 3 else np.full((3, 1), 1 / white)
        components = tuple(_component(frame, component) for component in colour)
        return cls(name, components, matrix, offset, inverse, white)

    def to_rgb(self, span: float, black: float) -> np.ndarray:
        """The affine map (3, C + 1) from codes to RGB that reaches from ``black`` to ``black + span``."""
        return np.column_stack([span * self.inverse, black - span * self.inverse @ self.offset])


def planar_format(name: str) -> str:
    """The planar pixel format that holds what ``name`` holds."""
    import av

    if name in _PLANAR_TWIN:
        return _PLANAR_TWIN[name]
    video_format = av.VideoFormat(name)
    if video_format.is_planar and not name.endswith("be"):
        return name
    if video_format.is_planar:
        return name[:-2] + "le"
    if video_format.is_rgb or name == "pal8":
        return "gbrp"
    return "gray" if name == "gray" else name


def _weights(colorspace: int, height: int) -> np.ndarray:
    """Luma weights of red, green and blue. Untagged films are BT.709 from 720 lines on, as players take them."""
    red, blue = _LUMA_WEIGHTS.get(colorspace, _LUMA_WEIGHTS[1 if height >= 720 else 6])
    return np.array([red, 1 - red - blue, blue])


def _ycbcr(weights: np.ndarray, bits: int, full: bool) -> tuple[np.ndarray, np.ndarray]:
    white = 2**bits - 1
    unit = 2 ** (bits - 8)
    luma_span, chroma_span, black = (white, white, 0) if full else (219 * unit, 224 * unit, 16 * unit)
    blue = (np.array([0, 0, 1]) - weights) / (2 * (1 - weights[2]))
    red = (np.array([1, 0, 0]) - weights) / (2 * (1 - weights[0]))
    matrix = np.stack([weights * luma_span, blue * chroma_span, red * chroma_span])
    return matrix, np.array([black, 2 ** (bits - 1), 2 ** (bits - 1)], dtype=np.float64)


def _component(frame: av.VideoFrame, component: av.video.format.VideoFormatComponent) -> _Component:
    across = -(-frame.width // component.width)
    down = -(-frame.height // component.height)
    # MPEG's usual siting: chroma lies on every other column, and between two rows
    shift_down = (down - 1) / 2
    matrix = np.array([[1 / across, 0, 0], [0, 1 / down, -shift_down / down]])
    return _Component(component.plane, matrix, (across, down))


def plane_array(frame: av.VideoFrame, index: int) -> np.ndarray:
    """A writable view (H, W) of one plane: uint8 or little-endian uint16."""
    plane = frame.planes[index]
    deep = any(component.bits > 8 for component in frame.format.components)
    rows = np.frombuffer(plane, dtype="<u2" if deep else np.uint8)
    per_line = plane.line_size // rows.itemsize
    return rows[: per_line * plane.height].reshape(plane.height, per_line)[:, : plane.width]


def as_planar(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame itself, or where it is not stored as planes its planar twin."""
    name = planar_format(frame.format.name)
    return frame if name == frame.format.name else frame.reformat(format=name)


def read_crop(frame: av.VideoFrame, layout: PlaneLayout, to_frame: np.ndarray, size: int) -> np.ndarray:
    """A crop (S, S, 3) float32 RGB in [-1, 1] of a planar frame; ``to_frame`` leads from crop to frame pixels."""
    import cv2

    codes = _read_codes(frame, layout, to_frame, size).astype(np.float32)
    # codes -> rgb in [0, 1] -> [-1, 1], in one affine map
    crop = cv2.transform(codes, layout.to_rgb(2, -1))
    return np.clip(crop, -1, 1, out=crop)


def read_8_bit_crop(frame: av.VideoFrame, layout: PlaneLayout, to_frame: np.ndarray, size: int) -> np.ndarray:
    """As :func:`read_crop` in uint8."""
    import cv2

    codes = _read_codes(frame, layout, to_frame, size)
    if codes.dtype == np.uint8:
        # rounded and clipped by OpenCV
        return cv2.transform(codes, layout.to_rgb(255, 0))
    return np.clip(np.rint(cv2.transform(codes.astype(np.float32), layout.to_rgb(255, 0))), 0, 255).astype(np.uint8)


def _read_codes(frame: av.VideoFrame, layout: PlaneLayout, to_frame: np.ndarray, size: int) -> np.ndarray:
    """A crop of the planes' codes (S, S, C), as they are stored."""
    import cv2

    planes = []
    for part in layout.components:
        plane = plane_array(frame, part.plane)
        # a plane of half the size is read at half the size, which is all that it holds
        coarse = size // 2 if part.step != (1, 1) and size % 2 == 0 else size
        matrix = compose(part.from_frame, compose(to_frame, pixel_grid_matrix(size / coarse)))
        codes = sample(plane, matrix, coarse)
        planes.append(codes if coarse == size else cv2.resize(codes, (size, size), interpolation=cv2.INTER_LINEAR))
    return cv2.merge(planes)


def add_delta_to_planes(
    frame: av.VideoFrame,
    layout: PlaneLayout,
    delta: np.ndarray,
    to_frame: np.ndarray,
    frame_mask: np.ndarray | None = None,
) -> None:
    """Add a crop's delta (S, S, 3), zero at its border, to a writable planar frame, in place.

    Args:
        delta: in the network's units, a span of 2 from black to white.
        to_frame: (2, 3), from crop to frame pixels.
        frame_mask: (H, W) float32 in [0, 1]; pixels where it is zero are not touched. A chroma sample stands for
            several pixels and gets the smallest of their weights.
    """
    import cv2

    codes = cv2.transform(delta, layout.matrix / 2)
    for row, part in enumerate(layout.components):
        plane = plane_array(frame, part.plane)
        values = np.ascontiguousarray(codes[..., row]) if codes.ndim == 3 else codes
        patch = spread(values, compose(part.from_frame, to_frame), *plane.shape)
        if frame_mask is not None:
            patch = patch.weighted(_plane_weights(frame_mask, part.step, plane.shape))
        add_codes(plane[patch.window()], patch.values, layout.white)


def _plane_weights(frame_mask: np.ndarray, step: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """The smallest weight among the pixels of the frame that share a pixel of the plane."""
    across, down = step
    if (across, down) == (1, 1):
        return frame_mask
    height, width = shape
    padded = np.pad(
        frame_mask,
        ((0, height * down - frame_mask.shape[0]), (0, width * across - frame_mask.shape[1])),
        mode="edge",
    )
    return padded.reshape(height, down, width, across).min(axis=(1, 3))
