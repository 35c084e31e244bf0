"""How good skin masks are: against class maps where there are any, and by what can be checked without.

Every face is cut out the way `fran reage` does it, and its mask is made the same way, so the figures are those of the
masks that are used. The mask by landmarks and colour (the floor) stands beside the parser's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch

from fran_lightning.data.folder import read_image, read_labels
from fran_lightning.evaluation.realism import Series
from fran_lightning.perception.alignment import FaceSquare, crop
from fran_lightning.perception.detection import FaceDetector
from fran_lightning.perception.landmarks import CROP_SIZE, crop_landmarks
from fran_lightning.perception.parsing import FaceParser
from fran_lightning.perception.parsing_classes import CLASSES, SKIN
from fran_lightning.reaging.jobs import FrameWork, active_jobs, make_jobs, plan_frame
from fran_lightning.reaging.masks import border_mask, skin_mask
from fran_lightning.reaging.parsed_skin import ParsedSkin, parse_skin, steady_skin
from fran_lightning.reaging.plan import SkinRequest
from fran_lightning.reaging.reager import Reager
from fran_lightning.reaging.settings import ReageSettings

#: a mask's values above this are "in" where overlaps are measured
THRESHOLD = 0.5
#: Pixels of the crop's border that no mask may reach: an interpolation back into the frame reaches so far.
_EDGE_BAND = 2


@dataclass(frozen=True)
class MaskedFace:
    """One face with its masks, all (256, 256).

    Attributes:
        crop: uint8 RGB.
        request: what the masks were made from; ``request.floor`` is the mask by landmarks and colour.
        answer: the parser's.
        square: where the crop lies in the picture.
    """

    crop: np.ndarray
    request: SkinRequest
    answer: ParsedSkin
    square: FaceSquare

    @property
    def mask(self) -> np.ndarray:
        """The mask that is used."""
        return self.answer.over(self.request.floor)


def mask_face(parser: FaceParser, detector: FaceDetector, pixels: np.ndarray) -> MaskedFace | None:
    """The masks of the largest face of a uint8 RGB picture, or None where there is none."""
    faces = detector.detect(pixels)
    if not faces:
        return None
    square = FaceSquare.from_points(faces[0].points)
    cut = crop(pixels, square, CROP_SIZE)
    landmarks = crop_landmarks(cut)
    floats = cut.astype(np.float32) / 127.5 - 1
    request = SkinRequest(floats, landmarks, skin_mask(floats, landmarks), np.float32(0))
    return MaskedFace(cut, request, parse_skin(parser, [request])[0], square)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two masks at the threshold; 1 where both are empty."""
    a, b = first > THRESHOLD, second > THRESHOLD
    union = (a | b).sum()
    return float((a & b).sum() / union) if union else 1.0


# --- with class maps ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelledScores:
    """Over all images together; None of the floor's where no face was found in any image.

    Attributes:
        images: how many; ``undetected``: of these, without a face for the detector.
        class_iou: IoU per class, NaN for classes that do not occur; mean_iou: over those that do.
        skin_iou: of the parser's skin classes; floor_skin_iou: of the mask by landmarks and colour, on the images in
            which a face was found; parser_skin_iou_detected: the parser's on the same images.
        mean_trust: of the parser's answers.
    """

    images: int
    undetected: int
    class_iou: tuple[float, ...]
    mean_iou: float
    skin_iou: float
    floor_skin_iou: float
    parser_skin_iou_detected: float
    mean_trust: float


def score_labelled(parser: FaceParser, files: Sequence[tuple[Path, Path]], detector: FaceDetector) -> LabelledScores:
    """Compare with class maps. The parser sees each picture whole; the floor needs a detected face."""
    counts, skin_counts, floor_counts, same_counts, trusts = [], [], [], [], []
    is_skin = np.isin(np.arange(CLASSES), SKIN)
    for image_path, labels_path in files:
        image, labels = read_image(image_path), read_labels(labels_path)
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
        probabilities = parser.probabilities(x)[0].cpu()
        found = probabilities.argmax(dim=0)
        truth = torch.from_numpy(labels.astype(np.int64))
        counts.append(smp.metrics.get_stats(found[None], truth[None], mode="multiclass", num_classes=CLASSES))
        skin = probabilities[list(SKIN)].sum(dim=0) > THRESHOLD
        skin_counts.append(_binary(skin.numpy(), is_skin[labels]))
        face = mask_face(parser, detector, image)
        if face is None:
            continue
        # in the coordinates of the crop, away from its border, where no mask goes
        inside = border_mask(CROP_SIZE) > THRESHOLD
        true_skin = crop(is_skin[labels].astype(np.float32), face.square, CROP_SIZE) > THRESHOLD
        floor_counts.append(_binary((face.request.floor > THRESHOLD)[inside], true_skin[inside]))
        same_counts.append(_binary((face.mask > THRESHOLD)[inside], true_skin[inside]))
        trusts.append(face.answer.trust)
    class_counts = _summed(counts)
    class_iou = smp.metrics.iou_score(*class_counts, reduction="none")[0]
    occurs = (class_counts[0] + class_counts[2])[0] > 0
    class_iou = torch.where(occurs, class_iou, torch.nan)
    return LabelledScores(
        images=len(files),
        undetected=len(files) - len(trusts),
        class_iou=tuple(class_iou.tolist()),
        mean_iou=float(class_iou[occurs].mean()),
        skin_iou=_iou(skin_counts),
        floor_skin_iou=_iou(floor_counts),
        parser_skin_iou_detected=_iou(same_counts),
        mean_trust=float(np.mean(trusts)) if trusts else float("nan"),
    )


