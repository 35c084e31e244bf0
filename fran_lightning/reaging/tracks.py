"""Faces over time: linking, cuts, gaps, and who is who."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fran_lightning.perception.alignment import FaceSquare, quarter_turn_matrix, transform_points
from fran_lightning.perception.detection import Face, FaceDetector
from fran_lightning.perception.landmarks import CROP_SIZE, mean_landmarks, refine_face
from fran_lightning.perception.picture import ArrayPicture, Picture
from fran_lightning.reaging.masks import SkinModel
from fran_lightning.reaging.smoothing import LANDMARK_STIFFNESS, smooth, smooth_squares

#: A face may vanish for this many frames (a turned head, a hand) and still be the same track.
LONGEST_GAP = 15
#: Tracks seen in fewer frames are flickers of the detector, unless the shot itself is that short.
SHORTEST_TRACK = 3
#: Mean change of a 32 x 18 thumbnail (0 to 255) that can be a cut, and by how much it must exceed what is usual.
_CUT_CHANGE, _CUT_RATIO = 18.0, 4.0
#: Frames between two samples of a face's age and skin; and how many of each sample are enough.
_SAMPLE_EVERY, _AGES, _EMBEDDINGS = 10, 15, 3
#: Films are searched on copies of so many pixels: the points are refined at full size anyway, and time counts.
SEARCH_SIDE = 480
#: dlib distance below which two tracks are one person: stricter than its threshold, for a wrong merge is worse.
_SAME_PERSON = 0.5


class CutDetector:
    """Finds scene cuts: a change of the whole picture that is far above the changes before it."""

    def __init__(self) -> None:
        self._previous: np.ndarray | None = None
        self._usual = 0.0

    def is_cut(self, image: np.ndarray) -> bool:
        """Whether a cut lies between the last uint8 RGB image given and this one; reduced images will do."""
        import cv2

        thumbnail = cv2.resize(image, (32, 18), interpolation=cv2.INTER_AREA).astype(np.float32)
        previous, self._previous = self._previous, thumbnail
        if previous is None:
            return False
        change = float(np.abs(thumbnail - previous).mean())
        cut = change > max(_CUT_CHANGE, _CUT_RATIO * self._usual)
        # a running mean over about ten frames; a cut says nothing about motion
        self._usual = self._usual if cut else 0.9 * self._usual + 0.1 * change
        return cut


@dataclass
class Track:
    """One face from its first to its last frame in a shot, cuts excluded.

    Attributes:
        start: index of its first frame.
        squares: measured alignment per frame, None where it was not seen; ``landmarks`` (68, 2) likewise, in the
            coordinates of a 256-pixel crop by that square.
        ages, skins, embeddings: samples taken now and then.
        person: index of the person, filled in when the film has been seen.
    """

    start: int
    squares: list[FaceSquare | None] = field(default_factory=list)
    landmarks: list[np.ndarray | None] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    skins: list[SkinModel] = field(default_factory=list)
    embeddings: list[np.ndarray] = field(default_factory=list)
    person: int = -1

    @property
    def stop(self) -> int:
        """Index after its last frame."""
        return self.start + len(self.squares)

    @property
    def seen(self) -> int:
        """Number of frames in which it was detected."""
        return sum(square is not None for square in self.squares)

    @property
    def area(self) -> float:
        """Sum of its squares' areas over time."""
        return sum(square.side**2 for square in self.squares if square is not None)

    def last(self) -> FaceSquare:
        """The square in which it was last seen."""
        return next(square for square in reversed(self.squares) if square is not None)

    def trimmed(self) -> Track:
        """Without the frames at its end in which it was looked for and not seen."""
        length = max(index for index, square in enumerate(self.squares) if square is not None) + 1
        return replace(self, squares=self.squares[:length], landmarks=self.landmarks[:length])


@dataclass(frozen=True)
class SteadyTrack:
    """A track made ready for rendering: a square and landmarks for every frame, smooth over time.

    Attributes:
        start, person: as in :class:`Track`.
        squares: T squares.
        landmarks: (T, 68, 2) in pixels of a 256-pixel crop.
        source_age: years, median over the person's samples; skin: median of its samples, where there are any.
        bridged: frames in which the face was not seen.
    """

    start: int
    person: int
    squares: list[FaceSquare]
    landmarks: np.ndarray
    source_age: float
    skin: SkinModel | None
    bridged: int

    @property
    def stop(self) -> int:
        """Index after the last frame."""
        return self.start + len(self.squares)


