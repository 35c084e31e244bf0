"""What is done to whom in a shot, whatever kind of file the shot is: persons, jobs, plans, and batches of faces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from fran_lightning.errors import UserError
from fran_lightning.perception.alignment import quarter_turn_matrix, sample
from fran_lightning.perception.face import NoFaceError
from fran_lightning.reaging.network import face_deltas
from fran_lightning.reaging.parsed_skin import steady_skin
from fran_lightning.reaging.plan import FaceInFrame, plan_face
from fran_lightning.reaging.reager import Reager
from fran_lightning.reaging.resolution import CropSize, choose_size
from fran_lightning.reaging.settings import FaceChoice, ReageSettings
from fran_lightning.reaging.tracks import SteadyTrack

#: Frames that wait between two stages.
STAGE_DEPTH = 4


@dataclass(frozen=True)
class PersonReport:
    """What was done to one person of a shot.

    Attributes:
        person: number, from left to right in the order of appearance.
        source_age: years; ``source_estimated`` says whether they were estimated.
        target: target age in words; empty where the person was left alone.
        frames: frames in which the face was changed; ``bridged``: of these, where it was not seen but bridged.
        size: pixels at which the network saw the face; ``note``: why it is not the face's own size.
    """

    person: int
    source_age: float
    source_estimated: bool
    target: str
    frames: int
    bridged: int
    size: int
    note: str

    def describe(self) -> str:
        """One line for the summary."""
        years = f"{self.source_age:.0f}{' (estimated)' if self.source_estimated else ''}"
        if not self.target:
            return f"face {self.person}: {years} years; {self.note}"
        bridged = f", {self.bridged} of them bridged" if self.bridged else ""
        note = f"; {self.note}" if self.note else ""
        return f"face {self.person}: {years} -> {self.target} years in {self.frames} frames{bridged}{note}"


@dataclass(frozen=True)
class FaceJob:
    """One track's part in the rendering."""

    track: SteadyTrack
    source_age: float
    crop_size: CropSize


@dataclass
class FrameWork:
    """What every frame carries through the stages.

    ``is_frame``: not something that passes through beside the frames. ``leading``: made for the sake of the frames
    around it, and not to be written.
    """

    faces: list[FaceInFrame] = field(default_factory=list)
    is_frame: bool = True
    leading: bool = False


Work = TypeVar("Work", bound=FrameWork)


def choose_persons(
    tracks: Sequence[SteadyTrack], settings: ReageSettings, quarter_turns: int, shape: tuple[int, int]
) -> list[int]:
    """The persons meant by ``settings``.

    Raises:
        UserError: no such person.
    """
    persons = sorted({track.person for track in tracks})
    choice = settings.faces
    wanted = sorted(settings.targets.persons) or ([choice] if isinstance(choice, int) else [])
    for person in wanted:
        if person not in persons:
            raise UserError(f"there is no face {person}; there are {len(persons)}, counted from 0 at the left")
    if wanted:
        return wanted
    if choice == "all":
        return persons
    if choice == "largest":
        areas = {p: sum(s.side**2 for t in tracks if t.person == p for s in t.squares) for p in persons}
        return [max(persons, key=lambda person: areas[person])]
    return [_person_at(tracks, choice, quarter_turns, shape)]


def _person_at(tracks: Sequence[SteadyTrack], point: FaceChoice, quarter_turns: int, shape: tuple[int, int]) -> int:
    """The person next to a point (of the upright picture) in the first frame that shows anyone."""
    x, y = quarter_turn_matrix(quarter_turns, *shape) @ (*point, 1)
    first = min(track.start for track in tracks)

    def distance(track: SteadyTrack) -> float:
        square = track.squares[0]
        return float(np.hypot(square.x - x, square.y - y))

    return min((track for track in tracks if track.start == first), key=distance).person


