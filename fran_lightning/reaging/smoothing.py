"""Zero-phase smoothing of a film's alignment.

The path of every number of the alignment is replaced by the one that minimises

    sum over seen frames of (path - measured)^2 + stiffness * sum of (second difference of the path)^2

(Whittaker 1923; what a Rauch-Tung-Striebel smoother gives for motion of constant velocity). It looks as far ahead as
back, so it does not lag; frames without a measurement are bridged by the stiffness alone; and a constant path comes
back unchanged, to the bit, so that a still picture stays still.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fran_lightning.perception.alignment import FaceSquare

#: Stiffness for the centre. Larger is steadier, and leaves the measured path further behind in quick moves.
CENTRE_STIFFNESS = 30.0
#: Stiffness for size and rotation, which real heads change slowly and detectors measure badly.
SHAPE_STIFFNESS = 100.0
#: Stiffness for landmarks inside the crop: mouths and eyelids are quick.
LANDMARK_STIFFNESS = 2.0


def smooth(measured: np.ndarray, stiffness: float, seen: np.ndarray | None = None) -> np.ndarray:
    """Smooth (T, ...) along time.

    Args:
        measured: (T, ...) numbers; those of frames not seen are ignored.
        stiffness: the weight of the second differences; 0 changes nothing but the frames not seen.
        seen: (T,) bool, whether there is a measurement; at least one must be True.
    """
    from scipy.linalg import solveh_banded

    count = len(measured)
    weights = np.ones(count) if seen is None else seen.astype(np.float64)
    flat = np.asarray(measured, dtype=np.float64).reshape(count, -1)
    first = flat[np.argmax(weights)]
    # differences to the first value: a constant path is all zeros, and zeros are solved exactly
    differences = np.where(weights[:, None] > 0, flat - first, 0)
    if count < 3 or weights.sum() < 3:
        return _fill_in(differences, weights, first).reshape(measured.shape)
    band = _penalty_band(count) * max(stiffness, 1e-6)
    band[2] += weights
    return (solveh_banded(band, differences) + first).reshape(measured.shape)


def _penalty_band(count: int) -> np.ndarray:
    """D'D of the second difference D as upper diagonals (3, count)."""
    band = np.zeros((3, count))
    for offset, value in ((0, 1.0), (1, -2.0), (2, 1.0)):
        band[2, offset : count - 2 + offset] += value**2
    band[1, 1 : count - 1] += -2
    band[1, 2:count] += -2
    band[0, 2:] = 1
    return band


def _fill_in(differences: np.ndarray, weights: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Too few measurements to speak of velocity: interpolate between them."""
    positions = np.flatnonzero(weights)
    frames = np.arange(len(weights))
    columns = [np.interp(frames, positions, column[positions]) for column in differences.T]
    return np.stack(columns, axis=1) + first


def smooth_squares(
    squares: Sequence[FaceSquare | None],
    centre_stiffness: float = CENTRE_STIFFNESS,
    shape_stiffness: float = SHAPE_STIFFNESS,
) -> list[FaceSquare]:
    """The smoothed path of a track's squares; None where the face was not seen."""
    seen = np.array([square is not None for square in squares])
    rows = np.zeros((len(squares), 4))
    for index, square in enumerate(squares):
        if square is not None:
            rows[index] = (square.x, square.y, np.log(square.side), square.angle)
    rows[seen, 3] = np.unwrap(rows[seen, 3])
    centre = smooth(rows[:, :2], centre_stiffness, seen)
    shape = smooth(rows[:, 2:], shape_stiffness, seen)
    return [
        FaceSquare(float(x), float(y), float(np.exp(log_side)), float(angle))
        for (x, y), (log_side, angle) in zip(centre, shape, strict=True)
    ]


def wiggle(squares: Sequence[FaceSquare]) -> np.ndarray:
    """How unsteady a path is: standard deviations (x, y, side, angle) of the second differences over time.

    Centre and side in pixels; the angle as the way in pixels that it moves the crop's edge.
    """
    rows = np.array([(s.x, s.y, s.side, s.angle * s.side / 2) for s in squares])
    return np.diff(rows, 2, axis=0).std(axis=0)
