"""A tiny longitudinal dataset: drawn faces whose ageing a small network can learn."""

from __future__ import annotations

import numpy as np

from fran_lightning.data.folder import DatasetInfo
from fran_lightning.synthesis.writer import DatasetWriter

AGES = (20, 40, 60, 80)
SIZE = 64
IDENTITIES = 5
#: CelebAMask-HQ classes used here
BACKGROUND, SKIN, LEFT_EYE, RIGHT_EYE, NOSE, UPPER_LIP, HAIR = 0, 1, 4, 5, 10, 12, 17


def tiny_info(identities: int = IDENTITIES, size: int = SIZE, **changes: object) -> DatasetInfo:
    settings: dict = {"source": "parametric", "image_size": size, "ages": AGES, "identities": identities, "seed": 0}
    return DatasetInfo(**(settings | changes))


def draw_face(identity: int, age: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """One shaded oval face: uint8 RGB (size, size, 3) and its class map (size, size).

    Identity decides tone, proportions and light. Age greys the hair, darkens the skin and deepens the wrinkles.
    """
    rng = np.random.default_rng((7, identity))
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size * 2 - 1
    years = (age - 20) / 60
    width, tone, light = rng.uniform(0.5, 0.6), rng.uniform(0.55, 0.8), rng.uniform(-0.3, 0.3)
    colour = np.array([1.0, rng.uniform(0.75, 0.85), rng.uniform(0.6, 0.75)])

    labels = np.full((size, size), BACKGROUND, dtype=np.uint8)
    labels[(x / (width + 0.15)) ** 2 + ((y + 0.15) / 0.8) ** 2 < 1] = HAIR
    labels[(x / width) ** 2 + (y / 0.75) ** 2 < 1] = SKIN
    labels[(abs(x) < 0.07) & (abs(y - 0.05) < 0.2)] = NOSE
    for side, eye in ((-1, LEFT_EYE), (1, RIGHT_EYE)):
        labels[((x - side * 0.25) / 0.12) ** 2 + ((y + 0.2) / 0.06) ** 2 < 1] = eye
    labels[(abs(x) < 0.22) & (abs(y - 0.42) < 0.06)] = UPPER_LIP

    shading = tone * (1 - 0.25 * years) * (1 - 0.4 * (x - light) ** 2)
    wrinkles = sum(np.exp(-(((y - height) * 22) ** 2)) for height in (-0.55, -0.45, -0.35))
    skin = (shading - 0.3 * years * wrinkles * (abs(x) < width - 0.1))[..., None] * colour
    image = np.broadcast_to(rng.uniform(0.1, 0.5, 3), (size, size, 3)).copy()
    image[labels == HAIR] = (1 - years) * np.array([0.25, 0.15, 0.1]) + years * np.array([0.7, 0.7, 0.72])
    face = (labels == SKIN) | (labels == NOSE)
    image[face] = skin[face]
    image[labels == NOSE] *= 0.9
    image[(labels == LEFT_EYE) | (labels == RIGHT_EYE)] = (0.1, 0.15, 0.3)
    image[labels == UPPER_LIP] = (0.7 - 0.2 * years, 0.3, 0.3)
    return np.rint(image.clip(0, 1) * 255).astype(np.uint8), labels


def write_tiny_dataset(root: object, identities: int = IDENTITIES, size: int = SIZE, labels: bool = True) -> None:
    writer = DatasetWriter(root, tiny_info(identities, size))
    for index in writer.missing():
        images, classes = zip(*(draw_face(index, age, size) for age in AGES), strict=True)
        writer.write_identity(index, images, classes if labels else None, {"number": index})