def make_jobs(
    reager: Reager, tracks: Sequence[SteadyTrack], persons: Sequence[int], settings: ReageSettings
) -> tuple[list[FaceJob], list[PersonReport]]:
    """What is to be done for the chosen ``persons``, and a report on everybody.

    Raises:
        NoFaceError: all of them are too small.
    """
    jobs, reports = [], []
    for person in sorted({track.person for track in tracks}):
        own = [track for track in tracks if track.person == person]
        given = settings.source_age(person)
        source = own[0].source_age if given is None else given
        curve = settings.targets.for_person(person)
        if person not in persons or curve is None:
            reports.append(PersonReport(person, source, given is None, "", 0, 0, 0, "left as it is"))
            continue
        # one size per person: a size that changes with the distance to the camera would show as a flicker
        side = float(np.percentile([square.side for track in own for square in track.squares], 90))
        crop_size = choose_size(side, reager.trained_size, settings.size)
        if crop_size is None:
            note = f"too small ({side:.0f} pixels), left as it is"
            reports.append(PersonReport(person, source, given is None, "", 0, 0, 0, note))
            continue
        jobs += [FaceJob(track, source, crop_size) for track in own]
        frames, bridged = sum(len(track.squares) for track in own), sum(track.bridged for track in own)
        target = curve.describe(source)
        reports.append(
            PersonReport(person, source, given is None, target, frames, bridged, crop_size.size, crop_size.note)
        )
    if not jobs:
        raise NoFaceError(f"nothing to do: face {persons[0]} is {reports[persons[0]].note.partition(',')[0]}")
    return jobs, reports


def plan_frame(
    jobs: Sequence[FaceJob],
    index: int,
    number: int,
    settings: ReageSettings,
    read_crop: Callable[[np.ndarray, int], np.ndarray],
    frame_mask: np.ndarray | None = None,
    frame_ages: np.ndarray | None = None,
) -> list[FaceInFrame]:
    """Cut out and plan the faces of one frame.

    Args:
        jobs: those of this frame, see :func:`active_jobs`.
        index: place of the frame in the tracks, from 0; ``number``: what keyframes call it.
        read_crop: (matrix from crop to frame, size) -> crop (S, S, 3) float32 in [-1, 1].
        frame_mask, frame_ages: painted images over the frame (H, W) in [0, 1], where there are any.
    """
    faces = []
    for job in jobs:
        place = index - job.track.start
        size = job.crop_size.size
        to_frame = job.track.squares[place].to_frame(size)
        curve = settings.targets.for_person(job.track.person)
        assert curve is not None
        plan = plan_face(
            read_crop(to_frame, size),
            job.track.landmarks[place],
            job.source_age,
            curve.at(number, job.source_age),
            settings,
            skin=job.track.skin,
            painted_mask=None if frame_mask is None else np.clip(sample(frame_mask, to_frame, size), 0, 1),
            painted_ages=None if frame_ages is None else np.clip(sample(frame_ages, to_frame, size), 0, 1),
            strength=settings.strength_at(number),
        )
        faces.append(FaceInFrame(job.track.person, to_frame, plan, track=id(job.track)))
    return faces


def active_jobs(jobs: Sequence[FaceJob], index: int) -> list[FaceJob]:
    """The jobs whose faces are in frame ``index`` (from 0)."""
    return [job for job in jobs if job.track.start <= index < job.track.stop]


def through_network(reager: Reager, items: Iterator[Work], longest_wait: int = 4 * STAGE_DEPTH) -> Iterator[Work]:
    """Give the faces their skin masks, collect what fills a batch, at most ``longest_wait`` frames, run it, and pass
    everything on in order."""
    waiting: list[Work] = []
    pixels = 0
    for item in steady_skin(reager.parser, items):
        waiting.append(item)
        pixels += sum(face.plan.crop.shape[0] ** 2 for face in item.faces)
        # without faces nothing has to wait; with them, until the batch is full
        if pixels == 0 or pixels >= reager.network.batch_pixels or len(waiting) >= longest_wait:
            yield from _run_batch(reager, waiting)
            waiting, pixels = [], 0
    yield from _run_batch(reager, waiting)


def _run_batch(reager: Reager, waiting: Sequence[Work]) -> Iterator[Work]:
    deltas = iter(face_deltas(reager.network, [face.plan for item in waiting for face in item.faces]))
    for item in waiting:
        for face in item.faces:
            face.delta = next(deltas)
        yield item
