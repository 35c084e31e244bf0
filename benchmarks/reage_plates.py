"""Frames per second and peak memory of `fran reage` on a 2K float EXR sequence, without the network's share."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import peak_resident_bytes
from benchmarks.processes import measure_apart
from benchmarks.reage_film import SKIN_BY, Nothing, ParserKind
from benchmarks.table import Table
from fran_lightning.progress import progress_bar
from fran_lightning.reaging.pipeline import SLEEPING_THREADS

NAME = "reage-plates"


@dataclass(frozen=True)
class Setting:
    """One sequence to re-age; ``dtype`` is float32 or float16, ``compression`` as OpenEXR calls it."""

    frames: int
    dtype: str
    compression: str
    passes: tuple[str, ...]
    parser: ParserKind = "none"
    width: int = 2048
    height: int = 1080
    crop: int = 512


@dataclass(frozen=True)
class Figures:
    """Frames per second of the search for faces, of the pass that writes, and of both; the process's peak memory.

    ``processor`` are the seconds of processor time that the pass that writes takes for a frame, over all cores.
    """

    search: float
    write: float
    whole: float
    processor: float
    peak_megabytes: float


def run(quick: bool, device: torch.device) -> Table:
    """2K in ACEScg: float with ZIP at two lengths (memory must stay flat), other ways to write, with the parser."""
    short, long = (6, 12) if quick else (48, 192)
    result = ("result",)
    settings = [
        Setting(short, "float32", "ZIP", result),
        Setting(long, "float32", "ZIP", result),
        Setting(short, "float32", "ZIP", ("result", "delta", "mask")),
        Setting(short, "float32", "NO", result),
        Setting(short, "float16", "ZIP", result),
        Setting(short, "float32", "ZIP", result, "auto"),
    ]
    rows = []
    with progress_bar("Re-ageing plates", len(settings), "sequences") as bar:
        for setting in settings:
            figures = measure_apart(measure, setting, SLEEPING_THREADS)
            cells = [None] * 5 if figures is None else [*vars(figures).values()]
            compression = "none" if setting.compression == "NO" else setting.compression
            written = ", ".join(setting.passes)
            rows.append([setting.frames, setting.dtype, compression, written, SKIN_BY[setting.parser], *cells])
            bar.advance()
    return Table(
        title="Re-ageing: 2K EXR plates",
        columns=[
            "frames",
            "pixels",
            "compression",
            "written",
            "skin by",
            "search: frames/s",
            "read, colour, paste, write: frames/s",
            "both: frames/s",
            "processor time of the writing pass: s a frame",
            "peak memory: MB",
        ],
        rows=rows,
        notes=(
            "2048 x 1080 R, G, B in ACEScg: a portrait with grain, one moving face (aligned square of 650 pixels), "
            "a generator that costs nothing; the face parser, a network too, is in the last row alone. Search: "
            "reading, reducing and looking for faces. The other pass: reading, colour, cutting out, mask, paste and "
            "writing. The models that look for faces are loaded before the clock starts. Processor time is the sum "
            "over all cores, and depends little on other programs. Peak memory is that of the process, libraries and "
            "models included."
        ),
    )


def measure(setting: Setting) -> Figures:
    """Re-age a temporary sequence."""
    from fran_lightning.reaging import plates
    from fran_lightning.reaging.passes import parse_passes
    from fran_lightning.reaging.reager import Reager
    from fran_lightning.reaging.sequences import FramePattern, choose_frames, find_frames
    from fran_lightning.reaging.settings import ReageSettings

    reager = Reager(Nothing(), device="cpu", parser=setting.parser)
    settings = ReageSettings(size=setting.crop)
    with tempfile.TemporaryDirectory(prefix="fran-bench-") as folder:
        source = Path(folder) / "shot.####.exr"
        write_plates(source, setting)
        sequence = find_frames(str(source), (".exr",))
        output = FramePattern.parse(str(Path(folder) / "out.####.exr"))
        assert output is not None
        passes = parse_passes(",".join(setting.passes))
        plates.reage_sequence(reager, choose_frames(sequence, "1001-1003"), output, settings, passes=passes)
        start, processor = time.perf_counter(), time.process_time()
        colour, _ = plates.choose_colour(sequence.pattern.path(sequence.first), None)
        plates.look_for_faces(sequence, colour)
        search, searching = time.perf_counter() - start, time.process_time() - processor
        start, processor = time.perf_counter(), time.process_time()
        plates.reage_sequence(reager, sequence, output, settings, passes=passes)
        whole, working = time.perf_counter() - start, time.process_time() - processor
    rates = [setting.frames / seconds for seconds in (search, whole - search, whole)]
    return Figures(*rates, (working - searching) / setting.frames, peak_resident_bytes() / 2**20)


def write_plates(path: Path, setting: Setting) -> None:
    """NASA's portrait of Eileen Collins (scikit-image) as scene light with grain, carried round a circle."""
    import cv2
    import OpenEXR
    from skimage.data import astronaut

    from fran_lightning.reaging.colour import PlateColour

    scene = cv2.resize(astronaut()[:288], (setting.width, setting.height), interpolation=cv2.INTER_CUBIC)
    display = scene.astype(np.float32) / 255
    light = PlateColour("acescg").plate_change(np.zeros_like(display), display)
    generator = np.random.default_rng(0)
    header = {
        "compression": getattr(OpenEXR, f"{setting.compression}_COMPRESSION"),
        "type": OpenEXR.scanlineimage,
        "chromaticities": (0.713, 0.293, 0.165, 0.83, 0.128, 0.044, 0.32168, 0.33767),
    }
    for index in range(setting.frames):
        shift = (round(40 * np.sin(index / 20)), round(60 * np.cos(index / 20)))
        grain = generator.normal(1, 0.02, size=light.shape).astype(np.float32)
        pixels = (np.roll(light, shift, axis=(0, 1)) * grain).astype(setting.dtype)
        channels = {name: np.ascontiguousarray(pixels[..., channel]) for channel, name in enumerate("RGB")}
        OpenEXR.File(header, channels).write(str(path).replace("####", str(1001 + index)))
