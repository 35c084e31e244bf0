"""Preemption: a cluster's warning signal leads to a checkpoint and a requeued job."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from types import FrameType

import pytorch_lightning as pl


class Preemption(pl.Callback):
    """On SIGUSR1 (``sbatch --signal=SIGUSR1@90``) saves ``last.ckpt`` at a batch end, requeues the job and stops.

    The handler itself only sets a flag: saving inside a signal handler, as Lightning's own SLURM plug-in does,
    can hang in the middle of a collective operation. Ranks agree on the flag every few batches, because the
    signal reaches them at different times.

    Args:
        interval: batches between two agreements.
    """

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval
        self.requested = False

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self.requested = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        signal.signal(signal.SIGUSR1, self._handle)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % self.interval and not trainer.is_last_batch:
            return
        if trainer.strategy.reduce_boolean_decision(self.requested, all=False):
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt")
            self._requeue(trainer)
            raise SystemExit(0)

    @staticmethod
    def _requeue(trainer: pl.Trainer) -> None:
        job = os.environ.get("SLURM_JOB_ID")
        if job and trainer.is_global_zero:
            subprocess.run(["scontrol", "requeue", job], check=False)
