"""Frames per second and peak memory of `fran reage` on a film, with and without the network's share."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.machine import peak_resident_bytes
from benchmarks.processes import measure_apart
from benchmarks.table import Table
from fran_lightning.progress import progress_bar
from fran_lightning.reaging.pipeline import SLEEPING_THREADS

NAME = "reage-film"

#: Frames after which the film begins again, and standard deviation of its grain in 8-bit codes.
_PERIOD, _GRAIN = 125, 2.0

_RATE = Fraction(25)

NetworkKind = Literal["none", "unet"]
ParserKind = Literal["none", "auto"]
#: What finds the skin, in words.
SKIN_BY: dict[ParserKind, str] = {"none": "landmarks", "auto": "face parser"}


@dataclass(frozen=True)
class Setting:
    """One film to re-age; ``crop`` pixels are what the network sees, ``parser`` finds the skin."""

    frames: int
    width: int
    height: int
    network: NetworkKind
    parser: ParserKind
    crop: int
    device: str


@dataclass(frozen=True)
class Figures:
    """Whole frames per second, of both passes together, and the process's peak memory."""

    frames_per_second: float
    peak_megabytes: float


class Nothing(nn.Module):
    """A generator that costs nothing, to measure all that is not the network."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :3] * 0.1


def run(quick: bool, device: torch.device) -> Table:
    """1080p without the network at two lengths (memory must stay flat), and end to end."""
    name = str(device)
    short, long = (20, 60) if quick else (300, 3000)
    settings = [Setting(frames, 1920, 1080, "none", "none", 512, name) for frames in (short, long)]
    settings.append(Setting(short, 1920, 1080, "none", "auto", 512, name))
    if device.type == "cuda":
        settings += [Setting(short, 1920, 1080, "unet", "auto", crop, name) for crop in (512, 1024)]
    else:
        settings.append(Setting(8 if quick else 40, 1920, 1080, "unet", "auto", 256 if quick else 512, name))
    rows = []
    with progress_bar("Re-ageing films", len(settings), "films") as bar:
        for setting in settings:
            figures = measure_apart(measure, setting, SLEEPING_THREADS)
            cells = [None, None] if figures is None else [figures.frames_per_second, figures.peak_megabytes]
            network = "none" if setting.network == "none" else f"FRANUNet(64, 4) at {setting.crop}"
            film = f"{setting.width} x {setting.height}"
            rows.append([film, setting.frames, network, SKIN_BY[setting.parser], *cells])
            bar.advance()
    return Table(
        title="Re-ageing: films",
        columns=["film", "frames", "network", "skin by", "frames/s", "peak memory: MB"],
        rows=rows,
        notes=(
            "An H.264 film (12 Mbit/s, grain) with a moving face (square of 620 pixels), re-aged to H.264. Both passes "
            "(decoding and looking for faces; decoding, cutting out, network, adding, encoding) and the loading of the "
            "models that look for faces included. Without network: a generator that costs nothing, so all the rest is "
            "measured, with the face parser, which is a network too, and without. Peak memory is the process's, "
            "libraries and models included."
        ),
    )


def measure(setting: Setting) -> Figures:
    """Re-age a temporary film."""
    from fran_lightning.networks.unet import FRANUNet
    from fran_lightning.reaging.reager import Reager
    from fran_lightning.reaging.settings import ReageSettings
    from fran_lightning.reaging.video import reage_film

    torch.manual_seed(0)
    generator = Nothing() if setting.network == "none" else FRANUNet()
    reager = Reager(generator, device=setting.device, parser=setting.parser)
    with tempfile.TemporaryDirectory(prefix="fran-bench-") as folder:
        source = Path(folder) / "film.mp4"
        write_film(source, setting)
        start = time.perf_counter()
        reage_film(reager, source, Path(folder) / "out.mp4", ReageSettings(size=setting.crop))
        seconds = time.perf_counter() - start
    return Figures(setting.frames / seconds, peak_resident_bytes() / 2**20)


def write_film(path: Path, setting: Setting) -> None:
    """NASA's portrait of Eileen Collins (scikit-image), enlarged, carried round a circle, and with grain."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=_RATE, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = setting.width, setting.height, "yuv420p"
        packets = []
        for picture in _one_period(setting):
            packets += stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24"))
        packets += stream.encode(None)
        starts = [packet.pts for packet in packets], [packet.dts for packet in packets]
        for first in range(0, setting.frames, _PERIOD):
            for packet, pts, dts in zip(packets, *starts, strict=True):
                if first + pts < setting.frames:
                    packet.pts, packet.dts, packet.stream = pts + first, dts + first, stream
                    packet.time_base = 1 / _RATE
                    container.mux(packet)


def _one_period(setting: Setting) -> Iterator[np.ndarray]:
    """uint8 RGB pictures (H, W, 3)."""
    import cv2
    from skimage.data import astronaut

    size = (setting.width, setting.height)
    scene = cv2.resize(astronaut()[:288], size, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    random = np.random.default_rng(0)
    grains = []
    for _ in range(4):
        grain = cv2.GaussianBlur(random.normal(size=(setting.height, setting.width)).astype(np.float32), (0, 0), 0.7)
        grains.append(grain * np.float32(_GRAIN / grain.std()))
    for index in range(min(_PERIOD, setting.frames)):
        turn = 2 * np.pi * index / _PERIOD
        moved = np.roll(scene, (round(40 * np.sin(turn)), round(60 * np.cos(turn))), axis=(0, 1))
        # another part of another field of grain in every frame
        grain = np.roll(grains[index % len(grains)], random.integers(0, 1000, 2), axis=(0, 1))
        yield np.clip(np.rint(moved + grain[..., None]), 0, 255).astype(np.uint8)
