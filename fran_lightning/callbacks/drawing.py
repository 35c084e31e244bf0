"""Contact sheets: labelled grids of images, and deltas as heat maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

#: pixels between tiles, height of the headings and width of the row captions
GAP, HEADING, CAPTION = 3, 22, 96
_BACKGROUND, _INK = (250, 250, 250), (30, 30, 30)


class Row(NamedTuple):
    """One row of a sheet: its caption and uint8 RGB tiles (H, W, 3), None for an empty place."""

    caption: str
    tiles: Sequence[np.ndarray | None]


def to_pixels(image: Tensor) -> np.ndarray:
    """(3, H, W) in [-1, 1] -> uint8 (H, W, 3)."""
    scaled = (image.detach().float().cpu().clamp(-1, 1) + 1) * 127.5
    return scaled.round().byte().permute(1, 2, 0).numpy()


def delta_heat_map(delta: Tensor, limit: float = 0.5) -> np.ndarray:
    """Mean of the delta's channels (3, H, W) as a diverging map: blue is darker, white unchanged, red brighter.

    ``limit``: delta, in units of [-1, 1], that gets the full colour.
    """
    from matplotlib import colormaps

    mean = delta.detach().float().mean(dim=0).cpu().numpy()
    colours = colormaps["RdBu_r"]((mean / limit).clip(-1, 1) * 0.5 + 0.5)
    return np.rint(colours[..., :3] * 255).astype(np.uint8)


def draw_sheet(headings: Sequence[str], rows: Sequence[Row], tile: int, title: str = "") -> Image.Image:
    """A grid with a title, column headings and row captions; every tile is scaled to ``tile`` x ``tile``."""
    font = ImageFont.load_default(size=13)
    top = HEADING * (2 if title else 1)
    width = CAPTION + len(headings) * (tile + GAP)
    sheet = Image.new("RGB", (width, top + len(rows) * (tile + GAP)), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((GAP * 2, HEADING / 2), title, _INK, font, anchor="lm")
    for column, heading in enumerate(headings):
        x = CAPTION + column * (tile + GAP) + tile / 2
        draw.text((x, top - HEADING / 2), heading, _INK, font, anchor="mm")
    for number, row in enumerate(rows):
        y = top + number * (tile + GAP)
        draw.text((CAPTION - 2 * GAP, y + tile / 2), row.caption, _INK, font, anchor="rm", align="right")
        for column, pixels in enumerate(row.tiles):
            if pixels is not None:
                image = Image.fromarray(pixels)
                if image.size != (tile, tile):
                    image = image.resize((tile, tile), Image.Resampling.LANCZOS)
                sheet.paste(image, (CAPTION + column * (tile + GAP), y))
    return sheet
