"""Spectacles: a frame of round wire around clear glass, made on the reference age."""

from __future__ import annotations

import numpy as np

from fran_lightning.synthesis.parametric.scene import Glasses

_SIDES, _RIM_POINTS = 6, 40


def build_glasses(
    glasses: Glasses, left_eye: np.ndarray, right_eye: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A mesh for a head that faces forward.

    Args:
        glasses: form and colour.
        left_eye, right_eye: centres (3,) of the eyeballs in millimetres.

    Returns:
        Vertices (V, 3), triangles (T, 3), unit normals (V, 3).
    """
    middle = (left_eye + right_eye) / 2
    scale = np.linalg.norm(left_eye - right_eye) / 66.0
    front = middle[2] + 27.0 * scale
    paths: list[tuple[np.ndarray, bool]] = []
    for side, eye in ((1.0, left_eye), (-1.0, right_eye)):
        t = np.linspace(0, 2 * np.pi, _RIM_POINTS, endpoint=False)
        power = 2 / glasses.squareness
        x = np.sign(np.cos(t)) * np.abs(np.cos(t)) ** power * glasses.half_width_mm
        y = np.sign(np.sin(t)) * np.abs(np.sin(t)) ** power * glasses.half_height_mm
        # the front is slightly bent around the face
        bend = -0.004 * (eye[0] + x - middle[0]) ** 2
        paths.append((np.stack([eye[0] + x * scale, eye[1] - 4 + y * scale, front + bend], 1), True))
        outer = eye[0] + side * glasses.half_width_mm * scale
        hinge = np.array([outer, eye[1] + 4, front - 0.004 * (outer - middle[0]) ** 2])
        ear = np.array([middle[0] + side * 74 * scale, eye[1] + 4, middle[2] - 88 * scale])
        paths.append((np.linspace(hinge, ear, 12), False))
    inner = 33.0 * scale - glasses.half_width_mm * scale
    bridge_x = np.linspace(-inner, inner, 9)
    bridge = np.stack(
        [middle[0] + bridge_x, middle[1] + 2 - 2.0 * (bridge_x / max(inner, 1)) ** 2, np.full(9, front + 1.0)], 1
    )
    paths.append((bridge, False))
    vertices, triangles, normals, first = [], [], [], 0
    for path, closed in paths:
        points, faces, outward = _tube(path, glasses.wire_mm, closed)
        vertices.append(points)
        triangles.append(faces + first)
        normals.append(outward)
        first += len(points)
    return (
        np.concatenate(vertices).astype(np.float32),
        np.concatenate(triangles).astype(np.int32),
        np.concatenate(normals).astype(np.float32),
    )


def _tube(path: np.ndarray, radius: float, closed: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = len(path)
    along = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    aside = np.cross(along, [0.13, 0.21, 0.97])
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    across = np.cross(along, aside)
    around = np.linspace(0, 2 * np.pi, _SIDES, endpoint=False)[None, :, None]
    outward = np.cos(around) * aside[:, None] + np.sin(around) * across[:, None]
    points = path[:, None] + radius * outward
    ring, side = np.mgrid[0 : count if closed else count - 1, 0:_SIDES]
    a = ring * _SIDES + side
    b = ring * _SIDES + (side + 1) % _SIDES
    c, d = ((other + _SIDES) % (count * _SIDES) for other in (a, b))
    faces = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    return points.reshape(-1, 3), faces, outward.reshape(-1, 3)
