"""The folder of a training run, ``<runs>/<experiment>/<run id>``, and what is found in it."""

from __future__ import annotations

import os
import pickle
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from fran_lightning.errors import UserError

#: hands the run folder to the processes that Lightning starts for further devices
RUN_FOLDER_VARIABLE = "FRAN_RUN_FOLDER"


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path | None:
        """The checkpoint to resume from, if the run has one."""
        path = self.checkpoints / "last.ckpt"
        return path if path.is_file() else None

    @property
    def config(self) -> Path:
        """The resolved configuration, for ``fran fit --config``."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    def recorded_lpips(self) -> str | None:
        """The LPIPS weights that the run began with, if it began before."""
        if not self.config.is_file():
            return None
        content = yaml.safe_load(self.config.read_text(encoding="utf-8")) or {}
        return (content.get("model") or {}).get("lpips")

    def wandb_run_id(self) -> str:
        """The id of the W&B run, kept in ``wandb_run_id`` so that a resumed or requeued run continues it."""
        path = self.path / "wandb_run_id"
        if path.is_file():
            return path.read_text(encoding="utf-8").strip()
        self.path.mkdir(parents=True, exist_ok=True)
        run_id = uuid.uuid4().hex[:10]
        path.write_text(run_id + "\n", encoding="utf-8")
        return run_id


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A training checkpoint, memory-mapped; only tensors and plain values are loaded from it.

    Raises:
        UserError: no such file, a broken one, one with other objects in it, or no training checkpoint.
    """
    if not Path(path).is_file():
        raise UserError(f"checkpoint {path} does not exist; give checkpoints/last.ckpt of a run")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(
            f"checkpoint {path} is broken, or holds more than weights and plain values; give another one, "
            "or remove it to begin anew"
        ) from error
    if not isinstance(checkpoint, dict) or not {"state_dict", "loops"} <= checkpoint.keys():
        raise UserError(f"{path} is no training checkpoint; give checkpoints/last.ckpt of a run")
    return checkpoint


@contextmanager
def one_run() -> Iterator[None]:
    """Ends what :func:`choose_run_folder` hands on: the next run of this process, as in a notebook, is another one."""
    inherited = os.environ.get(RUN_FOLDER_VARIABLE)
    try:
        yield
    finally:
        if inherited is None:
            os.environ.pop(RUN_FOLDER_VARIABLE, None)


def choose_run_folder(run_dir: str | None, runs: str, experiment: str) -> RunFolder:
    """The folder given, the one a parent process chose, one named after the SLURM job, or a new one.

    A SLURM job that is requeued keeps its number, and so finds its run again. Called inside :func:`one_run`.

    Raises:
        UserError: the folder exists and is no run folder.
    """
    if run_dir is None:
        run_dir = os.environ.get(RUN_FOLDER_VARIABLE)
    if run_dir is None:
        job = os.environ.get("SLURM_JOB_ID")
        name = f"slurm-{job}" if job else f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
        run_dir = os.path.join(runs, experiment, name)
    folder = RunFolder(Path(run_dir))
    if folder.path.is_file():
        raise UserError(f"--run_dir {folder.path} is a file; give a new folder, or that of a run to continue")
    if folder.path.is_dir() and any(folder.path.iterdir()) and not _is_run(folder):
        raise UserError(f"--run_dir {folder.path} holds other files; give a new folder, or that of a run to continue")
    os.environ[RUN_FOLDER_VARIABLE] = str(folder.path.resolve())
    return folder


def _is_run(folder: RunFolder) -> bool:
    return folder.config.is_file() or folder.checkpoints.is_dir() or (folder.path / "wandb_run_id").is_file()
