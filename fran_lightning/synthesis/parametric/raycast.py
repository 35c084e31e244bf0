"""Ray casting against triangle meshes with warp, on the CPU or a CUDA device."""

# ruff: noqa: UP018  (warp: a variable that changes in a loop must not start as a literal)
from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
import warp as wp


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Swallow what native code writes to file descriptor 2: warp's warning on machines without CUDA."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@cache
def initialise() -> None:
    """Start warp quietly, once per process."""
    if hasattr(wp, "LOG_ERROR"):
        wp.config.log_level = wp.LOG_ERROR
    else:  # before 1.11
        wp.config.quiet = True
    with _silent_stderr():
        wp.init()


def cuda_available() -> bool:
    """Whether warp finds a CUDA device."""
    initialise()
    return wp.get_cuda_device_count() > 0


@dataclass(frozen=True)
class Hits:
    """What rays met: triangle (N,) or -1, barycentric weights (N, 3), distance (N,) in the rays' units."""

    triangle: np.ndarray
    barycentric: np.ndarray
    distance: np.ndarray


@wp.kernel(enable_backward=False)
def _cast(
    mesh: wp.uint64,
    origins: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    triangle: wp.array(dtype=int),
    result: wp.array(dtype=wp.vec3),
):
    i = wp.tid()
    query = wp.mesh_query_ray(mesh, origins[i], directions[i], 1.0e6)
    triangle[i] = -1
    if query.result:
        triangle[i] = query.face
        result[i] = wp.vec3(query.u, query.v, query.t)


@wp.kernel(enable_backward=False)
def _unoccluded(
    mesh: wp.uint64,
    origins: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
    directions: wp.array2d(dtype=wp.vec3),
    bias: float,
    cosine_weighted: int,
    visible: wp.array2d(dtype=float),
):
    vertex, group = wp.tid()
    origin = origins[vertex] + normals[vertex] * bias
    total = float(0.0)
    seen = float(0.0)
    for k in range(directions.shape[1]):
        direction = directions[group, k]
        weight = float(1.0)
        if cosine_weighted != 0:
            weight = wp.max(wp.dot(direction, normals[vertex]), 0.0)
        if weight > 0.0:
            total += weight
            if not wp.mesh_query_ray_anyhit(mesh, origin, direction, 1.0e4):
                seen += weight
    visible[vertex, group] = seen / wp.max(total, 1.0e-6)


def make_mesh(vertices: np.ndarray, triangles: np.ndarray, device: str) -> wp.Mesh:
    """A warp mesh with its bounding volume hierarchy."""
    initialise()
    return wp.Mesh(
        wp.array(np.ascontiguousarray(vertices, dtype=np.float32), dtype=wp.vec3, device=device),
        wp.array(np.ascontiguousarray(triangles, dtype=np.int32).ravel(), dtype=int, device=device),
    )


def cast_rays(
    vertices: np.ndarray, triangles: np.ndarray, origins: np.ndarray, directions: np.ndarray, device: str = "cpu"
) -> Hits:
    """First hits of rays (N, 3) + (N, 3) on a mesh of vertices (V, 3) and triangles (T, 3)."""
    mesh = make_mesh(vertices, triangles, device)
    count = len(origins)
    triangle = wp.zeros(count, dtype=int, device=device)
    result = wp.zeros(count, dtype=wp.vec3, device=device)
    arrays = [
        wp.array(np.ascontiguousarray(values, dtype=np.float32), dtype=wp.vec3, device=device)
        for values in (origins, directions)
    ]
    wp.launch(_cast, count, [mesh.id, *arrays, triangle, result], device=device)
    values = result.numpy()
    barycentric = np.stack([values[:, 0], values[:, 1], 1 - values[:, 0] - values[:, 1]], 1)
    return Hits(triangle.numpy(), barycentric, values[:, 2])


def visibility(
    vertices: np.ndarray,
    triangles: np.ndarray,
    points: np.ndarray,
    normals: np.ndarray,
    directions: np.ndarray,
    cosine_weighted: bool,
    device: str = "cpu",
    bias_mm: float = 1.5,
) -> np.ndarray:
    """Share of unblocked directions (P, G) from points (P, 3), for G groups of directions (G, K, 3).

    With ``cosine_weighted`` directions count with their cosine to the normal (ambient occlusion); otherwise all
    count alike (the soft shadow of a lamp).
    """
    mesh = make_mesh(vertices, triangles, device)
    visible = wp.zeros((len(points), len(directions)), dtype=float, device=device)
    inputs = [
        wp.array(np.ascontiguousarray(values, dtype=np.float32), dtype=wp.vec3, device=device)
        for values in (points, normals)
    ]
    groups = wp.array(np.ascontiguousarray(directions, dtype=np.float32), dtype=wp.vec3, device=device)
    wp.launch(
        _unoccluded,
        (len(points), len(directions)),
        [mesh.id, *inputs, groups, bias_mm, int(cosine_weighted), visible],
        device=device,
    )
    return visible.numpy()
