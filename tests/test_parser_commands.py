"""The commands around the face parser: class maps for datasets, its check, the mask figure, ``fran reage --parser``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from bisenet_recipe import fill
from faces import portrait, save_random_generator
from films import write_film
from PIL import Image
from tiny_data import AGES, write_tiny_dataset

from fran_lightning.cli import main
from fran_lightning.data.folder import PACKED_LABELS, identity_folders, read_labels
from fran_lightning.evaluation.extent import PARTS, change_by_part, change_outside
from fran_lightning.evaluation.parsing import mask_face, overlap, point_cover
from fran_lightning.perception.bisenet_v2 import BiSeNetV2
from fran_lightning.perception.detection import FaceDetector
from fran_lightning.perception.parsing import FaceParser, bundled_parser
from fran_lightning.perception.parsing_classes import CLASSES, HAIR, SKIN
from fran_lightning.perception.parsing_weights import BUNDLED_PARSER, save_parser
from fran_lightning.synthesis.parametric.generate import Settings, render_identity

bundled = pytest.mark.skipif(not BUNDLED_PARSER.is_file(), reason="the package holds no trained parser")


@pytest.fixture(scope="module")
def parser_file(tmp_path_factory) -> Path:
    """A parser whose weights are no better than random: for what does not depend on their quality."""
    path = tmp_path_factory.mktemp("parser") / "parser.safetensors"
    save_parser(path, fill(BiSeNetV2()), {"class_order": "bisenet", "size": 64})
    return path


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "portrait.png"
    Image.fromarray(portrait()).save(path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_random_generator(tmp_path_factory.mktemp("run") / "generator.safetensors")


def test_parse_data_fills_in_what_is_missing_and_keeps_the_rest(tmp_path, parser_file, capsys):
    root = tmp_path / "data"
    write_tiny_dataset(root, identities=2, labels=False)
    assert main(["pack", str(root)]) == 0
    first = identity_folders(root)[0]
    kept = np.full((64, 64), 7, np.uint8)
    (first / "labels").mkdir()
    Image.fromarray(kept).save(first / "labels" / "20.png")
    capsys.readouterr()
    assert main(["parse-data", str(root), "--parser", str(parser_file), "--device", "cpu"]) == 0
    assert f"{2 * len(AGES) - 1} class maps written, 1 were there" in capsys.readouterr().out
    assert (read_labels(first / "labels" / "20.png") == kept).all()
    for folder in identity_folders(root):
        labels = np.stack([read_labels(folder / "labels" / f"{age}.png") for age in AGES])
        assert labels.max() < CLASSES
        assert np.array_equal(np.load(folder / PACKED_LABELS), labels)
    assert main(["check-data", str(root)]) == 0
    assert main(["parse-data", str(root), "--parser", str(parser_file)]) == 0
    assert f"0 class maps written, {2 * len(AGES)} were there" in capsys.readouterr().out


def test_check_parser_prints_and_writes_all_its_figures(tmp_path, parser_file, photo, capsys):
    root = tmp_path / "data"
    write_tiny_dataset(root, identities=2)
    ages = tmp_path / "ages"
    ages.mkdir()
    for age in (20, 40):
        shutil.copy(photo, ages / f"{age}_seed0001.png")
    film = write_film(tmp_path / "film.mp4", 6)
    arguments = ["check-parser", "--parser", str(parser_file), "--labelled", f'["{root}"]', "--ages", f'["{ages}"]']
    arguments += ["--photos", f'["{photo}"]', "--films", f'["{film}"]', "--classes"]
    assert main([*arguments, "-o", str(tmp_path / "sheet.jpg"), "--json", str(tmp_path / "figures.json")]) == 0
    out = capsys.readouterr().out
    for words in ("mIoU", "landmarks, colour", "overlap mean 1.0000", "around eyes", "6 frames", "steady", "l_brow"):
        assert words in out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert 0 <= figures[f"labelled {root}"]["mean_iou"] <= 1
    assert figures[f"film {film}"]["frames"] == 6
    # a portrait that moves by whole pixels: the same mask, moved
    assert figures[f"film {film}"]["floor"][0] > 0.9
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.width > 500


def test_check_parser_refuses_what_it_cannot_check(tmp_path, parser_file, capsys):
    assert main(["check-parser", "--parser", str(parser_file)]) == 2
    assert "nothing to check" in capsys.readouterr().err
    asked = ["check-parser", "--parser", str(parser_file), "--architecture", "bisenet_v1", "--photos", '["x.png"]']
    assert main(asked) == 2
    assert "is a BiSeNet V2, not a BiSeNet V1" in capsys.readouterr().err
    Image.new("RGB", (200, 200), (30, 90, 30)).save(tmp_path / "empty.png")
    assert main(["check-parser", "--parser", str(parser_file), "--photos", f'["{tmp_path}/empty.png"]']) == 0
    assert "no face" in capsys.readouterr().out


def test_mask_figure_shows_less_change_outside_the_mask(tmp_path, parser_file, photo, checkpoint, capsys):
    out = tmp_path / "figure.png"
    arguments = [
        "mask-figure",
        str(photo),
        "--checkpoint",
        str(checkpoint),
        "--parser",
        str(parser_file),
        "-o",
        str(out),
    ]
    assert main(arguments) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    without, masked = next((float(line[-2]), float(line[-1])) for line in lines if line[:1] == ["outside"])
    assert without > 0.1
    assert masked < 0.02 * without
    with Image.open(out) as figure:
        assert figure.width > 4 * 320
    assert main([*arguments[:-2], "--parser", "none"]) == 2
    assert "needs a face parser" in capsys.readouterr().err


def test_change_is_measured_by_part():
    before = np.zeros((4, 4, 3), np.uint8)
    after = before.copy()
    after[:2] = 30
    probabilities = np.zeros((CLASSES, 4, 4), np.float32)
    probabilities[1, :2] = 1
    probabilities[17, 2:] = 1
    assert change_by_part(before, after, probabilities) == {"skin": 30.0, "hair": 0.0}
    mask = np.zeros((4, 4), np.float32)
    mask[:1] = 1
    assert change_outside(before, after, mask) == (10.0, 30.0)
    assert {c for classes in PARTS.values() for c in classes} == set(range(CLASSES))


def test_reage_takes_other_parsers_and_none(tmp_path, parser_file, photo, checkpoint, capsys):
    arguments = ["reage", str(photo), "--checkpoint", str(checkpoint), "--source-age", "30", "--device", "cpu"]
    results = {}
    for parser in ("none", str(parser_file)):
        out = tmp_path / f"{Path(parser).stem}.png"
        assert main([*arguments, "--parser", parser, "-o", str(out)]) == 0
        said = capsys.readouterr().out
        assert ("no face parser" in said) == (parser == "none")
        results[parser] = np.asarray(Image.open(out))
    (tmp_path / "text.pth").write_text("not weights")
    assert main([*arguments, "--parser", str(tmp_path / "text.pth"), "-o", str(tmp_path / "x.png")]) == 2
    assert "damaged" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


@bundled
def test_bundled_parser_finds_the_skin_of_a_photograph():
    parser = bundled_parser()
    face = mask_face(parser, FaceDetector(), portrait())
    assert face.answer.trust == 1
    cover = point_cover(parser, face)
    assert min(cover.eyes, cover.nose, cover.mouth) > 0.75
    assert cover.border == 0
    # a smile with teeth, hair and a space suit are no skin
    landmarks = face.request.landmarks
    assert face.mask[tuple(np.round(landmarks[62:67].mean(axis=0)).astype(int)[::-1])] < 0.5
    assert face.mask[-8:, :40].mean() < 0.3
    assert overlap(face.mask, face.request.floor) > 0.6


@bundled
def test_bundled_parser_tells_parametric_skin_from_hair():
    parser, overlaps, mixed = bundled_parser(), [], []
    for number in range(3):
        (frame,), _ = render_identity(7002, number, Settings(image_size=192, ages=(50,)))
        x = torch.from_numpy(frame.image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        found = parser.mask(x)[0, 0].numpy()
        overlaps.append(overlap(found, np.isin(frame.label, SKIN).astype(np.float32)))
        mixed.append(found[frame.label == HAIR].mean())
    assert np.mean(overlaps) > 0.9
    assert np.mean(mixed) < 0.15


@bundled
def test_bundled_parser_carries_its_data_card():
    card = FaceParser().metadata
    assert card["data"]["source"] == "parametric"
    assert card["images_seen"] > 5000
    assert "license" in card
    assert BUNDLED_PARSER.stat().st_size < 8 * 2**20