class Tracker:
    """Collects the faces of a film frame by frame; :meth:`finish` says what was seen.

    Only geometry is kept, about 1 kB per face and frame.
    """

    def __init__(self, quarter_turns: int = 0) -> None:
        """``quarter_turns``: how often players turn the stored frames by 90 degrees counter-clockwise."""
        from fran_lightning.perception.age import AgeEstimator
        from fran_lightning.perception.identity import IdentityEmbedder

        self._detector = FaceDetector(longest_side=SEARCH_SIDE, refine=False)
        self._ages, self._identities = AgeEstimator(), IdentityEmbedder()
        self._turns = quarter_turns
        self._cut_detector = CutDetector()
        self._open: list[Track] = []
        self._closed: list[Track] = []
        self.frames = 0
        self.cuts: list[int] = []
        self.faces_per_frame: list[int] = []

    def add(self, image: np.ndarray) -> None:
        """See the next frame, uint8 RGB (H, W, 3) as stored."""
        picture = ArrayPicture(np.ascontiguousarray(np.rot90(image, self._turns)))
        self.add_faces(picture, self.detect(picture))

    def detect(self, picture: Picture) -> list[Face]:
        """The faces of an upright picture, roughly, for :meth:`add_faces`; another thread may call it ahead."""
        return self._detector.detect(picture)

    def add_faces(self, picture: Picture, faces: Sequence[Face]) -> None:
        """See the next frame, upright, with the faces found already; their points are refined here."""
        faces = [refine_face(picture, face) for face in faces]
        if self._cut_detector.is_cut(picture.reduced(SEARCH_SIDE)):
            self.cuts.append(self.frames)
            self._closed += self._open
            self._open = []
        self._link(picture, faces)
        self.faces_per_frame.append(len(faces))
        self.frames += 1

    def _link(self, picture: Picture, faces: Sequence[Face]) -> None:
        stored_shape = picture.shape[::-1] if self._turns % 2 else picture.shape
        back = quarter_turn_matrix(self._turns, *stored_shape)
        found = [(face, FaceSquare.from_points(face.points)) for face in faces]
        stored = [FaceSquare.from_points(transform_points(back, face.points)) for face in faces]
        pairs = sorted(
            (_jump(track.last(), stored[index]), position, index)
            for position, track in enumerate(self._open)
            for index in range(len(faces))
        )
        track_of: dict[int, Track] = {}
        taken: set[int] = set()
        for jump, position, index in pairs:
            if jump < 0.5 and position not in taken and index not in track_of:
                track_of[index] = self._open[position]
                taken.add(position)
        for index, (face, upright_square) in enumerate(found):
            track = track_of.get(index)
            if track is None:
                track = track_of[index] = Track(self.frames)
                self._open.append(track)
            track.squares.append(stored[index])
            track.landmarks.append(_landmarks_in_crop(face, upright_square))
            self._sample(track, picture, upright_square)
        seen = {id(track) for track in track_of.values()}
        for track in list(self._open):
            if id(track) not in seen:
                track.squares.append(None)
                track.landmarks.append(None)
                if all(square is None for square in track.squares[-LONGEST_GAP - 1 :]):
                    self._open.remove(track)
                    self._closed.append(track)

    def _sample(self, track: Track, picture: Picture, square: FaceSquare) -> None:
        if (track.seen - 1) % _SAMPLE_EVERY or len(track.ages) >= _AGES:
            return
        aligned = picture.cut_out(square, CROP_SIZE)
        track.ages.append(float(self._ages.estimate_aligned(aligned)[0]))
        if track.landmarks[-1] is not None:
            track.skins.append(SkinModel.from_crop(aligned.astype(np.float32) / 127.5 - 1, track.landmarks[-1]))
        # spread out: the first sample, the fourth, the seventh
        if len(track.embeddings) < _EMBEDDINGS and (len(track.ages) - 1) % 3 == 0:
            track.embeddings.append(self._identities.embed_aligned(aligned)[0])

    def finish(self, smoothing: bool = True) -> list[SteadyTrack]:
        """All tracks, with persons numbered from left to right in the order of their appearance.

        ``smoothing`` off leaves the alignment as it was measured, for comparison; gaps are bridged all the same.
        """
        borders = [0, *self.cuts, self.frames]
        shots = list(itertools.pairwise(borders))
        tracks = [track.trimmed() for track in (*self._closed, *self._open)]
        kept = [track for track in tracks if track.seen >= min(SHORTEST_TRACK, _shot_length(track, shots))]
        kept.sort(key=lambda track: (track.start, next(s for s in track.squares if s is not None).x))
        assign_persons(kept)
        return [_steady(track, kept, smoothing) for track in kept]


def _shot_length(track: Track, shots: Sequence[tuple[int, int]]) -> int:
    return next(stop - start for start, stop in shots if start <= track.start < stop)


def _jump(last: FaceSquare, now: FaceSquare) -> float:
    """How unlikely two squares are one face, 0 to infinity: distance and change of size by the face's size."""
    distance = np.hypot(now.x - last.x, now.y - last.y) / max(last.side, now.side)
    return float(distance + 0.5 * abs(np.log(now.side / last.side)))


def _landmarks_in_crop(face: Face, square: FaceSquare) -> np.ndarray | None:
    if face.landmarks is None:
        return None
    return transform_points(square.to_crop(CROP_SIZE), face.landmarks).astype(np.float32)


def assign_persons(tracks: Sequence[Track]) -> None:
    """Number the persons: tracks that never share a frame and whose faces match are one person."""
    persons: list[list[Track]] = []
    for track in tracks:
        best, best_distance = None, _SAME_PERSON
        for number, members in enumerate(persons):
            together = any(track.start < other.stop and other.start < track.stop for other in members)
            distances = [
                float(np.linalg.norm(mine - theirs))
                for other in members
                for mine in track.embeddings
                for theirs in other.embeddings
            ]
            if not together and distances and float(np.median(distances)) < best_distance:
                best, best_distance = number, float(np.median(distances))
        if best is None:
            best = len(persons)
            persons.append([])
        persons[best].append(track)
        track.person = best


def _steady(track: Track, tracks: Sequence[Track], smoothing: bool) -> SteadyTrack:
    family = [other for other in tracks if other.person == track.person]
    ages = [age for other in family for age in other.ages]
    skins = track.skins or [skin for other in family for skin in other.skins]
    known = np.array([points is not None for points in track.landmarks])
    if known.any():
        filled = np.stack([np.zeros((68, 2)) if points is None else points for points in track.landmarks])
        points = smooth(filled, LANDMARK_STIFFNESS if smoothing else 0, known)
    else:
        points = np.broadcast_to(mean_landmarks(), (len(track.squares), 68, 2))
    return SteadyTrack(
        start=track.start,
        person=track.person,
        squares=smooth_squares(track.squares, *(() if smoothing else (0, 0))),
        landmarks=points,
        source_age=float(np.median(ages)),
        skin=SkinModel.median(skins) if skins else None,
        bridged=len(track.squares) - track.seen,
    )
