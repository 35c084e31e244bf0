"""Re-ageing a film: look at all of it, then go through it again and change it.

The first pass finds the faces, links them over time and smooths their alignment, which needs the future as much as
the past. The second pass decodes again and runs three stages side by side: decoding and cutting out, the network,
pasting and encoding. Memory does not grow with the film's length beyond the geometry of its faces.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fran_lightning.errors import UserError
from fran_lightning.files import atomic_path
from fran_lightning.perception.alignment import sample
from fran_lightning.perception.face import NoFaceError
from fran_lightning.progress import progress_bar
from fran_lightning.reaging.film import (
    DecodeReport,
    FilmInfo,
    FilmWriter,
    choose_encoder,
    decode,
    decode_packets,
    open_film,
    read_info,
)
from fran_lightning.reaging.frame_images import FrameImages
from fran_lightning.reaging.network import face_deltas
from fran_lightning.reaging.parts import PartsWriter, fingerprint
from fran_lightning.reaging.pipeline import Behind, ahead
from fran_lightning.reaging.plan import FacePlan, plan_face
from fran_lightning.reaging.planes import PlaneLayout, add_delta_to_planes, planar_format, read_crop
from fran_lightning.reaging.preview import PreviewKind, PreviewWriter
from fran_lightning.reaging.reager import Reager
from fran_lightning.reaging.resolution import CropSize, choose_size
from fran_lightning.reaging.settings import FaceChoice, ReageSettings
from fran_lightning.reaging.tracks import SteadyTrack, Tracker, quarter_turn_matrix

if TYPE_CHECKING:
    import av

#: Frames that wait between two stages.
_DEPTH = 4


@dataclass(frozen=True)
class PersonReport:
    """What was done to one person of a film.

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


@dataclass
class FilmReport:
    """What happened to a film; ``frames_resumed`` were there from an earlier try and are in neither other count."""

    frames: int = 0
    changed_frames: int = 0
    frames_resumed: int = 0
    cuts: int = 0
    persons: list[PersonReport] = field(default_factory=list)
    decoding: DecodeReport = field(default_factory=DecodeReport)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Job:
    """One track's part in the rendering."""

    track: SteadyTrack
    source_age: float
    crop_size: CropSize


@dataclass(frozen=True)
class _FaceInFrame:
    to_frame: np.ndarray
    plan: FacePlan


@dataclass
class _Work:
    """A frame on its way through the stages, or a packet of another stream."""

    packet: av.Packet | None = None
    frame: av.VideoFrame | None = None
    layout: PlaneLayout | None = None
    faces: list[_FaceInFrame] = field(default_factory=list)
    deltas: list[np.ndarray] = field(default_factory=list)
    frame_mask: np.ndarray | None = None
    before: Any = None


def look_for_faces(path: Path, info: FilmInfo) -> Tracker:
    """The first pass: who is where in every frame."""
    tracker = Tracker(quarter_turns=info.quarter_turns)
    with open_film(path) as container, progress_bar("looking for faces", info.frames, "frames") as bar:
        pictures = (frame.to_ndarray(format="rgb24") for frame in decode(container, DecodeReport()))
        with contextlib.closing(ahead(pictures, _DEPTH)) as images:
            for image in images:
                tracker.add(image)
                bar.advance()
    return tracker


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


def _make_jobs(
    reager: Reager, tracks: Sequence[SteadyTrack], persons: Sequence[int], settings: ReageSettings
) -> tuple[list[_Job], list[PersonReport]]:
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
        jobs += [_Job(track, source, crop_size) for track in own]
        frames, bridged = sum(len(track.squares) for track in own), sum(track.bridged for track in own)
        target = curve.describe(source)
        reports.append(
            PersonReport(person, source, given is None, target, frames, bridged, crop_size.size, crop_size.note)
        )
    return jobs, reports


def _frames_at_work(
    container: av.container.InputContainer,
    jobs: Sequence[_Job],
    settings: ReageSettings,
    info: FilmInfo,
    decoding: DecodeReport,
    skip: int,
    keep_original: bool,
) -> Iterator[_Work]:
    """Decode, and cut the faces out, from frame ``skip`` on."""
    index = 0
    for packet, frames in decode_packets(container, decoding):
        if packet is not None:
            yield _Work(packet=packet)
        for frame in frames:
            if index >= skip:
                yield _cut_out(frame, index, jobs, settings, info, keep_original)
            index += 1


def _cut_out(
    frame: av.VideoFrame,
    index: int,
    jobs: Sequence[_Job],
    settings: ReageSettings,
    info: FilmInfo,
    keep_original: bool,
) -> _Work:
    active = [job for job in jobs if job.track.start <= index < job.track.stop]
    before = frame.to_ndarray(format="rgb24") if keep_original else None
    if not active:
        return _Work(frame=frame, before=before)
    frame = _make_planar(frame)
    layout = PlaneLayout.of(frame)
    frame_mask = _over_frame(settings.mask, index, info)
    frame_ages = _over_frame(settings.age_map, index, info)
    faces = []
    for job in active:
        place = index - job.track.start
        size = job.crop_size.size
        to_frame = job.track.squares[place].to_frame(size)
        curve = settings.targets.for_person(job.track.person)
        assert curve is not None
        plan = plan_face(
            read_crop(frame, layout, to_frame, size),
            job.track.landmarks[place],
            job.source_age,
            curve.at(index + 1, job.source_age),
            settings,
            skin=job.track.skin,
            painted_mask=None if frame_mask is None else np.clip(sample(frame_mask, to_frame, size), 0, 1),
            painted_ages=None if frame_ages is None else np.clip(sample(frame_ages, to_frame, size), 0, 1),
        )
        faces.append(_FaceInFrame(to_frame, plan))
    return _Work(frame=frame, layout=layout, faces=faces, frame_mask=frame_mask, before=before)


