"""One step of Catmull-Clark subdivision as a sparse matrix, so that it costs one product per mesh."""

from __future__ import annotations

import numpy as np
from scipy import sparse


def catmull_clark(quads: np.ndarray, vertices: int) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Subdivide a mesh of quads.

    Args:
        quads: (Q, 4) vertex indices, consistently oriented; borders are allowed.
        vertices: number of vertices V.

    Returns:
        The matrix (V + E + Q, V) that maps coarse vertices to fine ones (first the moved old vertices, then the
        edge points, then the face points), the fine quads (4Q, 4), and the coarse quad (4Q,) each comes from.

    Source: Catmull and Clark 1978; border edges use the cubic B-spline rule.
    """
    count = len(quads)
    starts, ends = quads.ravel(), np.roll(quads, -1, axis=1).ravel()
    pairs = np.stack([np.minimum(starts, ends), np.maximum(starts, ends)], 1)
    edges, edge_of_corner = np.unique(pairs, axis=0, return_inverse=True)
    edge_of_corner = edge_of_corner.reshape(count, 4)
    faces_of_edge = np.bincount(edge_of_corner.ravel(), minlength=len(edges))
    inner = faces_of_edge == 2

    def matrix(rows: np.ndarray, columns: np.ndarray, values: np.ndarray | float, shape: tuple[int, int]):
        values = np.broadcast_to(values, rows.shape)
        return sparse.csr_matrix((values, (rows, columns)), shape=shape)

    quad_rows = np.repeat(np.arange(count), 4)
    face_points = matrix(quad_rows, quads.ravel(), 0.25, (count, vertices))
    edge_rows = np.repeat(np.arange(len(edges)), 2)
    midpoints = matrix(edge_rows, edges.ravel(), 0.5, (len(edges), vertices))
    edge_faces = matrix(edge_of_corner.ravel(), quad_rows, 0.25, (len(edges), count)) @ face_points
    edge_points = sparse.diags(np.where(inner, 0.5, 1.0)) @ midpoints + sparse.diags(inner.astype(float)) @ edge_faces

    valence = np.bincount(edges.ravel(), minlength=vertices).astype(float)
    border = valence == 0  # vertices without a face stay where they are
    border[edges[~inner].ravel()] = True
    mean_faces = matrix(quads.ravel(), quad_rows, 1.0, (vertices, count))
    mean_faces = sparse.diags(1 / np.maximum(np.bincount(quads.ravel(), minlength=vertices), 1)) @ mean_faces
    mean_edges = matrix(edges.ravel(), edge_rows, 1.0, (vertices, len(edges)))
    mean_edges = sparse.diags(1 / np.maximum(valence, 1)) @ mean_edges
    n = np.maximum(valence, 1)
    moved = (
        sparse.diags(1 / n) @ mean_faces @ face_points
        + sparse.diags(2 / n) @ mean_edges @ midpoints
        + sparse.diags((n - 3) / n)
    )
    rim = edges[~inner]
    rim_neighbours = matrix(rim.ravel(), rim[:, ::-1].ravel(), 0.125, (vertices, vertices))
    kept = sparse.diags(1 - np.asarray(rim_neighbours.sum(1)).ravel()) + rim_neighbours
    old = sparse.diags((~border).astype(float)) @ moved + sparse.diags(border.astype(float)) @ kept

    refine = sparse.vstack([old, edge_points, face_points]).tocsr().astype(np.float32)
    edge_ids, face_ids = vertices + edge_of_corner, vertices + len(edges) + np.arange(count)
    fine = np.stack(
        [np.stack([quads[:, k], edge_ids[:, k], face_ids, edge_ids[:, k - 1]], 1) for k in range(4)],
        1,
    ).reshape(-1, 4)
    return refine, fine, np.repeat(np.arange(count), 4)
