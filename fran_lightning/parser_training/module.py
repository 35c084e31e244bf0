"""ParserModule: the training step of BiSeNet V2, its schedule and its averaged weights. Nothing is drawn here."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from fran_lightning.networks.precision import bfloat16_pays
from fran_lightning.perception.bisenet_v2 import BiSeNetV2
from fran_lightning.perception.parsing_classes import CLASSES, SKIN
from fran_lightning.perception.pixels import imagenet_normalised

#: latest training batches on which the averaged network's batch normalisation is measured
_STATISTICS_BATCHES = 12
#: names of the validation sets, in the order of the data loaders
_SETS = ("rendered", "augmented")


class ParserModule(pl.LightningModule):
    """Trains BiSeNet V2 with cross-entropy and Dice on the main head and cross-entropy on auxiliary ones.

    The learning rate rises over the first 3 % of the run and falls along a cosine to nothing at its end. The end is a
    number of steps or, with ``minutes``, a time: the schedule then follows the clock, whatever else the machine does.

    Args:
        steps: batches to train for.
        minutes: time to train for, instead of ``steps``; what an interrupted run has used up is counted.
        learning_rate: highest rate of AdamW.
        weight_decay: of AdamW, on the convolutions' weights.
        lambda_dice: weight of the Dice loss.
        lambda_auxiliary: weight of each auxiliary head's cross-entropy.
        small_share: share of the run, from its beginning, in which the crops are reduced to three quarters: half the
            cost of a step.
        ema_decay: of the averaged network, per batch; less in the first batches.
        channels_last: memory layout.
        seed: recorded with the run.
    """

    images_seen: Tensor
    seconds_trained: Tensor

    def __init__(
        self,
        steps: int = 6000,
        minutes: float | None = None,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-2,
        lambda_dice: float = 1.0,
        lambda_auxiliary: float = 0.4,
        small_share: float = 0.6,
        ema_decay: float = 0.99,
        channels_last: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        # the auxiliary heads at 1/4 and 1/8 cost as much as the network itself and add nothing that was noticed
        self.network = BiSeNetV2(CLASSES, auxiliary=("aux4", "aux5_4"))
        # averaged statistics of batch normalisation do not fit averaged weights while both change quickly: they are
        # the live network's, and measured anew before each validation
        self.averaged = AveragedModel(self.network, multi_avg_fn=_warming_average(ema_decay))
        self.averaged.requires_grad_(False).eval()
        self.dice = smp.losses.DiceLoss(mode="multiclass", from_logits=True, smooth=1.0)
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seconds_trained", torch.zeros((), dtype=torch.float64))
        self._clock = 0.0
        self._recent: deque[Tensor] = deque(maxlen=_STATISTICS_BATCHES)
        self._counts: list[list[tuple[Tensor, ...]]] = [[], []]

    @property
    def ema_network(self) -> BiSeNetV2:
        """The averaged network, which validation, pictures and export use."""
        return self.averaged.module

    def setup(self, stage: str) -> None:
        if self.hparams["channels_last"]:
            self.network.to(memory_format=torch.channels_last)
            self.averaged.to(memory_format=torch.channels_last)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        weights = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [
            {"params": weights, "weight_decay": self.hparams["weight_decay"]},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.hparams["learning_rate"])

    # --- schedule ---------------------------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        """How much of the run is done, 0 to 1."""
        minutes = self.hparams["minutes"]
        done = self.global_step / self.hparams["steps"]
        return min(1.0, done if minutes is None else float(self.seconds_trained) / (60 * minutes))

    def on_train_start(self) -> None:
        self._clock = time.monotonic()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        progress = self.progress
        factor = min(1.0, 0.01 + progress / 0.03) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in self.optimizers().param_groups:
            group["lr"] = self.hparams["learning_rate"] * factor

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.averaged.update_parameters(self.network)
        now = time.monotonic()
        self.seconds_trained += now - self._clock
        self._clock = now
        if self.progress >= 1:
            self.trainer.should_stop = True

    # --- training ---------------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        if self.progress < self.hparams["small_share"]:
            images, labels = _reduced(images, labels)
        self._recent.append(images)
        main, *auxiliary = self.network.coarse_logits(self._input(images))
        # half of the resolution: full costs as much as the network and the labels' own edges are no sharper
        main = F.interpolate(main.float(), scale_factor=4, mode="bilinear")
        target = _thinned(labels, 2)
        cross_entropy, dice = F.cross_entropy(main, target), self.dice(main, target)
        loss = cross_entropy + self.hparams["lambda_dice"] * dice
        for logits in auxiliary:
            stride = labels.shape[-1] // logits.shape[-1]
            loss = loss + self.hparams["lambda_auxiliary"] * F.cross_entropy(logits.float(), _thinned(labels, stride))
        self.images_seen += images.shape[0]
        self.log_dict(
            {
                "train/loss": loss,
                "train/cross_entropy": cross_entropy,
                "train/dice": dice,
                "learning_rate": self.optimizers().param_groups[0]["lr"],
                "images_seen": self.images_seen.float(),
            }
        )
        return loss

    def _input(self, images: Tensor) -> Tensor:
        x = imagenet_normalised(images.float() / 127.5 - 1)
        return x.contiguous(memory_format=torch.channels_last) if self.hparams["channels_last"] else x

    # --- validation -------------------------------------------------------------------------------------------

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        images, labels = batch
        predicted = self.ema_network(self._input(images)).float().argmax(dim=1)
        self._counts[dataloader_idx].append(
            smp.metrics.get_stats(predicted, labels, mode="multiclass", num_classes=CLASSES)
        )
        is_skin = torch.tensor([c in SKIN for c in range(CLASSES)], device=labels.device)
        skin = smp.metrics.get_stats(is_skin[predicted].long(), is_skin[labels].long(), mode="binary")
        self._skin_counts[dataloader_idx].append(skin)

    def on_validation_epoch_start(self) -> None:
        if self._recent:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16_pays(self.device)):
                update_bn((self._input(images) for images in self._recent), self.ema_network)
            self.ema_network.eval()
        self._counts, self._skin_counts = [[], []], [[], []]

    def on_validation_epoch_end(self) -> None:
        logs = {"images_seen": self.images_seen.float()}
        for name, counts, skin in zip(_SETS, self._counts, self._skin_counts, strict=True):
            logs[f"val/miou_{name}"] = mean_iou(_summed(counts))
            logs[f"val/skin_iou_{name}"] = smp.metrics.iou_score(*_summed(skin), reduction="micro")
        self.log_dict(logs)


def _warming_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], int], None]:
    """An exponential average that forgets its beginning: the decay rises with the number of batches."""

    def average(averaged: Sequence[Tensor], current: Sequence[Tensor], count: int) -> None:
        count = int(count)
        get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(averaged, current, count)

    return average


def _summed(counts: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Statistics of all images together, (1, classes) each."""
    return tuple(torch.cat(parts).sum(dim=0, keepdim=True) for parts in zip(*counts, strict=True))


def mean_iou(counts: tuple[Tensor, ...]) -> Tensor:
    """The mean over classes that occur; ``counts``: true and false positives, false and true negatives."""
    true_positive, _, false_negative, _ = counts
    occurs = (true_positive + false_negative) > 0
    return smp.metrics.iou_score(*counts, reduction="none")[occurs].mean()


def _reduced(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Images (B, 3, S, S) uint8 and class maps (B, S, S) at about three quarters, in multiples of 32."""
    size = round(0.75 * images.shape[-1] / 32) * 32
    images = F.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True)
    return images, F.interpolate(labels[:, None].float(), size=(size, size), mode="nearest-exact")[:, 0].long()


def _thinned(labels: Tensor, stride: int) -> Tensor:
    """Class maps (B, H, W) at 1 / ``stride``. Which pixel of a cell is taken is left to chance: its middle is none."""
    place = int(torch.randint(stride // 2 - 1, stride // 2 + 1, ()))
    return labels[:, place::stride, place::stride]
