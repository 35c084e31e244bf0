"""A dataset folder to measure with: a photograph instead of noise, because that decides how long decoding takes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from fran_lightning.ages import even_ages
from fran_lightning.data.folder import DatasetInfo
from fran_lightning.synthesis.writer import DatasetWriter, ImageFormat


def write_sample_dataset(root: Path, image_size: int, image_format: ImageFormat = "png") -> Path:
    """Three identities at four ages from scikit-image's portrait photograph (512 x 512, public domain, NASA).

    The identities differ by mirroring and shifting, the ages by contrast. Returns ``root``.
    """
    from skimage import data

    portrait = data.astronaut()
    if image_size != portrait.shape[0]:
        portrait = cv2.resize(portrait, (image_size, image_size), interpolation=cv2.INTER_AREA)
    ages = even_ages(4)
    writer = DatasetWriter(root, DatasetInfo("imported", image_size, ages, identities=3), image_format=image_format)
    for identity in writer.missing():
        face = np.roll(portrait, identity * image_size // 8, axis=1)
        face = face[:, ::-1] if identity % 2 else face
        contrasts = np.linspace(1.0, 0.8, len(ages))
        writer.write_identity(identity, [np.rint(face * contrast).astype(np.uint8) for contrast in contrasts])
    return root
