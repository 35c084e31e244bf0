"""Training the face parser through the command line, and what its training faces are made of."""

from __future__ import annotations

import csv
import os

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_data import AGES, IDENTITIES, draw_face, write_tiny_dataset

from fran_lightning.cli import main
from fran_lightning.parser_training import repaint
from fran_lightning.parser_training.augment import Augmentation
from fran_lightning.parser_training.faces import labelled_files
from fran_lightning.parser_training.textures import any_texture, hair_colour, photographs, strands
from fran_lightning.perception.parsing_classes import CLASSES, CLOTH, HAIR, HAT, MOUTH, SKIN
from fran_lightning.perception.parsing_weights import PARSER_FILE, load_parser
from fran_lightning.run_folder import RUN_FOLDER_VARIABLE


def fit_arguments(data, run_dir, steps: int, *more: str) -> list[str]:
    return [
        "fit-parser", str(data), "--run_dir", str(run_dir), "--steps", str(steps), "--size", "64", "--batch_size", "2",
        "--validate_every", "2", "--num_workers", "0", "--wandb", "disabled", *more,
    ]  # fmt: skip


def test_a_run_leaves_weights_metrics_and_pictures_and_goes_on(tiny_dataset, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(fit_arguments(tiny_dataset, run, 2)) == 0
    assert "skin IoU" in capsys.readouterr().err
    first = load_parser(run)
    assert first.metadata["images_seen"] == 4
    assert first.metadata["training_images"] == (IDENTITIES - 1) * len(AGES)
    assert 0 <= first.metadata["metrics"]["val/skin_iou_rendered"] <= 1
    assert main(fit_arguments(tiny_dataset, run, 4)) == 0
    assert "continuing from" in capsys.readouterr().err
    second = load_parser(run)
    assert second.metadata["images_seen"] == 8
    weights = [loaded.network.state_dict()["head.conv_out.1.weight"] for loaded in (first, second)]
    assert not torch.equal(*weights)
    assert {path.name for path in (run / "samples").iterdir()} >= {"parser_000000004.png", "parser_000000008.png"}
    with (run / "metrics.csv").open(newline="") as file:
        seen = [float(row["images_seen"]) for row in csv.DictReader(file) if row.get("val/miou_rendered")]
    assert 4 in seen
    assert 8 in seen
    assert (run / PARSER_FILE).stat().st_size < 8 * 2**20
    assert RUN_FOLDER_VARIABLE not in os.environ, "the next training of this process would take this run's folder"


def test_minutes_end_a_run(tiny_dataset, tmp_path):
    run = tmp_path / "run"
    assert main(fit_arguments(tiny_dataset, run, 10**6, "--minutes", "0.02")) == 0
    assert load_parser(run).metadata["hyper_parameters"]["minutes"] == 0.02


def test_bad_input_is_one_line(tmp_path, tiny_dataset, capsys):
    unlabelled = tmp_path / "unlabelled"
    write_tiny_dataset(unlabelled, labels=False)
    for arguments, message in (
        (fit_arguments(tmp_path / "nowhere", tmp_path / "a", 1), "does not exist"),
        (fit_arguments(unlabelled, tmp_path / "b", 1), "has no class maps"),
        ([*fit_arguments(tiny_dataset, tmp_path / "c", 1), "--size", "70"], "no multiple of 32"),
    ):
        assert main(arguments) == 2
        (line,) = [text for text in capsys.readouterr().err.splitlines() if "error" in text]
        assert message in line


def test_augmentation_is_decided_by_its_seed_and_keeps_the_classes(tiny_dataset):
    augmentation = Augmentation(64)
    image, labels = draw_face(0, 40)
    first, again, other = (augmentation(image, labels, seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    for seed in range(40):
        pixels, classes = augmentation(image, labels, seed)
        assert pixels.shape == (64, 64, 3)
        assert pixels.dtype == np.uint8
        assert classes.shape == (64, 64)
        assert classes.max() < CLASSES
    assert len(labelled_files(tiny_dataset)) == IDENTITIES * len(AGES)


def test_mirrored_faces_keep_left_left():
    image, labels = draw_face(1, 40, 128)
    augmentation = Augmentation(128)
    right = 0
    for seed in range(60):
        classes = augmentation(image, labels, seed)[1]
        columns = [np.flatnonzero((classes == eye).any(axis=0)) for eye in (4, 5)]
        upright = all(len(c) for c in columns) and np.isin(classes, SKIN).any()
        if upright:
            right += columns[0].mean() < columns[1].mean()
            right -= columns[0].mean() > columns[1].mean()
    # mirrored borders may show a second, reversed face; a wrong swap would turn half of the faces around
    assert right > 25


@pytest.fixture
def painted():
    image, labels = draw_face(2, 40, 128)
    labels[118:] = CLOTH
    return image.astype(np.float32) / 255, labels


@pytest.mark.parametrize(
    ("step", "changed"),
    [
        (repaint.replace_background, 0),
        (repaint.recolour_hair, HAIR),
        (repaint.recolour_clothes, CLOTH),
        (repaint.change_skin_tone, 1),
    ],
)
def test_repainting_changes_its_class_alone(painted, step, changed):
    image, labels = painted
    result, classes = step(image, labels, np.random.default_rng(5))
    assert np.array_equal(classes, labels)
    difference = np.abs(result - image).max(axis=2)
    import cv2

    inside = (labels == changed) if changed != 1 else np.isin(labels, (*SKIN, MOUTH))
    far = cv2.dilate(inside.astype(np.uint8), np.ones((13, 13), np.uint8)) == 0
    assert difference[inside].mean() > 0.01
    assert difference[far].max() < 0.02


def test_hats_and_strands_are_labelled_as_such(painted):
    image, labels = painted
    labels[30:33, 40:56], labels[30:33, 72:88] = 2, 3
    _, classes = repaint.put_on_hat(image, labels, np.random.default_rng(1))
    assert (classes == HAT).sum() > 200
    _, classes = repaint.let_strands_fall(image, labels, np.random.default_rng(2))
    assert ((classes == HAIR) & (labels != HAIR)).sum() > 10


def test_textures_stay_in_range_and_show_no_face():
    assert len(photographs()) == 11
    for seed in range(30):
        rng = np.random.default_rng(seed)
        for texture in (any_texture(rng, 40, 60), strands(rng, 40, 60, hair_colour(rng))):
            assert texture.shape == (40, 60, 3)
            assert texture.min() >= -0.1
            assert texture.max() <= 1.1


def test_photos_are_shown_on_the_sheet(tiny_dataset, tmp_path, capsys):
    Image.new("RGB", (80, 80), (90, 120, 90)).save(tmp_path / "empty.png")
    arguments = [*fit_arguments(tiny_dataset, tmp_path / "run", 1), "--photos", f'["{tmp_path}/empty.png"]']
    assert main(arguments) == 2
    assert "shows no face" in capsys.readouterr().err
