"""``fran fit | validate | test``: Lightning's command line around FRANModule and AgePairDataModule."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from jsonargparse import Namespace
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint, RichProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from fran_lightning.callbacks.ablation_grid import AblationGrid
from fran_lightning.callbacks.age_sample_sheet import AgeSampleSheet
from fran_lightning.callbacks.export_generator import ExportGenerator
from fran_lightning.callbacks.preemption import Preemption
from fran_lightning.data.datamodule import AgePairDataModule
from fran_lightning.errors import UserError
from fran_lightning.lightning_warnings import quieten
from fran_lightning.module import FRANModule
from fran_lightning.networks.precision import bfloat16_pays
from fran_lightning.networks.weights import GENERATOR_FILE
from fran_lightning.perceptual import choose_lpips
from fran_lightning.run_folder import RunFolder, choose_run_folder, one_run, read_checkpoint
from fran_lightning.tracking import WandbMode, announce, csv_logger, finish_wandb, wandb_logger


class FRANCLI(LightningCLI):
    """Adds the run folder, tracking and the always-on callbacks; each of these has its own options."""

    run_folder: RunFolder
    checkpoint: str | None

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--experiment", type=str, default="custom", help="name of the experiment (EXP)")
        parser.add_argument("--scale", type=str, default="custom", help="name of the scale (SCALE)")
        parser.add_argument("--runs", type=str, default="runs", help="folder of all runs")
        parser.add_argument(
            "--run_dir",
            type=str | None,
            default=None,
            help="folder of this run; an existing one is continued from its last checkpoint "
            "(default: <runs>/<experiment>/<time>)",
        )
        parser.add_argument("--wandb", type=WandbMode, default="auto", help="auto: online where a key is known")
        parser.add_argument("--wandb_group", type=str | None, default=None, help="W&B group, e.g. of an ablation")
        parser.add_lightning_class_args(AgeSampleSheet, "sample_sheet")
        # exports before the grid reads the exported files
        parser.add_lightning_class_args(ExportGenerator, "export")
        parser.add_lightning_class_args(AblationGrid, "ablation_grid")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        # by a callback of its own: with a monitored metric Lightning 2.6 saves "last" at the epochs alone at which
        # the metric improved, and a resumed run would lose the others
        parser.add_lightning_class_args(ModelCheckpoint, "last_checkpoint")
        parser.add_lightning_class_args(Preemption, "preemption")
        parser.set_defaults(
            {
                # a validation metric, never a GAN loss; epochs, because Lightning counts two steps per batch
                "checkpoint.monitor": "val/lpips",
                "checkpoint.filename": "epoch{epoch:03d}-lpips{val/lpips:.4f}",
                "checkpoint.auto_insert_metric_name": False,
                "checkpoint.every_n_epochs": 1,
                "last_checkpoint.filename": "last",
                "last_checkpoint.every_n_epochs": 1,
                # else a last.ckpt that Preemption wrote, or of a run folder that was moved, is left to grow old
                # beside a last-v1.ckpt
                "last_checkpoint.enable_version_counter": False,
            }
        )
        parser.link_arguments("seed_everything", "data.seed")
        parser.link_arguments("seed_everything", "model.seed")
        parser.link_arguments("experiment", "export.experiment")
        parser.link_arguments("scale", "export.scale")
        parser.link_arguments("runs", "ablation_grid.runs")

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        self.run_folder = choose_run_folder(config.run_dir, config.runs, config.experiment)
        config.trainer.default_root_dir = str(self.run_folder.path)
        config.checkpoint.dirpath = config.last_checkpoint.dirpath = str(self.run_folder.checkpoints)
        if config.trainer.precision is None:
            config.trainer.precision = _best_precision(config.trainer.accelerator)
        self.checkpoint = self._choose_checkpoint(config)
        if self.subcommand != "fit":
            config.trainer.logger = False
            return
        if config.model.lpips == "auto" and int(os.environ.get("LOCAL_RANK", 0)) == 0:
            # resolved here, so that config.yaml, the checkpoint and W&B record it
            recorded = self.run_folder.recorded_lpips()
            config.model.lpips = recorded or choose_lpips("auto", config.model.lpips_weights)
        announce(f"run folder {self.run_folder.path}, precision {config.trainer.precision}")

    def _choose_checkpoint(self, config: Namespace) -> str | None:
        path = config.ckpt_path or self.run_folder.last_checkpoint
        if path is None:
            if self.subcommand == "fit":
                return None
            raise UserError(f"{self.run_folder.path} has no checkpoint; give --run_dir of a run, or --ckpt_path")
        read_checkpoint(path)
        if self.subcommand == "fit":
            announce(f"continuing from {path}")
        return str(path)

    def before_fit(self) -> None:
        # not in self.config, so that config.yaml begins a new run where it is used again
        config = self.config_init[self.subcommand]
        config.ckpt_path, config.weights_only = self.checkpoint, True

    before_validate = before_test = before_fit

    def instantiate_trainer(self, **kwargs: object) -> object:
        config = self.config[self.subcommand]
        if self.subcommand == "fit" and config.trainer.logger in (None, True):
            tags = [config.experiment, config.scale]
            name = f"{config.experiment}-{self.run_folder.path.name}"
            loggers = [csv_logger(self.run_folder)]
            tracked = wandb_logger(self.run_folder, config.wandb, name, config.wandb_group, tags)
            kwargs["logger"] = [*loggers, *([tracked] if tracked is not None else [])]
        return super().instantiate_trainer(**kwargs)

    def after_fit(self) -> None:
        metrics = self.trainer.callback_metrics
        if "val/lpips_gain" in metrics:
            announce(
                f"held-out identities: LPIPS {metrics['val/lpips']:.4f} ({metrics['val/lpips_gain']:.1%} below doing "
                f"nothing), L1 {metrics['val/l1']:.4f} ({metrics['val/l1_gain']:.1%} below doing nothing)"
            )
        announce(f"sample sheets: {self.run_folder.path}/samples, weights: {self.run_folder.path}/{GENERATOR_FILE}")


def _best_precision(accelerator: str) -> str:
    """bf16-mixed where the processor computes with it, else 32-true."""
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if bfloat16_pays(torch.device("cuda" if on_gpu else "cpu")) else "32-true"


@one_run()
def run_lightning_cli(arguments: Sequence[str]) -> FRANCLI:
    """Run ``fit``, ``validate`` or ``test`` with command-line ``arguments``, the subcommand first.

    Raises:
        UserError: the user's mistake, also one that Lightning found.
    """
    quieten()
    torch.set_float32_matmul_precision("high")
    failed = True
    try:
        cli = FRANCLI(
            FRANModule,
            AgePairDataModule,
            args=list(arguments),
            seed_everything_default=0,
            auto_configure_optimizers=False,
            # hyper-parameters are plain scalars; the wrapper that this adds makes checkpoints unloadable
            load_from_checkpoint_support=False,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={
                "callbacks": [RichProgressBar(leave=True), LearningRateMonitor(logging_interval="epoch")],
                "num_sanity_val_steps": 0,
                # the sampler deals pairs out to the ranks itself
                "use_distributed_sampler": False,
            },
            parser_kwargs={"exit_on_error": False},
        )
        failed = False
        return cli
    except MisconfigurationException as error:
        raise UserError(str(error)) from error
    except UserError as error:
        # a data loader's worker hands its error on inside a traceback, whose last line is the message
        message = str(error).strip().splitlines()[-1]
        raise UserError(message.removeprefix(f"{UserError.__module__}.{UserError.__name__}: ")) from error
    except torch.OutOfMemoryError as error:
        raise UserError("the GPU has too little memory; lower --data.batch_size or --data.crop_size") from error
    finally:
        finish_wandb(failed)
