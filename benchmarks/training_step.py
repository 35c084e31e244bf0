"""Training pairs per second, peak memory, and which part of a step takes how long.

A measurement is a real ``Trainer.fit`` of ``FRANModule`` on packed sample data, in a process of its own so that
peaks of memory do not mix: warm-up steps, steps for pairs per second and memory, then further steps on the
:class:`~benchmarks.part_clock.PartClock` for the shares.
"""

from __future__ import annotations

import itertools
import logging
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
import yaml

from benchmarks.machine import available_cores, peak_memory_bytes, synchronize
from benchmarks.part_clock import PARTS, Part, PartClock
from benchmarks.processes import measure_apart
from benchmarks.sample_data import write_sample_dataset
from benchmarks.table import Cell, Table
from fran_lightning.data.datamodule import AgePairDataModule
from fran_lightning.data.pack import pack_dataset
from fran_lightning.module import FRANModule
from fran_lightning.perceptual import LpipsWeights, choose_lpips
from fran_lightning.progress import progress_bar

NAME = "training-step"

Precision = Literal["32-true", "bf16-mixed"]
PRECISIONS: dict[Precision, str] = {"32-true": "fp32", "bf16-mixed": "bf16"}
SCALES = ("laptop", "paper")
BATCH_SIZE = 8
EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
#: more than are trained on in the time of a measurement
_PAIRS = 10**7


@dataclass(frozen=True)
class Setting:
    """One configuration to measure.

    Args:
        root: packed dataset folder.
        scale: of ``experiments/scale/``; decides the networks.
        size: side of the training crops in pixels.
        batch_size: pairs per step.
        precision: of Lightning.
        lpips: weights of LPIPS.
        device: where to train, for example cuda:0.
        workers: processes that make pairs.
        seconds: for how long to count steps; at least two are counted.
    """

    root: str
    scale: str
    size: int
    batch_size: int
    precision: Precision
    lpips: LpipsWeights
    device: str
    workers: int
    seconds: float


@dataclass(frozen=True)
class Figures:
    """What was measured: ``memory`` is the peak in bytes, ``shares`` are parts of a step's time."""

    pairs_per_second: float
    memory: int
    shares: dict[Part, float]


