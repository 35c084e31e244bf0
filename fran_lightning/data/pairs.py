"""Training pairs: the same face at two ages, aligned pixel for pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

import cv2
import numpy as np
import torch
import torch.distributed
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from fran_lightning.data.folder import (
    PACKED_IMAGES,
    PACKED_LABELS,
    image_path,
    label_path,
    read_image,
    read_labels,
)
from fran_lightning.data.regions import blend, blob_region, class_region
from fran_lightning.data.transforms import PairGeometry
from fran_lightning.errors import UserError


class AgePair(NamedTuple):
    """An ordered pair: the face ``identity`` (folder name) at ``source_age`` is to become ``target_age``."""

    identity: str
    source_age: int
    target_age: int


class PairSample(TypedDict):
    """One sample; collated, every entry gains a leading batch dimension."""

    source: Tensor  # uint8 (3, H, W)
    target: Tensor  # uint8 (3, H, W)
    region: Tensor  # float32 (1, H, W): 1 where the target age applies, 0 where nothing changes
    source_age: Tensor  # float32, years
    target_age: Tensor  # float32, years
    wrong_age: Tensor  # float32, years: an age that the target does not have
    identity: str


class IdentityReader:
    """Reads images and class maps of a dataset folder, from packed arrays where these exist.

    Args:
        root: dataset folder.
        ages: its ages in years, in the order of the packed arrays.
        image_size: side in pixels to which everything is scaled down; None leaves the dataset's size.
        cache_megabytes: memory for what was read (and scaled); what does not fit is read again every time.
        stored_size: side in pixels that the dataset says its images have; None leaves it unchecked.
    """

    def __init__(
        self,
        root: Path,
        ages: Sequence[int],
        image_size: int | None = None,
        cache_megabytes: int = 0,
        stored_size: int | None = None,
    ) -> None:
        self.root = root
        self.position = {age: index for index, age in enumerate(ages)}
        self.image_size = image_size
        self.stored_size = stored_size
        self._cache: dict[tuple[str, str, int], np.ndarray] = {}
        self._free_bytes = cache_megabytes * 2**20

    def image(self, identity: str, age: int) -> np.ndarray:
        """uint8 RGB (H, W, 3)."""

        def read() -> np.ndarray:
            folder = self.root / identity
            if (packed := folder / PACKED_IMAGES).is_file():
                return self._packed(packed, age)
            if (path := image_path(folder, age)) is not None:
                return read_image(path)
            raise UserError(f"{folder} has no image of age {age}; run `fran check-data {self.root}`")

        return self._cached(("image", identity, age), read, cv2.INTER_AREA)

    def labels(self, identity: str, age: int) -> np.ndarray | None:
        """uint8 class map (H, W), or None where the dataset has none."""
        folder = self.root / identity
        packed, path = folder / PACKED_LABELS, label_path(folder, age)
        if not packed.is_file() and path is None:
            return None

        def read() -> np.ndarray:
            return read_labels(path) if path is not None else self._packed(packed, age)

        return self._cached(("labels", identity, age), read, cv2.INTER_NEAREST)

    def _packed(self, path: Path, age: int) -> np.ndarray:
        try:
            return np.load(path, mmap_mode="r")[self.position[age]]
        except (ValueError, OSError, EOFError, IndexError) as error:
            raise UserError(f"{path} is broken; delete it and run `fran pack {self.root}` again") from error

    def _cached(self, key: tuple[str, str, int], read: Callable[[], np.ndarray], interpolation: int) -> np.ndarray:
        if key in self._cache:
            return self._cache[key]
        pixels = read()
        if self.stored_size is not None and pixels.shape[:2] != (self.stored_size, self.stored_size):
            what, identity, age = key
            raise UserError(
                f"{what} {self.root / identity}/{age} is {pixels.shape[1]} x {pixels.shape[0]} pixels, not "
                f"{self.stored_size} x {self.stored_size}; run `fran check-data {self.root}`"
            )
        if self.image_size is not None and pixels.shape[0] != self.image_size:
            pixels = cv2.resize(np.asarray(pixels), (self.image_size, self.image_size), interpolation=interpolation)
        if pixels.nbytes <= self._free_bytes:
            self._free_bytes -= pixels.nbytes
            self._cache[key] = pixels = np.array(pixels)
        return pixels


class _PairDataset(Dataset[PairSample]):
    """What the training and the validation pairs share: reading, cutting out and converting one pair."""

    def __init__(self, reader: IdentityReader, crop_size: int, augment: bool) -> None:
        self.reader = reader
        self.geometry = PairGeometry(crop_size, augment)

    def _sample(self, pair: AgePair, wrong_age: int, seed: int, rng: np.random.Generator | None) -> PairSample:
        source = self.reader.image(pair.identity, pair.source_age)
        target = self.reader.image(pair.identity, pair.target_age)
        if rng is None:
            region = np.ones(source.shape[:2], dtype=np.float32)
        else:
            region = self._random_region(pair, source.shape[:2], rng)
            target = blend(source, target, region)
        source, target, region = self.geometry(np.asarray(source), np.asarray(target), region, seed)
        return PairSample(
            source=torch.from_numpy(np.array(source)).permute(2, 0, 1),
            target=torch.from_numpy(np.array(target)).permute(2, 0, 1),
            region=torch.from_numpy(np.ascontiguousarray(region, dtype=np.float32)).clamp(0, 1)[None],
            source_age=torch.tensor(float(pair.source_age)),
            target_age=torch.tensor(float(pair.target_age)),
            wrong_age=torch.tensor(float(wrong_age)),
            identity=pair.identity,
        )

    def _random_region(self, pair: AgePair, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        if rng.random() < 0.5:
            source_labels = self.reader.labels(pair.identity, pair.source_age)
            target_labels = self.reader.labels(pair.identity, pair.target_age)
            if source_labels is not None and target_labels is not None:
                region = class_region(source_labels, target_labels, rng)
                if region is not None:
                    return region
        return blob_region(*shape, rng)


class TrainingPairs(_PairDataset):
    """Endless random pairs: item ``n`` depends on (seed, n) alone, whichever process makes it.

    Each item draws an identity and two ages independently, so that all ordered pairs are equally likely, those
    of one age included (they teach the network to change nothing).

    Args:
        reader: the dataset folder.
        identities: folder names of the training identities.
        ages: ages of the dataset in years.
        crop_size: side in pixels.
        regional_probability: share of the pairs that age in a random soft region only.
        seed: of everything random here.
    """

    def __init__(
        self,
        reader: IdentityReader,
        identities: Sequence[str],
        ages: Sequence[int],
        crop_size: int,
        regional_probability: float,
        seed: int,
    ) -> None:
        super().__init__(reader, crop_size, augment=True)
        self.identities = list(identities)
        self.ages = list(ages)
        self.regional_probability = regional_probability
        self.seed = seed

    def draw(self, number: int) -> tuple[AgePair, int, np.random.Generator]:
        """The pair of item ``number``, an age that its target does not have, and its generator."""
        rng = np.random.default_rng((self.seed, number))
        identity = self.identities[rng.integers(len(self.identities))]
        source, target = rng.integers(len(self.ages), size=2)
        # any age but the target's, all equally likely
        wrong = (target + 1 + rng.integers(len(self.ages) - 1)) % len(self.ages)
        return AgePair(identity, self.ages[source], self.ages[target]), self.ages[wrong], rng

    def __getitem__(self, number: int) -> PairSample:
        pair, wrong_age, rng = self.draw(number)
        seed = int(rng.integers(2**32))
        regional = rng.random() < self.regional_probability
        return self._sample(pair, wrong_age, seed, rng if regional else None)


class FixedPairs(_PairDataset):
    """A fixed list of pairs, centre crops without augmentation, for validation and test.

    Args:
        reader: the dataset folder.
        identities: folder names of the held-out identities.
        ages: ages of the dataset in years.
        crop_size: side in pixels.
        pairs_per_identity: how many of the ordered pairs of each identity, chosen by ``seed``; the same number
            of the ordered pairs of every identity, those of one age included in their natural share.
        seed: decides the choice.
    """

    def __init__(
        self,
        reader: IdentityReader,
        identities: Sequence[str],
        ages: Sequence[int],
        crop_size: int,
        pairs_per_identity: int,
        seed: int,
    ) -> None:
        super().__init__(reader, crop_size, augment=False)
        every = [(source, target) for source in ages for target in ages]
        count = min(pairs_per_identity, len(every))
        self.pairs = [
            AgePair(identity, *every[choice])
            for number, identity in enumerate(identities)
            for choice in np.random.default_rng((seed, number)).choice(len(every), count, replace=False)
        ]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> PairSample:
        return self._sample(self.pairs[index], wrong_age=self.pairs[index].source_age, seed=0, rng=None)


class EpochSampler(Sampler[int]):
    """Numbers the training pairs: epoch ``e`` of ``n`` pairs is e * n ... (e + 1) * n - 1, dealt out to the ranks.

    Lightning calls ``set_epoch``, so a resumed run goes on with pairs that it has not seen. Lightning 2.6 resumes
    in the middle of an epoch by counting on from the batch it had reached, but reads the loader from its
    beginning; ``resume`` makes the sampler start where the checkpoint stopped.
    """

    def __init__(self, pairs_per_epoch: int) -> None:
        self.pairs_per_epoch = pairs_per_epoch
        self.epoch = 0
        self._resume_epoch, self._resume_pairs = -1, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def resume(self, epoch: int, pairs_done: int) -> None:
        """``pairs_done`` pairs of ``epoch``, over all ranks, were used before the checkpoint."""
        self._resume_epoch, self._resume_pairs = epoch, pairs_done

    def _ranks(self) -> tuple[int, int]:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    def __len__(self) -> int:
        # every rank gets the same number: a rank with one batch more would wait for the others for ever
        return self.pairs_per_epoch // self._ranks()[1]

    def __iter__(self) -> Iterator[int]:
        rank, ranks = self._ranks()
        start = self.epoch * self.pairs_per_epoch
        done = self._resume_pairs if self.epoch == self._resume_epoch else 0
        return iter(range(start + done + rank, start + len(self) * ranks, ranks))
