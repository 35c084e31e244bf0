"""AgeSampleSheet: fixed validation identities at all ages, as the network makes them and as they are."""

from __future__ import annotations

import numpy as np
import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.utilities import rank_zero_only

from fran_lightning.callbacks.drawing import Row, delta_heat_map, draw_sheet, to_pixels
from fran_lightning.callbacks.faces import ValidationFace, nearest_age, predict_deltas, validation_faces
from fran_lightning.callbacks.publishing import publish_image


class AgeSampleSheet(pl.Callback):
    """Draws, per identity: the input and the outputs at all ages; the ground truth; the delta as a heat map.

    The targets and the untrained output are published before the first step, then the sheet of the EMA
    generator every ``every_n_epochs`` and at the end.

    Args:
        identities: how many validation identities; 0 draws no sheets.
        source_age: age of the input in years; the nearest age of the dataset is taken.
        every_n_epochs: epochs between two sheets.
        tile: side of a tile in pixels.
    """

    def __init__(self, identities: int = 3, source_age: float = 35.0, every_n_epochs: int = 1, tile: int = 128) -> None:
        self.identities = identities
        self.source_age = source_age
        self.every_n_epochs = every_n_epochs
        self.tile = tile
        self._faces: list[ValidationFace] = []

    @rank_zero_only
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._faces = validation_faces(trainer.datamodule, self.identities)

    @rank_zero_only
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if int(pl_module.images_seen) > 0 or not self._faces:
            return  # a resumed run has published these
        publish_image(trainer, "samples/targets", "targets", self._targets(), "ground truth of the sample sheets")
        self._publish(trainer, pl_module)

    @rank_zero_only
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epochs = trainer.current_epoch + 1
        if trainer.sanity_checking or not self._faces:
            return
        if epochs % self.every_n_epochs == 0 or epochs == trainer.max_epochs:
            self._publish(trainer, pl_module)

    def _publish(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seen = int(pl_module.images_seen)
        caption = f"{seen} images seen" if seen else "untrained"
        name = f"ages_{seen:09d}"
        publish_image(trainer, "samples/ages", name, self.draw(pl_module), caption)

    def _targets(self) -> Image.Image:
        ages = list(self._faces[0].images)
        rows = [Row(face.identity, [to_pixels(image) for image in face.images.values()]) for face in self._faces]
        return draw_sheet([str(age) for age in ages], rows, self.tile)

    def draw(self, pl_module: pl.LightningModule) -> Image.Image:
        """The sheet of the EMA generator as it is now."""
        rows: list[Row] = []
        for face in self._faces:
            ages = list(face.images)
            source_age = nearest_age(ages, self.source_age)
            source = face.images[source_age]
            deltas = predict_deltas(pl_module.ema_generator, source, source_age, ages)
            outputs: list[np.ndarray | None] = [to_pixels(source + delta) for delta in deltas]
            rows += [
                Row(f"{face.identity}\n{source_age} to", [to_pixels(source), *outputs]),
                Row("truth", [None, *(to_pixels(image) for image in face.images.values())]),
                Row("delta", [None, *(delta_heat_map(delta) for delta in deltas)]),
            ]
        headings = ["input", *(str(age) for age in self._faces[0].images)]
        seen = int(pl_module.images_seen)
        return draw_sheet(
            headings, rows, self.tile, f"EMA generator after {seen} images; delta: blue darker, red brighter"
        )
