"""How far a re-ageing reaches: by how much each part of the picture changed (paper, section 4.7)."""

from __future__ import annotations

import numpy as np

#: parts of a face picture as groups of parsing classes
PARTS: dict[str, tuple[int, ...]] = {
    "skin": (1, 10),
    "brows": (2, 3),
    "eyes": (4, 5),
    "mouth": (11, 12, 13),
    "ears": (7, 8, 9),
    "neck": (14, 15),
    "hair": (17,),
    "glasses and hat": (6, 18),
    "clothes": (16,),
    "background": (0,),
}


def change_by_part(before: np.ndarray, after: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Mean absolute change per part, in 8-bit steps averaged over the channels; parts that do not occur are left out.

    Args:
        before, after: uint8 RGB (H, W, 3).
        probabilities: (19, H, W), which part each pixel belongs to.
    """
    change = np.abs(after.astype(np.float32) - before).mean(axis=-1)
    means = {}
    for part, classes in PARTS.items():
        weight = probabilities[list(classes)].sum(axis=0)
        # fewer than a hundredth of a percent of the picture says nothing
        if weight.sum() > 1e-4 * weight.size:
            means[part] = float((change * weight).sum() / weight.sum())
    return means


def change_outside(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Mean absolute change where a mask (H, W) is zero, and where it is one half or more, in 8-bit steps."""
    change = np.abs(after.astype(np.float32) - before).mean(axis=-1)
    outside, inside = mask <= 0, mask >= 0.5
    return (
        float(change[outside].mean()) if outside.any() else 0.0,
        float(change[inside].mean()) if inside.any() else 0.0,
    )
