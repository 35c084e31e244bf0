"""Films in and out through PyAV: every frame keeps its own time, every other stream is copied packet by packet."""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from fran_lightning.errors import UserError
from fran_lightning.reaging.film_metadata import READ_XMP, append_xmp_box, film_metadata

if TYPE_CHECKING:
    import av

FILM_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mxf", ".ts", ".mts", ".m2ts", ".mpg", ".gif")
#: What is written where the input's own codec cannot be, by suffix; else H.264.
_FALLBACK_ENCODER = {".webm": "libvpx-vp9"}
#: Decoder name -> encoder of the same kind.
_ENCODERS = {
    "h264": "libx264",
    "hevc": "libx265",
    "vp8": "libvpx",
    "vp9": "libvpx-vp9",
    "libvpx-vp9": "libvpx-vp9",
    "av1": "libsvtav1",
    "libdav1d": "libsvtav1",
    "prores": "prores_ks",
    "dnxhd": "dnxhd",
    "ffv1": "ffv1",
    "huffyuv": "huffyuv",
    "utvideo": "utvideo",
    "mjpeg": "mjpeg",
    "mpeg4": "mpeg4",
    "png": "png",
    "qtrle": "qtrle",
    "rawvideo": "rawvideo",
}
#: Options that make an encoder visually lossless; {quality} is its constant-quality number.
_QUALITY = {
    "libx264": ({"crf": "{quality}", "preset": "superfast", "coder": "vlc"}, 13),
    "libx265": ({"crf": "{quality}", "preset": "fast", "x265-params": "log-level=error"}, 16),
    "libvpx-vp9": ({"crf": "{quality}", "b:v": "0", "row-mt": "1", "cpu-used": "4"}, 18),
    "libsvtav1": ({"crf": "{quality}", "preset": "8"}, 20),
    "mjpeg": ({"qmin": "{quality}", "qmax": "{quality}"}, 2),
    "mpeg4": ({"qmin": "{quality}", "qmax": "{quality}"}, 2),
    "ffv1": ({"level": "3", "slices": "4"}, None),
}


@dataclass(frozen=True)
class FilmInfo:
    """What a film says about itself.

    Attributes:
        frames: how many there are, by the container or by duration and rate; None where neither says.
        rate: frames per second on average.
        quarter_turns: how often a player turns the stored picture counter-clockwise by 90 degrees.
    """

    path: Path
    codec: str
    width: int
    height: int
    pixel_format: str
    frames: int | None
    rate: Fraction
    quarter_turns: int


@dataclass
class DecodeReport:
    """What went wrong while decoding."""

    broken_packets: int = 0
    damaged_frames: int = 0


def open_film(path: str | os.PathLike[str]) -> av.container.InputContainer:
    """Open a film for reading.

    Raises:
        UserError: missing, broken, or without pictures.
    """
    import av

    if not Path(path).is_file():
        raise UserError(f"film {path} does not exist")
    try:
        # a wrong byte in metadata must not stop a film
        container = av.open(str(path), metadata_errors="replace", options=READ_XMP)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise UserError(f"film {path} is broken or no film ({getattr(error, 'strerror', error)})") from error
    if not _pictures(container):
        container.close()
        raise UserError(f"film {path} has no pictures in it")
    return container


def _pictures(container: av.container.InputContainer) -> list[av.VideoStream]:
    """Video streams that are films, not cover art."""
    import av

    attached = av.stream.Disposition.attached_pic
    return [stream for stream in container.streams.video if not stream.disposition & attached]


def read_info(path: str | os.PathLike[str]) -> FilmInfo:
    """Look at the header and the first frame.

    Raises:
        UserError: as :func:`open_film`, or no frame can be decoded.
    """
    with open_film(path) as container:
        stream = _pictures(container)[0]
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        frames = stream.frames or None
        if frames is None and stream.duration and stream.time_base:
            frames = max(1, round(stream.duration * stream.time_base * rate))
        elif frames is None and container.duration:
            frames = max(1, round(container.duration * rate / 1_000_000))
        first = next(decode(container, DecodeReport()), None)
        if first is None:
            raise UserError(f"film {path} is broken: not one frame can be decoded")
        context = stream.codec_context
        turns = round(first.rotation / 90) % 4
        return FilmInfo(
            Path(path), context.name, first.width, first.height, first.format.name, frames, Fraction(rate), turns
        )


