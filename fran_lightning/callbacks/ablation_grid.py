"""AblationGrid: the same validation faces re-aged by the runs of a loss ablation (Zoss et al. 2022, figure 18)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.utilities import rank_zero_only

from fran_lightning.callbacks.drawing import Row, draw_sheet, to_pixels
from fran_lightning.callbacks.faces import ValidationFace, nearest_age, predict_deltas, validation_faces
from fran_lightning.callbacks.publishing import publish_image
from fran_lightning.errors import UserError
from fran_lightning.networks.weights import GENERATOR_FILE, load_generator, read_metadata

#: loss settings in the order of the figure; others follow by name
ORDER = ("l1", "adv", "lpips", "l1_lpips", "l1_lpips_adv")


def comparable_runs(runs: str | os.PathLike[str], reference: dict[str, Any]) -> dict[str, Path]:
    """The newest run of each experiment below ``runs`` (``<runs>/<exp>/<run id>``) with ``reference``'s data.

    Two runs compare when data, split, seed and scale are the same; ``reference`` is metadata of a run.
    """
    found: dict[str, tuple[float, Path]] = {}
    for file in Path(runs).glob(f"*/*/{GENERATOR_FILE}"):
        try:
            metadata = read_metadata(file)
        except UserError:
            continue  # another program's file, or one that is being replaced
        if _comparison_key(metadata) != _comparison_key(reference):
            continue
        name, written = metadata["experiment"], file.stat().st_mtime
        if name not in found or written > found[name][0]:
            found[name] = (written, file.parent)
    rank = {name: position for position, name in enumerate(ORDER)}
    names = sorted(found, key=lambda name: (rank.get(name, len(ORDER)), name))
    return {name: found[name][1] for name in names}


def _comparison_key(metadata: dict[str, Any]) -> tuple[Any, ...]:
    # weights that were imported or exported by hand name no data, and compare with no run
    return metadata.get("data", {}).get("fingerprint"), metadata.get("seed"), metadata.get("scale")


def draw_ablation_grid(
    runs: dict[str, Path], faces: Sequence[ValidationFace], source_age: float, target_age: float, tile: int
) -> Image.Image:
    """One row per face: input, the output of every run, ground truth. Ages in years; the dataset's nearest are used."""
    ages = list(faces[0].images)
    source, target = nearest_age(ages, source_age), nearest_age(ages, target_age)
    columns: list[list[Any]] = [[to_pixels(face.images[source]) for face in faces]]
    for folder in runs.values():
        generator, _ = load_generator(folder)
        outputs = []
        for face in faces:
            delta = predict_deltas(generator, face.images[source], source, [target])[0]
            outputs.append(to_pixels(face.images[source] + delta))
        columns.append(outputs)
    columns.append([to_pixels(face.images[target]) for face in faces])
    rows = [Row(face.identity, tiles) for face, tiles in zip(faces, zip(*columns, strict=True), strict=True)]
    headings = [f"input {source}", *runs, f"truth {target}"]
    return draw_sheet(headings, rows, tile, f"Loss ablation, {source} to {target} years")


class AblationGrid(pl.Callback):
    """At the end of a run, draws it beside the other loss settings trained on the same data, split and seed.

    Nothing is drawn while only one setting exists.

    Args:
        runs: folder that holds ``<exp>/<run id>``.
        identities: how many validation identities; 0 draws no grid.
        source_age: of the input, in years.
        target_age: of the outputs, in years.
        tile: side of a tile in pixels.
    """

    def __init__(
        self,
        runs: str = "runs",
        identities: int = 4,
        source_age: float = 35.0,
        target_age: float = 65.0,
        tile: int = 160,
    ) -> None:
        self.runs = runs
        self.identities = identities
        self.ages = (source_age, target_age)
        self.tile = tile

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        own = Path(trainer.default_root_dir)
        if not (own / GENERATOR_FILE).is_file() or self.identities < 1:
            return
        runs = comparable_runs(self.runs, read_metadata(own))
        if len(runs) < 2:
            return
        faces = validation_faces(trainer.datamodule, self.identities)
        grid = draw_ablation_grid(runs, faces, *self.ages, self.tile)
        publish_image(trainer, "samples/ablation", "ablation", grid, f"{', '.join(runs)}; same data and seed")
