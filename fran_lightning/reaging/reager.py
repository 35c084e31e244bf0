"""`Reager`: re-age the faces of one picture, whatever kind of object it comes in.

>>> reager = Reager("runs/l1_lpips_adv/20260101-120000")
>>> older = reager.reage(Image.open("photo.jpg"), target_age=65)

The picture goes through five steps, each its own module: detection and alignment (``perception``), the size at which
the network sees the face (``resolution``), masks (``masks``), the network (``network``) and the way of the delta back
into the picture (``paste``).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fran_lightning.ages import validate_years
from fran_lightning.errors import UserError
from fran_lightning.networks.weights import load_generator
from fran_lightning.perception.alignment import FaceSquare, crop
from fran_lightning.perception.detection import Face, FaceDetector
from fran_lightning.reaging.masks import MaskKind, crop_mask
from fran_lightning.reaging.network import DeltaNetwork, Precision, choose_device, masked_delta
from fran_lightning.reaging.paste import add_delta, bring_back
from fran_lightning.reaging.photo import Photo, read_photo, split_channels
from fran_lightning.reaging.resolution import SizeRule, choose_size

if TYPE_CHECKING:
    from PIL import Image

    from fran_lightning.perception.age import AgeEstimator

#: Pixels of the crop on which landmarks and masks are found; masks are soft, so more would be wasted.
MASK_SIZE = 256

FaceChoice = Literal["largest", "all"] | int | tuple[float, float]


@dataclass(frozen=True)
class ReagedFace:
    """What was done to one face.

    Attributes:
        index: its place in the picture's list of faces, from left to right.
        face: the detection.
        source_age, target_age: years; ``source_estimated`` says whether the former was estimated.
        size: pixels of the crop that the network saw; 0 for a face too small to be re-aged.
        note: in words, where that is not the face's own size.
    """

    index: int
    face: Face
    source_age: float
    target_age: float
    source_estimated: bool
    size: int
    note: str


def choose_faces(faces: Sequence[Face], choice: FaceChoice) -> list[int]:
    """Which of ``faces`` are meant: the largest, all, the one with an index, or the one at (or next to) a point.

    Raises:
        UserError: no face with this index.
    """
    if choice == "all":
        return list(range(len(faces)))
    if choice == "largest":
        return [max(range(len(faces)), key=lambda i: faces[i].area)]
    if isinstance(choice, tuple):
        centres = [face.points.mean(axis=0) for face in faces]
        return [min(range(len(faces)), key=lambda i: float(np.linalg.norm(centres[i] - choice)))]
    if not 0 <= choice < len(faces):
        raise UserError(f"there is no face {choice}; there are {len(faces)}, counted from 0 at the left")
    return [choice]


class Reager:
    """Re-ages faces with one generator.

    Args:
        generator: a run folder or ``generator.safetensors``, or the network itself: (B, 5, H, W) -> (B, 3, H, W).
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1``...
        precision: ``auto`` is bfloat16 where the processor has it in hardware.
        trained_size: pixels of the aligned faces that the network was trained on; read from the checkpoint when
            absent. Larger faces are handed to the network at this size.

    Raises:
        UserError: the checkpoint or the device is not to be had.
    """

    def __init__(
        self,
        generator: nn.Module | str | os.PathLike[str],
        *,
        device: str = "auto",
        precision: Precision = "auto",
        trained_size: int | None = None,
    ) -> None:
        self.metadata: dict[str, Any] = {}
        if not isinstance(generator, nn.Module):
            generator, self.metadata = load_generator(generator)
        self.trained_size: int | None = trained_size or self.metadata.get("image_size")
        self.network = DeltaNetwork(generator, choose_device(device), precision)
        self.detector = FaceDetector()

    @functools.cached_property
    def age_estimator(self) -> AgeEstimator:
        """The bundled judge of ages, loaded when first needed."""
        from fran_lightning.perception.age import AgeEstimator

        return AgeEstimator()

    def reage(
        self,
        image: str | os.PathLike[str] | Image.Image | np.ndarray | Tensor,
        target_age: float = 65,
        source_age: float | None = None,
        mask: MaskKind = "skin",
        *,
        face: FaceChoice = "largest",
        strength: float = 1.0,
        size: SizeRule | int = "auto",
    ) -> Any:
        """Re-age the faces of one picture and return the same kind of object.

        Args:
            image: a path or PIL image (a PIL image is returned, upright); a uint8 or uint16 array (H, W),
                (H, W, 3) or with alpha as the last channel; or a float tensor (3, H, W) or (B, 3, H, W) in [-1, 1].
            target_age: years wanted.
            source_age: years of the face as it is; estimated when absent.
            mask: where the face may change; outside it every pixel stays as it is.
            face: ``largest``, ``all``, a number counted from the left, or a point (x, y).
            strength: factor on the change.
            size: pixels at which the network sees the face, see :func:`~.resolution.choose_size`.

        Raises:
            UserError: no face, a face too small, ages out of range, or an image of an unknown kind.
        """
        options = {"mask": mask, "face": face, "strength": strength, "size": size}
        if isinstance(image, Tensor):
            return self._reage_tensor(image, target_age, source_age, options)
        if isinstance(image, np.ndarray):
            photo, _ = self.reage_photo(split_channels(image), target_age, source_age, **options)
            return photo.channels().reshape(image.shape)
        from PIL import Image

        if isinstance(image, Image.Image):
            photo = _photo_from_pil(image)
        elif isinstance(image, str | os.PathLike):
            photo = read_photo(Path(image))
        else:
            raise UserError(f"cannot re-age a {type(image).__name__}; give a path, PIL image, array or tensor")
        photo, _ = self.reage_photo(photo, target_age, source_age, **options)
        return _photo_to_pil(photo)

    def reage_photo(
        self,
        photo: Photo,
        target_age: float = 65,
        source_age: float | None = None,
        *,
        mask: MaskKind = "skin",
        face: FaceChoice = "largest",
        strength: float = 1.0,
        size: SizeRule | int = "auto",
    ) -> tuple[Photo, list[ReagedFace]]:
        """As :meth:`reage` for a :class:`Photo`, with a report on each face.

        Raises:
            UserError: no face, all chosen faces too small, or ages out of range.
        """
        pixels = photo.pixels.copy()
        reports = self._reage_in_place(pixels, target_age, source_age, mask, face, strength, size)
        return photo.with_pixels(pixels), reports

    def _reage_tensor(
        self, images: Tensor, target_age: float, source_age: float | None, options: dict[str, Any]
    ) -> Tensor:
        if images.ndim not in (3, 4) or images.shape[-3] != 3 or not images.is_floating_point():
            raise UserError(
                f"an image tensor must be float (3, H, W) or (B, 3, H, W), not {images.dtype} {tuple(images.shape)}"
            )
        batch = images.detach().cpu().float().reshape(-1, *images.shape[-3:]).permute(0, 2, 3, 1)
        results = [np.ascontiguousarray(array) for array in batch.numpy().copy()]
        for pixels in results:
            self._reage_in_place(pixels, target_age, source_age, **options)
        result = torch.from_numpy(np.stack(results)).permute(0, 3, 1, 2).reshape(images.shape)
        # where nothing changed, half precision gets its own value back exactly
        return result.to(images)

    def _reage_in_place(
        self,
        pixels: np.ndarray,
        target_age: float,
        source_age: float | None,
        mask: MaskKind,
        face: FaceChoice,
        strength: float,
        size: SizeRule | int,
    ) -> list[ReagedFace]:
        validate_years(target_age, "target age")
        visible = to_8_bit(pixels)
        faces = sorted(self.detector.detect(visible), key=lambda found: found.points[:, 0].mean())
        if not faces:
            raise UserError("no face found in the picture; is it upright, and are the eyes to be seen?")
        reports = []
        untouched = pixels.copy()
        for index in choose_faces(faces, face):
            found = faces[index]
            estimated = source_age is None
            years = float(self.age_estimator.estimate(visible, [found])[0]) if estimated else float(source_age)
            validate_years(years, "source age")
            square = FaceSquare.from_points(found.points)
            crop_size = choose_size(square.side, self.trained_size, size)
            if crop_size is None:
                note = f"too small ({square.side:.0f} pixels), left as it is"
                reports.append(ReagedFace(index, found, years, years, estimated, 0, note))
                continue
            # every face is read from the untouched picture: two that overlap must not age each other twice
            delta = self._face_delta(untouched, visible, square, crop_size.size, years, target_age, mask, strength)
            add_delta(pixels, bring_back(delta, square, *pixels.shape[:2]))
            reports.append(ReagedFace(index, found, years, target_age, estimated, crop_size.size, crop_size.note))
        if not any(report.size for report in reports):
            raise UserError(f"the face is {reports[0].note.removesuffix(', left as it is')}; give a larger picture")
        return reports

    def _face_delta(
        self,
        pixels: np.ndarray,
        visible: np.ndarray,
        square: FaceSquare,
        size: int,
        source_age: float,
        target_age: float,
        mask: MaskKind,
        strength: float,
    ) -> np.ndarray:
        """(size, size, 3) float32, zero outside the mask."""
        aligned = to_unit_range(crop(pixels, square, size))
        soft_mask = resize_mask(make_mask(mask, crop(visible, square, MASK_SIZE)), size)
        return masked_delta(self.network, aligned[None], [source_age], [target_age], soft_mask[None], strength)[0]


def make_mask(kind: MaskKind, aligned: np.ndarray) -> np.ndarray:
    """The mask (S, S) of an aligned uint8 crop (S, S, 3)."""
    from fran_lightning.perception.landmarks import crop_landmarks

    return crop_mask(kind, to_unit_range(aligned), crop_landmarks(aligned))


def resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A crop's mask at another crop size, within [0, 1]."""
    import cv2

    return cv2.resize(mask, (size, size), interpolation=cv2.INTER_LINEAR) if mask.shape[0] != size else mask


