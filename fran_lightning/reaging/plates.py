"""Re-ageing an image sequence: what :mod:`~.video` does for films, for numbered frames of scene or display values.

The first pass reads every frame, finds faces and checks that the frames belong together, so that bad input is known
before anything is written. The second pass reads again and writes each frame under its own number. Keyframes and
painted images go by the frames' own numbers.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from fran_lightning.errors import UserError
from fran_lightning.files import atomic_path
from fran_lightning.perception.face import NoFaceError
from fran_lightning.perception.picture import Picture
from fran_lightning.progress import progress_bar
from fran_lightning.reaging.colour import PlateColour
from fran_lightning.reaging.frame_images import FrameImages
from fran_lightning.reaging.frame_log import FrameLog
from fran_lightning.reaging.jobs import (
    FaceJob,
    FrameWork,
    PersonReport,
    active_jobs,
    choose_persons,
    make_jobs,
    plan_frame,
    through_network,
)
from fran_lightning.reaging.parsed_skin import REACH
from fran_lightning.reaging.parts import fingerprint
from fran_lightning.reaging.passes import PassFiles, PassName, exr_layers, make_passes
from fran_lightning.reaging.paste import Patch, spread, sum_patches
from fran_lightning.reaging.pipeline import Behind, ahead
from fran_lightning.reaging.plate_frames import ExrFrame, PlateFrame, choose_colour, lossless, read_frame
from fran_lightning.reaging.reager import Reager
from fran_lightning.reaging.sequences import FramePattern, FrameSequence, describe_numbers
from fran_lightning.reaging.settings import ReageSettings
from fran_lightning.reaging.tracks import Tracker

MissingFrames = Literal["refuse", "gap"]
PassesAs = Literal["layers", "files"]
#: Frames that wait between two stages: a plate of 4K with all its channels is 150 MB and more.
_DEPTH = 2


@dataclass
class SequenceReport:
    """What happened to a sequence; ``frames_resumed`` were there from an earlier try and are in neither other count.

    ``colour`` says in words how the frames were understood, ``missing`` are the numbers that were taken as gaps.
    """

    colour: str
    frames: int = 0
    changed_frames: int = 0
    frames_resumed: int = 0
    cuts: int = 0
    missing: list[int] = field(default_factory=list)
    persons: list[PersonReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Work(FrameWork):
    """A frame on its way through the stages."""

    number: int = 0
    frame: PlateFrame | None = None
    frame_mask: np.ndarray | None = None


def check_missing(sequence: FrameSequence, missing: MissingFrames) -> None:
    """Raises: UserError, where frames are missing and that is not allowed."""
    if sequence.missing and missing == "refuse":
        shown = describe_numbers(sequence.missing)
        raise UserError(f"{sequence} lacks frame {shown}; add what is missing, or give --missing gap to pass over it")


def look_for_faces(sequence: FrameSequence, colour: PlateColour | None) -> tuple[Tracker, PlateFrame]:
    """The first pass: who is where in every frame; also returns the first frame.

    Raises:
        UserError: a frame is broken, or another kind of picture than the first.
    """
    tracker = Tracker()
    first: PlateFrame | None = None
    picture: Picture | None = None
    there = set(sequence.numbers)

    def pictures() -> Iterator[Picture | None]:
        nonlocal first
        for number in range(sequence.numbers[0], sequence.numbers[-1] + 1):
            if number not in there:
                yield None
                continue
            frame = read_frame(sequence.pattern.path(number), colour)
            if first is None:
                first = frame
            if frame.kind != first.kind:
                here, start = sequence.pattern.path(number).name, sequence.pattern.path(sequence.first).name
                raise UserError(f"{here} is {frame.kind}, but {start} is {first.kind}; all frames must be alike")
            yield frame.picture()

    total = sequence.numbers[-1] - sequence.numbers[0] + 1
    with (
        progress_bar("looking for faces", total, "frames") as bar,
        contextlib.closing(ahead(pictures(), _DEPTH)) as found,
    ):
        for seen in found:
            # nobody is seen in a frame that is not there, and the picture stands still
            picture = seen or picture
            assert picture is not None
            tracker.add_faces(picture, tracker.detect(picture) if seen else [])
            bar.advance()
    assert first is not None
    return tracker, first


def reage_sequence(
    reager: Reager,
    sequence: FrameSequence,
    output: FramePattern,
    settings: ReageSettings,
    *,
    colorspace: str | None = None,
    passes: Sequence[PassName] = ("result",),
    passes_as: PassesAs | None = None,
    missing: MissingFrames = "refuse",
    resume: bool = False,
    provenance: bool = True,
) -> SequenceReport:
    """Re-age the faces of an image sequence.

    Args:
        sequence, output: frames in, and the names of the frames out; the numbers stay.
        settings: who becomes how old; keyframes go by the frames' numbers.
        colorspace: that of EXR frames, see :class:`~.colour.PlateColour`; by the files' chromaticities where absent.
        passes: what is written beside the result, see :mod:`~.passes`.
        passes_as: ``layers`` of the result's own files (EXR only, and its default), or ``files`` of their own.
        missing: whether frames that are missing between the first and the last are an error, or a gap.
        resume: leave out the frames that an interrupted run of the same job has written.
        provenance: mark changed EXR frames as edited by a generative model.

    Raises:
        UserError: no face, missing or broken frames, frames of different kinds, an unknown colour space.
    """
    check_missing(sequence, missing)
    colour, colour_words = choose_colour(sequence.pattern.path(sequence.first), colorspace)
    for images in (settings.mask, settings.age_map):
        if isinstance(images, FrameImages):
            images.check_numbers(sequence.numbers)
    tracker, first = look_for_faces(sequence, colour)
    for images in (settings.mask, settings.age_map):
        if isinstance(images, FrameImages):
            images.check_sizes(sequence.numbers, *first.display_size())
    tracks = tracker.finish()
    if not tracks:
        raise NoFaceError(f"no face found in the {len(sequence.numbers)} frames of {sequence}; are they upright?")
    if isinstance(first, ExrFrame) and isinstance(settings.faces, tuple):
        left, top = first.image.origin
        settings = replace(settings, faces=(settings.faces[0] - left, settings.faces[1] - top))
    persons = choose_persons(tracks, settings, 0, first.size)
    jobs, reports = make_jobs(reager, tracks, persons, settings)
    report = SequenceReport(colour_words, cuts=len(tracker.cuts), missing=sequence.missing, persons=reports)
    output.folder.mkdir(parents=True, exist_ok=True)
    writer = _Writer(sequence, output, passes, passes_as, first, provenance)
    stamps = [_stamp(sequence.pattern.path(number)) for number in sequence.numbers]
    facts = (str(sequence), stamps, settings, colour_words, tuple(passes), passes_as, provenance, reager.fingerprint)
    log = FrameLog(output, fingerprint(*facts), resume)
    todo = [number for number in sequence.numbers if not log.has(number, writer.paths(number))]
    report.frames_resumed = len(sequence.numbers) - len(todo)
    notes: set[str] = set()
    with progress_bar("re-ageing", len(todo), "frames") as bar:

        def finish(item: _Work) -> None:
            notes.update(writer.write(item))
            log.add(item.number)
            report.frames += 1
            report.changed_frames += bool(item.faces)
            bar.advance()

        work = _frames_at_work(sequence, todo, colour, jobs, settings)
        with contextlib.closing(ahead(work, _DEPTH)) as items, Behind(finish, _DEPTH) as behind:
            for item in through_network(reager, items, _DEPTH):
                behind.put(item)
    log.remove()
    report.notes += sorted(notes)
    return report


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _frames_at_work(
    sequence: FrameSequence,
    numbers: Sequence[int],
    colour: PlateColour | None,
    jobs: Sequence[FaceJob],
    settings: ReageSettings,
) -> Iterator[_Work]:
    """Read the frames of ``numbers`` and those beside them, to whose masks theirs are steadied; cut the faces out."""
    wanted = set(numbers)
    places = {place for place, number in enumerate(sequence.numbers) if number in wanted}
    for place, number in enumerate(sequence.numbers):
        if places.isdisjoint(range(place - REACH, place + REACH + 1)):
            continue
        frame = read_frame(sequence.pattern.path(number), colour)
        index = number - sequence.first
        active = active_jobs(jobs, index)
        if not active:
            yield _Work(number=number, frame=frame, leading=number not in wanted)
            continue
        masks, ages = (_over_frame(images, number, frame) for images in (settings.mask, settings.age_map))
        faces = plan_frame(active, index, number, settings, frame.read_crop, masks, ages)
        yield _Work(faces, leading=number not in wanted, number=number, frame=frame, frame_mask=masks)


def _over_frame(images: object, number: int, frame: PlateFrame) -> np.ndarray | None:
    """A painted image of the whole view, as far as it lies over the stored picture."""
    if not isinstance(images, FrameImages):
        return None
    return frame.from_display(images.of_number(number, *frame.display_size()))


class _Writer:
    """Puts deltas into frames, and writes frames and their passes."""

    def __init__(
        self,
        sequence: FrameSequence,
        output: FramePattern,
        passes: Sequence[PassName],
        passes_as: PassesAs | None,
        first: PlateFrame,
        provenance: bool,
    ) -> None:
        self._source, self._output, self._passes = sequence.pattern, output, passes
        is_exr = isinstance(first, ExrFrame)
        self._layers = is_exr and passes_as != "files"
        wanted = tuple(name for name in passes if name == "aligned") if self._layers else tuple(passes)
        header = lossless(first.image.header)[0] if isinstance(first, ExrFrame) else None
        self._files = PassFiles(output, wanted, header)
        self._provenance = provenance

    def paths(self, number: int) -> list[Path]:
        """All files that a frame leaves behind, but for aligned faces."""
        return [self._output.path(number), *self._files.paths(number)]

    def write(self, item: _Work) -> tuple[str, ...]:
        """Write one frame; returns what could not be kept."""
        frame = item.frame
        assert frame is not None
        path = self._output.path(item.number)
        with_passes = tuple(self._passes) != ("result",)
        added = self._change(item, frame, with_passes) if item.faces else None
        passes = None
        if with_passes:
            passes = make_passes(item.faces, added, frame.size, item.frame_mask)
            self._files.write(item.number, passes)
        layers = exr_layers(passes, self._passes) if passes is not None and self._layers else {}
        if not item.faces and not layers and path.suffix == self._source.suffix:
            # nothing to do: the file itself
            with atomic_path(path) as temporary:
                shutil.copyfile(self._source.path(item.number), temporary)
            return ()
        return frame.write(path, layers, self._provenance and bool(item.faces))

    def _change(self, item: _Work, frame: PlateFrame, tell: bool) -> Patch | None:
        patches = []
        for face in item.faces:
            assert face.delta is not None
            patches.append(spread(face.delta, face.to_frame, *frame.size))
        delta = sum_patches(patches)
        return frame.add(delta if item.frame_mask is None else delta.weighted(item.frame_mask), tell)
