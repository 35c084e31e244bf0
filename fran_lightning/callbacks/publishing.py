"""Puts a picture of a run where people look for it: the run folder's ``samples/`` and W&B."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.loggers import WandbLogger

from fran_lightning.files import atomic_path


def publish_image(trainer: pl.Trainer, key: str, name: str, image: Image.Image, caption: str) -> Path:
    """Write ``samples/<name>.png`` below the run folder, and log it to W&B under ``key``; rank zero only.

    No ``step`` is given to W&B: Lightning's steps count optimizer steps, and the picture would land beside
    losses of another batch. The caption says how many images the run had seen.
    """
    folder = Path(trainer.default_root_dir) / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / f"{name}.png") as temporary:
        image.save(temporary)
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(key, [image], caption=[caption])
    return folder / f"{name}.png"