def to_unit_range(pixels: np.ndarray) -> np.ndarray:
    """uint8 or uint16 as float32 in [-1, 1]; floats as they are, clipped to what the network knows."""
    if pixels.dtype.kind == "f":
        return np.clip(pixels, -1, 1).astype(np.float32, copy=False)
    return pixels.astype(np.float32) * np.float32(2 / np.iinfo(pixels.dtype).max) - 1


def to_8_bit(pixels: np.ndarray) -> np.ndarray:
    """What detection looks at: (H, W, 3) uint8 of uint8, uint16, or floats in [-1, 1]."""
    if pixels.dtype == np.uint8:
        return pixels
    return np.rint((to_unit_range(pixels) + 1) * np.float32(127.5)).astype(np.uint8)


def _photo_from_pil(image: Image.Image) -> Photo:
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode not in ("RGB", "RGBA", "L", "LA"):
        has_alpha = "transparency" in upright.info or upright.mode in ("PA", "RGBa", "La")
        upright = upright.convert("RGBA" if has_alpha else "RGB")
    exif = upright.getexif()
    photo = split_channels(np.asarray(upright))
    exif_bytes = exif.tobytes() if len(exif) else None
    return replace(photo, icc_profile=upright.info.get("icc_profile"), exif=exif_bytes)


def _photo_to_pil(photo: Photo) -> Image.Image:
    from PIL import Image

    if photo.pixels.dtype == np.uint16:
        raise UserError("PIL cannot hold 16-bit colour; read the file as an array, or use `fran reage` on it")
    image = Image.fromarray(photo.channels())
    if photo.icc_profile:
        image.info["icc_profile"] = photo.icc_profile
    if photo.exif:
        image.info["exif"] = photo.exif
    return image
