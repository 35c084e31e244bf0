"""Images per second of the parametric faces, by size and device.

One identity at 14 ages, in one process, after another identity has warmed it up: geometry, textures, hair and static
layers once, then a render for every age. Writing files is not part of the figures. On a CPU the command runs one such
process per core.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from benchmarks.machine import peak_resident_bytes
from benchmarks.processes import measure_apart
from benchmarks.table import Cell, Table
from fran_lightning.ages import DEFAULT_AGES
from fran_lightning.progress import progress_bar

NAME = "parametric"

COLUMNS = ("size", "device", "first start s", "scene s/identity", "s/image", "images/s", "peak GB")


@dataclass(frozen=True)
class Setting:
    """One row: edge of the pictures in pixels, and where they are rendered."""

    size: int
    device: str


def run(quick: bool, device: torch.device) -> Table:
    """Measure all sizes on the processor, and on ``device`` if that is a GPU."""
    sizes = (128,) if quick else (128, 256, 512, 1024)
    devices = ["cpu", *([str(device)] if device.type == "cuda" else [])]
    chosen = [Setting(size, name) for name in devices for size in sizes]
    rows: list[list[Cell]] = []
    with progress_bar("Parametric faces", len(chosen), "settings") as bar:
        for setting in chosen:
            figures = measure_apart(measure, setting) or [None] * (len(COLUMNS) - 2)
            rows.append([setting.size, setting.device, *figures])
            bar.advance()
    return Table(
        "Parametric faces",
        COLUMNS,
        rows,
        f"One process renders one identity at {len(DEFAULT_AGES)} ages; images/s counts the scene's making. First "
        "start: importing, compiling or loading the kernels, and a first picture. Peak memory is of the process, "
        "without the GPU's. The command runs one process per core on a CPU.",
    )


def measure(setting: Setting) -> list[Cell]:
    """The cells of one row after size and device."""
    start = time.perf_counter()
    from fran_lightning.synthesis.parametric.scene import sample_identity
    from fran_lightning.synthesis.parametric.studio import Studio

    Studio(sample_identity(0, 0), setting.size, setting.device).render(DEFAULT_AGES[0])
    ready = time.perf_counter()
    studio = Studio(sample_identity(0, 1), setting.size, setting.device)
    made = time.perf_counter()
    for age in DEFAULT_AGES:
        studio.render(age)  # its pixels are on the host when it returns
    end = time.perf_counter()
    count = len(DEFAULT_AGES)
    return [ready - start, made - ready, (end - made) / count, count / (end - ready), peak_resident_bytes() / 1e9]
