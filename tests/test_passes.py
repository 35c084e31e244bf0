"""Passes of photos and films."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from faces import Darken, portrait, save_random_generator
from films import frames_of, moving_portrait, planes_of, write_film
from PIL import Image
from plates import read_channels

from fran_lightning.cli import main
from fran_lightning.errors import UserError
from fran_lightning.reaging.passes import parse_passes
from fran_lightning.reaging.reager import Reager
from fran_lightning.reaging.settings import ReageSettings
from fran_lightning.reaging.video import reage_film

ALL = "delta,mask,age_map,aligned"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_random_generator(tmp_path_factory.mktemp("run") / "generator.safetensors")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("grey", [False, True])
def test_passes_of_a_photo(tmp_path, checkpoint, bits, grey):
    pixels = portrait().astype(np.uint16) * 257 if bits == 16 else portrait()
    pixels = pixels[..., 1] if grey else pixels[..., ::-1]
    cv2.imwrite(str(tmp_path / "in.png"), pixels)
    call = ["reage", str(tmp_path / "in.png"), "-o", str(tmp_path / "o.png"), "--checkpoint", str(checkpoint)]
    assert main([*call, "--source-age", "30", "--target-age", "70", "--passes", ALL, "--no-shot-file"]) == 0
    names = ["in.png", "o.age_map.png", "o.aligned0.png", "o.delta.exr", "o.mask.png", "o.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    before, after = (cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED) for name in ("in.png", "o.png"))
    before, after = (one[..., None] if one.ndim == 2 else one[..., ::-1] for one in (before, after))
    assert after.dtype == before.dtype
    delta = np.stack([read_channels(tmp_path / "o.delta.exr")[name] for name in "RGB"], axis=-1)
    white = np.iinfo(before.dtype).max
    assert (np.rint(before.astype(np.float64) + delta * white) == after).all()
    mask, ages = (cv2.imread(str(tmp_path / f"o.{name}.png"), cv2.IMREAD_UNCHANGED) for name in ("mask", "age_map"))
    assert (before == after)[mask == 0].all()
    assert (before != after)[mask > 40000].mean() > 0.5
    # black is 0 and white is 100 years
    assert ages[mask > 65000] == pytest.approx(0.7 * 65535, abs=300)
    assert ages[0, 0] == 0
    # nothing but what the network was told, at the border of the face's square too
    told = ages[ages > 0]
    assert (told.min(), told.max()) == (pytest.approx(0.3 * 65535, abs=1), pytest.approx(0.7 * 65535, abs=1))
    # the passes can be read again as a mask and as an age map
    again = [*call[:3], str(tmp_path / "again.png"), *call[4:], "--source-age", "30", "--no-shot-file"]
    painted = ["--mask", str(tmp_path / "o.mask.png"), "--age-map", str(tmp_path / "o.age_map.png")]
    assert main([*again, *painted]) == 0
    repeated = cv2.imread(str(tmp_path / "again.png"), cv2.IMREAD_UNCHANGED)
    repeated = repeated[..., None] if grey else repeated[..., ::-1]
    assert (repeated == before)[mask == 0].all()
    assert (repeated != before)[mask > 40000].mean() > 0.5


def test_passes_of_two_faces(tmp_path, checkpoint):
    Image.fromarray(np.concatenate([portrait(), portrait()[:, ::-1]], axis=1)).save(tmp_path / "in.png")
    call = ["reage", str(tmp_path / "in.png"), "-o", str(tmp_path / "o.png"), "--checkpoint", str(checkpoint)]
    assert main([*call, "--source-age", "30", "--target-age", "0:40,1:80", "--passes", ALL]) == 0
    ages = cv2.imread(str(tmp_path / "o.age_map.png"), cv2.IMREAD_UNCHANGED) / 655.35
    mask = cv2.imread(str(tmp_path / "o.mask.png"), cv2.IMREAD_UNCHANGED)
    inside = mask > 65000
    assert ages[:, :384][inside[:, :384]] == pytest.approx(40, abs=0.5)
    assert ages[:, 384:][inside[:, 384:]] == pytest.approx(80, abs=0.5)
    assert all((tmp_path / f"o.aligned{face}.png").is_file() for face in (0, 1))


def test_passes_of_a_film_are_upright_and_numbered(tmp_path):
    reager = Reager(Darken(), device="cpu", trained_size=128)
    # players turn these frames by 90 degrees
    turns = 1
    stored = [np.ascontiguousarray(np.rot90(moving_portrait(index), -turns)) for index in range(4)]
    source = write_film(tmp_path / "in.mp4", stored, pixel_format="yuv444p", rotation=90)
    output = tmp_path / "out.mp4"
    settings = ReageSettings(source_ages={-1: 30.0})
    reage_film(reager, source, output, settings, passes=parse_passes(ALL), codec="libx264", quality=0)
    folder = tmp_path / "out.passes"
    names = [f"out.{word}.00000{n}.{suffix}" for word, suffix in PASS_SUFFIXES.items() for n in range(1, 5)]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert not (tmp_path / ".out.passes").exists()
    mask = cv2.imread(str(folder / "out.mask.000003.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (320, 384)
    delta = np.stack([read_channels(folder / "out.delta.000003.exr")[name] for name in "RGB"], axis=-1)
    before, after = (planes_of(frames_of(path)[2]) for path in (source, output))
    delta, mask = np.rot90(delta, -turns), np.rot90(mask, -turns)
    assert all((one == other)[mask == 0].all() for one, other in zip(before, after, strict=True))
    # luma of BT.601, in a span of 219 codes
    change = delta @ (0.299, 0.587, 0.114) * 219
    bright = before[0] > 60
    assert (after[0].astype(float) - before[0])[bright] == pytest.approx(change[bright], abs=0.51)
    assert change.min() == pytest.approx(-0.125 * 219, rel=0.01)


PASS_SUFFIXES = {"delta": "exr", "mask": "png", "age_map": "png", "aligned0": "png"}


def test_a_film_that_fails_leaves_no_passes(tmp_path, monkeypatch):
    reager = Reager(Darken(), device="cpu", trained_size=128)
    source = write_film(tmp_path / "in.mkv", 4, codec="ffv1")
    calls = []

    def broken(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise UserError("the network's output is not finite")
        return original(*arguments)

    from fran_lightning.reaging import video

    original = video.add_delta_to_planes
    monkeypatch.setattr(video, "add_delta_to_planes", broken)
    with pytest.raises(UserError, match="not finite"):
        reage_film(
            reager, source, tmp_path / "out.mkv", ReageSettings(source_ages={-1: 30.0}), passes=parse_passes(ALL)
        )
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]
