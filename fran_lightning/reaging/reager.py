"""`Reager`: re-age the faces of one picture, whatever kind of object it comes in.

>>> reager = Reager("runs/l1_lpips_adv/20260101-120000")
>>> older = reager.reage(Image.open("photo.jpg"), target_age=65)

The picture goes through five steps, each its own module: detection and alignment (``perception``), the size at which
the network sees the face (``resolution``), masks and age maps (``plan``), the network (``network``) and the way of the
delta back into the picture (``paste``).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from fran_lightning.errors import UserError
from fran_lightning.perception.alignment import FaceSquare, crop
from fran_lightning.perception.detection import Face, FaceDetector
from fran_lightning.perception.face import NoFaceError
from fran_lightning.perception.landmarks import CROP_SIZE, crop_landmarks
from fran_lightning.reaging.backends import Backend, load_network
from fran_lightning.reaging.frame_images import FrameImages
from fran_lightning.reaging.masks import MaskKind
from fran_lightning.reaging.network import DeltaNetwork, Precision, choose_device, face_deltas
from fran_lightning.reaging.parsed_skin import with_parsed_skin
from fran_lightning.reaging.passes import FramePasses, photo_passes
from fran_lightning.reaging.paste import add_delta, spread
from fran_lightning.reaging.photo import Photo, read_photo, split_channels
from fran_lightning.reaging.plan import FaceInFrame, plan_face
from fran_lightning.reaging.resolution import SizeRule, choose_size
from fran_lightning.reaging.settings import FaceChoice, ReageSettings
from fran_lightning.reaging.targets import parse_source_ages, parse_targets

if TYPE_CHECKING:
    from PIL import Image

    from fran_lightning.perception.age import AgeEstimator
    from fran_lightning.perception.parsing import FaceParser


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
        generator: a run folder, ``generator.safetensors`` or exported ``.onnx``, or the network itself:
            (B, 5, H, W) -> (B, 3, H, W).
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1``...
        precision: ``auto`` is bfloat16 where the processor has it in hardware.
        trained_size: pixels of the aligned faces that the network was trained on; read from the checkpoint when
            absent. Larger faces are handed to the network at this size.
        backend: what runs a checkpoint; ``auto`` is onnxruntime for ``.onnx``, else PyTorch.
        parser: what finds the skin: ``auto`` is the face parser that comes with the package, ``none`` landmarks and
            colour alone; else a parser, or its weight file.

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
        backend: Backend = "auto",
        parser: FaceParser | str | os.PathLike[str] = "auto",
    ) -> None:
        self.metadata: dict[str, Any] = {}
        if isinstance(generator, nn.Module):
            self.network = DeltaNetwork(generator, choose_device(device), precision)
        else:
            self.network, self.metadata = load_network(generator, backend, device, precision)
        self.trained_size: int | None = trained_size or self.metadata.get("image_size")
        self.detector = FaceDetector()
        self._parser = parser
        if parser not in ("auto", "none"):
            self.parser  # noqa: B018 - a file that cannot be used shows now

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes when the weights or the precision change."""
        return f"{self.network.fingerprint()} {self.parser.fingerprint if self.parser else None}"

    @functools.cached_property
    def parser(self) -> FaceParser | None:
        """What finds the skin, loaded when first needed; None where landmarks and colour do."""
        from fran_lightning.perception.parsing import FaceParser, bundled_parser

        if isinstance(self._parser, FaceParser):
            return self._parser
        if self._parser == "none":
            return None
        if self._parser == "auto":
            return bundled_parser(self.network.device.type)
        return FaceParser(self._parser, device=self.network.device)

    @functools.cached_property
    def age_estimator(self) -> AgeEstimator:
        """The bundled judge of ages, loaded when first needed."""
        from fran_lightning.perception.age import AgeEstimator

        return AgeEstimator()

    def reage(
        self,
        image: str | os.PathLike[str] | Image.Image | np.ndarray | Tensor,
        target_age: float | str = 65,
        source_age: float | None = None,
        mask: str = "skin",
        *,
        face: FaceChoice = "largest",
        strength: float = 1.0,
        size: SizeRule | int = "auto",
    ) -> Any:
        """Re-age the faces of one picture and return the same kind of object.

        Args:
            image: a path or PIL image (a PIL image is returned, upright); a uint8 or uint16 array (H, W),
                (H, W, 3) or with alpha as the last channel; or a float tensor (3, H, W) or (B, 3, H, W) in [-1, 1].
            target_age: years wanted, or any form of :mod:`~.targets` ("+20", "0:65,1:30").
            source_age: years of the face as it is; estimated when absent.
            mask: where the face may change ("skin", "face", "none", or a painted mask's file); outside it every
                pixel stays as it is.
            face: ``largest``, ``all``, a number counted from the left, or a point (x, y).
            strength: factor on the change.
            size: pixels at which the network sees the face, see :func:`~.resolution.choose_size`.

        Raises:
            UserError: no face, a face too small, ages out of range, or an image of an unknown kind.
        """
        settings = ReageSettings(
            targets=parse_targets(target_age),
            source_ages=parse_source_ages(source_age),
            mask=mask if mask in get_args(MaskKind) else FrameImages(mask, "mask"),
            faces=face,
            strength=strength,
            size=size,
        )
        if isinstance(image, Tensor):
            return self._reage_tensor(image, settings)
        if isinstance(image, np.ndarray):
            return self.reage_photo(split_channels(image), settings)[0].channels().reshape(image.shape)
        from PIL import Image

        if isinstance(image, Image.Image):
            photo = _photo_from_pil(image)
        elif isinstance(image, str | os.PathLike):
            photo = read_photo(Path(image))
        else:
            raise UserError(f"cannot re-age a {type(image).__name__}; give a path, PIL image, array or tensor")
        return _photo_to_pil(self.reage_photo(photo, settings)[0])

    def reage_photo(self, photo: Photo, settings: ReageSettings, index: int = 0) -> tuple[Photo, list[ReagedFace]]:
        """Re-age a :class:`Photo`; also returns a report on each face. ``index``: which of several photos it is.

        Raises:
            UserError: no face, all chosen faces too small, or ages out of range.
        """
        pixels = photo.pixels.copy()
        reports, _, _ = self._reage_in_place(pixels, settings, index)
        return photo.with_pixels(pixels), reports

    def reage_photo_with_passes(
        self, photo: Photo, settings: ReageSettings, index: int = 0
    ) -> tuple[Photo, list[ReagedFace], FramePasses]:
        """As :meth:`reage_photo`, and the passes of :mod:`~.passes`."""
        pixels = photo.pixels.copy()
        reports, faces, frame_mask = self._reage_in_place(pixels, settings, index)
        result = photo.with_pixels(pixels)
        return result, reports, photo_passes(photo, result, faces, frame_mask)

    def _reage_tensor(self, images: Tensor, settings: ReageSettings) -> Tensor:
        if images.ndim not in (3, 4) or images.shape[-3] != 3 or not images.is_floating_point():
            raise UserError(
                f"an image tensor must be float (3, H, W) or (B, 3, H, W), not {images.dtype} {tuple(images.shape)}"
            )
        batch = images.detach().cpu().float().reshape(-1, *images.shape[-3:]).permute(0, 2, 3, 1)
        results = [np.ascontiguousarray(array) for array in batch.numpy().copy()]
        for index, pixels in enumerate(results):
            self._reage_in_place(pixels, settings, index)
        result = torch.from_numpy(np.stack(results)).permute(0, 3, 1, 2).reshape(images.shape)
        # where nothing changed, half precision gets its own value back exactly
        return result.to(images)

    def _reage_in_place(
        self, pixels: np.ndarray, settings: ReageSettings, image_index: int
    ) -> tuple[list[ReagedFace], list[FaceInFrame], np.ndarray | None]:
        """Returns a report on each face, those that were changed, and the painted mask over the picture, if any."""
        visible = to_8_bit(pixels)
        faces = sorted(self.detector.detect(visible), key=lambda found: found.points[:, 0].mean())
        if not faces:
            raise NoFaceError("no face found in the picture; is it upright, and are the eyes to be seen?")
        named = sorted(settings.targets.persons)
        chosen = [index for name in named for index in choose_faces(faces, name)]
        chosen = chosen or choose_faces(faces, settings.faces)
        height, width = pixels.shape[:2]
        painted = settings.mask if isinstance(settings.mask, FrameImages) else None
        frame_mask = painted.at(image_index, height, width) if painted else None
        frame_ages = settings.age_map.at(image_index, height, width) if settings.age_map else None
        reports: list[ReagedFace] = []
        changed: list[FaceInFrame] = []
        for index in chosen:
            found = faces[index]
            source, estimated = self._source_age(visible, found, settings.source_age(index))
            curve = settings.targets.for_person(index)
            target = source if curve is None else curve.at(1, source)
            square = FaceSquare.from_points(found.points)
            crop_size = choose_size(square.side, self.trained_size, settings.size)
            if crop_size is None:
                note = f"too small ({square.side:.0f} pixels), left as it is"
                reports.append(ReagedFace(index, found, source, source, estimated, 0, note))
                continue
            size = crop_size.size
            plan = plan_face(
                to_unit_range(crop(pixels, square, size)),
                crop_landmarks(crop(visible, square, CROP_SIZE)),
                source,
                target,
                settings,
                painted_mask=None if frame_mask is None else np.clip(crop(frame_mask, square, size), 0, 1),
                painted_ages=None if frame_ages is None else np.clip(crop(frame_ages, square, size), 0, 1),
                strength=settings.strength_at(1),
            )
            changed.append(FaceInFrame(index, square.to_frame(size), plan))
            reports.append(ReagedFace(index, found, source, target, estimated, size, crop_size.note))
        if not changed:
            raise NoFaceError(f"the face is {reports[0].note.removesuffix(', left as it is')}; give a larger picture")
        masked = with_parsed_skin(self.parser if settings.mask == "skin" else None, [face.plan for face in changed])
        for face, plan in zip(changed, masked, strict=True):
            face.plan = plan
        # all crops were cut from the untouched picture: faces that overlap do not age each other twice
        deltas = face_deltas(self.network, [face.plan for face in changed])
        for face, delta in zip(changed, deltas, strict=True):
            face.delta = delta
            patch = spread(delta, face.to_frame, height, width)
            add_delta(pixels, patch if frame_mask is None else patch.weighted(frame_mask))
        return reports, changed, frame_mask

    def _source_age(self, visible: np.ndarray, face: Face, given: float | None) -> tuple[float, bool]:
        """Years, and whether they were estimated."""
        if given is not None:
            return given, False
        return float(self.age_estimator.estimate(visible, [face])[0]), True


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
