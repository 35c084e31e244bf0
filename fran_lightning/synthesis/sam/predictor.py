"""Makes the identities of a SAM data set, distributed by Lightning: one ``predict_step`` per identity."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import DataLoader

from fran_lightning.errors import UserError
from fran_lightning.progress import progress_bar
from fran_lightning.synthesis.sam.faces import FaceSource
from fran_lightning.synthesis.sam.gate import QualityGate, Reason, ageing_problems, source_problems
from fran_lightning.synthesis.sam.model import SAM
from fran_lightning.synthesis.sam.pixels import face_tensor
from fran_lightning.synthesis.sam.rendering import RenderSettings, render_ages, set_float32_products
from fran_lightning.synthesis.writer import DatasetWriter

#: candidates of one identity before the settings are taken to be at fault
MAXIMUM_ATTEMPTS = 100
#: stands in the work list of a process that has nothing to do; Lightning wants every process to have a batch
_NOTHING = -1


class IdentitySynthesis(pl.LightningModule):
    """Draws or reads the face of an identity, re-ages it, judges it and hands it to the writer.

    Lightning runs :meth:`predict_step` for every identity that is missing, on as many processes as its Trainer has;
    every process takes each n-th of them. Files are written by threads of their own while the next identity is
    computed.

    Args:
        sam: the networks.
        source: where faces come from.
        writer: the dataset folder.
        settings: how images are made.
        gate: judge, or None to accept everything unmeasured. Where the source cannot be replaced (photos), the
            verdict is recorded and nothing is rejected.
        writer_threads: identities that are being encoded at a time.
    """

    def __init__(
        self,
        sam: SAM,
        source: FaceSource,
        writer: DatasetWriter,
        settings: RenderSettings,
        gate: QualityGate | None = None,
        writer_threads: int = 1,
    ) -> None:
        super().__init__()
        self.sam = sam
        self.source = source
        self.writer = writer
        self.settings = settings
        self.gate = gate
        # read before the processes meet: afterwards the first of them may have written something already
        self._missing = writer.missing()
        self._threads = ThreadPoolExecutor(max_workers=writer_threads, thread_name_prefix="write")
        self._writing: deque[Future[Path]] = deque()
        self._writer_threads = writer_threads

    def predict_dataloader(self) -> DataLoader[int]:
        """The missing identities that fall to this process."""
        mine = self._missing[self.trainer.global_rank :: self.trainer.world_size]
        return DataLoader(mine or [_NOTHING], batch_size=1)

    def on_predict_start(self) -> None:
        if self.device.type == "cuda":
            self.sam.to(memory_format=torch.channels_last)

    def predict_step(self, batch: Tensor) -> int:
        """Make and write one identity; returns its number."""
        identity = int(batch.item())
        if identity == _NOTHING:
            return identity
        images, record = self.make_identity(identity)
        while len(self._writing) >= self._writer_threads:
            self._writing.popleft().result()
        self._writing.append(self._threads.submit(self.writer.write_identity, identity, images, record=record))
        return identity

    def on_predict_end(self) -> None:
        while self._writing:
            self._writing.popleft().result()
        self._threads.shutdown()

    def make_identity(self, identity: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Images uint8 (ages, S, S, 3) of the first candidate that the gate accepts, and ``identity.json``.

        Raises:
            UserError: too many candidates in a row were rejected.
        """
        rejected: list[dict[str, Any]] = []
        for attempt in range(MAXIMUM_ATTEMPTS):
            images, record, problems = self._candidate(identity, attempt)
            if images is not None and (not problems or not self.source.replaceable):
                record["gate"] = {"passed": not problems, "problems": problems} if self.gate is not None else None
                record["rejected"] = rejected
                return images, record
            rejected.append({"attempt": attempt, "reasons": problems})
        reasons = sorted({reason for candidate in rejected for reason in candidate["reasons"]})
        raise UserError(
            f"identity {identity}: {MAXIMUM_ATTEMPTS} faces in a row were rejected ({', '.join(reasons)}); "
            "loosen the --gate thresholds, or look with --no-gate at what the checkpoint draws"
        )

    def _candidate(self, identity: int, attempt: int) -> tuple[np.ndarray | None, dict[str, Any], list[Reason]]:
        """Images (None if the source face alone is rejected), record and reasons against the candidate."""
        face = self.source.face(identity, attempt)
        record: dict[str, Any] = {"source": face.record}
        problems: list[Reason] = []
        if self.gate is not None:
            record["source_measured"] = self.gate.measure_source(face.pixels)
            problems = source_problems(record["source_measured"], self.gate.thresholds)
            if problems and self.source.replaceable:
                return None, record, problems
        images = render_ages(self.sam, face_tensor(face.pixels).to(self.device), self.settings)
        if self.gate is not None:
            record["measured"] = self.gate.measure_ages(list(images), self.settings.ages)
            problems = problems + ageing_problems(record["measured"], self.gate.thresholds)
        return images, record, problems


class IdentityProgress(pl.Callback):
    """Identities per second and the time left, on the first process, of its own share."""

    def __init__(self) -> None:
        self._open = ExitStack()

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        total = int(sum(trainer.num_predict_batches))
        share = f" (1 of {trainer.world_size} shares)" if trainer.world_size > 1 else ""
        self._bar = self._open.enter_context(progress_bar(f"identities{share}", total, "identities"))

    def on_predict_batch_end(self, trainer: pl.Trainer, *unused: Any) -> None:
        if trainer.is_global_zero:
            self._bar.advance()

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._open.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._open.close()


def make_trainer(accelerator: str, devices: int | str, num_nodes: int) -> pl.Trainer:
    """Lightning's distribution: the processes, and who they are under SLURM or torchrun.

    Raises:
        UserError: an accelerator, or a number of devices, that this machine does not have.
    """
    try:
        return pl.Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            deterministic=True,
            callbacks=[IdentityProgress()],
        )
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise UserError(f"--accelerator {accelerator} --devices {devices} cannot be had here: {error}") from error


def run_synthesis(trainer: pl.Trainer, module: IdentitySynthesis) -> bool:
    """Make every missing identity; True on the one process that should write the summary."""
    set_float32_products(module.settings.precision)
    try:
        trainer.predict(module, return_predictions=False)
    except SystemExit as stop:
        # Lightning turns Ctrl-C into an exit; the command line has its own status for it
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise stop.__context__ from None
        raise
    # the summary counts what all processes have written
    trainer.strategy.barrier("identities written")
    return trainer.is_global_zero
