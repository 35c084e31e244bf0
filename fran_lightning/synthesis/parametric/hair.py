"""Scalp hair as strands: grown once per identity on the reference age, drawn into layers that no age changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import warp as wp

from fran_lightning.synthesis.parametric.camera import Pinhole
from fran_lightning.synthesis.parametric.chart import chart_angle
from fran_lightning.synthesis.parametric.head_model import SKIN, HeadModel
from fran_lightning.synthesis.parametric.raycast import cast_rays
from fran_lightning.synthesis.parametric.scene import Identity, Light
from fran_lightning.synthesis.parametric.shape import Body, smoothstep
from fran_lightning.synthesis.parametric.skin import greyed, hair_colour

STEPS = 24
_SKULL_CENTRE = np.array([0.0, 765.0, 40.0])
_LATITUDES, _LONGITUDES = 91, 180
#: hairline height (mm) over the angle (degrees) from the front: forehead, temple, sideburn, ear, nape
_LINE_ANGLE = [0, 20, 35, 48, 60, 70, 80, 86, 108, 120, 140, 180]
_LINE_HEIGHT = [802, 803, 800, 788, 770, 742, 712, 735, 742, 700, 665, 645]


@dataclass(frozen=True)
class Strands:
    """Polylines (N, STEPS + 1, 3) in posed millimetres, a brightness (N,) each, and their shade per point."""

    points: np.ndarray
    brightness: np.ndarray
    shade: np.ndarray  # (N, STEPS + 1) openness to light, 0 to 1
    tilt: np.ndarray  # (N,) of the cuticle scales: moves the highlight


def _hairline(angle: np.ndarray, identity: Identity) -> np.ndarray:
    hair = identity.hair
    degrees = np.abs(np.degrees(angle))
    height = np.interp(degrees, _LINE_ANGLE, _LINE_HEIGHT)
    frontal = np.interp(degrees, [0, 50, 70], [1, 1, 0])
    height = height + hair.hairline_mm * frontal
    if hair.style == "receding":
        height = height + 24 * np.interp(degrees, [0, 12, 30, 55, 75], [0.45, 0.6, 1, 0.5, 0])
    return height


def scalp_weight(model: HeadModel, identity: Identity) -> np.ndarray:
    """(V,) 1 where coarse vertices carry hair, 0 elsewhere."""
    x, y, z = model.template.T
    above = y - _hairline(chart_angle(model.template), identity)
    inside = smoothstep(-3, 3, above + 0.4 * np.maximum(0, np.hypot(x, z - 45) < 60) * 0)
    return inside * (1 - model.masks["ears"]) * (model.part == SKIN)


def occluder_thickness(identity: Identity) -> float:
    """How far the hair stands off the scalp, for shadows, in millimetres."""
    hair = identity.hair
    return {"buzz": 2.0, "receding": 3.0, "short": 8.0, "bun": 6.0}.get(hair.style, 10.0 + 8.0 * hair.curl)


class _Skull:
    """Distance from the skull's centre to the skin in every direction, to keep strands outside."""

    def __init__(self, vertices: np.ndarray, triangles: np.ndarray) -> None:
        latitude = np.linspace(-np.pi / 2, np.pi / 2, _LATITUDES)
        longitude = np.linspace(-np.pi, np.pi, _LONGITUDES, endpoint=False)
        lon, lat = np.meshgrid(longitude, latitude)
        outward = np.stack([np.sin(lon) * np.cos(lat), np.sin(lat), np.cos(lon) * np.cos(lat)], -1).reshape(-1, 3)
        hits = cast_rays(vertices, triangles, _SKULL_CENTRE + 600 * outward, -outward)
        radius = np.where(hits.triangle >= 0, 600 - hits.distance, 0.0)
        radius = np.minimum(radius, 112.0)  # below the neck this would be the shoulders
        self._radius = radius.reshape(_LATITUDES, _LONGITUDES).astype(np.float32)

    def keep_outside(self, points: np.ndarray, clearance: np.ndarray | float) -> np.ndarray:
        relative = points - _SKULL_CENTRE
        distance = np.linalg.norm(relative, axis=-1) + 1e-6
        latitude = np.arcsin(np.clip(relative[..., 1] / distance, -1, 1))
        longitude = np.arctan2(relative[..., 0], relative[..., 2])
        row = np.clip(np.rint((latitude / np.pi + 0.5) * (_LATITUDES - 1)).astype(int), 0, _LATITUDES - 1)
        column = np.rint((longitude / (2 * np.pi) + 0.5) * _LONGITUDES).astype(int) % _LONGITUDES
        wanted = self._radius[row, column] + clearance
        push = np.maximum(wanted / distance, 1.0)
        return _SKULL_CENTRE + relative * push[..., None]


