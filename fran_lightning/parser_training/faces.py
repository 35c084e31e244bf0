"""The faces that a parser learns from: every image of a dataset folder that has a class map."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fran_lightning.data.datamodule import split_identities
from fran_lightning.data.folder import identity_folders, image_path, label_path, read_image, read_info, read_labels
from fran_lightning.errors import UserError
from fran_lightning.parser_training.augment import Augmentation
from fran_lightning.perception.parsing_classes import CLASSES

#: a picture's file and its class map's
LabelledFile = tuple[Path, Path]


def labelled_files(root: Path, identities: list[str] | None = None) -> list[LabelledFile]:
    """The files of a dataset folder that have a class map, those of ``identities`` alone where these are given.

    Raises:
        UserError: no dataset folder, or none of its images has a class map.
    """
    ages = read_info(root).ages
    files = []
    for folder in identity_folders(root):
        if identities is not None and folder.name not in identities:
            continue
        for age in ages:
            image, labels = image_path(folder, age), label_path(folder, age)
            if image is not None and labels is not None:
                files.append((image, labels))
    if not files:
        raise UserError(
            f"{root} has no class maps; make them with `fran synthesize parametric`, or give another folder"
        )
    return files


def read_labelled(files: LabelledFile, size: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 RGB (size, size, 3) and class map (size, size), whole.

    Raises:
        UserError: a broken file, sizes that differ, or a class map with values above 18.
    """
    image, labels = read_image(files[0]), read_labels(files[1])
    if image.shape[:2] != labels.shape:
        raise UserError(f"{files[0]} and its class map differ in size; run `fran check-data`")
    if labels.max() >= CLASSES:
        raise UserError(f"{files[1]} has classes above {CLASSES - 1}; run `fran check-data`")
    if labels.shape != (size, size):
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        labels = cv2.resize(labels, (size, size), interpolation=cv2.INTER_NEAREST)
    return image, labels


class TrainingFaces(Dataset):
    """``count`` augmented faces; number n is the same whichever worker makes it."""

    def __init__(self, files: list[LabelledFile], count: int, size: int, seed: int) -> None:
        self.files, self.count, self.size, self.seed = files, count, size, seed
        self.augmentation = Augmentation(size)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """uint8 (3, S, S) and int64 class map (S, S)."""
        rng = np.random.default_rng((self.seed, number))
        files = self.files[int(rng.integers(len(self.files)))]
        image, labels = self.augmentation(read_image(files[0]), read_labels(files[1]), int(rng.integers(2**31)))
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(labels).long()


class HeldOutFaces(Dataset):
    """Faces as they are, or with an augmentation that is always the same for each."""

    def __init__(self, files: list[LabelledFile], size: int, augmented: bool) -> None:
        self.files, self.size = files, size
        self.augmentation = Augmentation(size) if augmented else None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        if self.augmentation is None:
            image, labels = read_labelled(self.files[number], self.size)
            labels = labels.copy()  # PIL gives an array that is not writable
        else:
            files = self.files[number]
            image, labels = self.augmentation(read_image(files[0]), read_labels(files[1]), number)
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(labels).long()


class ParserDataModule(pl.LightningDataModule):
    """Training faces without end, and two sets of held-out ones: as rendered, and augmented.

    Args:
        root: dataset folder with class maps.
        size: side of the crops in pixels, a multiple of 32.
        batch_size: faces per step.
        first_face: number of the first training face; a continued run goes on where it stopped.
        held_out: faces of each validation set.
        num_workers: processes that make training faces.
        seed: of the split and of the augmentation.
    """

    #: an epoch that no run reaches the end of
    _ENDLESS = 10**8

    def __init__(
        self,
        root: Path,
        size: int = 256,
        batch_size: int = 16,
        first_face: int = 0,
        held_out: int = 48,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.size, self.batch_size, self.num_workers = size, batch_size, num_workers
        info = read_info(root)
        names = [folder.name for folder in identity_folders(root)]
        train, held, _ = split_identities(names, 0.05, 0.0, seed)
        self.info = info
        self.train_files = labelled_files(root, train)
        validation = labelled_files(root, held)
        # spread over identities and ages
        places = np.linspace(0, len(validation) - 1, min(held_out, len(validation))).astype(int)
        self.held_files = [validation[place] for place in places]
        faces = TrainingFaces(self.train_files, self._ENDLESS, size, seed)
        self._training = torch.utils.data.Subset(faces, range(first_face, self._ENDLESS))

    def train_dataloader(self) -> DataLoader:
        return DataLoader(
            self._training,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            # a forked process hangs in OpenCV where its parent has used OpenCV's threads
            multiprocessing_context="spawn" if self.num_workers else None,
            worker_init_fn=_one_thread,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> list[DataLoader]:
        return [
            DataLoader(HeldOutFaces(self.held_files, self.size, augmented), batch_size=self.batch_size)
            for augmented in (False, True)
        ]


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(1)
