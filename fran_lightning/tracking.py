"""Where a run's numbers go: ``metrics.csv`` in the run folder, and Weights & Biases."""

from __future__ import annotations

import csv
import netrc
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Literal
from urllib.parse import urlparse

from pytorch_lightning.loggers import CSVLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from fran_lightning.run_folder import RunFolder, read_checkpoint

WandbMode = Literal["auto", "online", "offline", "disabled"]

#: W&B project of all runs
PROJECT = "fran"
#: seconds that W&B's server has to answer before a run goes on offline, and that an upload may take once the
#: training is over; W&B's own variables WANDB_INIT_TIMEOUT and WANDB_FINISH_TIMEOUT override them
WANDB_TIMEOUTS = {"init_timeout": 30.0, "finish_timeout": 300.0}


def announce(message: str) -> None:
    """Print one line on stderr, from the first process only."""
    if rank_zero_only.rank == 0:
        print(f"fran: {message}", file=sys.stderr, flush=True)


def csv_logger(folder: RunFolder) -> CSVLogger:
    """``metrics.csv`` in the run folder; a resumed run keeps the rows up to its checkpoint.

    Lightning's logger begins by deleting an existing file, so the rows are read before and written again.
    """
    rows: list[dict[str, str]] = []
    backup = folder.metrics.with_suffix(".csv.before-resume")
    if rank_zero_only.rank == 0 and folder.metrics.is_file():
        shutil.copyfile(folder.metrics, backup)
        with backup.open(newline="", encoding="utf-8") as file:
            rows = _rows_before(list(csv.DictReader(file)), _images_seen(folder))
        folder.metrics.unlink()
    logger = CSVLogger(save_dir=str(folder.path), name="", version="", flush_logs_every_n_steps=50)
    for row in rows:
        values = {key: float(value) for key, value in row.items() if value and key != "step"}
        logger.experiment.log_metrics(values, step=int(float(row["step"])))
    if rows:
        logger.save()
    backup.unlink(missing_ok=True)
    return logger


def _images_seen(folder: RunFolder) -> float:
    if folder.last_checkpoint is None:
        return 0.0
    return float(read_checkpoint(folder.last_checkpoint)["state_dict"]["images_seen"])


def _rows_before(rows: list[dict[str, str]], images_seen: float) -> list[dict[str, str]]:
    """Rows logged before the checkpoint; those after it will come again."""
    return [row for row in rows if row.get("images_seen") and float(row["images_seen"]) <= images_seen]


def wandb_logger(
    folder: RunFolder, mode: WandbMode, name: str, group: str | None, tags: Sequence[str]
) -> WandbLogger | None:
    """The W&B run of a run folder; ``auto`` is online where a key is known, else offline. Never asks anything.

    If W&B refuses the key or cannot be reached, one line says so and the run goes on offline; ``make sync``
    uploads it later. If the network is lost afterwards, W&B goes on writing to the disk, and gives up uploading
    some minutes after the end.
    """
    if mode == "disabled":
        return None
    if mode == "auto":
        mode = "online" if _has_key() else "offline"
    import wandb

    def start(offline: bool) -> WandbLogger:
        logger = WandbLogger(
            project=PROJECT,
            name=name,
            id=folder.wandb_run_id(),
            save_dir=str(folder.path),
            offline=offline,
            log_model=False,
            group=group,
            job_type="train",
            tags=list(tags),
            resume=None if offline else "allow",
            settings=wandb.Settings(
                mode="offline" if offline else "online",
                console="off",
                silent=True,
                **{name: float(os.environ.get(f"WANDB_{name.upper()}", s)) for name, s in WANDB_TIMEOUTS.items()},
            ),
        )
        run = logger.experiment  # starts the run, so that a failure shows now
        if rank_zero_only.rank == 0:
            run.define_metric("images_seen")
            run.define_metric("*", step_metric="images_seen")
        return logger

    folder.path.mkdir(parents=True, exist_ok=True)
    if mode == "offline":
        announce(f"W&B offline, run in {folder.path}/wandb; `make sync` uploads it")
        return start(offline=True)
    try:
        return start(offline=False)
    except (wandb.errors.Error, ValueError) as error:
        reason = str(error).splitlines()[0]
        announce(f"W&B is not available ({reason}); training goes on, logged offline; `make sync` uploads it later")
        wandb.teardown()
        return start(offline=True)


def finish_wandb(failed: bool) -> None:
    """End the W&B run of this process, if one is open: else the next one, as in a notebook, would be logged there."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code=int(failed))


def _has_key() -> bool:
    """Whether W&B would find a key: in the environment, or where ``wandb login`` puts it.

    Looked up here, because every function of wandb that tells it also starts its service.
    """
    if os.environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled"):
        return False
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
