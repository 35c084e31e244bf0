"""The chart: a cylinder unrolled around the template head, on which skin is painted.

Horizontally u = 95 mm times the angle around an axis through head and neck (0 in front, positive towards the
subject's left; the axis steps back below the jaw, where the neck is), vertically v = the template's height in
millimetres. So one unit is about one millimetre of skin
on the front of the face. The chart belongs to the template: it is the same for every identity and age.
Features are drawn at places given as (x, y) of the template's *front view* in millimetres (the eyes are at
y = 728, the mouth at 661, the nose tip at 690) and land on the chart through ``locate``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from fran_lightning.synthesis.parametric.head_model import SKIN, HeadModel
from fran_lightning.synthesis.parametric.raycast import cast_rays

_AXIS_HEIGHT, _AXIS_Z = [590.0, 640.0], [-25.0, 45.0]
RADIUS_MM = 95.0
HALF_ANGLE = np.radians(112.0)
BOTTOM_MM, TOP_MM = 535.0, 850.0
_FRONT_HALF_WIDTH, _FRONT_STEP = 80.0, 0.5


@dataclass(frozen=True)
class Chart:
    """Texels of the chart.

    Attributes:
        texel_mm: edge of a texel.
        u, v: (W,) and (H,) coordinates of the texel centres in millimetres; row 0 is the top.
        position: (H, W, 3) the template's surface under each texel, millimetres.
        lips, ears, eyelids: (H, W) masks in [0, 1].
    """

    texel_mm: float
    u: np.ndarray
    v: np.ndarray
    position: np.ndarray
    lips: np.ndarray
    ears: np.ndarray
    eyelids: np.ndarray
    _front: np.ndarray  # u of the surface seen from the front at (y, x)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.v), len(self.u)

    def locate(self, points: np.ndarray) -> np.ndarray:
        """Front-view points (N, 2) in millimetres to chart coordinates (N, 2)."""
        points = np.asarray(points, dtype=np.float64)
        columns = np.clip((points[:, 0] + _FRONT_HALF_WIDTH) / _FRONT_STEP, 0, self._front.shape[1] - 1)
        rows = np.clip((TOP_MM - points[:, 1]) / _FRONT_STEP, 0, self._front.shape[0] - 1)
        return np.stack([self._front[rows.astype(int), columns.astype(int)], points[:, 1]], 1)

    def gaussian(self, x: float, y: float, width: float, height: float | None = None) -> np.ndarray:
        """A soft spot (H, W) of height 1 around a front-view place; sizes are standard deviations in mm."""
        (u, v), height = self.locate(np.array([[x, y]]))[0], height or width
        across = np.exp(-0.5 * ((self.u - u) / width) ** 2)
        return (np.exp(-0.5 * ((self.v - v) / height) ** 2)[:, None] * across).astype(np.float32)

    def both_sides(self, x: float, y: float, width: float, height: float | None = None) -> np.ndarray:
        """Two soft spots, mirrored."""
        return self.gaussian(x, y, width, height) + self.gaussian(-x, y, width, height)


def chart_angle(position: np.ndarray) -> np.ndarray:
    """Angle around the chart's axis of template positions (..., 3)."""
    return np.arctan2(position[..., 0], position[..., 2] - _axis_z(position[..., 1]))


def _axis_z(height: np.ndarray) -> np.ndarray:
    return np.interp(height, _AXIS_HEIGHT, _AXIS_Z)


@cache
def _build(texel_mm: float, model_key: int) -> Chart:
    model = _MODELS[model_key]
    u = np.arange(-RADIUS_MM * HALF_ANGLE, RADIUS_MM * HALF_ANGLE, texel_mm) + texel_mm / 2
    v = np.arange(TOP_MM, BOTTOM_MM, -texel_mm) - texel_mm / 2
    vertices = model.refine @ model.template
    outside = model.triangles[model.material == SKIN]
    angle, height = np.meshgrid(u / RADIUS_MM, v)
    inward = np.stack([-np.sin(angle), np.zeros_like(angle), -np.cos(angle)], -1)
    origins = -300.0 * inward + np.stack([np.zeros_like(angle), height, _axis_z(height)], -1)
    hit = cast_rays(vertices, outside, origins.reshape(-1, 3), inward.reshape(-1, 3))
    corners = outside[np.maximum(hit.triangle, 0)]

    def paint(attribute: np.ndarray) -> np.ndarray:
        values = (attribute[corners] * hit.barycentric.reshape(-1, 3, *[1] * (attribute.ndim - 1))).sum(1)
        return values.reshape(*angle.shape, *attribute.shape[1:]).astype(np.float32)

    x = np.arange(-_FRONT_HALF_WIDTH, _FRONT_HALF_WIDTH + _FRONT_STEP, _FRONT_STEP)
    y = np.arange(TOP_MM, BOTTOM_MM, -_FRONT_STEP)
    grid_x, grid_y = np.meshgrid(x, y)
    origins = np.stack([grid_x, grid_y, np.full_like(grid_x, 500.0)], -1).reshape(-1, 3)
    seen = cast_rays(vertices, outside, origins, np.broadcast_to([0.0, 0.0, -1.0], origins.shape))
    depth = np.where(seen.triangle >= 0, 500.0 - seen.distance, 45.0).reshape(grid_x.shape)
    front = RADIUS_MM * np.arctan2(grid_x, np.maximum(depth - _axis_z(grid_y), 1.0))
    masks = {name: paint(model.refine @ model.masks[name]) for name in ("lips", "ears", "eyelids")}
    return Chart(texel_mm, u, v, paint(vertices), _front=front, **masks)


_MODELS: dict[int, HeadModel] = {}


def build_chart(model: HeadModel, texel_mm: float) -> Chart:
    """The chart of ``model`` with texels of ``texel_mm``; built once per process and size."""
    _MODELS[id(model)] = model
    return _build(texel_mm, id(model))
