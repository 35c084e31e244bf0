"""Wrinkles: relief along curves that follow the face's muscle lines, one static map per channel of the ageing law.

Curves are given in the template's front view (chart.py), jittered per identity; the two sides are mirrored and then
differ a little. A crease is a groove with raised shoulders; its depth is in millimetres at amount 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import make_interp_spline

from fran_lightning.synthesis.parametric.chart import Chart
from fran_lightning.synthesis.parametric.noise import smooth_noise

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Crease:
    """A groove along a smooth curve through ``points`` (front view, mm)."""

    points: Points
    width: float
    depth: float


class _Relief:
    """Adds creases to a height map in millimetres."""

    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.height = np.zeros(chart.shape, dtype=np.float32)

    def add(self, crease: Crease) -> None:
        chart = self.chart
        path = chart.locate(_spline(crease.points))
        width = max(crease.width, 0.8 * chart.texel_mm)
        margin = 5 * width
        columns = np.flatnonzero((chart.u > path[:, 0].min() - margin) & (chart.u < path[:, 0].max() + margin))
        rows = np.flatnonzero((chart.v > path[:, 1].min() - margin) & (chart.v < path[:, 1].max() + margin))
        if not len(rows) or not len(columns):
            return
        u, v = np.meshgrid(chart.u[columns], chart.v[rows])
        distance, along = _distance(u, v, path)
        taper = np.clip(4 * along * (1 - along), 0, 1) ** 0.6
        x = distance / width
        groove = -np.exp(-0.5 * x**2) + 0.35 * np.exp(-0.5 * ((x - 2.2) / 1.1) ** 2)
        block = np.ix_(rows, columns)
        self.height[block] += (crease.depth * taper * groove).astype(np.float32)


def _spline(points: Points, samples: int = 28) -> np.ndarray:
    array = np.asarray(points, dtype=np.float64)
    degree = min(3, len(array) - 1)
    knots = np.linspace(0, 1, len(array))
    return make_interp_spline(knots, array, k=degree)(np.linspace(0, 1, samples))


def _distance(u: np.ndarray, v: np.ndarray, path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance to a polyline and the place along it in [0, 1]."""
    best = np.full(u.shape, np.inf)
    along = np.zeros(u.shape)
    count = len(path) - 1
    for k in range(count):
        a, d = path[k], path[k + 1] - path[k]
        t = np.clip(((u - a[0]) * d[0] + (v - a[1]) * d[1]) / max(d @ d, 1e-9), 0, 1)
        squared = (u - a[0] - t * d[0]) ** 2 + (v - a[1] - t * d[1]) ** 2
        nearer = squared < best
        best = np.where(nearer, squared, best)
        along = np.where(nearer, (k + t) / count, along)
    return np.sqrt(best), along


def _jitter(random: np.random.Generator, points: Points, amount: float) -> Points:
    return [(x + random.normal(0, amount), y + random.normal(0, amount)) for x, y in points]


def _mirrored(random: np.random.Generator, points: Points, amount: float) -> list[Points]:
    """Both sides of a curve given for x > 0."""
    one = _jitter(random, points, amount)
    return [_jitter(random, one, 0.3 * amount), _jitter(random, [(-x, y) for x, y in one], 0.3 * amount)]


def _forehead(random: np.random.Generator) -> list[Crease]:
    creases = []
    lines = int(random.integers(3, 7))
    phase, wave = random.uniform(0, 6.3), random.uniform(0.5, 2.5)
    for y in np.linspace(764, 806, lines) + random.normal(0, 1.5, lines):
        half = random.uniform(30, 52)
        ends = [(-half, random.uniform(-10, half - 15)), (random.uniform(-half + 15, 10), half)]
        for left, right in [(-half, half)] if random.random() < 0.5 else ends:
            xs = np.linspace(left, right, 7)
            ys = y + 2.5 * np.cos(xs / 22) - 2 + wave * np.sin(xs / 11 + phase + 0.1 * y) + random.normal(0, 0.5, 7)
            creases.append(Crease(list(zip(xs, ys, strict=True)), random.uniform(0.8, 1.3), random.uniform(0.25, 0.6)))
    return creases


def _glabella(random: np.random.Generator) -> list[Crease]:
    creases = [
        Crease(points, random.uniform(0.9, 1.4), random.uniform(0.4, 0.85))
        for points in _mirrored(random, [(6, 741), (6.5, 750), (8.5, 761)], 0.9)
    ]
    if random.random() < 0.5:
        creases.append(Crease(_jitter(random, [(1, 744), (0, 752), (1, 760)], 0.8), 1.0, random.uniform(0.2, 0.6)))
    for y in (731.0, 735.5)[: int(random.integers(1, 3))]:
        points = _jitter(random, [(-8, y), (0, y - 1.5), (8, y)], 0.5)
        creases.append(Crease(points, 0.9, random.uniform(0.2, 0.45)))
    return creases


def _crows_feet(random: np.random.Generator) -> list[Crease]:
    creases = []
    lines = int(random.integers(3, 7))
    for angle in np.linspace(38, -48, lines) + random.normal(0, 4, lines):
        length = random.uniform(12, 22)
        a = np.radians(angle)
        start = (49 + 1.5 * np.cos(a), 727 + 4 * np.sin(a))
        bend = random.normal(-1.5, 1)
        end = (start[0] + 0.75 * length * np.cos(a), start[1] + length * np.sin(a) + bend)
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.8)
        for points in _mirrored(random, [start, middle, end], 0.6):
            creases.append(Crease(points, random.uniform(0.7, 1.0), random.uniform(0.25, 0.5)))
    return creases


