"""Keeps broken identities out of a SAM data set: measures every candidate and compares with thresholds.

The defaults let all eight identities of the public SAM sample pass with some margin (measured with the same eyes:
rank correlation 0.87 to 1.0, age error 3.5 to 10.6 years, identity distance 0.49 to 0.68, background 2.9 to 20.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fran_lightning.synthesis.sam.encoder import INPUT_SIZE
from fran_lightning.synthesis.sam.pixels import images_tensor

Reason = Literal[
    "no face",
    "several faces",
    "too young",
    "age order",
    "age error",
    "identity",
    "background",
]
REASONS: tuple[Reason, ...] = get_args(Reason)

#: side of the copies on which faces are counted and backgrounds compared
_COMPARED_SIZE = 256


@dataclass(frozen=True)
class GateThresholds:
    """When a candidate is rejected.

    Args:
        minimum_age: estimated age of the source face in years, by every estimator at hand.
        minimum_rank_correlation: Spearman correlation of requested and estimated ages.
        maximum_age_error: mean absolute difference of requested and estimated ages in years.
        maximum_identity_distance: largest distance (dlib's embedding; 0.6 is "same person") between the age that is
            most like the others and any other age.
        minimum_arcface_similarity: smallest cosine (IR-SE50) between those; only with --identity-checkpoint.
        maximum_background_difference: mean absolute difference in 8-bit levels between an age and the median over
            ages, in the upper corners of the image, for the age where it is largest.
    """

    minimum_age: float = 18.0
    minimum_rank_correlation: float = 0.75
    maximum_age_error: float = 12.0
    maximum_identity_distance: float = 0.75
    minimum_arcface_similarity: float = 0.4
    maximum_background_difference: float = 25.0


def source_problems(measured: dict[str, Any], thresholds: GateThresholds) -> list[Reason]:
    """Why a source face is rejected; empty if it passes. ``measured``: see :meth:`QualityGate.measure_source`."""
    problems = _face_count_problems([measured["faces"]])
    # written so that an estimate that is no number fails
    if not problems and not all(age >= thresholds.minimum_age for age in measured["estimated_age"].values()):
        problems.append("too young")
    return problems


def ageing_problems(measured: dict[str, Any], thresholds: GateThresholds) -> list[Reason]:
    """Why a re-aged identity is rejected; empty if it passes. ``measured``: see :meth:`QualityGate.measure_ages`."""
    problems = _face_count_problems(measured["faces"])
    if not all(rho >= thresholds.minimum_rank_correlation for rho in measured["rank_correlation"].values()):
        problems.append("age order")
    if not all(error <= thresholds.maximum_age_error for error in measured["age_error"].values()):
        problems.append("age error")
    alike = measured["identity_distance"] <= thresholds.maximum_identity_distance
    if "arcface_similarity" in measured:
        alike = alike and measured["arcface_similarity"] >= thresholds.minimum_arcface_similarity
    if not alike:
        problems.append("identity")
    if not measured["background_difference"] <= thresholds.maximum_background_difference:
        problems.append("background")
    return problems


def _face_count_problems(counts: Sequence[int]) -> list[Reason]:
    problems: list[Reason] = []
    if min(counts) < 1:
        problems.append("no face")
    if max(counts) > 1:
        problems.append("several faces")
    return problems


class QualityGate(nn.Module):
    """The eyes: YuNet, dlib's age and identity networks, and DEX and ArcFace where their files are given.

    A module, so that the two optional networks move to the device of the synthesis; the others run on the CPU.
    """

    def __init__(self, thresholds: GateThresholds, dex: nn.Module | None = None, arcface: nn.Module | None = None):
        super().__init__()
        from fran_lightning.perception.age import AgeEstimator
        from fran_lightning.perception.detection import FaceDetector
        from fran_lightning.perception.identity import IdentityEmbedder

        self.thresholds = thresholds
        self.dex = dex
        self.arcface = arcface
        self._detector = FaceDetector(refine=False)
        self._age_estimator = AgeEstimator()
        self._embedder = IdentityEmbedder()

    def measure_source(self, pixels: np.ndarray) -> dict[str, Any]:
        """``faces`` (count) and ``estimated_age`` (years by estimator) of an aligned uint8 face (S, S, 3)."""
        return {
            "faces": self._count_faces(pixels),
            "estimated_age": {name: years[0] for name, years in self._ages([pixels]).items()},
        }

    def measure_ages(self, images: Sequence[np.ndarray], ages: Sequence[float]) -> dict[str, Any]:
        """What the gate decides on, for the aligned uint8 images (S, S, 3) of one identity, one per age.

        Returns:
            ``faces``: count per age. ``estimated_ages``, ``rank_correlation``, ``age_error`` (years): by estimator.
            ``identity_distance``, ``neighbour_distance`` (largest between consecutive ages), ``arcface_similarity``
            (with its network only), ``background_difference`` (8-bit levels).
        """
        estimated = self._ages(images)
        measured: dict[str, Any] = {
            "faces": [self._count_faces(image) for image in images],
            "estimated_ages": estimated,
            "rank_correlation": {name: rank_correlation(ages, years) for name, years in estimated.items()},
            "age_error": {name: _rounded(np.abs(np.subtract(years, ages)).mean()) for name, years in estimated.items()},
        }
        embeddings = self._embedder.embed_aligned(np.stack(images))
        distances = np.linalg.norm(embeddings[:, None] - embeddings[None], axis=-1)
        measured["identity_distance"] = _rounded(_most_central_row(distances).max())
        measured["neighbour_distance"] = _rounded(np.diagonal(distances, offset=1).max())
        if self.arcface is not None:
            vectors = self._run(self.arcface, images).double().numpy()
            measured["arcface_similarity"] = _rounded(1 - _most_central_row(1 - vectors @ vectors.T).max())
        measured["background_difference"] = _rounded(background_difference(images))
        return measured

    def _count_faces(self, image: np.ndarray) -> int:
        # one size for all, whatever the data set's: YuNet counts differently on larger and on tiny copies
        return len(self._detector.detect(_compared(image)))

    def _ages(self, images: Sequence[np.ndarray]) -> dict[str, list[float]]:
        years = {"dlib": self._age_estimator.estimate_aligned(np.stack(images))}
        if self.dex is not None:
            years["dex"] = self._run(self.dex, images).numpy()
        return {name: [_rounded(value) for value in values] for name, values in years.items()}

    @staticmethod
    def _run(network: nn.Module, images: Sequence[np.ndarray]) -> torch.Tensor:
        device = next(network.parameters()).device
        rows = []
        # one by one: 14 faces in VGG-16 would need more memory than the synthesis
        for image in images:
            face = images_tensor([image]).to(device)
            with torch.inference_mode():
                rows.append(network(F.adaptive_avg_pool2d(face, INPUT_SIZE)))
        return torch.cat(rows).cpu()


def rank_correlation(ages: Sequence[float], estimated: Sequence[float]) -> float:
    """Spearman's correlation; 0 where the estimates are all the same."""
    from scipy.stats import spearmanr

    if np.ptp(estimated) == 0:
        return 0.0
    return _rounded(spearmanr(ages, estimated).statistic)


def background_difference(images: Sequence[np.ndarray]) -> float:
    """How much the background changes with age, in 8-bit levels.

    Looked at where an FFHQ-aligned picture nearly always shows background: a strip along the upper edge (8 % of the
    height) and the outer tenths of the upper half. The difference is taken to the median over the ages, averaged
    over the pixels of one age; the result is that of the worst age.
    """
    small = np.stack([_compared(image) for image in images]).astype(np.float32)
    shown = np.zeros((_COMPARED_SIZE, _COMPARED_SIZE), dtype=bool)
    strip, side = round(0.08 * _COMPARED_SIZE), _COMPARED_SIZE // 10
    shown[:strip] = True
    shown[: _COMPARED_SIZE // 2, :side] = True
    shown[: _COMPARED_SIZE // 2, -side:] = True
    border = small[:, shown]
    return float(np.abs(border - np.median(border, axis=0)).mean(axis=(1, 2)).max())


def _compared(image: np.ndarray) -> np.ndarray:
    import cv2

    how = cv2.INTER_AREA if image.shape[0] > _COMPARED_SIZE else cv2.INTER_LINEAR
    return cv2.resize(image, (_COMPARED_SIZE, _COMPARED_SIZE), interpolation=how)


def _most_central_row(distances: np.ndarray) -> np.ndarray:
    """Distances from the item whose median distance to the others is smallest."""
    return distances[np.argmin(np.median(distances, axis=1))]


def _rounded(value: float) -> float:
    """Four decimals are plenty for a report."""
    return round(float(value), 4)