def run(quick: bool, device: torch.device) -> Table:
    """The networks of the laptop and the paper scale with the complete objective."""
    on_cuda = device.type == "cuda"
    sizes = (128,) if quick else (128, 256, 512)
    configurations = list(itertools.product(SCALES, sizes, PRECISIONS))
    # decided once and without a download, so that every process takes the same
    lpips = choose_lpips("auto", download=False)
    rows: list[list[Cell]] = []
    with tempfile.TemporaryDirectory(prefix="fran-bench-") as folder:
        roots = {size: write_sample_dataset(Path(folder) / str(size), size) for size in sizes}
        for root in roots.values():
            pack_dataset(root)
        with progress_bar("Training step", len(configurations), "settings") as bar:
            for scale, size, precision in configurations:
                setting = Setting(
                    root=str(roots[size]),
                    scale=scale,
                    size=size,
                    # on a CPU as many pixels as 8 pairs of 128 px: more would only take longer
                    batch_size=BATCH_SIZE if on_cuda else max(1, BATCH_SIZE * 128**2 // size**2),
                    precision=precision,
                    lpips=lpips,
                    device=str(device),
                    workers=min(8, available_cores()) if on_cuda else 0,
                    seconds=3.0 if quick else 10.0,
                )
                figures = measure_apart(measure, setting)
                rows.append([scale, size, PRECISIONS[precision], setting.batch_size, *_cells(figures)])
                bar.advance()
    return Table(
        title="Training step",
        columns=["network", "px", "precision", "batch", "pairs/s", "peak GB", *(f"{_title(part)} %" for part in PARTS)],
        rows=rows,
        notes=_notes(lpips, on_cuda),
    )


def _notes(lpips: LpipsWeights, on_cuda: bool) -> str:
    models = {scale: model_settings(scale) for scale in SCALES}
    channels = " and ".join(f"{scale} ({model['base_channels']} base channels)" for scale, model in models.items())
    same = [scale for scale, model in models.items() if not model.get("lpips_float32", True)]
    in_bf16 = f"LPIPS follows the precision at {' and '.join(same)} scale, and is else" if same else "LPIPS is"
    memory = "allocated on the GPU" if on_cuda else "of the whole process with interpreter, libraries and data"
    return (
        f"The objective of the paper (`l1_lpips_adv`) with the networks of the scales {channels}; LPIPS weights "
        f"`{lpips}`. {in_bf16} computed in fp32. Packed images as large as the crops. Peak memory {memory}; a dash "
        "means that memory did not suffice. The last columns divide the time of a step: the networks' parts include "
        "their backward passes and optimizers, data is reading, transfer and colour jitter "
        "(`benchmarks/part_clock.py` says how that is measured)."
    )


def _title(part: Part) -> str:
    return "LPIPS" if part == "lpips" else part


def _cells(figures: Figures | None) -> list[Cell]:
    if figures is None:
        return [None] * (2 + len(PARTS))
    return [figures.pairs_per_second, figures.memory / 1e9, *(100 * figures.shares[part] for part in PARTS)]


def model_settings(scale: str) -> dict[str, Any]:
    """The arguments of FRANModule at ``scale`` with the complete objective."""
    settings: dict[str, Any] = {}
    for name in ("base", f"scale/{scale}", "l1_lpips_adv"):
        content = yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text(encoding="utf-8"))
        settings |= content.get("model") or {}
    return settings


def measure(setting: Setting) -> Figures:
    """Train with ``setting`` in this process, and measure."""
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_float32_matmul_precision("high")
    device = torch.device(setting.device)
    module = FRANModule(**model_settings(setting.scale) | {"lpips": setting.lpips})
    data = AgePairDataModule(
        setting.root,
        crop_size=setting.size,
        batch_size=setting.batch_size,
        pairs_per_epoch=_PAIRS,
        num_workers=setting.workers,
    )
    clock = PartClock(device)
    stages = _Stages(setting, clock)
    trainer = pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=[device.index or 0] if device.type == "cuda" else 1,
        precision=setting.precision,
        max_epochs=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        profiler=clock,
        callbacks=[stages],
    )
    trainer.fit(module, data)
    return Figures(stages.pairs_per_second, stages.memory, clock.shares())


class _Stages(pl.Callback):
    """Warm-up, counted steps, steps on the clock, stop."""

    MINIMUM_STEPS = 2

    def __init__(self, setting: Setting, clock: PartClock) -> None:
        self.setting = setting
        self.clock = clock
        self.device = clock.device
        # on a GPU the first steps choose algorithms and fill the allocator
        self.warm_up = 5 if self.device.type == "cuda" else 1
        self.pairs_per_second = 0.0
        self.memory = 0
        self._start = 0.0
        self._counted = 0
        self._left_on_clock: int | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: FRANModule, *_: Any) -> None:
        if self.warm_up > 0:
            self.warm_up -= 1
            self._start = self._now()
        elif self._left_on_clock is None:
            self._counted += 1
            elapsed = self._now() - self._start
            if self._counted >= self.MINIMUM_STEPS and elapsed >= self.setting.seconds:
                self.pairs_per_second = self._counted * self.setting.batch_size / elapsed
                self.memory = peak_memory_bytes(self.device)
                self._left_on_clock = max(1, self._counted // 2)
                self.clock.attach(pl_module)
        else:
            self._left_on_clock -= 1
            if self._left_on_clock == 0:
                self.clock.detach()
                trainer.should_stop = True

    def _now(self) -> float:
        synchronize(self.device)
        return time.perf_counter()
