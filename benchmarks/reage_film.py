"""Frames per second and peak memory of `fran reage` on a film, with and without the network's share."""

from __future__ import annotations

import tempfile
import time
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

NAME = "reage-film"

NetworkKind = Literal["none", "unet"]


@dataclass(frozen=True)
class Setting:
    """One film to re-age; ``crop`` pixels are what the network sees."""

    frames: int
    width: int
    height: int
    network: NetworkKind
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
    settings = [Setting(frames, 1920, 1080, "none", 512, name) for frames in (short, long)]
    if device.type == "cuda":
        settings += [Setting(short, 1920, 1080, "unet", crop, name) for crop in (512, 1024)]
    else:
        settings.append(Setting(8 if quick else 40, 1920, 1080, "unet", 256 if quick else 512, name))
    rows = []
    with progress_bar("Re-ageing films", len(settings), "films") as bar:
        for setting in settings:
            figures = measure_apart(measure, setting)
            cells = [None, None] if figures is None else [figures.frames_per_second, figures.peak_megabytes]
            network = "none" if setting.network == "none" else f"FRANUNet(64, 4) at {setting.crop}"
            rows.append([f"{setting.width} x {setting.height}", setting.frames, network, *cells])
            bar.advance()
    return Table(
        title="Re-ageing: films",
        columns=["film", "frames", "network", "frames/s", "peak memory: MB"],
        rows=rows,
        notes=(
            "An H.264 film with one moving face (aligned square of about 650 pixels), re-aged to H.264, both passes "
            "(decoding and looking for faces; decoding, cutting out, network, adding, encoding) and the loading of the "
            "models that look for faces included. Without network: a generator that costs nothing, so all the rest is "
            "measured. Peak memory is the process's, libraries and models included."
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
    reager = Reager(generator, device=setting.device)
    with tempfile.TemporaryDirectory(prefix="fran-bench-") as folder:
        source = Path(folder) / "film.mp4"
        write_film(source, setting)
        start = time.perf_counter()
        reage_film(reager, source, Path(folder) / "out.mp4", ReageSettings(size=setting.crop))
        seconds = time.perf_counter() - start
    return Figures(setting.frames / seconds, peak_resident_bytes() / 2**20)


def write_film(path: Path, setting: Setting) -> None:
    """NASA's portrait of Eileen Collins (scikit-image), enlarged to the frame and carried round a circle."""
    import av
    import cv2
    from skimage.data import astronaut

    scene = cv2.resize(astronaut()[:288], (setting.width, setting.height), interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"crf": "18", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = setting.width, setting.height, "yuv420p"
        for index in range(setting.frames):
            shift = (round(40 * np.sin(index / 20)), round(60 * np.cos(index / 20)))
            frame = av.VideoFrame.from_ndarray(np.roll(scene, shift, axis=(0, 1)), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