def _binary(found: np.ndarray, truth: np.ndarray) -> tuple[torch.Tensor, ...]:
    pair = [torch.from_numpy(np.ascontiguousarray(mask.reshape(1, 1, -1))).long() for mask in (found, truth)]
    return smp.metrics.get_stats(*pair, mode="binary")


def _summed(counts: Sequence[tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.cat(parts).sum(dim=0, keepdim=True) for parts in zip(*counts, strict=True))


def _iou(counts: Sequence[tuple[torch.Tensor, ...]]) -> float:
    return float(smp.metrics.iou_score(*_summed(counts), reduction="micro")) if counts else float("nan")


# --- without class maps ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SelfOverlap:
    """IoU of one identity's masks between its ages: the mean and the least pair, of the parser and of the floor."""

    identity: str
    mean: float
    least: float
    floor_mean: float
    floor_least: float


def score_self_overlap(
    parser: FaceParser, series: Series, detector: FaceDetector
) -> tuple[SelfOverlap, dict[int, MaskedFace]]:
    """The masks of one identity at its ages, and how they overlap where its pictures are aligned to each other.

    All masks are made in the square of the middle age, so that what is compared is masks and not alignments.
    """
    pictures = {age: read_image(path) for age, path in series.images.items()}
    ages = sorted(pictures)
    anchor = next(
        (
            face
            for age in sorted(ages, key=lambda a: abs(a - ages[len(ages) // 2]))
            if (face := detector.detect(pictures[age]))
        ),
        None,
    )
    if anchor is None:
        return SelfOverlap(series.name, *(float("nan"),) * 4), {}
    square = FaceSquare.from_points(anchor[0].points)
    faces = {}
    for age in ages:
        cut = crop(pictures[age], square, CROP_SIZE)
        floats = cut.astype(np.float32) / 127.5 - 1
        landmarks = crop_landmarks(cut)
        request = SkinRequest(floats, landmarks, skin_mask(floats, landmarks), np.float32(0))
        faces[age] = MaskedFace(cut, request, parse_skin(parser, [request])[0], square)
    pairs = [overlap(a.mask, b.mask) for a, b in combinations(faces.values(), 2)]
    floor = [overlap(a.request.floor, b.request.floor) for a, b in combinations(faces.values(), 2)]
    return SelfOverlap(series.name, np.mean(pairs), min(pairs), np.mean(floor), min(floor)), faces


@dataclass(frozen=True)
class PointCover:
    """What a mask covers around the five points: means of the mask in [0, 1].

    Attributes:
        eyes: lids, bags and brows around both eyes, the eyes themselves left out.
        nose, mouth: discs around the nose's tip and the mouth's corners.
        border: the most in the crop's outermost pixels, as it is used; ``raw_border``: the mean of the parser's own
            answer there, without the lower edge, where necks leave the picture.
    """

    eyes: float
    nose: float
    mouth: float
    border: float
    raw_border: float


def point_cover(parser: FaceParser, face: MaskedFace) -> PointCover:
    """What the mask of ``face`` covers."""
    size, points = CROP_SIZE, face.request.landmarks
    y, x = np.mgrid[0:size, 0:size]
    left, right = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
    unit = np.linalg.norm(right - left)

    def disc(centre: np.ndarray, radius: float) -> np.ndarray:
        return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < (radius * unit) ** 2

    open_eyes = np.zeros((size, size), np.uint8)
    for part in (points[36:42], points[42:48]):
        cv2.fillPoly(open_eyes, [np.round(part).astype(np.int32)], 1)
    open_eyes = cv2.dilate(open_eyes, np.ones((9, 9), np.uint8)) > 0
    eyes = (disc(left, 0.4) | disc(right, 0.4)) & ~open_eyes
    nose = disc(points[30], 0.22)
    mouth = disc(points[48], 0.15) | disc(points[54], 0.15)
    band = _EDGE_BAND
    border = np.ones((size, size), bool)
    border[band:-band, band:-band] = False
    raw = parser.skin(torch.from_numpy(face.request.crop).permute(2, 0, 1)[None])[0, 0].cpu().numpy()
    return PointCover(
        eyes=float(face.mask[eyes].mean()),
        nose=float(face.mask[nose].mean()),
        mouth=float(face.mask[mouth].mean()),
        border=float(face.mask[border].max()),
        raw_border=float(raw[border & (y < size - band)].mean()),
    )


# --- films -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FilmScores:
    """IoU of the masks of neighbouring frames, in the frame's coordinates: mean and least.

    Attributes:
        frames: with a face.
        floor, single, steady: (mean, least) of the mask by landmarks and colour, of the parser frame by frame, and as
            it is used.
        mean_trust: of the parser's answers.
    """

    frames: int
    floor: tuple[float, float]
    single: tuple[float, float]
    steady: tuple[float, float]
    mean_trust: float


def score_film(parser: FaceParser, path: Path) -> tuple[FilmScores, list[MaskedFace]]:
    """The masks of the largest face of a film, and some of its frames for a sheet.

    Raises:
        UserError: no film, or no face in it.
    """
    from fran_lightning.perception.face import NoFaceError
    from fran_lightning.reaging.film import DecodeReport, decode, open_film, read_info
    from fran_lightning.reaging.video import look_for_faces

    info = read_info(path)
    tracks = look_for_faces(path, info).finish()
    if not tracks:
        raise NoFaceError(f"no face found in {path}")
    longest = max(tracks, key=lambda track: sum(square.side**2 for square in track.squares))
    settings = ReageSettings()
    reager = Reager(torch.nn.Identity(), device="cpu", trained_size=CROP_SIZE, parser=parser)
    jobs, _ = make_jobs(reager, [longest], [longest.person], settings)
    answers: list[ParsedSkin] = []
    kept: list[MaskedFace] = []
    requests: list[SkinRequest] = []

    def frames() -> Iterator[FrameWork]:
        with open_film(path) as container:
            for index, frame in enumerate(decode(container, DecodeReport())):
                pixels = frame.to_ndarray(format="rgb24")

                def read(to_frame: np.ndarray, size: int, pixels: np.ndarray = pixels) -> np.ndarray:
                    from fran_lightning.perception.alignment import sample

                    return sample(pixels, to_frame, size).astype(np.float32) / 127.5 - 1

                faces = plan_frame(active_jobs(jobs, index), index, index + 1, settings, read)
                for face in faces:
                    assert face.plan.skin_request is not None
                    requests.append(face.plan.skin_request)
                    answers.append(parse_skin(parser, [face.plan.skin_request])[0])
                yield FrameWork(faces)

    shape = (info.height, info.width)
    masks: dict[str, list[np.ndarray]] = {"floor": [], "single": [], "steady": []}
    for item in steady_skin(parser, frames()):
        for face in item.faces:
            number = len(masks["steady"])
            floor = requests[number].floor
            for name, mask in (("floor", floor), ("single", answers[number].over(floor)), ("steady", face.plan.mask)):
                masks[name].append(_in_frame(mask, longest.squares[number], shape))
            if number % max(1, len(longest.squares) // 4) == 0:
                cut = np.rint((requests[number].crop + 1) * 127.5).clip(0, 255).astype(np.uint8)
                steady = ParsedSkin(cv2.resize(face.plan.mask, (CROP_SIZE, CROP_SIZE)), 1.0)
                kept.append(MaskedFace(cut, requests[number], steady, longest.squares[number]))

    def neighbours(name: str) -> tuple[float, float]:
        values = [overlap(a, b) for a, b in pairwise(masks[name])]
        return float(np.mean(values)), float(min(values))

    trust = float(np.mean([answer.trust for answer in answers]))
    return FilmScores(len(answers), neighbours("floor"), neighbours("single"), neighbours("steady"), trust), kept


def _in_frame(mask: np.ndarray, square: FaceSquare, shape: tuple[int, int]) -> np.ndarray:
    """A crop's mask in the coordinates of the frame, uint8-exact enough for overlaps: (H, W) float32."""
    return cv2.warpAffine(mask, square.to_frame(len(mask)), (shape[1], shape[0]), flags=cv2.INTER_LINEAR)