def decode(container: av.container.InputContainer, report: DecodeReport) -> Iterator[av.VideoFrame]:
    """All frames in the order of their times; what cannot be decoded is counted in ``report`` and passed over."""
    for _, frames in decode_packets(container, report, only_pictures=True):
        yield from frames


def decode_packets(
    container: av.container.InputContainer, report: DecodeReport, only_pictures: bool = False
) -> Iterator[tuple[av.Packet | None, list[av.VideoFrame]]]:
    """Each packet of the film: (None, frames) for pictures, (packet, []) for any other stream."""
    import av

    pictures = _pictures(container)[0]
    pictures.thread_type = "AUTO"
    clock = _Clock(pictures)
    packets = container.demux(pictures) if only_pictures else container.demux()
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (av.FFmpegError, OSError):
            # the file ends in the middle of a packet: what came before is good
            report.broken_packets += 1
            packets = None
            frames = clock.set(_flush(pictures, report))
            if frames:
                yield None, frames
            return
        if packet.stream is not pictures:
            if packet.dts is not None:
                yield packet, []
            continue
        try:
            frames = packet.decode()
        except av.FFmpegError:
            report.broken_packets += 1
            continue
        report.damaged_frames += sum(frame.is_corrupt for frame in frames)
        yield None, clock.set(frames)


class _Clock:
    """Gives times to frames that have none, as in raw streams: one after the other at the film's rate."""

    def __init__(self, stream: av.VideoStream) -> None:
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        self._time_base = stream.time_base or 1 / rate
        self._step = max(1, round(1 / (rate * self._time_base)))
        self._next = 0

    def set(self, frames: list[av.VideoFrame]) -> list[av.VideoFrame]:
        for frame in frames:
            if frame.pts is None:
                frame.pts, frame.time_base = self._next, self._time_base
            self._next = frame.pts + self._step
        return frames


def _flush(stream: av.VideoStream, report: DecodeReport) -> list[av.VideoFrame]:
    import av

    try:
        return stream.decode(None)
    except av.FFmpegError:
        report.broken_packets += 1
        return []


def choose_encoder(info: FilmInfo, suffix: str, codec: str | None = None) -> tuple[str, str]:
    """The encoder, and the pixel format it gets, for a film of ``info``'s kind under ``suffix``.

    The same codec and pixel format as the input wherever that encoder and container exist.

    Raises:
        UserError: ``codec`` is unknown, or does not go into this container.
    """
    import av

    suffix = suffix.lower()
    if suffix not in FILM_SUFFIXES:
        raise UserError(f"cannot write a film as {suffix or 'a file without suffix'}; choose .mp4, .mov or .mkv")
    if suffix == ".gif":
        raise UserError("a GIF's 256 colours cannot hold a re-aged face; give the output the suffix .mp4, .mov or .mkv")
    wanted = [codec] if codec else [_ENCODERS.get(info.codec), _FALLBACK_ENCODER.get(suffix), "libx264", "ffv1"]
    for name in filter(None, wanted):
        try:
            encoder = av.Codec(name, "w")
        except (av.FFmpegError, ValueError) as error:
            if codec:
                raise UserError(
                    f"there is no encoder {codec!r} here; try libx264, libx265, prores_ks or ffv1"
                ) from error
            continue
        if not _container_takes(suffix, encoder):
            if codec:
                raise UserError(f"{suffix} files do not hold {codec}; choose another suffix, .mkv holds anything")
            continue
        formats = [video_format.name for video_format in encoder.video_formats or ()]
        chosen = _closest_format(info.pixel_format, formats)
        if chosen is not None:
            return name, chosen
    raise UserError(f"no encoder here writes {info.pixel_format} into {suffix}; choose .mkv, or --codec ffv1")


def _container_takes(suffix: str, encoder: av.Codec) -> bool:
    import av

    names = {".mkv": "matroska", ".ts": "mpegts", ".mts": "mpegts", ".m2ts": "mpegts", ".m4v": "mp4", ".mpg": "mpeg"}
    with av.open(io.BytesIO(), "w", format=names.get(suffix, suffix[1:])) as probe:
        return encoder.canonical_name in probe.supported_codecs


