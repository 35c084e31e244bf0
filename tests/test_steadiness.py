"""`fran steadiness`: exact flow where it exists, a still picture stays still, nothing changes outside the face."""

from __future__ import annotations

import itertools
import json

import cv2
import numpy as np
import pytest
from faces import portrait, save_random_generator

from fran_lightning.cli import main
from fran_lightning.evaluation.temporal import FlowWarp


@pytest.fixture
def clip(tmp_path):
    """A folder as `fran synthesize parametric-clip` makes them, of a portrait that moves by whole pixels."""
    folder = tmp_path / "000000"
    for name in ("frames", "flow"):
        (folder / name).mkdir(parents=True)
    places = [(round(8 * np.cos(index / 2)), round(5 * np.sin(index / 2))) for index in range(7)]
    height, width = portrait().shape[:2]
    for index, place in enumerate(places):
        picture = np.roll(portrait(), place, axis=(1, 0))
        cv2.imwrite(str(folder / "frames" / f"{index:04d}.png"), picture[..., ::-1])
    for index, (here, there) in enumerate(itertools.pairwise(places)):
        flow = np.broadcast_to(np.float32(there) - np.float32(here), (height, width, 2))
        valid = np.zeros((height, width), dtype=bool)
        valid[16:-16, 16:-16] = True
        np.savez(folder / "flow" / f"{index:04d}.npz", flow=flow, valid=valid)
    (folder / "clip.json").write_text(json.dumps({"fps": 24.0}))
    return folder


def test_a_parametric_clip_is_measured_by_its_exact_flow(tmp_path, clip, capsys):
    checkpoint = save_random_generator(tmp_path / "generator.safetensors")
    command = ["steadiness", str(clip), "--checkpoint", str(checkpoint), "--pairs", "4", "--json"]
    assert main([*command, str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["flow"] == "exact"
    assert figures["frames"] == 7
    # whole pixels: the true flow carries every frame onto the last exactly
    assert figures["original"]["warping_error"] == 0
    assert 0 < figures["smoothed"]["warping_error"] < 10
    assert figures["still_frames_that_differ"] == 0
    assert figures["changed_pixels_outside"] == 0
    assert "repeated 12 times: 0" in capsys.readouterr().out

    assert main(["steadiness", str(clip.parent), "--checkpoint", str(checkpoint)]) == 2
    assert "no clip.json" in capsys.readouterr().err


def test_estimated_flow_follows_the_picture_and_knows_what_is_hidden():
    now, following = portrait(), np.roll(portrait(), 5, axis=1)
    warp = FlowWarp.estimated(now, following)
    inside = np.zeros(now.shape[:2], dtype=bool)
    inside[40:-40, 40:-40] = True
    assert warp.visible[inside].mean() > 0.8
    still = np.abs(now.astype(float) - following)[inside].mean() / 255 * 100
    assert warp.error(now, following, inside) < 0.3 * still
    # what flows out of the picture cannot be compared
    assert not FlowWarp.estimated(now, np.full_like(now, 128)).visible.all()
