"""What Lightning warns of that is as it should be here."""

from __future__ import annotations

import logging
import warnings

_AS_IT_SHOULD_BE = (
    # a run folder that is continued is not empty; csv_logger keeps its rows
    "Experiment logs directory .* exists and is not empty",
    "Checkpoint directory .* exists and is not empty",
    # training data are made in the training process where the scale says so
    "The '.*_dataloader' does not have many workers",
    # losses that are off have unused parameters, and epochs may have fewer batches than the logging interval
    "The number of training batches .* is smaller than the logging interval",
    # main() hands on the arguments that it was given
    "LightningCLI's args parameter is intended to run from within Python",
    # LPIPS and averaged networks belong in eval mode
    "Found .* module.* in eval mode at the start of training",
    # samplers do start where the checkpoint stopped, and schedules decide about the end
    "You're resuming from a checkpoint that ended before the epoch ended",
    "`max_epochs` was not set",
    # the model summary counts bytes as for float32
    "Precision .* is not supported by the model summary",
    # Lightning's own use of a tree function that torch renamed
    ".*LeafSpec.*",
)


def quieten() -> None:
    """Silence those warnings, and what Lightning says of every start."""
    for message in _AS_IT_SHOULD_BE:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
