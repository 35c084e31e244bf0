"""Who is it: dlib's 128-dimensional face embedding (a ResNet-29, file of ``face-recognition-models``).

The Euclidean distance of two embeddings is below 0.6 for pictures of one person, as a rule (dlib's own threshold,
99.4 % right on LFW).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from fran_lightning.perception.bundled import bundled_file
from fran_lightning.perception.chips import as_aligned_crops, face_crops
from fran_lightning.perception.face import Face
from fran_lightning.perception.landmarks import crop_shape

SAME_PERSON_DISTANCE = 0.6


class IdentityEmbedder:
    """Embeds faces."""

    def __init__(self) -> None:
        import dlib

        path = bundled_file(
            "face_recognition_models", "face-recognition-models", "models", "dlib_face_recognition_resnet_model_v1.dat"
        )
        self._network = dlib.face_recognition_model_v1(str(path))

    def embed(self, image: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        """Embeddings (N, 128) float32 of the detected faces of a uint8 RGB image (H, W, 3)."""
        return self.embed_aligned(face_crops(image, faces))

    def embed_aligned(self, images: Tensor | np.ndarray) -> np.ndarray:
        """Embeddings (N, 128) float32 of FFHQ-aligned faces.

        Args:
            images: float tensor (N, 3, S, S) in [-1, 1], or uint8 array (N, S, S, 3) or (S, S, 3).

        Raises:
            UserError: another shape or type.
        """
        rows = [
            self._network.compute_face_descriptor(aligned, crop_shape(aligned, 5))
            for aligned in as_aligned_crops(images)
        ]
        return np.array(rows, dtype=np.float32).reshape(-1, 128)


def identity_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Euclidean distance of embeddings (..., 128), broadcast: 0 is the same face, below 0.6 the same person."""
    return np.linalg.norm(np.asarray(first) - np.asarray(second), axis=-1)
