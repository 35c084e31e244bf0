"""Sheets and grids: what stands where, which runs are compared, and where pictures go."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.loggers import WandbLogger
from tiny_data import AGES, SIZE, draw_face, write_tiny_dataset
from torch import Tensor, nn

from fran_lightning.callbacks.ablation_grid import AblationGrid, comparable_runs, draw_ablation_grid
from fran_lightning.callbacks.age_sample_sheet import AgeSampleSheet
from fran_lightning.callbacks.drawing import CAPTION, GAP, HEADING, Row, delta_heat_map, draw_sheet, to_pixels
from fran_lightning.callbacks.faces import nearest_age, predict_deltas, validation_faces
from fran_lightning.callbacks.publishing import publish_image
from fran_lightning.cli import main
from fran_lightning.data.datamodule import AgePairDataModule
from fran_lightning.networks.generator import Generator
from fran_lightning.networks.unet import FRANUNet
from fran_lightning.networks.weights import GENERATOR_FILE, save_generator

TILE = 64


class AgeShift(Generator):
    """Brightens by target age minus input age: every tile of a sheet says what the network was asked."""

    size_multiple = 1

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def predict_delta(self, x: Tensor) -> Tensor:
        return (x[:, 4:5] - x[:, 3:4]).expand(-1, 3, -1, -1)


@pytest.fixture
def data(tiny_dataset) -> AgePairDataModule:
    module = AgePairDataModule(str(tiny_dataset), crop_size=48, num_workers=0)
    module.setup()
    return module


def tile_at(sheet: Image.Image, row: int, column: int, tile: int = TILE, title: bool = True) -> np.ndarray:
    x = CAPTION + column * (tile + GAP)
    y = HEADING * (2 if title else 1) + row * (tile + GAP)
    return np.asarray(sheet)[y : y + tile, x : x + tile]


def is_empty(pixels: np.ndarray) -> bool:
    return bool((pixels == pixels[0, 0]).all())


# ---------------------------------------------------------------- drawing


def test_pixels_round_and_clip():
    image = torch.tensor([-1.5, -1.0, 0.0, 1.0, 3.0]).reshape(1, 1, 5).expand(3, 1, 5)
    assert to_pixels(image)[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_heat_maps_are_blue_where_it_gets_darker_and_red_where_it_gets_brighter():
    delta = torch.tensor([-2.0, -0.5, 0.0, 0.5]).reshape(1, 1, 4).expand(3, 1, 4)
    dark, half, none, bright = delta_heat_map(delta, limit=0.5)[0].astype(int)
    assert dark[2] > dark[0] + 50  # blue over red
    assert (dark == half).all()  # beyond the limit nothing changes
    assert none.min() > 240
    assert bright[0] > bright[2] + 50


def test_tiles_stand_in_their_rows_and_columns():
    tiles = [np.full((16, 16, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = draw_sheet(["a", "b"], [Row("one", tiles[:2]), Row("two", [None, tiles[2]])], 16)
    assert sheet.size == (CAPTION + 2 * (16 + GAP), HEADING + 2 * (16 + GAP))
    found = [tile_at(sheet, row, column, 16, title=False)[8, 8, 0] for row in (0, 1) for column in (0, 1)]
    assert found == [10, 20, 250, 30]


# ---------------------------------------------------------------- faces


def test_faces_are_held_out_identities_at_all_ages(data):
    faces = validation_faces(data, 3)
    assert [face.identity for face in faces] == data.val_identities[:3]
    face = faces[0]
    assert list(face.images) == list(AGES)
    expected, _ = draw_face(int(face.identity), AGES[1])
    assert np.array_equal(to_pixels(face.images[AGES[1]]), expected)


def test_nearest_age():
    assert nearest_age(AGES, 35) == 40
    assert nearest_age(AGES, 5) == 20


def test_deltas_are_those_of_the_ages_asked():
    deltas = predict_deltas(AgeShift(), torch.zeros(3, 8, 8), 40, AGES)
    assert deltas.shape == (4, 3, 8, 8)
    torch.testing.assert_close(deltas[:, 0, 0, 0], torch.tensor([-0.2, 0.0, 0.2, 0.4]))


# ---------------------------------------------------------------- sample sheet


@pytest.fixture
def trainer(data, tmp_path) -> SimpleNamespace:
    """What the callbacks read of a trainer."""
    return SimpleNamespace(
        default_root_dir=str(tmp_path / "runs" / "l1" / "own"),
        datamodule=data,
        loggers=[],
        sanity_checking=False,
        current_epoch=0,
        max_epochs=5,
    )


def test_the_sheet_shows_input_outputs_truth_and_delta(trainer):
    sheet = AgeSampleSheet(identities=1, source_age=35, tile=TILE)
    module = SimpleNamespace(ema_generator=AgeShift(), images_seen=torch.tensor(12))
    sheet.on_fit_start(trainer, module)
    image = sheet.draw(module)
    assert image.size == (CAPTION + 5 * (TILE + GAP), 2 * HEADING + 3 * (TILE + GAP))
    face = validation_faces(trainer.datamodule, 1)[0]
    source = face.images[40]
    assert np.array_equal(tile_at(image, 0, 0), to_pixels(source))
    for column, age in enumerate(AGES, start=1):
        # a difference of two float32 ages may round to the next level
        assert np.abs(tile_at(image, 0, column).astype(int) - to_pixels(source + (age - 40) / 100)).max() <= 1
        assert np.array_equal(tile_at(image, 1, column), to_pixels(face.images[age]))
        expected = delta_heat_map(torch.full((3, SIZE, SIZE), (age - 40) / 100)).astype(int)
        assert np.abs(tile_at(image, 2, column) - expected).max() <= 3
    assert is_empty(tile_at(image, 1, 0))
    assert is_empty(tile_at(image, 2, 0))


def test_targets_and_the_untrained_output_come_first_and_sheets_at_their_interval(trainer):
    sheet = AgeSampleSheet(identities=1, every_n_epochs=2, tile=16)
    module = SimpleNamespace(ema_generator=AgeShift(), images_seen=torch.tensor(0))
    sheet.on_fit_start(trainer, module)
    sheet.on_train_start(trainer, module)
    samples = Path(trainer.default_root_dir) / "samples"
    assert {path.name for path in samples.iterdir()} == {"targets.png", "ages_000000000.png"}
    for epoch in range(5):
        trainer.current_epoch = epoch
        module.images_seen = torch.tensor((epoch + 1) * 10)
        sheet.on_validation_end(trainer, module)
    names = {path.name for path in samples.glob("ages*")}
    assert names == {f"ages_{seen:09d}.png" for seen in (0, 20, 40, 50)}
    # a resumed run repeats neither
    shutil.rmtree(samples)
    sheet.on_train_start(trainer, module)
    assert not samples.exists()


def test_no_identities_mean_no_sheets(trainer):
    sheet = AgeSampleSheet(identities=0)
    module = SimpleNamespace(ema_generator=AgeShift(), images_seen=torch.tensor(0))
    sheet.on_fit_start(trainer, module)
    sheet.on_train_start(trainer, module)
    sheet.on_validation_end(trainer, module)
    assert not Path(trainer.default_root_dir).exists()


def test_pictures_go_to_the_run_folder_and_to_wandb(trainer):
    class Recorder(WandbLogger):
        """Keeps what would be logged."""

        def __init__(self) -> None:
            self.logged: list[tuple] = []

        def log_image(self, key, images, step=None, **arguments):
            self.logged.append((key, images, step, arguments))

    recorder = Recorder()
    trainer.loggers = [recorder]
    picture = Image.new("RGB", (4, 4), (1, 2, 3))
    path = publish_image(trainer, "samples/ages", "ages_7", picture, "7 images seen")
    assert path == Path(trainer.default_root_dir) / "samples" / "ages_7.png"
    with Image.open(path) as stored:
        assert stored.getpixel((0, 0)) == (1, 2, 3)
    # no step: Lightning's counts optimizer steps
    assert recorder.logged == [("samples/ages", [picture], None, {"caption": ["7 images seen"]})]


# ---------------------------------------------------------------- ablation grid


def make_run(
    runs: Path, data: AgePairDataModule, experiment: str, brightness: float, run: str = "1", **changes: object
) -> Path:
    """A run folder whose generator adds ``brightness``; ``changes`` replace entries of its metadata."""
    folder = runs / experiment / run
    folder.mkdir(parents=True)
    generator = FRANUNet(base_channels=4, depth=1)
    nn.init.constant_(generator.head.bias, brightness)
    description = data.describe() | {"fingerprint": changes.pop("fingerprint", data.describe()["fingerprint"])}
    metadata = {"experiment": experiment, "scale": "laptop", "seed": 0, "data": description} | changes
    save_generator(folder / GENERATOR_FILE, generator, metadata)
    return folder


def test_comparable_runs_are_those_of_the_same_data_seed_and_scale_in_the_papers_order(data, tmp_path):
    runs = tmp_path / "runs"
    for name in ("smp", "l1_lpips_adv", "lpips", "adv", "l1"):
        make_run(runs, data, name, 0.0)
    make_run(runs, data, "other_seed", 0.0, seed=1)
    make_run(runs, data, "other_scale", 0.0, scale="paper")
    make_run(runs, data, "other_data", 0.0, fingerprint="other")
    imported = runs / "community" / "1"
    imported.mkdir(parents=True)
    save_generator(imported / GENERATOR_FILE, FRANUNet(4, 1), {"image_size": 512})
    broken = runs / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / GENERATOR_FILE).write_bytes(b"no weights")
    reference = {"scale": "laptop", "seed": 0, "data": data.describe()}
    assert list(comparable_runs(runs, reference)) == ["l1", "adv", "lpips", "l1_lpips_adv", "smp"]


def test_of_two_runs_of_an_experiment_the_newest_is_shown(data, tmp_path):
    first, second = (make_run(tmp_path, data, "l1", 0.0, run=run) for run in ("a", "b"))
    os.utime(first / GENERATOR_FILE, (2e9, 2e9))
    reference = {"scale": "laptop", "seed": 0, "data": data.describe()}
    assert comparable_runs(tmp_path, reference) == {"l1": first} != {"l1": second}


def test_the_grid_shows_every_run_between_input_and_truth(data, tmp_path):
    runs = {name: make_run(tmp_path, data, name, brightness) for name, brightness in (("l1", 0.2), ("lpips", -0.3))}
    faces = validation_faces(data, 1)
    grid = draw_ablation_grid(runs, faces, source_age=35, target_age=65, tile=TILE)
    assert grid.size == (CAPTION + 4 * (TILE + GAP), 2 * HEADING + TILE + GAP)
    source, target = faces[0].images[40], faces[0].images[60]
    expected = [source, source + 0.2, source - 0.3, target]
    for column, image in enumerate(expected):
        assert np.abs(tile_at(grid, 0, column).astype(int) - to_pixels(image)).max() <= 1


def test_the_grid_is_drawn_at_the_end_of_a_run_as_soon_as_there_are_two(data, tmp_path, trainer):
    runs = tmp_path / "runs"
    make_run(runs, data, "l1", 0.1, run="own")
    grid = AblationGrid(str(runs), identities=1, tile=16)
    grid.on_fit_end(trainer, SimpleNamespace())
    picture = runs / "l1" / "own" / "samples" / "ablation.png"
    assert not picture.exists()
    make_run(runs, data, "adv", 0.1)
    grid.on_fit_end(trainer, SimpleNamespace())
    with Image.open(picture) as image:
        assert image.width == CAPTION + 4 * (16 + GAP)


def test_the_command_draws_the_grid_with_the_settings_of_the_runs(tiny_dataset, tmp_path, capsys):
    data = AgePairDataModule(str(tiny_dataset), crop_size=32, image_size=32, test_fraction=0.0, val_fraction=0.4)
    data.setup()
    first = make_run(tmp_path / "runs", data, "l1", 0.1)
    make_run(tmp_path / "runs", data, "lpips", 0.2)
    out = tmp_path / "grid.png"
    arguments = ["ablation", str(first), "--data", str(tiny_dataset), "--runs", str(tmp_path / "runs"), "-o", str(out)]
    assert main(arguments) == 0
    assert "l1, lpips" in capsys.readouterr().out
    with Image.open(out) as image:
        assert image.height == 2 * HEADING + 2 * (160 + GAP)  # both held-out identities


def test_the_command_refuses_other_data_and_weights_that_name_none(data, tiny_dataset, tmp_path, capfd):
    run = make_run(tmp_path / "runs", data, "l1", 0.1)
    write_tiny_dataset(tmp_path / "other", identities=3)
    save_generator(tmp_path / "imported.safetensors", FRANUNet(4, 1), {"image_size": 512})
    for source, folder, message in (
        (run, tmp_path / "other", "was trained on other data"),
        (tmp_path / "imported.safetensors", tiny_dataset, "does not say what it was trained on"),
    ):
        assert main(["ablation", str(source), "--data", str(folder), "-o", str(tmp_path / "grid.png")]) == 2
        assert message in capfd.readouterr().err
    assert not (tmp_path / "grid.png").exists()
