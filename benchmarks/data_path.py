"""Pairs per second of the data path: reading, regional blending, geometry and collation.

The pairs come from ``AgePairDataModule``'s own training loader, batch 8, after a few batches of warm-up, without a
cache of decoded images; the files are in the system's page cache. What happens on the device afterwards (colour
jitter, age maps) counts as data in ``training_step``.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import get_args

import torch
from pytorch_lightning.utilities import CombinedLoader

from benchmarks.sample_data import write_sample_dataset
from benchmarks.table import Table
from fran_lightning.data.datamodule import AgePairDataModule
from fran_lightning.data.pack import pack_dataset
from fran_lightning.progress import progress_bar
from fran_lightning.synthesis.writer import ImageFormat

NAME = "data-path"

IMAGE_SIZE = 512
WORKERS = (0, 2)
BATCH_SIZE = 8
#: more than any machine makes in the time of a measurement
_PAIRS = 10**7


def run(quick: bool, device: torch.device) -> Table:
    """Files of every format and packed arrays; ``device`` plays no part."""
    crops = (128,) if quick else (128, 256, 512)
    seconds = 0.5 if quick else 3.0
    storages = (*get_args(ImageFormat), "packed")
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="fran-bench-") as folder,
        progress_bar("Data path", len(storages) * len(WORKERS) * len(crops), "settings") as bar,
    ):
        for storage in storages:
            root = _write(Path(folder) / storage, storage)
            size = _bytes_per_image(root, storage)
            for workers in WORKERS:
                row = [storage, size / 1e3, workers]
                for crop in crops:
                    row.append(measure_pairs_per_second(root, crop, workers, seconds))
                    bar.advance()
                rows.append(row)
    return Table(
        title="Data path",
        columns=["images", "kB each", "workers", *(f"{crop} px crops: pairs/s" for crop in crops)],
        rows=rows,
        notes=(
            f"Training pairs per second from images of {IMAGE_SIZE} px, batches of {BATCH_SIZE}: reading, regional "
            "blending, the common geometry, collation. png and webp are lossless, jpg has quality 95; packed is "
            "what `fran pack` writes. 0 workers: in the training process. No cache of decoded images."
        ),
    )


def _write(root: Path, storage: str) -> Path:
    write_sample_dataset(root, IMAGE_SIZE, "png" if storage == "packed" else storage)
    if storage == "packed":
        pack_dataset(root)
    return root


def _bytes_per_image(root: Path, storage: str) -> float:
    if storage == "packed":
        return IMAGE_SIZE**2 * 3
    files = list(root.glob(f"*/*.{storage}"))
    return sum(file.stat().st_size for file in files) / len(files)


def measure_pairs_per_second(root: Path, crop_size: int, workers: int, seconds: float) -> float:
    """Pairs per second of the training loader on the dataset folder ``root``, measured for ``seconds``."""
    data = AgePairDataModule(
        str(root), crop_size=crop_size, batch_size=BATCH_SIZE, pairs_per_epoch=_PAIRS, num_workers=workers
    )
    data.setup()
    loader = data.train_dataloader()
    # as Lightning reads it; unlike a bare loader it can be told to end its workers
    batches = CombinedLoader(loader)
    iter(batches)
    # the workers' start, and what they make ahead of the first request
    for _ in range(2 + workers * (loader.prefetch_factor or 0)):
        next(batches)
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        next(batches)
        count += 1
    batches.reset()
    return count * BATCH_SIZE / elapsed
