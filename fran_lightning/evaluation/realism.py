"""Do independent judges accept longitudinal faces as faces that age? One column of figures per folder.

The judges are networks that nobody here made: YuNet and dlib's HOG detector, dlib's age network, dlib's identity
network. Colour, contrast and spectrum are compared with the range that a reference folder spans. The bars are those
that parametric data should meet; real re-aged faces (SAM) are the natural neighbour to print beside them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fran_lightning.data.folder import identity_folders, image_path, label_path, read_image, read_info
from fran_lightning.data.import_layouts import find_aged_images
from fran_lightning.errors import UserError
from fran_lightning.evaluation.steady_points import LOOKS, steady_points
from fran_lightning.picture_statistics import SPECTRUM_BANDS, picture_statistics

#: classes of the head; all other pixels must not change with age
HEAD_CLASSES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14)
CROP_SIZE = 256


@dataclass(frozen=True)
class Series:
    """The pictures of one identity: files by age, label files by age, true landmarks (5, 2) by age."""

    name: str
    images: dict[int, Path]
    labels: dict[int, Path] = field(default_factory=dict)
    landmarks: dict[int, np.ndarray] = field(default_factory=dict)


def find_series(root: str | Path) -> list[Series]:
    """The identities of a dataset folder, or of a folder of ``{age}_seed{id}.png`` files (also in ``aged_images``).

    Raises:
        UserError: the folder is missing or holds neither.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"folder {root} does not exist")
    if (root / "dataset.json").is_file():
        ages = read_info(root).ages
        return [_dataset_series(folder, ages) for folder in identity_folders(root)]
    nested = root / "aged_images"
    found = find_aged_images(nested if nested.is_dir() else root)
    return [Series(name, dict(sorted(images.items()))) for name, images in sorted(found.items())]


def _dataset_series(folder: Path, ages: tuple[int, ...]) -> Series:
    images = {age: path for age in ages if (path := image_path(folder, age)) is not None}
    labels = {age: path for age in ages if (path := label_path(folder, age)) is not None}
    record = folder / "identity.json"
    known = json.loads(record.read_text(encoding="utf-8")).get("landmarks", {}) if record.is_file() else {}
    return Series(folder.name, images, labels, {int(age): np.array(points) for age, points in known.items()})


@dataclass(frozen=True)
class Judgement:
    """What the judges say of one picture.

    Attributes:
        score: of YuNet, 0 where it sees no face.
        hog: whether dlib's HOG detector sees a face.
        years: estimated age, NaN without a face.
        embedding: dlib's identity vector (128,), NaN without a face.
        point_error: median distance of YuNet's points from the true ones over the distance of the eyes, the mean
            of many looks (``steady_points``); NaN if unknown.
        landmark_error: the same of dlib's landmarks.
        one_look_error: the same of YuNet's points in one look.
        apart: median distance between YuNet's points of many looks and dlib's, known for every face.
        colour, contrast, spectrum: mean RGB (3,), standard deviation of the luminance (1,), logarithm of the radial
            power spectrum (SPECTRUM_BANDS,) of the aligned crop.
    """

    score: float
    hog: bool
    years: float
    embedding: np.ndarray
    point_error: float
    landmark_error: float
    colour: np.ndarray
    contrast: np.ndarray
    spectrum: np.ndarray
    one_look_error: float = np.nan
    apart: float = np.nan


@dataclass(frozen=True)
class FolderJudgement:
    """All judgements of a folder: per identity, in the order of the ages; and the largest change outside the head."""

    name: str
    series: list[Series]
    judgements: list[list[Judgement]]
    outside_change: float  # in code values; NaN without labels


class Judges:
    """The pretrained networks, loaded once."""

    def __init__(self) -> None:
        from fran_lightning.perception.age import AgeEstimator
        from fran_lightning.perception.detection import FaceDetector
        from fran_lightning.perception.identity import IdentityEmbedder

        self._raw = FaceDetector(score_threshold=0.3, refine=False)
        self._age = AgeEstimator()
        self._identity = IdentityEmbedder()

    def judge(self, image: np.ndarray, true_points: np.ndarray | None = None) -> Judgement:
        """Judge a uint8 RGB picture (H, W, 3)."""
        import cv2

        from fran_lightning.perception.alignment import FaceSquare, crop
        from fran_lightning.perception.detection import detect_hog
        from fran_lightning.perception.landmarks import refine_face

        zoom = max(1.0, CROP_SIZE / image.shape[0])
        if zoom > 1:  # the detectors were made for faces of about 100 pixels
            size = (round(image.shape[1] * zoom), round(image.shape[0] * zoom))
            image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
        faces = self._raw.detect(image)
        hog = len(detect_hog(image)) > 0
        if not faces:
            nothing = np.full(128, np.nan, np.float32)
            return Judgement(0.0, hog, np.nan, nothing, np.nan, np.nan, *picture_statistics(_whole(image)))
        face = faces[0]
        refined = refine_face(image, face).points
        steady = steady_points(self._raw, image)
        steady = np.full((5, 2), np.nan) if steady is None else steady
        errors = [np.nan, np.nan, np.nan]
        if true_points is not None:
            wanted = (true_points + 0.5) * zoom - 0.5
            errors = [_distance(points, wanted) for points in (steady, refined, face.points)]
        apart = _distance(steady, refined)
        aligned = crop(image, FaceSquare.from_points(refined), CROP_SIZE)
        years = float(self._age.estimate_aligned(aligned)[0])
        embedding = self._identity.embed_aligned(aligned)[0]
        return Judgement(face.score, hog, years, embedding, *errors[:2], *picture_statistics(aligned), errors[2], apart)


