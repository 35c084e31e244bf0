"""One training run of the face parser: its folder, its loggers, and the way back into it after an interruption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar

from fran_lightning.errors import UserError
from fran_lightning.files import write_json
from fran_lightning.lightning_warnings import quieten
from fran_lightning.networks.precision import bfloat16_pays
from fran_lightning.parser_training.callbacks import ExportParser, ParserSheet
from fran_lightning.parser_training.faces import ParserDataModule
from fran_lightning.parser_training.module import ParserModule
from fran_lightning.perception.parsing_weights import PARSER_FILE
from fran_lightning.run_folder import choose_run_folder, one_run, read_checkpoint
from fran_lightning.tracking import WandbMode, announce, csv_logger, finish_wandb, wandb_logger


@one_run()
def fit_parser(
    root: Path,
    *,
    run_dir: str | None = None,
    steps: int = 6000,
    minutes: float | None = None,
    size: int = 256,
    batch_size: int = 16,
    learning_rate: float = 2e-3,
    validate_every: int = 100,
    num_workers: int = 2,
    photos: list[np.ndarray] | None = None,
    wandb: WandbMode = "auto",
    seed: int = 0,
) -> Path:
    """Train, or continue the run in ``run_dir``; returns the path of the weights.

    Raises:
        UserError: no dataset folder with class maps, or a size that the network cannot take.
    """
    if size < 64 or size % 32:
        raise UserError(f"--size {size} is no multiple of 32 from 64 on")
    pl.seed_everything(seed, verbose=False)
    quieten()
    folder = choose_run_folder(run_dir, "runs", "parser")
    last = folder.last_checkpoint
    seen = int(read_checkpoint(last)["state_dict"]["images_seen"]) if last else 0
    data = ParserDataModule(root, size, batch_size, seen, num_workers=num_workers, seed=seed)
    module = ParserModule(steps, minutes, learning_rate, seed=seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = "bf16-mixed" if bfloat16_pays(device) else "32-true"
    loggers = [csv_logger(folder)]
    tracked = wandb_logger(folder, wandb, f"parser-{folder.path.name}", None, ["parser"])
    loggers += [tracked] if tracked is not None else []
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        default_root_dir=str(folder.path),
        logger=loggers,
        precision=precision,
        max_steps=-1 if minutes is not None else steps,
        val_check_interval=validate_every,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        gradient_clip_val=1.0,
        callbacks=[
            RichProgressBar(),
            ParserSheet(photos or []),
            ExportParser(),
            ModelCheckpoint(
                folder.checkpoints, "last", every_n_train_steps=validate_every, enable_version_counter=False
            ),
        ],
    )
    folder.path.mkdir(parents=True, exist_ok=True)
    write_json(folder.path / "parser.json", dict(module.hparams) | {"root": str(root), "size": size})
    announce(f"run folder {folder.path}, precision {precision}, {len(data.train_files)} faces")
    if last:
        announce(f"continuing from {last}")
    failed = True
    try:
        trainer.fit(module, data, ckpt_path=last, weights_only=True)
        trainer.validate(module, data, verbose=False)
        failed = False
    finally:
        finish_wandb(failed)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    announce(
        f"held-out faces: mIoU {metrics['val/miou_rendered']:.3f}, skin IoU {metrics['val/skin_iou_rendered']:.3f}; "
        f"augmented: mIoU {metrics['val/miou_augmented']:.3f}, skin IoU {metrics['val/skin_iou_augmented']:.3f}"
    )
    return folder.path / PARSER_FILE
