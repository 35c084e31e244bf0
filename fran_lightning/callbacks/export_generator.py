"""ExportGenerator: the EMA generator as ``generator.safetensors`` with metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from fran_lightning import __version__
from fran_lightning.networks.weights import GENERATOR_FILE, save_generator
from fran_lightning.provenance import git_commit

_ORIGIN = ("source", "licence", "experiment", "init_from")


class ExportGenerator(pl.Callback):
    """Writes the run's generator after every validation, so that a run can be used while it trains.

    The metadata says: experiment and scale, training data and ages, image size, images seen, loss weights, LPIPS
    weights, last validation metrics, version, git commit, and where the weights that it began with come from.

    Args:
        experiment: name of the experiment.
        scale: name of the scale.
    """

    def __init__(self, experiment: str = "", scale: str = "") -> None:
        self.experiment = experiment
        self.scale = scale

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._export(trainer, pl_module)

    @rank_zero_only
    def _export(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        path = Path(trainer.default_root_dir) / GENERATOR_FILE
        save_generator(path, pl_module.ema_generator, self.metadata(trainer, pl_module))

    def metadata(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        data = trainer.datamodule.describe()
        metrics = {k: round(float(v), 6) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        losses = {name: pl_module.hparams[name] for name in ("lambda_l1", "lambda_lpips", "lambda_adv")}
        metadata = {
            "experiment": self.experiment,
            "scale": self.scale,
            "losses": losses,
            "lpips": pl_module.lpips_in_use,
            "seed": pl_module.hparams["seed"],
            "image_size": trainer.datamodule.crop_size,
            "ages": data["ages"],
            "data": data,
            "images_seen": int(pl_module.images_seen),
            "metrics": metrics,
            "version": __version__,
            "git_commit": git_commit(),
        }
        if pl_module.initial_metadata is not None:
            # where the weights that the run began with come from, and under which licence
            origin = {k: pl_module.initial_metadata[k] for k in _ORIGIN if k in pl_module.initial_metadata}
            metadata["init_from"] = {"file": str(pl_module.hparams["init_from"])} | origin
        return metadata
