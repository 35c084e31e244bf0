"""AgePairDataModule: splits a dataset folder by identity, samples pairs and builds their age maps."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from fran_lightning.ages import regional_age_map, uniform_age_map
from fran_lightning.data.folder import PACKED_IMAGES, DatasetInfo, identity_folders, image_path, read_info
from fran_lightning.data.pairs import EpochSampler, FixedPairs, IdentityReader, TrainingPairs
from fran_lightning.data.transforms import PairColourJitter
from fran_lightning.errors import UserError


@dataclass(frozen=True)
class PairBatch:
    """What a training step works on. Images (B, 3, H, W) in [-1, 1], age maps (B, 1, H, W) in years / 100."""

    source: Tensor
    target: Tensor
    source_age_map: Tensor
    target_age_map: Tensor
    #: uniform map of an age that ``target`` does not have, for the discriminator
    wrong_age_map: Tensor

    @property
    def generator_input(self) -> Tensor:
        """(B, 5, H, W): RGB, input-age map, target-age map."""
        return torch.cat([self.source, self.source_age_map, self.target_age_map], dim=1)


def split_identities(
    identities: list[str], val_fraction: float, test_fraction: float, seed: int
) -> tuple[list[str], list[str], list[str]]:
    """Split by identity into training, validation and test, each sorted; decided by ``seed``.

    At least one identity is held out for validation, two from eight identities on; the test split may be empty.

    Raises:
        UserError: fewer than two identities.
    """
    count = len(identities)
    if count < 2:
        raise UserError(
            f"the dataset has {count} identity; at least two are needed, because one is held out for validation"
        )
    order = [identities[i] for i in np.random.default_rng((seed, 0)).permutation(count)]
    val = max(2 if count >= 8 else 1, round(val_fraction * count))
    test = min(round(test_fraction * count), max(0, count - val - 1))
    return sorted(order[val + test :]), sorted(order[:val]), sorted(order[val : val + test])


class AgePairDataModule(pl.LightningDataModule):
    """Pairs of aligned faces for training and validation.

    Args:
        root: dataset folder; images or packed arrays.
        crop_size: side of the training crops in pixels; validation uses the centre crop of this size.
        image_size: scale the images down to this side before cropping; None keeps the dataset's size.
        batch_size: pairs per step and device.
        pairs_per_epoch: length of an epoch, over all devices. Epochs are virtual: pairs are drawn at random, and
            an epoch is the interval between validations and checkpoints. None: every ordered pair once on average.
        val_fraction: share of the identities held out for validation.
        test_fraction: share held out for the test.
        val_pairs_per_identity: fixed ordered pairs of each held-out identity.
        regional_probability: share of the training pairs that age in a random soft region only.
        colour_jitter: strength of the colour augmentation, 0 to 1 (see ``PairColourJitter``).
        num_workers: processes that make pairs; 0 makes them in the training process.
        cache_megabytes: memory, per process, that keeps decoded images.
        seed: of the split and of everything random in the pairs.
    """

    def __init__(
        self,
        root: str,
        crop_size: int = 512,
        image_size: int | None = None,
        batch_size: int = 8,
        pairs_per_epoch: int | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        val_pairs_per_identity: int = 16,
        regional_probability: float = 0.2,
        colour_jitter: float = 0.5,
        num_workers: int = 8,
        cache_megabytes: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.root = Path(root)
        self.crop_size = crop_size
        self.image_size = image_size
        self.cache_megabytes = cache_megabytes
        self.batch_size = batch_size
        self.pairs_per_epoch = pairs_per_epoch
        self.fractions = (val_fraction, test_fraction)
        self.val_pairs_per_identity = val_pairs_per_identity
        self.regional_probability = regional_probability
        self.num_workers = num_workers
        self.seed = seed
        self.colour_jitter = PairColourJitter(colour_jitter) if colour_jitter > 0 else None
        self.info: DatasetInfo | None = None
        self._resume: dict[str, int] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Read the folder and make the splits.

        Raises:
            UserError: no dataset folder, an identity without one of its ages, images smaller than the crop, one
                identity.
        """
        if self.info is not None:
            return
        info = read_info(self.root)
        if self.image_size is not None and self.image_size > info.image_size:
            raise UserError(
                f"the images of {self.root} have {info.image_size} pixels, fewer than --data.image_size "
                f"{self.image_size}; choose a smaller size or scale"
            )
        if (self.image_size or info.image_size) < self.crop_size:
            raise UserError(
                f"the images of {self.root} have {self.image_size or info.image_size} pixels, fewer than "
                f"--data.crop_size {self.crop_size}; choose a smaller crop or scale"
            )
        folders = identity_folders(self.root)
        for folder in folders:
            if (folder / PACKED_IMAGES).is_file():
                continue
            for age in info.ages:
                if image_path(folder, age) is None:
                    raise UserError(f"{folder} has no image of age {age}; run `fran check-data {self.root}`")
        names = [folder.name for folder in folders]
        self.train_identities, self.val_identities, self.test_identities = split_identities(
            names, *self.fractions, self.seed
        )
        if self.pairs_per_epoch is None:
            self.pairs_per_epoch = len(self.train_identities) * len(info.ages) ** 2
        self.reader = IdentityReader(
            self.root, info.ages, self.image_size, self.cache_megabytes, stored_size=info.image_size
        )
        self.info = info

    def describe(self) -> dict[str, Any]:
        """What a run records of its data: plain values; ``fingerprint`` is equal for equal data and split.

        ``settings`` are the arguments that make a module with the same images and split again.
        """
        assert self.info is not None, "setup() comes first"
        val_fraction, test_fraction = self.fractions
        description: dict[str, Any] = self.info.to_json() | {
            "name": self.root.resolve().name,
            "train_identities": len(self.train_identities),
            "val_identities": self.val_identities,
            "settings": {
                "crop_size": self.crop_size,
                "image_size": self.image_size,
                "val_fraction": val_fraction,
                "test_fraction": test_fraction,
                "seed": self.seed,
            },
        }
        text = json.dumps(description, sort_keys=True)
        return description | {"fingerprint": hashlib.sha256(text.encode()).hexdigest()[:16]}

    def train_dataloader(self) -> DataLoader:
        assert self.info is not None
        assert self.pairs_per_epoch is not None
        pairs = TrainingPairs(
            self.reader, self.train_identities, self.info.ages, self.crop_size, self.regional_probability, self.seed
        )
        sampler = EpochSampler(self.pairs_per_epoch)
        if self._resume is not None:
            sampler.resume(**self._resume)
        if len(sampler) < self.batch_size:
            raise UserError(
                f"an epoch of {len(sampler)} pairs per device is less than one batch of {self.batch_size}; "
                "raise --data.pairs_per_epoch or lower --data.batch_size"
            )
        return self._loader(pairs, sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        return self._fixed_loader(self.val_identities)

    def test_dataloader(self) -> DataLoader:
        if not self.test_identities:
            raise UserError(f"{self.root} has too few identities for a test split; raise --data.test_fraction")
        return self._fixed_loader(self.test_identities)

    def _fixed_loader(self, identities: list[str]) -> DataLoader:
        assert self.info is not None
        pairs = FixedPairs(
            self.reader, identities, self.info.ages, self.crop_size, self.val_pairs_per_identity, self.seed
        )
        sampler = None
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            sampler = DistributedSampler(pairs, shuffle=False)
        return self._loader(pairs, sampler, drop_last=False)

    def _loader(self, pairs: Dataset, sampler: Sampler[int] | None, drop_last: bool) -> DataLoader:
        return DataLoader(
            pairs,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            drop_last=drop_last,
        )

    def state_dict(self) -> dict[str, int]:
        """How far the epoch has come; part of every checkpoint."""
        if self.trainer is None or self.trainer.state.fn != "fit":
            return {}
        loop = self.trainer.fit_loop
        under_way = loop.epoch_progress.current.ready > loop.epoch_progress.current.processed
        # "completed" lags by one batch where a checkpoint is saved at a batch's end
        batches = loop.epoch_loop.batch_progress.current.processed if under_way else 0
        pairs = batches * self.batch_size * self.trainer.world_size
        return {"epoch": self.trainer.current_epoch, "pairs_done": pairs}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._resume = state_dict or None

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> PairBatch:
        """Bytes to [-1, 1], colour jitter for training batches, and the age maps, all on the device."""
        source = batch["source"].float() / 127.5 - 1
        target = batch["target"].float() / 127.5 - 1
        training = self.trainer is not None and self.trainer.training
        if training and self.colour_jitter is not None:
            source, target = self.colour_jitter(source, target)
        height, width = source.shape[-2:]
        return PairBatch(
            source=source,
            target=target,
            source_age_map=uniform_age_map(batch["source_age"], height, width),
            target_age_map=regional_age_map(batch["source_age"], batch["target_age"], batch["region"]),
            wrong_age_map=uniform_age_map(batch["wrong_age"], height, width),
        )
