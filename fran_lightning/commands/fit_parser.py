"""Train the face parser (BiSeNet V2) on a dataset folder with class maps.

An interrupted run is continued by the same command with its `--run_dir`. The weights lie in the run folder from the
first validation on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from fran_lightning.tracking import WandbMode

if TYPE_CHECKING:
    import numpy as np


def configure(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("root", type=str, help="dataset folder with labels/, as `fran synthesize parametric` makes it")
    add("--run_dir", type=str | None, default=None, help="folder of the run; an existing one is continued")
    add("--steps", type=int, default=6000, help="batches to train for")
    add("--minutes", type=float | None, default=None, help="time to train for, instead of --steps")
    add("--size", type=int, default=256, help="side of the training crops in pixels, a multiple of 32")
    add("--batch_size", type=int, default=16, help="faces per batch")
    add("--learning_rate", type=float, default=2e-3, help="highest rate of AdamW")
    add("--validate_every", type=int, default=100, help="batches between validations, pictures and checkpoints")
    add("--num_workers", type=int, default=2, help="processes that make training faces")
    add("--photos", type=list[str], default=[], help="photographs to show on the sheets: files, folders or globs")
    add("--wandb", type=WandbMode, default="auto", help="auto: online where a key is known")
    add("--seed", type=int, default=0, help="of the split and everything random")


def run(args: Namespace) -> None:
    from pathlib import Path

    from fran_lightning.parser_training.fit import fit_parser

    path = fit_parser(
        Path(args.root),
        run_dir=args.run_dir,
        steps=args.steps,
        minutes=args.minutes,
        size=args.size,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        validate_every=args.validate_every,
        num_workers=args.num_workers,
        photos=_face_crops(args.photos, args.size),
        wandb=args.wandb,
        seed=args.seed,
    )
    print(f"weights: {path}")


def _face_crops(paths: list[str], size: int) -> list[np.ndarray]:
    """The largest face of every photo, aligned."""
    if not paths:
        return []
    from fran_lightning.perception.alignment import FaceSquare, crop
    from fran_lightning.perception.detection import FaceDetector
    from fran_lightning.perception.face import NoFaceError
    from fran_lightning.reaging.inputs import find_photos
    from fran_lightning.reaging.photo import read_photo
    from fran_lightning.reaging.reager import to_8_bit

    detector, crops = FaceDetector(), []
    for path in find_photos(paths):
        pixels = to_8_bit(read_photo(path).pixels)
        faces = detector.detect(pixels)
        if not faces:
            raise NoFaceError(f"{path} shows no face; leave it out of --photos")
        crops.append(crop(pixels, FaceSquare.from_points(faces[0].points), size))
    return crops
