"""Random soft regions: where in the face a regional pair ages.

No public re-implementation trains local control, although the age maps allow it (Zoss et al. 2022, figure 14):
they only ever show uniform maps. Here a share of the pairs ages inside a soft region alone.
"""

from __future__ import annotations

import cv2
import numpy as np

#: groups of CelebAMask-HQ classes (order of zllrunning's face parsing) that age together
CLASS_GROUPS: tuple[tuple[int, ...], ...] = (
    (1, 10),  # skin and nose
    (2, 3, 4, 5),  # brows and eyes
    (10,),  # nose
    (11, 12, 13),  # mouth and lips
    (7, 8),  # ears
    (14,),  # neck
)


def class_region(source_labels: np.ndarray, target_labels: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """A soft mask (H, W) in [0, 1] over one or more class groups, or None where these are absent.

    The region is the union of the classes in both images, because the geometry moves with age, and its border
    is blurred by 1 to 4 % of the image's height.
    """
    chosen = rng.random(len(CLASS_GROUPS)) < 0.4
    classes = [c for group, taken in zip(CLASS_GROUPS, chosen, strict=True) if taken for c in group]
    mask = np.isin(source_labels, classes) | np.isin(target_labels, classes)
    if not mask.any():
        return None
    sigma = rng.uniform(0.01, 0.04) * mask.shape[0]
    return cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma)


def blob_region(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A soft random mask (H, W) in [0, 1] from smooth noise; about half of the image lies inside."""
    cells = int(rng.integers(3, 7))
    noise = cv2.resize(
        rng.standard_normal((cells, cells)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    steepness = rng.uniform(2.0, 8.0)
    return 1.0 / (1.0 + np.exp(-steepness * (noise - np.median(noise))))


def blend(source: np.ndarray, target: np.ndarray, region: np.ndarray) -> np.ndarray:
    """``target`` inside the region and ``source`` outside, blended linearly; uint8 (H, W, 3)."""
    weight = region[..., None]
    return np.rint(source + (target.astype(np.float32) - source) * weight).astype(np.uint8)
