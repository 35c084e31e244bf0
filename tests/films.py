"""Small synthetic films with a real face, for the tests of film re-ageing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from faces import portrait

#: lossless, so that decoded frames can be compared to the bit
LOSSLESS = {
    "libx264": {"qp": "0", "preset": "ultrafast"},
    "ffv1": {},
    "libx265": {"x265-params": "lossless=1:log-level=error"},
}


def moving_portrait(index: int) -> np.ndarray:
    """The portrait, carried round a small circle."""
    shift = (round(6 * np.cos(index / 3)), round(4 * np.sin(index / 3)))
    return np.roll(portrait(), shift, axis=(1, 0))


def write_film(
    path: Path,
    pictures: Sequence[np.ndarray] | int,
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    times: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 12800),
    sound: bool = False,
    subtitles: bool = False,
    rotation: int = 0,
    prepare: Callable[[av.VideoStream], None] | None = None,
) -> Path:
    """A film of uint8 RGB pictures, or of so many of the moving portrait; 25 per second unless ``times`` are given."""
    if isinstance(pictures, int):
        pictures = [moving_portrait(index) for index in range(pictures)]
    step = round(1 / (25 * time_base))
    times = [index * step for index in range(len(pictures))] if times is None else times
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=LOSSLESS.get(codec, {}))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = time_base
        stream.time_base = time_base
        if rotation:
            stream.set_display_rotation(rotation)
        if prepare is not None:
            prepare(stream)
        audio = container.add_stream("aac", rate=44100) if sound else None
        text = container.add_mux_stream("mov_text") if subtitles else None
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            container.mux(_sound_packets(audio, float(times[-1] * time_base) + 0.04))
        if text is not None:
            container.mux(_subtitle_packets(text))
    return path


def _sound_packets(stream: av.AudioStream, seconds: float) -> list[av.Packet]:
    packets = []
    noise = np.random.default_rng(0).normal(size=int(seconds * 44100)).astype(np.float32) * 0.1
    for start in range(0, len(noise) - 1024, 1024):
        frame = av.AudioFrame.from_ndarray(noise[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 44100, start
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def _subtitle_packets(stream: av.subtitles.stream.SubtitleStream) -> list[av.Packet]:
    text = b"Hello"
    packet = av.Packet(len(text).to_bytes(2, "big") + text)
    packet.stream, packet.time_base = stream, Fraction(1, 1000)
    packet.pts = packet.dts = 40
    packet.duration = 200
    return [packet]


def frames_of(path: Path) -> list[av.VideoFrame]:
    """All decoded frames."""
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def times_of(path: Path) -> list[Fraction]:
    """The time of every frame in seconds."""
    return [frame.pts * frame.time_base for frame in frames_of(path)]


def planes_of(frame: av.VideoFrame) -> list[np.ndarray]:
    """Copies of all planes."""
    from fran_lightning.reaging.planes import plane_array

    return [plane_array(frame, index).copy() for index in range(len(frame.planes))]


def packets_of(path: Path, kind: str) -> list[tuple[bytes, Fraction]]:
    """Bytes and time of every packet of the streams of one kind."""
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        return (
            [(bytes(p), p.pts * p.time_base) for p in container.demux(streams) if p.dts is not None] if streams else []
        )
