"""Makes parametric data sets: identities in parallel, each written whole."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fran_lightning.ages import DEFAULT_AGES
from fran_lightning.data.folder import DatasetInfo
from fran_lightning.errors import UserError
from fran_lightning.progress import progress_bar
from fran_lightning.synthesis.parametric.ageing import OLDEST, YOUNGEST
from fran_lightning.synthesis.parametric.film import Optics
from fran_lightning.synthesis.writer import DatasetWriter, ImageFormat

Device = Literal["auto", "cpu", "cuda"]
#: raised whenever the same seed gives other pictures
GENERATOR_VERSION = 2
SMALLEST, LARGEST, STEP = 64, 1024, 16


@dataclass(frozen=True)
class Settings:
    """What decides the pictures of a parametric data set, besides seed and identity number.

    Attributes:
        image_size: edge in pixels, 64 to 1024 in steps of 16.
        ages: whole years from 18 to 85.
        max_yaw: largest turn of the head in degrees.
        labels: write class maps.
        depth: write depth maps.
        optics: strengths of the camera's faults.
        grey_hair: hair of the scalp turns grey; without, it is the same at all ages.
    """

    image_size: int = 256
    ages: tuple[int, ...] = field(default=DEFAULT_AGES)
    max_yaw: float = 30.0
    labels: bool = True
    depth: bool = False
    optics: Optics = field(default_factory=Optics)
    grey_hair: bool = False

    def check(self) -> None:
        """Raise UserError for sizes and ages that cannot be rendered."""
        size = self.image_size
        if not SMALLEST <= size <= LARGEST or size % STEP:
            raise UserError(
                f"image size {size} is not supported; choose a multiple of {STEP} from {SMALLEST} to {LARGEST}"
            )
        outside = [age for age in self.ages if not YOUNGEST <= age <= OLDEST]
        if outside:
            raise UserError(f"age {outside[0]} cannot be rendered; choose ages from {YOUNGEST:g} to {OLDEST:g}")
        if not 0 <= self.max_yaw <= 45:
            raise UserError(f"--max-yaw {self.max_yaw:g} is not supported; choose 0 to 45 degrees")
        self.optics.check()

    def generator(self) -> dict[str, Any]:
        """The entry ``generator`` of ``dataset.json``."""
        return {
            "name": "parametric",
            "version": GENERATOR_VERSION,
            "max_yaw": self.max_yaw,
            "labels": self.labels,
            "depth": self.depth,
            "optics": asdict(self.optics),
            "grey_hair": self.grey_hair,
        }


def choose_device(device: Device) -> Literal["cpu", "cuda"]:
    """``auto`` takes a CUDA device where there is one.

    Raises:
        UserError: ``cuda`` is asked for and there is none.
    """
    from fran_lightning.synthesis.parametric.raycast import cuda_available

    if device == "cuda" and not cuda_available():
        raise UserError("--device cuda: no CUDA device was found; use --device cpu")
    return "cuda" if device != "cpu" and cuda_available() else "cpu"


def render_identity(seed: int, number: int, settings: Settings, device: str = "cpu") -> tuple[list, dict[str, Any]]:
    """All ages of one identity.

    Returns:
        One ``studio.Frame`` per age, and the content of ``identity.json``.
    """
    from fran_lightning.synthesis.parametric.scene import sample_identity
    from fran_lightning.synthesis.parametric.studio import Studio

    identity = sample_identity(seed, number, settings.max_yaw)
    studio = Studio(identity, settings.image_size, device, optics=settings.optics, grey_hair=settings.grey_hair)
    frames = [studio.render(age) for age in settings.ages]
    landmarks = {str(age): frame.landmarks.round(2).tolist() for age, frame in zip(settings.ages, frames, strict=True)}
    return frames, {**identity.record(), "landmarks": landmarks}


def _write(writer: DatasetWriter, number: int, settings: Settings, device: str) -> int:
    frames, record = render_identity(writer.info.seed, number, settings, device)
    writer.write_identity(
        number,
        [frame.image for frame in frames],
        [frame.label for frame in frames] if settings.labels else None,
        record,
        [_depth_map(frame.depth) for frame in frames] if settings.depth else None,
    )
    return len(frames)


def _depth_map(depth: np.ndarray) -> np.ndarray:
    """Millimetres to uint16 tenths of a millimetre; 0 where there is only background."""
    return np.where(depth < 6000, np.rint(10 * depth), 0).astype(np.uint16)


def _start_worker() -> None:
    """One core per worker: the workers are the parallelism."""
    import cv2

    cv2.setNumThreads(1)


def generate(
    root: str | os.PathLike[str],
    identities: int,
    seed: int = 0,
    settings: Settings | None = None,
    shard: tuple[int, int] = (0, 1),
    image_format: ImageFormat = "png",
    device: Device = "auto",
    workers: int | None = None,
) -> Path:
    """Write a data set folder of parametric identities; continues one that was interrupted.

    Args:
        root: the folder.
        identities: how many.
        seed: decides, with the identity's number, everything about an identity.
        settings: size, ages and what else decides the pictures.
        shard: (i, n): make only the identities i modulo n.
        image_format: png, webp or jpg.
        device: where to render.
        workers: processes; None means one per core on a CPU, one on a GPU.

    Raises:
        UserError: unsupported settings, a folder with other settings, no CUDA device.
    """
    settings = settings or Settings()
    settings.check()
    if identities < 1:
        raise UserError(f"--identities {identities}: at least one identity is needed")
    if seed < 0:
        raise UserError(f"--seed {seed} must not be negative")
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: at least one process is needed")
    chosen = choose_device(device)
    info = DatasetInfo("parametric", settings.image_size, tuple(settings.ages), identities, seed, settings.generator())
    try:
        writer = DatasetWriter(root, info, shard, image_format)
    except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        raise UserError(f"folder {root} cannot be made ({error.strerror}); choose another one") from error
    missing = writer.missing()
    if workers is None:
        workers = 1 if chosen == "cuda" else (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    workers = max(1, min(workers, len(missing)))
    with progress_bar("rendering faces", len(missing) * len(settings.ages), "images") as bar:
        for count in _render_all(writer, missing, settings, chosen, workers):
            bar.advance(count)
    return Path(root)


def _render_all(writer: DatasetWriter, missing: Sequence[int], settings: Settings, device: str, workers: int):
    """Yield the number of images after every identity that was written."""
    if workers == 1:
        for number in missing:
            yield _write(writer, number, settings, device)
        return
    # spawn: warp and torch must not be forked
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        jobs = [pool.submit(_write, writer, number, settings, device) for number in missing]
        try:
            for job in as_completed(jobs):
                yield job.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a process that renders was ended by the system, for lack of memory perhaps; run the same command "
                f"again with fewer --workers (now {workers}): it continues where it was"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