def _make_planar(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame with planes of its own that may be written to; the decoder still needs the ones it gave out."""
    name = planar_format(frame.format.name)
    if name == frame.format.name:
        frame.make_writable()
        return frame
    return frame.reformat(format=name)


def _over_frame(images: object, index: int, info: FilmInfo) -> np.ndarray | None:
    """A painted image of the upright picture, turned the way the frame is stored."""
    if not isinstance(images, FrameImages):
        return None
    height, width = (info.width, info.height) if info.quarter_turns % 2 else (info.height, info.width)
    return np.ascontiguousarray(np.rot90(images.at(index, height, width), -info.quarter_turns))


def _through_network(reager: Reager, items: Iterator[_Work], strength: float) -> Iterator[_Work]:
    """Collect what fills a batch, run it, and pass everything on in order."""
    waiting: list[_Work] = []
    pixels = 0
    for item in items:
        waiting.append(item)
        pixels += sum(face.plan.crop.shape[0] ** 2 for face in item.faces)
        # without faces nothing has to wait; with them, until the batch is full
        if pixels == 0 or pixels >= reager.network.batch_pixels or len(waiting) >= 4 * _DEPTH:
            yield from _run_batch(reager, waiting, strength)
            waiting, pixels = [], 0
    yield from _run_batch(reager, waiting, strength)


def _run_batch(reager: Reager, waiting: Sequence[_Work], strength: float) -> Iterator[_Work]:
    deltas = iter(face_deltas(reager.network, [face.plan for item in waiting for face in item.faces], strength))
    for item in waiting:
        item.deltas = [next(deltas) for _ in item.faces]
        yield item


def reage_film(
    reager: Reager,
    source: Path,
    output: Path,
    settings: ReageSettings,
    *,
    codec: str | None = None,
    quality: int | None = None,
    preview: PreviewKind | None = None,
    resume: bool = False,
    tracker: Tracker | None = None,
    smoothing: bool = True,
) -> FilmReport:
    """Re-age the faces of a film.

    Args:
        source, output: files; the output's suffix chooses the container. Frames without a face pass unchanged.
        settings: who becomes how old.
        codec: an encoder's name; the source's own codec where absent.
        quality: the encoder's constant-quality number; visually lossless where absent.
        preview: also write ``<output>_preview.mp4`` with before and after.
        resume: work in parts that outlive an interruption, and go on after those that are there.
        tracker: the faces, where they were looked for already.
        smoothing: off leaves the alignment as it was measured in each frame, for comparison.

    Raises:
        UserError: no face in the whole film, a broken film, no such encoder, ages out of range.
    """
    info = read_info(source)
    encoder, pixel_format = choose_encoder(info, output.suffix, codec)
    tracker = tracker or look_for_faces(source, info)
    tracks = tracker.finish(smoothing)
    for images in (settings.mask, settings.age_map):
        if isinstance(images, FrameImages):
            images.check_length(tracker.frames)
    if not tracks:
        raise NoFaceError(f"no face found in the {tracker.frames} frames of {source}; is the film upright?")
    persons = choose_persons(tracks, settings, info.quarter_turns, (info.height, info.width))
    jobs, reports = _make_jobs(reager, tracks, persons, settings)
    if not jobs:
        raise NoFaceError(f"nothing to do: face {persons[0]} is {reports[persons[0]].note.partition(',')[0]}")
    report = FilmReport(cuts=len(tracker.cuts), persons=reports)
    output.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(atomic_path(output))
        container = stack.enter_context(open_film(source))
        shown = None
        if preview is not None:
            preview_path = output.with_name(f"{output.stem}_preview.mp4")
            shown = PreviewWriter(stack.enter_context(atomic_path(preview_path)), info, preview)
            stack.enter_context(shown)
        bar = stack.enter_context(progress_bar("re-ageing", tracker.frames, "frames"))
        parts = None
        if resume:
            looks = source.stat().st_size, source.stat().st_mtime_ns, settings, smoothing, reager.fingerprint
            job = fingerprint(*looks, encoder, pixel_format, quality)

            def open_part(path: Path) -> FilmWriter:
                return FilmWriter(path, container, encoder, pixel_format, quality, copies=False)

            parts = PartsWriter(output, job, open_part)
            report.frames_resumed = parts.frames_done
            bar.advance(parts.frames_done)
            writer: FilmWriter | PartsWriter = parts
        else:
            writer = stack.enter_context(FilmWriter(temporary, container, encoder, pixel_format, quality))

        def finish(item: _Work) -> None:
            if item.packet is not None:
                if isinstance(writer, FilmWriter):
                    writer.copy(item.packet)
                return
            assert item.frame is not None
            for face, delta in zip(item.faces, item.deltas, strict=True):
                assert item.layout is not None
                add_delta_to_planes(item.frame, item.layout, delta, face.to_frame, item.frame_mask)
            if shown is not None:
                shown.write(item.before, item.frame)
            writer.write(item.frame)
            report.frames += 1
            report.changed_frames += bool(item.faces)
            bar.advance()

        work = _frames_at_work(
            container, jobs, settings, info, report.decoding, report.frames_resumed, shown is not None
        )
        with contextlib.closing(ahead(work, _DEPTH)) as items, Behind(finish, _DEPTH) as behind:
            for item in _through_network(reager, items, settings.strength):
                behind.put(item)
        if parts is not None:
            with open_film(source) as sound:
                parts.join(temporary, sound, report.notes)
        else:
            assert isinstance(writer, FilmWriter)
            report.notes += writer.notes
    if parts is not None:
        parts.remove()
    return report