def _under_eye(random: np.random.Generator) -> list[Crease]:
    creases = [
        Crease(points, 1.8, random.uniform(0.5, 0.8))
        for points in _mirrored(random, [(17, 722), (24, 715), (34, 711), (43, 713)], 0.8)
    ]
    for drop in (3.5, 6.0, 8.5):
        path = [(22, 723 - drop), (32, 720.5 - drop), (42, 722 - drop), (48, 726 - drop)]
        for points in _mirrored(random, path, 0.7):
            creases.append(Crease(points, random.uniform(0.6, 0.9), random.uniform(0.15, 0.35)))
    return creases


def _nasolabial(random: np.random.Generator) -> list[Crease]:
    reach = random.uniform(-3, 4)
    path = [(17.5, 695), (22.5, 686), (29, 674), (33.5, 663 - reach), (34.5, 655 - reach)]
    creases = []
    for points in _mirrored(random, path, 0.8):
        creases.append(Crease(points, 2.6, random.uniform(1.1, 1.7)))
        creases.append(Crease(points, 1.0, random.uniform(0.3, 0.6)))
    return creases


def _marionette(random: np.random.Generator) -> list[Crease]:
    return [
        Crease(points, random.uniform(1.4, 2.0), random.uniform(0.7, 1.2))
        for points in _mirrored(random, [(28, 658), (30.5, 648), (30.5, 638), (28, 629)], 0.9)
    ]


def _lip_lines(random: np.random.Generator) -> list[Crease]:
    creases = []
    for x in np.linspace(-21, 21, int(random.integers(9, 16))):
        x = x + random.normal(0, 0.8)
        top = 673.5 - 0.008 * x * x
        length = random.uniform(4, 8)
        creases.append(Crease([(x, top - 3), (1.12 * x, top + length)], 0.7, random.uniform(0.15, 0.35)))
        if random.random() < 0.6:
            creases.append(Crease([(x, 650), (1.05 * x, 650 - length)], 0.7, random.uniform(0.1, 0.25)))
    creases.append(Crease([(-14, 642.5), (0, 640.5), (14, 642.5)], 1.8, random.uniform(0.3, 0.6)))
    return creases


def _cheek_lines(random: np.random.Generator) -> list[Crease]:
    creases = []
    for offset in np.linspace(0, 16, int(random.integers(2, 6))):
        path = [(40 + offset, 706), (44 + offset, 690), (43 + offset, 672), (38 + 0.8 * offset, 655)]
        for points in _mirrored(random, path, 1.6):
            creases.append(Crease(points, random.uniform(0.8, 1.3), random.uniform(0.2, 0.4)))
    return creases


def _neck(random: np.random.Generator) -> list[Crease]:
    creases = []
    for y in (604, 592, 580, 568)[: int(random.integers(2, 5))]:
        path = [(-42, y + 9), (-22, y + 1), (0, y - 2), (22, y + 1), (42, y + 9)]
        creases.append(Crease(_jitter(random, path, 1.2), random.uniform(1.0, 1.7), random.uniform(0.4, 0.8)))
    for points in _mirrored(random, [(10, 606), (9, 592), (8, 578), (7, 562)], 1.2):
        creases.append(Crease(points, 2.6, random.uniform(0.3, 0.9)))
    return creases


_CURVES = {
    "forehead_lines": _forehead,
    "glabella_lines": _glabella,
    "crows_feet": _crows_feet,
    "under_eye_lines": _under_eye,
    "nasolabial": _nasolabial,
    "marionette": _marionette,
    "lip_lines": _lip_lines,
    "cheek_lines": _cheek_lines,
    "neck_lines": _neck,
}

#: of the maps; tuned on what dlib's age network makes of them
_STRENGTH = {"nasolabial": 1.55, "glabella_lines": 1.5, "marionette": 0.95}

#: facial action -> wrinkle channels that it deepens, and by how much at full action
EXPRESSION_DEEPENS: dict[str, dict[str, float]] = {
    "mouthSmileLeft": {"crows_feet": 0.35, "nasolabial": 0.40, "cheek_lines": 0.25, "under_eye_lines": 0.2},
    "browOuterUpLeft": {"forehead_lines": 0.4},
    "browInnerUp": {"forehead_lines": 0.3},
    "browDownLeft": {"glabella_lines": 0.4},
    "jawOpen": {"nasolabial": 0.2},
}


def wrinkle_maps(chart: Chart, random: np.random.Generator) -> dict[str, np.ndarray]:
    """One height map (H, W) in millimetres at amount 1 for every wrinkle channel, ``crepe`` included."""
    maps = {}
    for name, curves in _CURVES.items():
        relief = _Relief(chart)
        for crease in curves(random):
            relief.add(crease)
        maps[name] = _STRENGTH.get(name, 1.3) * relief.height
    extent = (chart.v[0] - chart.v[-1], chart.u[-1] - chart.u[0])
    # fine crossing lines: two ridged fields of elongated cells
    crossing = [
        -np.abs(smooth_noise(random, chart.shape, extent, scale)) for scale in ((2.2, 5.0), (5.0, 2.4), (1.4, 1.7))
    ]
    maps["crepe"] = (0.06 * sum(crossing)).astype(np.float32)
    return maps


def expression_depth(expression: dict[str, float]) -> dict[str, float]:
    """How much an expression deepens each wrinkle channel."""
    depth: dict[str, float] = {}
    for action, channels in EXPRESSION_DEEPENS.items():
        for name, share in channels.items():
            depth[name] = depth.get(name, 0.0) + share * expression.get(action, 0.0)
    return depth
