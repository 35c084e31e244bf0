"""Where the faces come from that SAM re-ages: drawn by StyleGAN2, or given photos."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from fran_lightning.errors import UserError
from fran_lightning.synthesis.sam.photo_alignment import align_photo
from fran_lightning.synthesis.sam.pixels import to_uint8
from fran_lightning.synthesis.sam.stylegan2 import STYLE_SIZE, StyleGAN2, truncate

PHOTO_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Face:
    """An FFHQ-aligned face, uint8 RGB (S, S, 3), and what ``identity.json`` says about where it comes from."""

    pixels: np.ndarray
    record: dict[str, Any]


class FaceSource(Protocol):
    """Gives every identity its face; ``attempt`` counts the candidates of one identity from 0."""

    #: whether there is another candidate when one is rejected
    replaceable: bool

    def face(self, identity: int, attempt: int) -> Face: ...


def draw_latent(seed: int, identity: int, attempt: int) -> np.ndarray:
    """z (512,) float32, standard normal, a function of the three numbers alone.

    Philox is a counter-based generator: seed is its key; identity and attempt are high words of its counter, so no
    two identities or attempts share numbers, and no process needs to know what another one drew.
    """
    bits = np.random.Philox(key=seed, counter=[0, 0, attempt, identity])
    return np.random.Generator(bits).standard_normal(STYLE_SIZE, dtype=np.float32)


class SampledFaces(nn.Module):
    """Faces drawn by StyleGAN2 with its stored noise; they come out in FFHQ alignment.

    Args:
        generator: the network.
        mean_style: (512,) centre of the truncation.
        seed: of the data set.
        truncation: psi; 1 draws from the full distribution, 0 is the mean face.
        dtype: see :meth:`StyleGAN2.synthesise`.
    """

    replaceable = True
    mean_style: Tensor

    def __init__(
        self,
        generator: StyleGAN2,
        mean_style: Tensor,
        seed: int,
        truncation: float,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.register_buffer("mean_style", mean_style, persistent=False)
        self.seed = seed
        self.truncation = truncation
        self.dtype = dtype

    def face(self, identity: int, attempt: int) -> Face:
        z = draw_latent(self.seed, identity, attempt)
        style = self.generator.map(torch.from_numpy(z)[None].to(self.mean_style.device))
        style = truncate(style, self.mean_style, self.truncation)
        codes = style[:, None].expand(-1, self.generator.style_count, -1)
        pixels = to_uint8(self.generator.synthesise(codes, self.dtype))[0]
        record = {
            "kind": "stylegan2",
            "seed": self.seed,
            "attempt": attempt,
            "truncation": self.truncation,
            # the shortest decimals that read back as the same float32
            "z": [float(str(value)) for value in z],
        }
        return Face(pixels, record)


@dataclass(frozen=True)
class Photo:
    """A photo with one usable face. ``landmarks`` (68, 2) in its pixels, or None if it is aligned already."""

    path: Path
    landmarks: np.ndarray | None


class PhotoFaces:
    """Given photos, one identity each, in the order of their names."""

    replaceable = False

    def __init__(self, photos: Sequence[Photo]) -> None:
        self.photos = list(photos)

    def __len__(self) -> int:
        return len(self.photos)

    def checksum(self) -> str:
        """SHA-256 of the names and contents, so that a continued run can tell whether a photo has changed."""
        digest = hashlib.sha256()
        for photo in self.photos:
            digest.update(photo.path.name.encode() + b"\0")
            digest.update(photo.path.read_bytes())
        return digest.hexdigest()

    def face(self, identity: int, attempt: int) -> Face:
        photo = self.photos[identity]
        pixels = read_photo(photo.path)
        if photo.landmarks is not None:
            pixels = align_photo(pixels, photo.landmarks)
        return Face(pixels, {"kind": "photo", "file": photo.path.name})


def read_photo(path: Path) -> np.ndarray:
    """A photo as uint8 RGB (H, W, 3), turned upright as its camera noted.

    Raises:
        UserError: truncated, or no image.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"photo {path} is broken or no image") from error


def find_photos(folder: str | os.PathLike[str], aligned: bool) -> tuple[list[Photo], list[str]]:
    """The photos of a folder whose face can be re-aged, and one line for every other one.

    Args:
        folder: is searched for image files, without its sub-folders.
        aligned: the photos are FFHQ-aligned squares already; they are used as they are.

    Returns:
        The photos in the order of their names; and for each that was passed over, "NAME: why". Of several faces the
        largest is taken.

    Raises:
        UserError: no such folder, or no usable photo in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"photo folder {root} does not exist")
    paths = sorted(path for path in root.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file())
    if not paths:
        raise UserError(f"photo folder {root} holds no images ({', '.join(PHOTO_SUFFIXES)})")
    find = _find_square if aligned else _FaceFinder()
    photos, passed_over = [], []
    for path in paths:
        try:
            photos.append(find(path))
        except UserError as error:
            passed_over.append(str(error))
    if not photos:
        more = f" (and {len(passed_over) - 1} more)" if len(passed_over) > 1 else ""
        raise UserError(f"no photo in {root} can be re-aged: {passed_over[0]}{more}")
    return photos, passed_over


def _find_square(path: Path) -> Photo:
    height, width = read_photo(path).shape[:2]
    if height != width:
        raise UserError(f"photo {path} is {width} x {height}, not square, so it is not aligned; leave out --aligned")
    return Photo(path, None)


class _FaceFinder:
    """Finds the largest face of a photo and its 68 landmarks."""

    def __init__(self) -> None:
        from fran_lightning.perception.detection import FaceDetector

        self._detector = FaceDetector()

    def __call__(self, path: Path) -> Photo:
        from fran_lightning.perception.landmarks import landmarks

        pixels = read_photo(path)
        faces = self._detector.detect(pixels)
        if not faces:
            raise UserError(f"photo {path} shows no face that can be found")
        return Photo(path, landmarks(pixels, faces[0], 68))
