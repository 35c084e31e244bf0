"""The skin of one identity: what is painted once, and the textures at an age."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from fran_lightning.synthesis.parametric.chart import RADIUS_MM, Chart, chart_angle
from fran_lightning.synthesis.parametric.noise import octaves, smooth_noise
from fran_lightning.synthesis.parametric.scene import Identity
from fran_lightning.synthesis.parametric.shape import smoothstep
from fran_lightning.synthesis.parametric.wrinkles import expression_depth, wrinkle_maps

#: linear RGB albedo of facial skin over the melanin scale
_TONES = np.array([
    [0.00, 0.74, 0.475, 0.365],
    [0.20, 0.62, 0.355, 0.250],
    [0.45, 0.44, 0.225, 0.135],
    [0.70, 0.25, 0.115, 0.064],
    [1.00, 0.105, 0.050, 0.030],
])  # fmt: skip
#: how strongly a unit of melanin or blood absorbs red, green and blue
_MELANIN = np.array([0.55, 0.95, 1.35], dtype=np.float32)
_BLOOD = np.array([0.10, 1.0, 0.80], dtype=np.float32)
_SPOT_GROUPS = 6


@dataclass(frozen=True)
class SkinTextures:
    """Textures on the chart at one age.

    Attributes:
        albedo: (H, W, 3) linear RGB.
        relief: (H, W, 4) slope along u, slope along v, cavity (1 open, lower in grooves), gloss.
        brows: (H, W) bool, where the brows are.
    """

    albedo: np.ndarray
    relief: np.ndarray
    brows: np.ndarray


#: linear RGB albedo of a hair without pigment
WHITE_HAIR = np.array([0.50, 0.455, 0.385], dtype=np.float32)
_TURNING = 0.35  # how gradually a single hair turns white, as a share of the whole change


def hair_colour(melanin: float, redness: float) -> np.ndarray:
    """Linear RGB albedo of a hair with all its pigment, from pale blond to black."""
    tones = np.array([[0.62, 0.47, 0.27], [0.36, 0.22, 0.105], [0.15, 0.08, 0.042], [0.045, 0.027, 0.019], [0.012] * 3])
    colour = np.array([np.interp(melanin, [0, 0.3, 0.55, 0.8, 1], tones[:, c]) for c in range(3)])
    colour = colour * (1 + redness * np.array([0.5, 0.0, -0.25]) * (1 - melanin))
    return colour.astype(np.float32)


def greyed(colour: np.ndarray, grey: float, order: np.ndarray) -> np.ndarray:
    """Colours (..., 3) of hairs that turn white one after the other, as real ones do: salt and pepper in between.

    Args:
        colour: (3,) with all the pigment.
        grey: 0 none has turned to 1 all have.
        order: (...) in [0, 1], when a hair's turn comes.
    """
    white = np.clip((grey * (1 + _TURNING) - order) / _TURNING, 0, 1).astype(np.float32)[..., None]
    return colour * (1 - white) + white * WHITE_HAIR


class SkinPainter:
    """Paints an identity's skin: noise, wrinkles, spots and brows are drawn once, ages only weigh them."""

    def __init__(self, chart: Chart, identity: Identity) -> None:
        self.chart, self.identity = chart, identity
        random = identity.random("skin")
        shape = chart.shape
        extent = (float(chart.v[0] - chart.v[-1]), float(chart.u[-1] - chart.u[0]))
        skin = identity.skin
        base = np.array([np.interp(skin.melanin, _TONES[:, 0], _TONES[:, c]) for c in (1, 2, 3)])
        self._base = base * np.array([1.0, 1 + 0.02 * skin.warmth, 1 - 0.04 * skin.warmth])
        self._blotches = octaves(random, shape, extent, 28, 4, 0.65)
        self._blood_noise = octaves(random, shape, extent, 16, 4, 0.6)
        self._grain = smooth_noise(random, shape, extent, 1.3)
        self._fine = smooth_noise(random, shape, extent, 2.6)
        self._wrinkles = wrinkle_maps(chart, identity.random("wrinkles"))
        self._deepened = expression_depth(identity.expression)
        self._pores = self._pore_relief(random, shape, extent)
        self._spots = self._spot_maps(identity.random("spots"))
        self._freckles = self._freckle_map(random)
        self._moles = self._mole_map(random)
        self._brow = self._brow_map(identity.random("brows"))
        self._lashes = 0.7 * chart.eyelids
        self._beard, self._stubble = self._beard_maps(identity.random("beard"))
        turns = identity.random("greying")
        self._beard_order, self._brow_order = (
            # streaks along the hairs, as wide as a few of them, spread evenly over [0, 1]
            1 / (1 + np.exp(-1.7 * smooth_noise(turns, shape, extent, scale)))
            for scale in ((3.0, 0.8), (0.7, 2.5))
        )
        self._flush = (
            0.9 * chart.both_sides(44, 692, 14, 13)
            + 0.55 * chart.gaussian(0, 690, 11, 9)
            + 0.35 * chart.gaussian(0, 640, 14, 9)
            + 0.7 * chart.ears
            + 0.15 * chart.both_sides(33, 738, 12, 5)
        )
        self._circles = chart.both_sides(31, 716.5, 10, 4.5) + 0.7 * chart.both_sides(19, 724, 4, 4.5)
        self._oily = np.clip(
            chart.gaussian(0, 785, 30, 16) + chart.gaussian(0, 705, 9, 18) + 0.5 * chart.both_sides(40, 702, 12, 9),
            0,
            1,
        )
        x, y, _ = np.moveaxis(chart.position, -1, 0)
        self._face = smoothstep(612, 630, y) * (1 - smoothstep(60, 80, np.abs(x)))
        # the skin of nostrils and of the mouth's line is always dark
        self._dark = np.clip(0.8 * chart.both_sides(8.5, 684.5, 3.2, 1.8), 0, 0.8)

    def with_expression(self, identity: Identity) -> SkinPainter:
        """The same skin for the same person with another expression; nothing is drawn again."""
        other = copy.copy(self)
        other.identity = identity
        other._deepened = expression_depth(identity.expression)
        return other

    @property
    def base_albedo(self) -> np.ndarray:
        """Linear RGB (3,) of the unblemished young skin."""
        return self._base

    def _extent_noise(self, random: np.random.Generator, scale: float) -> np.ndarray:
        chart = self.chart
        return smooth_noise(random, chart.shape, (chart.v[0] - chart.v[-1], chart.u[-1] - chart.u[0]), scale)

    def _pore_relief(self, random: np.random.Generator, shape, extent) -> np.ndarray:
        pores = -np.maximum(smooth_noise(random, shape, extent, 0.9) - 0.3, 0)
        return (0.035 * pores).astype(np.float32) if self.chart.texel_mm < 0.8 else np.zeros(shape, np.float32)

    def _dots(self, count: int, random: np.random.Generator, sizes: tuple[float, float]) -> np.ndarray:
        """Soft irregular dots scattered over face, forehead and neck."""
        chart = self.chart
        canvas = np.zeros(chart.shape, np.float32)
        for u, v, size, strength in zip(
            random.uniform(-125, 125, count),
            random.uniform(570, 815, count),
            np.exp(random.uniform(*np.log(sizes), count)),
            random.uniform(0.4, 1.0, count),
            strict=True,
        ):
            size = max(size, 0.7 * chart.texel_mm)
            columns = np.flatnonzero(np.abs(chart.u - u) < 3 * size)
            rows = np.flatnonzero(np.abs(chart.v - v) < 3 * size)
            if not len(rows) or not len(columns):
                continue
            stretch = random.uniform(0.7, 1.4)
            d = ((chart.u[columns] - u) / size) ** 2 * stretch + (((chart.v[rows] - v) / size) ** 2 / stretch)[:, None]
            canvas[np.ix_(rows, columns)] += strength * np.exp(-(d**1.6))
        return canvas

    def _spot_maps(self, random: np.random.Generator) -> list[np.ndarray]:
        """Age spots in groups that appear one after the other, ragged by noise."""
        ragged = 1 + 0.5 * self._extent_noise(random, 2.0)
        return [
            np.clip(self._dots(int(random.integers(10, 26)), random, (1.0, 4.2)) * ragged, 0, 1.3)
            for _ in range(_SPOT_GROUPS)
        ]

    def _freckle_map(self, random: np.random.Generator) -> np.ndarray:
        count = int(500 * self.identity.skin.freckles)
        where = np.clip(self.chart.both_sides(32, 705, 22, 14) + self.chart.gaussian(0, 705, 14, 14), 0, 1)
        return self._dots(count, random, (0.6, 1.3)) * where if count else np.zeros(self.chart.shape, np.float32)

    def _mole_map(self, random: np.random.Generator) -> np.ndarray:
        return np.clip(self._dots(self.identity.skin.moles, random, (0.8, 1.8)) * 1.5, 0, 1)

    def _strokes(self, starts: np.ndarray, ends: np.ndarray, width_mm: float, ink: np.ndarray) -> np.ndarray:
        """Anti-aliased hairs on the chart (H, W) in [0, 1]; points in chart millimetres, ``ink`` (N,) in [0, 1]."""
        chart = self.chart
        scale = max(1, round(chart.texel_mm / 0.35))  # draw finely, then average
        canvas = np.zeros((chart.shape[0] * scale, chart.shape[1] * scale), np.uint8)
        texel = chart.texel_mm / scale

        def pixels(points: np.ndarray) -> np.ndarray:
            columns = (points[:, 0] - chart.u[0]) / texel + scale / 2
            rows = (chart.v[0] - points[:, 1]) / texel + scale / 2
            return np.round(np.stack([columns, rows], 1) * 16).astype(int)

        thickness = max(1, round(width_mm / texel))
        order = np.argsort(ink)  # the darkest last
        for a, b, shade in zip(pixels(starts)[order], pixels(ends)[order], ink[order], strict=True):
            cv2.line(canvas, a.tolist(), b.tolist(), int(255 * shade), thickness, cv2.LINE_AA, 4)
        return cv2.resize(canvas, chart.shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255

    def _brow_map(self, random: np.random.Generator) -> np.ndarray:
        hair = self.identity.hair
        total = np.zeros(self.chart.shape, np.float32)
        spread, arch, height = random.normal(0, 1.2), hair.brow_arch_mm, random.normal(0, 1.0)
        count = int(190 * hair.brow_density)
        for side in (-1, 1):
            t = random.uniform(0, 1, count)
            x = 11.5 + spread + 38 * t
            y = 746.5 + height + arch * np.sin(np.pi * np.clip(t * 0.72, 0, 1)) - 3.5 * t**2.5
            thick = hair.brow_thickness_mm * np.interp(t, [0, 0.15, 0.6, 1], [0.7, 1.0, 0.85, 0.25])
            offset = random.uniform(-0.5, 0.5, count) * thick
            starts = self.chart.locate(np.stack([side * x, y + offset], 1))
            angle = np.radians(np.interp(t, [0, 0.25, 0.6, 1], [75, 35, 12, -18]) + random.normal(0, 10, count))
            length = random.uniform(3.5, 6.5, count)
            ends = starts + np.stack([side * np.cos(angle) * length, np.sin(angle) * length * 0.7], 1)
            edge = 1 - np.abs(2 * offset / thick)
            ink = random.uniform(0.35, 0.95, count) * (0.45 + 0.55 * edge) * np.interp(t, [0, 0.2, 1], [0.6, 1, 0.9])
            total += self._strokes(starts, ends, 0.35, ink)
        soft = cv2.GaussianBlur(total, (0, 0), 1.6 / self.chart.texel_mm)
        return np.clip(0.9 * total + 0.75 * soft, 0, 0.97)

    def _beard_maps(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        hair, chart = self.identity.hair, self.chart
        x, y, _ = np.moveaxis(chart.position, -1, 0)
        angle = np.abs(np.degrees(chart_angle(chart.position)))
        upper = np.interp(angle.ravel(), [0, 14, 24, 40, 62, 80, 95], [677, 676, 664, 668, 690, 720, 722])
        upper = upper.reshape(angle.shape)
        region = smoothstep(0, 5, upper - y) * smoothstep(597, 622, y) * (1 - smoothstep(80, 92, angle))
        moustache = np.exp(-0.5 * (x / 19) ** 2) * smoothstep(684, 678, y) * smoothstep(660, 668, y)
        region = np.clip(np.maximum(region, moustache), 0, 1) * (1 - np.clip(1.4 * chart.lips, 0, 1))
        zero = np.zeros(chart.shape, np.float32)
        if hair.beard <= 0 and hair.stubble <= 0:
            return zero, zero
        stubble = region * hair.stubble * np.clip(0.55 + 0.35 * self._extent_noise(random, 0.8), 0, 1)
        if hair.beard <= 0:
            return zero, stubble.astype(np.float32)
        count = 9000
        u, v = random.uniform(-RADIUS_MM * 1.6, RADIUS_MM * 1.6, count), random.uniform(585, 725, count)
        rows = np.clip(((chart.v[0] - v) / chart.texel_mm).astype(int), 0, chart.shape[0] - 1)
        columns = np.clip(((u - chart.u[0]) / chart.texel_mm).astype(int), 0, chart.shape[1] - 1)
        grows = random.random(count) < region[rows, columns]
        starts = np.stack([u[grows], v[grows]], 1)
        angle = np.radians(-90 + 25 * np.tanh(starts[:, 0] / 40) + random.normal(0, 18, len(starts)))
        length = random.uniform(3, 9, len(starts)) * hair.beard
        ends = starts + np.stack([np.cos(angle), np.sin(angle)], 1) * length[:, None]
        beard = self._strokes(starts, ends, 0.35, random.uniform(0.4, 1, len(starts)))
        return np.clip(1.2 * beard * (1 - 0.9 * chart.lips), 0, 1), stubble.astype(np.float32)

    def height(self, amounts: Mapping[str, float]) -> np.ndarray:
        """The wrinkles' relief (H, W) in millimetres."""
        total = np.zeros(self.chart.shape, np.float32)
        for name, relief in self._wrinkles.items():
            amount = amounts[name]
            amount = amount * (1 + self._deepened.get(name, 0.0)) + 0.12 * self._deepened.get(name, 0.0)
            total += np.float32(amount) * relief
        return total

    def paint(self, amounts: Mapping[str, float]) -> SkinTextures:
        """The textures when the ageing channels stand at ``amounts``."""
        chart, skin = self.chart, self.identity.skin
        wrinkles = self.height(amounts)
        relief = wrinkles + self._pores * (1 + 0.8 * amounts["crepe"])
        relief = relief + 0.35 * self._beard + 0.25 * self._brow
        slope_v, slope_u = np.gradient(relief, chart.texel_mm)
        cavity = np.exp(0.75 * np.minimum(wrinkles, 0))

        pallor = amounts["pallor"]
        melanin = 0.045 * self._blotches * (0.6 + 1.0 * amounts["unevenness"])
        melanin = melanin + 0.03 * self._grain + 0.02 * self._fine
        melanin += 0.45 * self._freckles * (1 - 0.3 * min(1.0, pallor)) + 1.5 * self._moles
        for group, spots in enumerate(self._spots):
            shown = smoothstep(0, 0.45, np.float64(1.25 * amounts["spots"] - group / _SPOT_GROUPS))
            melanin += np.float32(0.4 * shown * (0.5 + 0.5 * amounts["spots"])) * spots
        melanin += (0.22 + 0.35 * amounts["dark_circles"]) * self._circles * (0.6 + 0.4 * skin.melanin)
        melanin += 0.04 * pallor
        redness = skin.redness * (1 - 0.45 * min(1.0, pallor))
        blood = redness * (0.36 * self._flush + 0.05 * self._blood_noise)
        blood += 0.04 * amounts["unevenness"] * np.maximum(self._blood_noise, 0) * self._face
        blood += 0.12 * amounts["veins"] * np.maximum(self._fine, 0) * np.minimum(self._flush, 1)
        blood += 0.16 * amounts["dark_circles"] * self._circles
        blood -= 0.08 * min(1.0, pallor)
        absorbed = melanin[..., None] * _MELANIN + blood[..., None] * _BLOOD
        dullness = np.array([1 - 0.05 * pallor, 1 - 0.03 * pallor, 1 - 0.12 * pallor])
        albedo = self._base * dullness * np.exp(-absorbed)

        lips = chart.lips[..., None] * (0.85 - 0.3 * min(1.0, pallor))
        lip_tone = np.array([0.80, 0.47, 0.50]) * (1 + 0.35 * (0.5 - skin.lip_colour))
        albedo = albedo * (1 - lips + lips * lip_tone)
        albedo *= (1 - self._dark - 0.35 * self._lashes)[..., None]
        grey = min(1.0, 0.75 * amounts["greying"])
        hair = self.identity.hair
        brow_hair = greyed(hair_colour(min(1.0, hair.melanin + 0.1), hair.redness), 0.6 * grey, self._brow_order)
        beard_hair = greyed(hair_colour(hair.melanin, hair.redness), grey, self._beard_order)
        for cover, colour in (
            (0.55 * self._stubble, beard_hair * 1.2 + 0.02),
            (0.92 * self._beard, beard_hair),
            (0.92 * self._brow, brow_hair),
        ):
            albedo = albedo * (1 - cover[..., None]) + cover[..., None] * colour
        gloss = skin.gloss * (0.35 + 0.65 * self._oily) * (1 - 0.5 * min(1.0, amounts["dryness"]))
        gloss = gloss + 0.6 * chart.lips * (1 - 0.4 * min(1.0, amounts["dryness"]))
        gloss = gloss * (1 - 0.7 * self._brow) * (1 - 0.6 * self._beard)
        return SkinTextures(
            np.ascontiguousarray(albedo, dtype=np.float32),
            np.stack([slope_u, -slope_v, cavity, gloss], -1).astype(np.float32),
            self._brow > 0.35,
        )
