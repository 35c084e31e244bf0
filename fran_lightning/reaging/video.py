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

from fran_lightning.files import atomic_path
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
from fran_lightning.reaging.frame_picture import FramePicture
from fran_lightning.reaging.jobs import (
    STAGE_DEPTH,
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
from fran_lightning.reaging.parts import PartsWriter, fingerprint
from fran_lightning.reaging.passes import PassName, film_pass_files, film_passes
from fran_lightning.reaging.pipeline import Behind, ahead
from fran_lightning.reaging.planes import PlaneLayout, add_delta_to_planes, as_planar, read_crop
from fran_lightning.reaging.preview import PreviewKind, PreviewWriter
from fran_lightning.reaging.reager import Reager
from fran_lightning.reaging.settings import ReageSettings
from fran_lightning.reaging.tracks import SEARCH_SIDE, Tracker

if TYPE_CHECKING:
    import av


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


@dataclass
class _Work(FrameWork):
    """A frame on its way through the stages, or a packet of another stream."""

    packet: av.Packet | None = None
    frame: av.VideoFrame | None = None
    layout: PlaneLayout | None = None
    frame_mask: np.ndarray | None = None
    before: Any = None


def look_for_faces(path: Path, info: FilmInfo) -> Tracker:
    """The first pass: who is where in every frame."""
    tracker = Tracker(quarter_turns=info.quarter_turns)

    def pictures(container: av.container.InputContainer) -> Iterator[FramePicture]:
        for frame in decode(container, DecodeReport()):
            picture = FramePicture(frame, info.quarter_turns)
            # the copy that all searches begin with is made here, while they run in another thread
            picture.reduced(SEARCH_SIDE)
            yield picture

    with contextlib.ExitStack() as stack:
        container = stack.enter_context(open_film(path))
        bar = stack.enter_context(progress_bar("looking for faces", info.frames, "frames"))
        decoded = stack.enter_context(contextlib.closing(ahead(pictures(container), STAGE_DEPTH)))
        searched = ((picture, tracker.detect(picture)) for picture in decoded)
        for picture, faces in stack.enter_context(contextlib.closing(ahead(searched, STAGE_DEPTH))):
            tracker.add_faces(picture, faces)
            bar.advance()
    return tracker


def _frames_at_work(
    container: av.container.InputContainer,
    jobs: Sequence[FaceJob],
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
            yield _Work(packet=packet, is_frame=False)
        for frame in frames:
            if index >= skip - REACH:
                work = _cut_out(frame, index, jobs, settings, info, keep_original)
                # masks look a little back, so a continued job begins a little earlier
                work.leading = index < skip
                yield work
            index += 1


def _cut_out(
    frame: av.VideoFrame,
    index: int,
    jobs: Sequence[FaceJob],
    settings: ReageSettings,
    info: FilmInfo,
    keep_original: bool,
) -> _Work:
    active = active_jobs(jobs, index)
    before = frame.to_ndarray(format="rgb24") if keep_original else None
    if not active:
        return _Work(frame=frame, before=before)
    frame = as_planar(frame)
    # planes that may be written to: the decoder still needs the ones it gave out
    frame.make_writable()
    layout = PlaneLayout.of(frame)
    frame_mask = _over_frame(settings.mask, index, info)
    frame_ages = _over_frame(settings.age_map, index, info)

    def read(to_frame: np.ndarray, size: int) -> np.ndarray:
        return read_crop(frame, layout, to_frame, size)

    faces = plan_frame(active, index, index + 1, settings, read, frame_mask, frame_ages)
    return _Work(frame=frame, layout=layout, faces=faces, frame_mask=frame_mask, before=before)


def _over_frame(images: object, index: int, info: FilmInfo) -> np.ndarray | None:
    """A painted image of the upright picture, turned the way the frame is stored."""
    if not isinstance(images, FrameImages):
        return None
    height, width = (info.width, info.height) if info.quarter_turns % 2 else (info.height, info.width)
    return np.ascontiguousarray(np.rot90(images.at(index, height, width), -info.quarter_turns))


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
    provenance: bool = True,
    passes: Sequence[PassName] = ("result",),
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
        provenance: say in the container's metadata that a generative model edited the film.
        passes: what is written beside the film, in ``<output without suffix>.passes``, see :mod:`~.passes`.

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
    jobs, reports = make_jobs(reager, tracks, persons, settings)
    report = FilmReport(cuts=len(tracker.cuts), persons=reports)
    output.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(atomic_path(output))
        container = stack.enter_context(open_film(source))
        shown = None
        if preview is not None:
            preview_path = output.with_name(f"{output.stem}_preview.mp4")
            shown = PreviewWriter(stack.enter_context(atomic_path(preview_path)), info, preview, provenance)
            stack.enter_context(shown)
        bar = stack.enter_context(progress_bar("re-ageing", tracker.frames, "frames"))
        parts = None
        if resume:
            looks = source.stat().st_size, source.stat().st_mtime_ns, settings, smoothing, reager.fingerprint
            job = fingerprint(*looks, encoder, pixel_format, quality, tuple(passes))

            def open_part(path: Path) -> FilmWriter:
                return FilmWriter(path, container, encoder, pixel_format, quality, copies=False)

            parts = PartsWriter(output, job, open_part)
            report.frames_resumed = parts.frames_done
            bar.advance(parts.frames_done)
            writer: FilmWriter | PartsWriter = parts
        else:
            writer = stack.enter_context(
                FilmWriter(temporary, container, encoder, pixel_format, quality, edited=provenance)
            )

        pass_files = None
        if tuple(passes) != ("result",):
            pass_files = stack.enter_context(film_pass_files(output, passes, keep=resume))

        def finish(item: _Work) -> None:
            if item.packet is not None:
                if isinstance(writer, FilmWriter):
                    writer.copy(item.packet)
                return
            assert item.frame is not None
            for face in item.faces:
                assert item.layout is not None
                assert face.delta is not None
                add_delta_to_planes(item.frame, item.layout, face.delta, face.to_frame, item.frame_mask)
            if shown is not None:
                shown.write(item.before, item.frame)
            writer.write(item.frame)
            report.frames += 1
            if pass_files is not None:
                shape = item.frame.height, item.frame.width
                made = film_passes(item.faces, shape, item.frame_mask, info.quarter_turns)
                pass_files.write(report.frames_resumed + report.frames, made)
            report.changed_frames += bool(item.faces)
            bar.advance()

        work = _frames_at_work(
            container, jobs, settings, info, report.decoding, report.frames_resumed, shown is not None
        )
        with contextlib.closing(ahead(work, STAGE_DEPTH)) as items, Behind(finish, STAGE_DEPTH) as behind:
            for item in through_network(reager, items):
                behind.put(item)
        if parts is not None:
            with open_film(source) as sound:
                parts.join(temporary, sound, report.notes, provenance)
        else:
            assert isinstance(writer, FilmWriter)
            report.notes += writer.notes
    if parts is not None:
        parts.remove()
    return report