def _closest_format(name: str, formats: Sequence[str]) -> str | None:
    """``name`` itself, its planar twin, or a format that holds as much and more."""
    from fran_lightning.reaging.planes import planar_format

    if not formats or name in formats:
        return name
    planar = planar_format(name)
    if planar in formats:
        return planar
    if planar.startswith("yuvj") and planar.replace("yuvj", "yuv") in formats:
        return planar.replace("yuvj", "yuv")
    import av

    source = av.VideoFormat(planar)
    depth = source.components[0].bits
    step = _chroma_step(source)
    candidates = []
    for other in formats:
        target = av.VideoFormat(other)
        bits = min(component.bits for component in target.components[:3])
        if bits < depth or target.name == "pal8":
            continue
        grey_source, grey_target = len(source.components) < 3, len(target.components) < 3
        if grey_target and not grey_source:
            continue
        finer = _chroma_step(target)
        if finer[0] > step[0] or finer[1] > step[1]:
            continue
        changes_model = target.is_rgb != source.is_rgb
        loses_alpha = any(c.is_alpha for c in source.components) and not any(c.is_alpha for c in target.components)
        gains_alpha = any(c.is_alpha for c in target.components) and not any(c.is_alpha for c in source.components)
        candidates.append((changes_model, loses_alpha, gains_alpha, bits, len(target.components), -finer[0], other))
    return min(candidates)[-1] if candidates else None


def _chroma_step(video_format: av.VideoFormat) -> tuple[int, int]:
    return 64 // video_format.chroma_width(64), 64 // video_format.chroma_height(64)


class FilmWriter:
    """Writes a film with the timing, tags and other streams of a source film.

    Use as a context manager. Frames go in by :meth:`write`, packets of other streams by :meth:`copy`.
    """

    def __init__(
        self,
        path: Path,
        source: av.container.InputContainer,
        encoder: str,
        pixel_format: str,
        quality: int | None = None,
        copies: bool = True,
        edited: bool = False,
    ) -> None:
        """Open the file.

        Args:
            quality: the encoder's constant-quality number, None is visually lossless.
            copies: whether to take over the other streams.
            edited: whether the metadata say that a generative model edited the pictures.
        """
        pictures = _pictures(source)[0]
        self._pixel_format = pixel_format
        self._container = _open_output(path)
        self.notes: list[str] = []
        settings, standard = _QUALITY.get(encoder, ({}, None))
        number = standard if quality is None else quality
        options = {key: value.format(quality=number) for key, value in settings.items()}
        rate = pictures.average_rate or pictures.guessed_rate or Fraction(25)
        self._stream = self._container.add_stream(encoder, rate=rate, options=options)
        self._tag(pictures)
        self._copies = _add_copies(self._container, source, pictures, self.notes) if copies else {}
        self._path = path
        self._metadata = film_metadata(source.metadata, self._container.format.name, edited)
        self._container.metadata.update(self._metadata.tags)
        self.notes += self._metadata.notes
        self._opened = False

    def _tag(self, pictures: av.VideoStream) -> None:
        context, source = self._stream.codec_context, pictures.codec_context
        context.width, context.height = source.width, source.height
        context.pix_fmt = self._pixel_format
        # several frames at once where the encoder can: the parts of one frame keep fewer cores busy
        context.thread_type = "AUTO"
        # the source's clock, so that every time is kept exactly
        context.time_base = pictures.time_base
        self._stream.time_base = pictures.time_base
        context.color_range, context.colorspace = source.color_range, source.colorspace
        context.color_primaries, context.color_trc = source.color_primaries, source.color_trc
        if pictures.sample_aspect_ratio:
            context.sample_aspect_ratio = pictures.sample_aspect_ratio
        self._stream.metadata.update(pictures.metadata)

    def copy(self, packet: av.Packet) -> None:
        """Write a packet of another stream, bit by bit as it is."""
        stream = self._copies.get(packet.stream_index)
        if stream is not None:
            packet.stream = stream
            self._container.mux(packet)

    def write(self, frame: av.VideoFrame) -> None:
        """Encode a frame at its own time."""
        import av

        if not self._opened:
            _set_display_matrix(self._stream, frame)
            self._opened = True
        if frame.format.name != self._pixel_format:
            frame = frame.reformat(format=self._pixel_format)
        # the encoder chooses its own key frames
        frame.pict_type = av.video.frame.PictureType.NONE
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write what the encoder still holds, and the trailer."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        if self._metadata.box is not None:
            append_xmp_box(self._path, self._metadata.box)

    def __enter__(self) -> FilmWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.finish()
        else:
            # closing writes a trailer, which may fail for the same reason as what came before
            with contextlib.suppress(Exception):
                self._container.close()