def _distance(points: np.ndarray, wanted: np.ndarray) -> float:
    """Median distance of five points over the distance of the wanted eyes."""
    return float(np.median(np.linalg.norm(points - wanted, axis=1)) / np.linalg.norm(wanted[0] - wanted[1]))


def _whole(image: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(image, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_AREA)


def judge_folder(root: str | Path, judges: Judges, limit: int | None = None) -> FolderJudgement:
    """Judge the first ``limit`` identities of a folder (all if None), with a progress bar.

    Raises:
        UserError: no such folder, or nothing in it.
    """
    from fran_lightning.progress import progress_bar

    series = find_series(root)[:limit]
    if not series:
        raise UserError(f"{root} holds no identities")
    rows, change = [], np.nan
    with progress_bar(f"judging {Path(root).name}", sum(len(one.images) for one in series), "images") as bar:
        for one in series:
            row, pictures = [], {}
            for age, path in one.images.items():
                pictures[age] = read_image(path)
                row.append(judges.judge(pictures[age], one.landmarks.get(age)))
                bar.advance()
            rows.append(row)
            if len(one.labels) == len(one.images):
                change = np.fmax(change, _change_outside(one, pictures))
    return FolderJudgement(str(root), series, rows, float(change))


def _change_outside(series: Series, pictures: dict[int, np.ndarray]) -> float:
    """Largest difference, in code values, between any age and the first where neither shows the head."""
    from PIL import Image

    labels = {}
    for age, path in series.labels.items():
        with Image.open(path) as picture:
            labels[age] = np.isin(np.asarray(picture), HEAD_CLASSES)
    first, *others = pictures
    largest = 0
    for age in others:
        outside = ~(labels[first] | labels[age])
        difference = np.abs(pictures[first].astype(int) - pictures[age])[outside]
        largest = max(largest, int(difference.max(initial=0)))
    return float(largest)


@dataclass(frozen=True)
class Figure:
    """One line of the table: what, the bar in words ("" if there is none), whether a value meets it, its format."""

    name: str
    bar: str
    meets: Callable[[float], bool]
    style: str = "{:.3f}"


FIGURES: dict[str, Figure] = {
    "yunet": Figure("YuNet score >= 0.8", ">= 99 %", lambda v: v >= 0.99, "{:.1%}"),
    "hog": Figure("dlib HOG finds the face", ">= 90 %", lambda v: v >= 0.90, "{:.1%}"),
    "spearman": Figure("age: Spearman per identity, median", ">= 0.9", lambda v: v >= 0.9),
    "slope": Figure("age: slope per identity, median", "0.5 to 1.1", lambda v: 0.5 <= v <= 1.1),
    "young": Figure("age: youngest estimated below 33", ">= 80 %", lambda v: v >= 0.8, "{:.1%}"),
    "old": Figure("age: oldest estimated above 55", ">= 80 %", lambda v: v >= 0.8, "{:.1%}"),
    "neighbours": Figure("identity: neighbouring ages closer than 0.5", ">= 97 %", lambda v: v >= 0.97, "{:.1%}"),
    "extremes": Figure("identity: youngest to oldest, median", "0.3 to 0.65", lambda v: 0.3 <= v <= 0.65),
    "auc": Figure("identity: ROC AUC across identities", ">= 0.97", lambda v: v >= 0.97),
    "points": Figure(f"YuNet's points ({LOOKS} looks) from the true ones", "<= 4 %", lambda v: v <= 0.04, "{:.1%}"),
    "one_look": Figure("YuNet's points in one look from the true ones", "", lambda v: True, "{:.1%}"),
    "landmarks": Figure("dlib's landmarks from the true points", "", lambda v: True, "{:.1%}"),
    "apart": Figure(f"YuNet's points ({LOOKS} looks) from dlib's", "", lambda v: True, "{:.1%}"),
    "in_range": Figure("colour, contrast, spectrum in range", ">= 80 %", lambda v: v >= 0.8, "{:.1%}"),
    "outside": Figure("change outside the head (code values)", "0", lambda v: v == 0, "{:.0f}"),
}


def summarise(folder: FolderJudgement, reference: FolderJudgement | None) -> dict[str, float]:
    """The figures of FIGURES for one folder; NaN where something is not known.

    ``reference`` spans the range for colour, contrast and spectrum.
    """
    from scipy.stats import spearmanr

    everything = [judgement for row in folder.judgements for judgement in row]
    spearman, slopes, young, old, neighbours, extremes = [], [], [], [], [], []
    for one, row in zip(folder.series, folder.judgements, strict=True):
        ages, years = np.array(list(one.images)), np.array([judgement.years for judgement in row])
        vectors = np.stack([judgement.embedding for judgement in row])
        seen = np.isfinite(years)
        if seen.sum() >= 3 and np.ptp(years[seen]) > 0:
            spearman.append(spearmanr(ages[seen], years[seen]).statistic)
            slopes.append(np.polyfit(ages[seen], years[seen], 1)[0])
        young.append(years[0] < 33)
        old.append(years[-1] > 55)
        neighbours += np.linalg.norm(vectors[1:] - vectors[:-1], axis=1).tolist()
        extremes.append(np.linalg.norm(vectors[0] - vectors[-1]))
    scores = np.array([judgement.score for judgement in everything])
    return {
        "yunet": float((scores >= 0.8).mean()),
        "hog": float(np.mean([judgement.hog for judgement in everything])),
        "spearman": _median(spearman),
        "slope": _median(slopes),
        "young": float(np.mean(young)),
        "old": float(np.mean(old)),
        "neighbours": float(np.mean(np.nan_to_num(np.array(neighbours), nan=9.0) < 0.5)),
        "extremes": _median(extremes),
        "auc": _auc(folder),
        "points": _median([judgement.point_error for judgement in everything]),
        "one_look": _median([judgement.one_look_error for judgement in everything]),
        "landmarks": _median([judgement.landmark_error for judgement in everything]),
        "apart": _median([judgement.apart for judgement in everything]),
        "in_range": _share_in_range(folder, reference) if reference is not None else np.nan,
        "outside": folder.outside_change,
    }


def _median(values: list[float] | np.ndarray) -> float:
    values = np.asarray(values, dtype=np.float64)
    return float(np.nanmedian(values)) if np.isfinite(values).any() else np.nan


def _auc(folder: FolderJudgement) -> float:
    """How well distance tells pairs of one identity from pairs of two, at ages within 10 years (Mann-Whitney)."""
    from scipy.stats import rankdata

    ages = np.concatenate([list(one.images) for one in folder.series])
    who = np.concatenate([np.full(len(one.images), i) for i, one in enumerate(folder.series)])
    vectors = np.stack([judgement.embedding for row in folder.judgements for judgement in row])
    first, second = np.triu_indices(len(ages), 1)
    near = (np.abs(ages[first] - ages[second]) <= 10) & np.isfinite(vectors[first, 0] + vectors[second, 0])
    first, second = first[near], second[near]
    same = who[first] == who[second]
    if same.all() or not same.any():
        return np.nan
    ranks = rankdata(-np.linalg.norm(vectors[first] - vectors[second], axis=1))
    positives = same.sum()
    return float((ranks[same].sum() - positives * (positives + 1) / 2) / (positives * (~same).sum()))


def _features(folder: FolderJudgement) -> np.ndarray:
    return np.stack([np.concatenate([j.colour, j.contrast, j.spectrum]) for row in folder.judgements for j in row])


def _share_in_range(folder: FolderJudgement, reference: FolderJudgement) -> float:
    wanted, values = _features(reference), _features(folder)
    inside = (values >= wanted.min(0)) & (values <= wanted.max(0))
    return float(inside.all(1).mean())


def range_details(folder: FolderJudgement, reference: FolderJudgement) -> dict[str, float]:
    """Share of images within the reference's range for each feature alone."""
    wanted, values = _features(reference), _features(folder)
    inside = ((values >= wanted.min(0)) & (values <= wanted.max(0))).mean(0)
    names = ["red", "green", "blue", "contrast", *(f"spectrum {band}" for band in range(SPECTRUM_BANDS))]
    return dict(zip(names, inside.tolist(), strict=True))


def draw_sheet(folders: list[FolderJudgement], identities: int = 6, columns: int = 7, edge: int = 192) -> np.ndarray:
    """A picture (H, W, 3): rows of identities at ages from the youngest to the oldest, with the estimated ages."""
    import cv2

    rows = []
    for folder in folders:
        for one, row in _spread(folder, identities):
            ages = list(one.images)
            chosen = np.unique(np.linspace(0, len(ages) - 1, min(columns, len(ages))).round().astype(int))
            tiles = []
            for index in chosen:
                tile = cv2.resize(read_image(one.images[ages[index]]), (edge, edge), interpolation=cv2.INTER_AREA)
                text = f"{ages[index]} ({row[index].years:.0f})"
                cv2.putText(tile, text, (4, edge - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
                cv2.putText(tile, text, (4, edge - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
                tiles.append(tile)
            rows.append(np.pad(np.hstack(tiles), ((0, 0), (0, (columns - len(tiles)) * edge), (0, 0))))
    return np.vstack(rows)


def _spread(folder: FolderJudgement, count: int) -> Iterator[tuple[Series, list[Judgement]]]:
    yield from list(zip(folder.series, folder.judgements, strict=True))[:count]
