"""Clips of parametric heads as test films: a lossless film, and the exact flow between its frames."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from fran_lightning.errors import UserError


class ParametricClip:
    """One folder of `fran synthesize parametric-clip` (``clip.json``, ``frames/``, ``flow/``)."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            UserError: no such folder.
        """
        note = folder / "clip.json"
        if not note.is_file():
            raise UserError(f"{folder} is no parametric clip (no clip.json); name a film, or one clip's own folder")
        self._folder = folder
        self._rate = Fraction(json.loads(note.read_text(encoding="utf-8"))["fps"]).limit_denominator(1001)
        self._frames = sorted((folder / "frames").glob("*.png"))

    def write_film(self, path: Path) -> None:
        """All frames as a lossless film."""
        import av

        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=self._rate)
            for index, file in enumerate(self._frames):
                picture = cv2.imread(str(file), cv2.IMREAD_COLOR)
                if picture is None:
                    raise UserError(f"{file} cannot be read; make the clip again")
                if index == 0:
                    stream.height, stream.width = picture.shape[:2]
                    stream.pix_fmt = "bgr0"
                frame = av.VideoFrame.from_ndarray(picture, "bgr24").reformat(format="bgr0")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))

    def flow(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """From frame ``index`` to the next: (H, W, 2) pixels, and (H, W) bool where it holds."""
        with np.load(self._folder / "flow" / f"{index:04d}.npz") as file:
            return file["flow"], file["valid"]