def _open_output(path: Path) -> av.container.OutputContainer:
    import av

    # timestamps as they are: no shift to zero
    return av.open(str(path), "w", options={"avoid_negative_ts": "disabled"})


def _set_display_matrix(stream: av.VideoStream, frame: av.VideoFrame) -> None:
    for item in frame.side_data:
        if item.type.name == "DISPLAYMATRIX":
            stream.set_display_matrix(struct.unpack("<9i", bytes(item)[:36]))


def _add_copies(
    container: av.container.OutputContainer,
    source: av.container.InputContainer,
    pictures: av.VideoStream,
    notes: list[str],
) -> dict[int, av.stream.Stream]:
    """Streams of ``container`` for the other streams of ``source``, by their index there."""
    import av

    copies = {}
    for stream in source.streams:
        if stream is pictures:
            continue
        try:
            if stream.type not in ("audio", "subtitle", "video"):
                raise ValueError(stream.type)
            codec = stream.codec_context.codec.canonical_name
            if container.format.name != "matroska" and codec not in container.supported_codecs:
                raise ValueError(codec)
            copy = container.add_stream_from_template(stream)
            copy.metadata.update(stream.metadata)
            copy.disposition = stream.disposition
            copies[stream.index] = copy
        except (av.FFmpegError, ValueError, AttributeError):
            notes.append(f"the {stream.type} stream {stream.index} does not go into {container.format.name}: left out")
    return copies


def join_films(
    path: Path, parts: Sequence[Path], source: av.container.InputContainer, notes: list[str], edited: bool = False
) -> None:
    """Write the pictures of ``parts``, one after the other, with the other streams of ``source``; nothing is encoded.

    The parts were written by :class:`FilmWriter` with the same settings; their frames keep their times. ``edited``:
    whether the metadata say that a generative model edited the pictures.
    """
    with _open_output(path) as container:
        pictures = _pictures(source)[0]
        with open_film(parts[0]) as first:
            stream = container.add_stream_from_template(_pictures(first)[0])
            stream.time_base = _pictures(first)[0].time_base
            _set_display_matrix(stream, next(decode(first, DecodeReport())))
        stream.metadata.update(pictures.metadata)
        copies = _add_copies(container, source, pictures, notes)
        metadata = film_metadata(source.metadata, container.format.name, edited)
        container.metadata.update(metadata.tags)
        notes += metadata.notes
        waiting = _picture_packets(parts)
        picture = next(waiting, None)
        for packet in source.demux([stream for stream in source.streams if stream.index in copies] or None):
            if packet.stream_index not in copies or packet.dts is None:
                continue
            # in the order of their times, or the container would have to hold everything back
            while picture is not None and picture.dts * picture.time_base <= packet.dts * packet.time_base:
                picture.stream = stream
                container.mux(picture)
                picture = next(waiting, None)
            packet.stream = copies[packet.stream_index]
            container.mux(packet)
        while picture is not None:
            picture.stream = stream
            container.mux(picture)
            picture = next(waiting, None)
    if metadata.box is not None:
        append_xmp_box(path, metadata.box)


def _picture_packets(parts: Sequence[Path]) -> Iterator[av.Packet]:
    """All packets with decoding times that rise, also across the parts."""
    last: int | None = None
    for part in parts:
        with open_film(part) as container:
            for packet in container.demux(_pictures(container)[0]):
                if packet.dts is None:
                    continue
                if last is not None and packet.dts <= last:
                    packet.dts = last + 1
                last = packet.dts
                yield packet
