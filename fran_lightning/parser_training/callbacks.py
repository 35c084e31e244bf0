"""What a parser's training shows and leaves behind: pictures of its answers, and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from fran_lightning import __version__
from fran_lightning.callbacks.drawing import Row, draw_sheet
from fran_lightning.callbacks.publishing import publish_image
from fran_lightning.parser_training.module import ParserModule
from fran_lightning.perception.parsing_classes import CLASSES
from fran_lightning.perception.parsing_weights import PARSER_FILE, save_parser
from fran_lightning.perception.pixels import imagenet_normalised
from fran_lightning.provenance import git_commit


def class_colours() -> np.ndarray:
    """(19, 3) uint8: a colour for each class, black for the background."""
    from matplotlib import colormaps

    colours = np.rint(np.array([colormaps["tab20"](k / (CLASSES - 1))[:3] for k in range(CLASSES)]) * 255)
    colours[0] = 0
    return colours.astype(np.uint8)


def draw_classes(pixels: np.ndarray, classes: np.ndarray, opacity: float = 0.6) -> np.ndarray:
    """A class map (H, W) in colours over uint8 RGB (H, W, 3)."""
    return np.rint(pixels * (1 - opacity) + class_colours()[classes] * opacity).astype(np.uint8)


class ParserSheet(pl.Callback):
    """Held-out faces, rendered and augmented, and real photographs, with what the EMA network sees in them.

    Args:
        photos: uint8 RGB (S, S, 3) face crops without class maps.
        faces: how many held-out faces of each kind.
    """

    def __init__(self, photos: list[np.ndarray], faces: int = 4, tile: int = 144) -> None:
        self.photos, self.faces, self.tile = photos, faces, tile

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, ParserModule)
        rows = []
        for name, loader in zip(("rendered", "augmented"), trainer.datamodule.val_dataloader(), strict=True):
            places = np.linspace(0, len(loader.dataset) - 1, self.faces).astype(int)
            samples = [loader.dataset[place] for place in places]
            pictures = [image.permute(1, 2, 0).numpy() for image, _ in samples]
            truth = [draw_classes(p, labels.numpy()) for p, (_, labels) in zip(pictures, samples, strict=True)]
            rows += [Row(name, pictures), Row("truth", truth), Row("found", self._found(pl_module, pictures))]
        for start in range(0, len(self.photos), self.faces):
            some = self.photos[start : start + self.faces]
            rows += [Row("photographs", some), Row("found", self._found(pl_module, some))]
        seen = int(pl_module.images_seen)
        sheet = draw_sheet([""] * self.faces, rows, self.tile, f"EMA network after {seen} faces")
        publish_image(trainer, "samples/parser", f"parser_{seen:09d}", sheet, f"{seen} faces seen")

    @staticmethod
    @torch.no_grad()
    def _found(module: ParserModule, pictures: list[np.ndarray]) -> list[np.ndarray]:
        answers = []
        for pixels in pictures:
            x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].to(module.device).float()
            classes = module.ema_network(imagenet_normalised(x / 127.5 - 1)).argmax(dim=1)[0].cpu().numpy()
            answers.append(draw_classes(pixels, classes))
        return answers


class ExportParser(pl.Callback):
    """Writes ``parser.safetensors`` after every validation, so that a run can be used while it trains."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking and trainer.is_global_zero:
            assert isinstance(pl_module, ParserModule)
            path = Path(trainer.default_root_dir) / PARSER_FILE
            save_parser(path, pl_module.ema_network, self.metadata(trainer, pl_module))

    @staticmethod
    def metadata(trainer: pl.Trainer, module: ParserModule) -> dict[str, Any]:
        data = trainer.datamodule
        metrics = {k: round(float(v), 5) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        return {
            "architecture": "bisenet_v2",
            "classes": CLASSES,
            "class_order": "bisenet",
            "size": data.size,
            "data": data.info.to_json(),
            "training_images": len(data.train_files),
            "images_seen": int(module.images_seen),
            "hyper_parameters": dict(module.hparams),
            "metrics": metrics,
            "version": __version__,
            "git_commit": git_commit(),
        }
