"""check-realism: figures from known judgements, exactness outside the head, both folder layouts, one-line errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fran_lightning.cli import main
from fran_lightning.evaluation.realism import (
    FIGURES,
    FolderJudgement,
    Judgement,
    Series,
    find_series,
    range_details,
    summarise,
)
from fran_lightning.synthesis.parametric.generate import Settings, generate

AGES = (18, 26, 34, 42, 50, 58, 66, 75, 85)


def _folder(slope: float, drift: float, people: int = 4, spread: float = 1.0, colour: float = 0.5) -> FolderJudgement:
    """Judgements of people whose estimated age rises by ``slope`` and whose embedding drifts by ``drift`` in all."""
    random = np.random.default_rng(0)
    series, rows = [], []
    for person in range(people):
        home, way = random.normal(0, spread, 128) / np.sqrt(128), np.eye(128)[person]
        series.append(Series(str(person), {age: Path(f"{age}.png") for age in AGES}))
        rows.append(
            [
                Judgement(
                    0.9,
                    True,
                    30 + slope * (age - 30),
                    (home + way * drift * (age - 18) / 67).astype(np.float32),
                    0.02,
                    0.01,
                    np.full(3, colour) + 0.01 * person,
                    np.array([0.2 + 0.01 * person]),
                    np.zeros(8) + 0.1 * person,
                )
                for age in AGES
            ]
        )
    return FolderJudgement("made up", series, rows, 0.0)


def test_good_data_meets_every_bar():
    good = _folder(slope=0.8, drift=0.5)
    figures = summarise(good, good)
    assert figures["slope"] == pytest.approx(0.8)
    assert figures["spearman"] == pytest.approx(1.0)
    assert figures["extremes"] == pytest.approx(0.5, abs=1e-5)
    assert figures["auc"] == 1.0
    assert all(FIGURES[name].meets(value) for name, value in figures.items())


def test_each_fault_fails_its_own_bar():
    good = _folder(0.8, 0.5)
    faults = {
        "slope": summarise(_folder(0.2, 0.5), good),
        "extremes": summarise(_folder(0.8, 0.1), good),
        "neighbours": summarise(_folder(0.8, 8.0), good),
        "auc": summarise(_folder(0.8, 2.0, spread=0.0), good),
        "in_range": summarise(_folder(0.8, 0.5, colour=0.9), good),
    }
    for name, figures in faults.items():
        assert not FIGURES[name].meets(figures[name]), name
    shares = range_details(_folder(0.8, 0.5, colour=0.9), good)
    assert shares["red"] == 0
    assert shares["contrast"] == 1


def test_age_that_does_not_rise_has_no_correlation():
    flat = _folder(0.0, 0.5)
    assert np.isnan(summarise(flat, None)["spearman"])
    assert np.isnan(summarise(flat, None)["in_range"])


def test_command_prints_the_table_for_a_parametric_folder(tmp_path, capsys):
    generate(tmp_path / "faces", 2, seed=4, settings=Settings(image_size=128, ages=(18, 50, 85)), workers=1)
    sheet, figures = tmp_path / "sheet.png", tmp_path / "figures.json"
    folder = str(tmp_path / "faces")
    assert main(["check-realism", folder, "--sheet", str(sheet), "--json", str(figures)]) == 0
    assert "YuNet score" in capsys.readouterr().out
    row = json.loads(figures.read_text())[folder]
    assert row["outside"] == 0
    assert row["yunet"] == 1
    assert row["points"] < 0.2
    with Image.open(sheet) as picture:
        assert picture.size[1] == 2 * 192
    # one changed pixel outside the head is found
    path = tmp_path / "faces/000000/85.png"
    labels = np.asarray(Image.open(tmp_path / "faces/000000/labels/85.png"))
    pixels = np.asarray(Image.open(path)).copy()
    row_, column = np.argwhere((labels == 0) & (np.asarray(Image.open(path.parent / "labels/18.png")) == 0))[0]
    pixels[row_, column] ^= 8
    Image.fromarray(pixels).save(path)
    assert main(["check-realism", folder, "--json", str(figures)]) == 0
    assert json.loads(figures.read_text())[folder]["outside"] == 8


def test_the_public_layout_is_read(tmp_path):
    (tmp_path / "aged_images").mkdir()
    for name in ("18_seed0001", "33_seed0001", "18_seed0002", "33_seed0002", "note"):
        Image.new("RGB", (8, 8)).save(tmp_path / "aged_images" / f"{name}.png")
    series = find_series(tmp_path)
    assert [(one.name, list(one.images)) for one in series] == [("0001", [18, 33]), ("0002", [18, 33])]


@pytest.mark.parametrize("content", ["nothing", "empty"])
def test_a_wrong_folder_is_one_line(tmp_path, capsys, content):
    folder = tmp_path / "x"
    if content == "empty":
        folder.mkdir()
    assert main(["check-realism", str(folder)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
