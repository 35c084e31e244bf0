"""From a rendered face with its class map to what a parser has to cope with: repaint, move, photograph."""

from __future__ import annotations

import os

import cv2
import numpy as np

# the library asks a server for newer versions when it is imported
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A

from fran_lightning.parser_training.repaint import repaint
from fran_lightning.perception.parsing_classes import BACKGROUND, MIRRORED

_MIRRORED = np.array(MIRRORED, dtype=np.uint8)


class Augmentation:
    """Repainting (:mod:`repaint`), then geometry, then everything that lenses, sensors and codecs do.

    Randomness comes from the seed given to each call alone (see ``data.transforms.PairGeometry``).

    Args:
        size: side of the result in pixels.
    """

    def __init__(self, size: int) -> None:
        moving = {"border_mode": cv2.BORDER_REFLECT_101, "interpolation": cv2.INTER_LINEAR}
        # what lies outside a picture is its mirror image in this program, and nothing in other people's
        outside = {"border_mode": cv2.BORDER_CONSTANT, "interpolation": cv2.INTER_LINEAR, "fill_mask": BACKGROUND}
        near = {"scale": (0.75, 1.6), "rotate": (-25, 25), "translate_percent": (-0.16, 0.16), "shear": (-6, 6)}
        far = {"scale": (0.4, 0.75), "rotate": (-40, 40), "translate_percent": (-0.25, 0.25), "shear": (-4, 4)}
        straight = {"scale": (0.95, 1.15), "rotate": (-5, 5), "translate_percent": (-0.03, 0.03)}
        self.geometry = A.Compose(
            [
                A.ElasticTransform(alpha=90, sigma=14, border_mode=cv2.BORDER_REFLECT_101, p=0.35),
                A.Perspective(scale=(0.02, 0.09), p=0.25),
                A.OneOf(
                    [
                        A.Affine(**straight, **moving, p=0.3),
                        A.Affine(**near, **moving, p=0.4),
                        A.Affine(**near, **outside, p=0.1),
                        A.Affine(**far, **moving, p=0.06),
                        A.Affine(**far, **outside, p=0.09),
                    ],
                    p=1,
                ),
                A.Resize(size, size),
            ]
        )
        self.camera = A.Compose(
            [
                A.PlanckianJitter(p=0.4),
                A.RandomGamma((55, 175), p=0.5),
                A.ColorJitter((0.65, 1.35), (0.6, 1.4), (0.3, 1.5), (-0.04, 0.04), p=0.8),
                A.RandomToneCurve(scale=0.15, p=0.2),
                A.ToGray(p=0.06),
                A.CLAHE(clip_limit=(1, 3), p=0.05),
                A.OneOf(
                    [
                        A.GaussianBlur(blur_limit=0, sigma_limit=(0.4, 2.2), p=0.2),
                        A.MotionBlur(blur_limit=(3, 9), p=0.1),
                        A.Defocus(radius=(1, 4), alias_blur=(0.1, 0.4), p=0.1),
                        A.Downscale(scale_range=(0.25, 0.75), p=0.2),
                        A.Sharpen(alpha=(0.1, 0.4), p=0.15),
                    ],
                    p=0.6,
                ),
                A.OneOf([A.GaussNoise(std_range=(0.01, 0.08), p=0.5), A.ISONoise(p=0.5)], p=0.4),
                A.ImageCompression(quality_range=(15, 95), p=0.5),
            ]
        )

    def __call__(self, image: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """uint8 RGB (H, W, 3) and class map (H, W) -> the same, (size, size)."""
        rng = np.random.default_rng(seed)
        painted, labels = repaint(image.astype(np.float32) / 255, labels, rng)
        image = np.rint(np.clip(painted, 0, 1) * 255).astype(np.uint8)
        if rng.random() < 0.5:
            image, labels = np.ascontiguousarray(image[:, ::-1]), _MIRRORED[labels[:, ::-1]]
        for step in (self.geometry, self.camera):
            step.set_random_seed(int(rng.integers(2**31)))
        moved = self.geometry(image=image, mask=labels)
        return self.camera(image=moved["image"])["image"], moved["mask"]