def _part_curtain(points: np.ndarray, limit: np.ndarray, fringe: np.ndarray) -> np.ndarray:
    """Keep long hair beside the face: turn points in front of it around the head's axis to ``limit`` (N,) radians."""
    x, y, z = points[:, 0], points[:, 1], points[:, 2] - 20.0
    angle, radius = np.arctan2(x, z), np.hypot(x, z)
    strength = smoothstep(830, 745, y) * (1 - smoothstep(0.3, 0.5, fringe))
    wanted = np.sign(angle) * np.maximum(np.abs(angle), limit * strength)
    return np.stack([radius * np.sin(wanted), y, radius * np.cos(wanted) + 20.0], 1)


def _normalise(vectors: np.ndarray) -> np.ndarray:
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-9)


def grow(model: HeadModel, body: Body, identity: Identity, strands: int) -> Strands | None:
    """Grow about ``strands`` hairs on the reference head; None for a style without hair."""
    random = identity.random("hair")
    hair = identity.hair
    neutral = body.reference
    fine = model.refine @ neutral
    fine_template = model.refine @ model.template
    weight = model.refine @ scalp_weight(model, identity).astype(np.float32)
    skin = model.triangles[model.material == SKIN]
    face_weight = weight[skin].mean(1)
    a, b, c = (fine[skin[:, k]] for k in range(3))
    face_normal = np.cross(b - a, c - a)
    area = np.linalg.norm(face_normal, axis=1) * np.where(face_weight > 0.02, face_weight, 0)
    if area.sum() <= 0:
        return None
    chosen = np.sort(random.choice(len(skin), strands, p=area / area.sum()))
    mix = random.dirichlet([1, 1, 1], strands).astype(np.float32)
    corners = skin[chosen]
    roots = (fine[corners] * mix[..., None]).sum(1)
    template_roots = (fine_template[corners] * mix[..., None]).sum(1)
    normal = _normalise(face_normal[chosen])
    angle = chart_angle(template_roots)
    above = template_roots[:, 1] - _hairline(angle, identity)

    length, comb, gravity, lift, fringe = _style(identity, random, template_roots, normal, above)
    skull = _Skull(fine, skin)
    clump = random.integers(0, max(12, strands // 40), strands)
    clumps = clump.max() + 1
    phase = random.uniform(0, 2 * np.pi, (clumps, 3))[clump]
    wavelength = np.interp(hair.curl, [0, 0.3, 0.75, 1], [160, 70, 22, 12]) * random.uniform(0.8, 1.25, clumps)[clump]
    amplitude = np.interp(hair.curl, [0, 0.3, 0.75, 1], [1.0, 4.0, 5.0, 4.5])
    clearance = 1.6 + 4.0 * random.beta(1.5, 2, strands) * min(1.0, hair.length_mm / 60)
    wisps = random.normal(0, 0.10, (strands, 3))

    points = np.empty((strands, STEPS + 1, 3))
    points[:, 0] = roots
    curtain = np.radians(random.normal(hair.curtain, 4, strands))
    direction = _normalise(lift[:, None] * normal + comb + wisps)
    step = length / STEPS
    for k in range(STEPS):
        s = (k + 1) / STEPS
        fallen = np.clip(s * hair.length_mm / 60, 0, 1) * gravity[:, None]
        target = _normalise(comb * np.maximum(1 - fallen, 0) + fallen * np.array([0, -1.6, 0]))
        direction = _normalise(0.62 * direction + 0.38 * target + 0.2 * wisps * s)
        moved = points[:, k] + direction * step[:, None]
        kept = skull.keep_outside(moved, clearance * min(1.0, 3 * s))
        if hair.style in ("bob", "long"):
            kept = _part_curtain(kept, curtain, fringe)
        direction = _normalise(kept - points[:, k])
        points[:, k + 1] = kept
    along = np.linspace(0, 1, STEPS + 1) * length[:, None]
    envelope = np.clip(along / 14, 0, 1) * amplitude
    turns = 2 * np.pi * along / wavelength[:, None]
    points += envelope[..., None] * np.stack(
        [np.sin(turns + phase[:, :1]), 0.6 * np.sin(turns + phase[:, 1:2]), np.cos(turns + phase[:, 2:])], -1
    )
    points = points if hair.style == "buzz" else _sharpen_clumps(points, clump, clumps, random)

    share = smoothstep(520, 690, points[..., 1])[..., None]
    posed = body.pose(points.reshape(-1, 3), 0.25 + 0.75 * share.reshape(-1, 1)).reshape(points.shape)
    depth = np.linalg.norm(points - _SKULL_CENTRE, axis=-1)
    rank = np.clip((depth - depth[:, :1]) / max(4.0, np.percentile(depth - depth[:, :1], 90)), 0, 1)
    edge = np.clip(1 - above / 12, 0, 1)[:, None]  # light reaches the roots at the hairline
    shade = 0.45 + 0.55 * np.maximum(np.sqrt(rank), 0.7 * edge)
    brightness = np.exp(random.normal(0, 0.22, clumps)[clump] + random.normal(0, 0.11, strands))
    tilt = random.normal(0, 1, strands)
    return Strands(posed.astype(np.float32), brightness.astype(np.float32), shade.astype(np.float32), tilt)


def _sharpen_clumps(points: np.ndarray, clump: np.ndarray, clumps: int, random: np.random.Generator) -> np.ndarray:
    """Draw the tips of neighbouring strands together: locks instead of fur."""
    order = np.argsort(points[:, 0, 0] + 3 * points[:, 0, 1] + 7 * points[:, 0, 2], kind="stable")
    groups = np.empty(len(points), dtype=int)
    groups[order] = np.arange(len(points)) // max(6, len(points) // 900)
    leader = np.zeros(groups.max() + 1, dtype=int)
    leader[groups] = np.arange(len(points))
    towards = points[leader[groups]] - points
    near = np.exp(-((np.linalg.norm(towards[:, :1], axis=-1, keepdims=True) / 12) ** 2))
    s = np.linspace(0, 1, points.shape[1])[None, :, None] ** 1.5
    return points + towards * near * s * 0.55


def _style(
    identity: Identity, random: np.random.Generator, roots: np.ndarray, normal: np.ndarray, above: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Length (N,), combing direction (N, 3), gravity (N,), lift (N,) and share in the fringe (N,) of every strand."""
    hair, count = identity.hair, len(roots)
    x, y, z = roots.T
    front = smoothstep(40, 110, z)
    side = np.where(x > 22 * hair.part, 1.0, -1.0)
    zero, one = np.zeros(count), np.ones(count)
    fringe = zero
    length = hair.length_mm * random.uniform(0.8, 1.1, count)
    edge = smoothstep(0, 14, above)
    gravity = 0.9 * one
    lift = 0.5 * one
    low = smoothstep(760, 690, y)
    match hair.style:
        case "buzz" | "receding":
            comb = 0.3 * np.stack([0.2 * side, -0.5 * one, 0.6 * front - 0.4], 1)
            lift, gravity = one, 0.2 * one
            length = length * (0.45 + 0.55 * edge)
        case "short":
            comb = np.stack([0.35 * side, 0.15 * front - 0.55 * (1 - front), 0.9 * front - 0.2], 1)
            top = smoothstep(765, 825, y)
            lift, gravity = 0.15 + 0.65 * top, 0.7 - 0.35 * top
            length = length * (1 - 0.55 * low) * (0.5 + 0.5 * edge)
        case "side_part":
            comb = np.stack([0.95 * side, 0.1 * front - 0.35 * (1 - front), 0.25 * front - 0.35], 1)
            top = smoothstep(765, 825, y)
            lift, gravity = 0.12 + 0.58 * top, 0.8 - 0.35 * top
            length = length * (1 - 0.72 * smoothstep(800, 740, y)) * (0.5 + 0.5 * edge)
        case "swept_back":
            comb = np.stack([0.18 * side, 0.35 * front - 0.1, -1.0 * one], 1)
            lift, gravity = 0.75 * one, 0.35 * one
            length = length * (1 - 0.6 * low)
        case "curly":
            comb = 0.8 * normal + np.stack([zero, 0.1 * one, zero], 1)
            lift, gravity = one, 0.15 * one
            length = length * (0.55 + 0.45 * smoothstep(0, 40, above))
        case "bun":
            knot = np.array([0.0, 845.0, -40.0])
            comb = _normalise(knot - roots)
            lift, gravity = 0.12 * one, zero
            length = np.minimum(length, np.linalg.norm(knot - roots, axis=1) * 1.25)
        case _:
            parting = 14 * hair.part
            side = np.where(x > parting, 1.0, -1.0)
            comb = np.stack([0.85 * side, -0.35 * one, -0.25 * front - 0.05], 1)
            if hair.fringe:
                fringe = (
                    (np.abs(x) < random.normal(48, 5, count))
                    & (above < random.normal(45, 8, count))
                    & (z > 30)
                    & (y > 792)
                )
                forward = np.stack([0.15 * x / 40, -0.25 * one, one], 1)
                comb = np.where(fringe[:, None], forward, comb)
                length = np.where(fringe, 1.1 * (y - 752) + random.normal(0, 4, count), length)
                fringe = fringe.astype(float)
            lift = 0.45 * one
            gravity = 1.2 * one
    return length, comb, gravity, lift, fringe


@wp.kernel(enable_backward=False)
def _splat(
    points: wp.array2d(dtype=wp.vec3),
    camera: wp.vec3,
    centre: wp.vec2,
    scale: float,
    radius: int,
    head_depth: wp.array2d(dtype=float),
    tolerance: float,
    front: wp.array2d(dtype=wp.int64),
    back: wp.array2d(dtype=wp.int64),
):
    """Depth-test a strand's points into two integer images whose least key wins: depth, then strand and place.

    An integer minimum gives the same picture in whatever order the strands are drawn.
    """
    strand = wp.tid()
    size = front.shape[0]
    half = 0.5 * float(size)
    steps = points.shape[1] - 1
    for k in range(steps):
        a, b = points[strand, k] - camera, points[strand, k + 1] - camera
        ax, ay = (a[0] / -a[2] - centre[0]) / scale + half, half - (a[1] / -a[2] - centre[1]) / scale
        bx, by = (b[0] / -b[2] - centre[0]) / scale + half, half - (b[1] / -b[2] - centre[1]) / scale
        count = wp.clamp(int(wp.ceil(wp.max(wp.abs(bx - ax), wp.abs(by - ay)))), 1, 128)
        for j in range(count):
            t = float(j) / float(count)
            x, y = ax + (bx - ax) * t, ay + (by - ay) * t
            distance = wp.length(a + (b - a) * t)
            place = wp.int64((float(k) + t) / float(steps) * 1023.0)
            key = wp.int64(distance * 256.0) * wp.int64(1073741824) + wp.int64(strand) * wp.int64(1024) + place
            column, row = int(wp.floor(x)), int(wp.floor(y))
            for dr in range(radius):
                for dc in range(radius):
                    r, c = row + dr, column + dc
                    if r >= 0 and c >= 0 and r < size and c < size:
                        if distance < head_depth[r, c] + tolerance and head_depth[r, c] < 1.0e5:
                            wp.atomic_min(front, r, c, key)
                        else:
                            wp.atomic_min(back, r, c, key)


@dataclass(frozen=True)
class HairLayer:
    """Visible hair at sample resolution.

    Attributes:
        mask: (S, S) bool.
        colour: (S, S, 3) linear RGB.
        depth: (S, S) distance from the camera in millimetres.
        strand, place: (S, S) which strand, and where along it in segments, for following it through a clip.
    """

    mask: np.ndarray
    colour: np.ndarray
    depth: np.ndarray
    strand: np.ndarray
    place: np.ndarray


def points_on(strands: Strands, strand: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Posed points (N, 3) at ``place`` (N,) segments along strands (N,)."""
    segment = np.minimum(place.astype(int), STEPS - 1)
    a, b = strands.points[strand, segment], strands.points[strand, segment + 1]
    return a + (b - a) * (place - segment)[:, None]


def draw(
    strands: Strands, identity: Identity, camera: Pinhole, head_depth: np.ndarray, device: str, grey: float = 0.0
) -> tuple[HairLayer, HairLayer]:
    """Rasterise strands at the resolution of ``head_depth`` (S, S); the share ``grey`` of them is white.

    Returns:
        The layer in front of the reference head, and the layer behind and beside it.
    """
    size = head_depth.shape[0]
    empty = np.iinfo(np.int64).max
    buffers = [wp.full((size, size), wp.int64(empty), dtype=wp.int64, device=device) for _ in range(2)]
    scale = 2 * camera.half / size
    pixels_per_mm = 1 / (scale * identity.camera.distance_mm)
    wp.launch(
        _splat,
        len(strands.points),
        [
            wp.array(strands.points, dtype=wp.vec3, device=device),
            wp.vec3(*camera.position),
            wp.vec2(*camera.centre),
            float(scale),
            max(1, round(0.16 * pixels_per_mm)),
            wp.array(head_depth, dtype=float, device=device),
            3.5,
            *buffers,
        ],
        device=device,
    )
    front, back = (_shade(buffer.numpy(), strands, identity, camera, empty, grey) for buffer in buffers)
    return front, back


def _shade(
    keys: np.ndarray, strands: Strands, identity: Identity, camera: Pinhole, empty: int, grey: float
) -> HairLayer:
    """Kajiya-Kay shading (Kajiya and Kay 1989) of the strand that each sample sees."""
    mask = keys < empty
    seen = keys[mask]
    strand = (seen >> 10) & 0xFFFFF
    place = (seen & 1023) / 1023 * STEPS
    segment = np.minimum(place.astype(int), STEPS - 1)
    point = points_on(strands, strand, place)
    tangent = _normalise(strands.points[strand, segment + 1] - strands.points[strand, segment])
    open_light = strands.shade[strand, segment]
    outward = _normalise(point - (_SKULL_CENTRE + np.array([0, -5.0, 0])))
    view = _normalise(camera.position - point)
    hair = identity.hair
    order = identity.random("greying").random(len(strands.points))
    albedo = greyed(hair_colour(hair.melanin, hair.redness), grey, order)[strand] * strands.brightness[strand][:, None]
    colour = np.zeros((len(seen), 3))
    light: Light = identity.light
    ambient = np.array(light.ambient)
    squared = outward**2
    for axis in range(3):
        positive = outward[:, axis] > 0
        colour += squared[:, axis : axis + 1] * np.where(positive[:, None], ambient[2 * axis], ambient[2 * axis + 1])
    colour *= albedo * (0.75 * open_light**1.5)[:, None]
    gloss = 0.25 + 0.45 * (1 - hair.curl)
    for lamp in light.lamps:
        direction, power = np.array(lamp.direction), np.array(lamp.colour)
        facing = np.clip(outward @ direction * 0.75 + 0.25, 0, 1) * open_light
        cosine = tangent @ direction
        sine = np.sqrt(np.clip(1 - cosine**2, 0, 1))
        half = _normalise(direction + view)
        along = (tangent * half).sum(1) + 0.05 + 0.03 * strands.tilt[strand]
        sharp = np.clip(1 - along**2, 0, 1) ** 40
        broad = np.clip(1 - (along - 0.14) ** 2, 0, 1) ** 12
        reflected = albedo * (0.75 * sine + 0.7 * gloss * broad)[:, None] + 0.10 * gloss * sharp[:, None]
        colour += power * facing[:, None] * reflected
    image = np.zeros((*keys.shape, 3), np.float32)
    image[mask] = colour
    depth = np.full(keys.shape, 1e6, np.float32)
    depth[mask] = (seen >> 30) / 256.0
    strands_seen, places = np.zeros(keys.shape, np.int32), np.zeros(keys.shape, np.float32)
    strands_seen[mask], places[mask] = strand, place
    return HairLayer(mask, image, depth, strands_seen, places)
