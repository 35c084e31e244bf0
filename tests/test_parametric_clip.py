"""Clips: the flow carries one frame onto the next, the person stays, an interrupted folder is continued."""

from __future__ import annotations

import itertools
import json

import cv2
import numpy as np
import pytest

from fran_lightning.cli import main
from fran_lightning.synthesis.parametric.clip import ClipSettings, motion, render_clip
from fran_lightning.synthesis.parametric.scene import sample_identity

SETTINGS = ClipSettings(image_size=96, frames=3, fps=6.0, first_age=40.0, last_age=44.0)


@pytest.fixture(scope="module")
def clip():
    return list(render_clip(1, 0, SETTINGS))


def test_flow_carries_each_frame_onto_the_next(clip):
    rows, columns = np.mgrid[0:96, 0:96].astype(np.float32)
    for (first, _, _), (second, (flow, valid), _) in itertools.pairwise(clip):
        assert valid.mean() > 0.5
        assert np.abs(flow[valid]).max() > 1
        carried = cv2.remap(second.image, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR)
        moving = valid & (np.abs(flow).max(-1) > 0.5)
        still = np.abs(first.image.astype(float) - second.image)[moving].mean()
        followed = np.abs(first.image.astype(float) - carried)[moving].mean()
        assert followed < 0.6 * still


def test_flow_agrees_with_the_landmarks(clip):
    for (first, _, _), (second, (flow, valid), _) in itertools.pairwise(clip):
        moved = second.landmarks - first.landmarks
        column, row = np.rint(first.landmarks[2]).astype(int)  # the nose
        if valid[row, column]:
            assert np.linalg.norm(flow[row, column] - moved[2]) < 1.0


def test_background_and_exposure_hold_still(clip):
    first, last = clip[0][0], clip[-1][0]
    background = ((first.label == 0) & (last.label == 0)).astype(np.uint8)
    background = cv2.erode(background, np.ones((7, 7)), borderValue=1) > 0  # the lens mixes what lies beside it
    assert background.sum() > 100
    assert np.abs(first.image.astype(int) - last.image)[background].mean() < 0.05


def test_motion_changes_pose_and_face_but_not_the_person():
    identity = sample_identity(1, 0)
    people = motion(identity, ClipSettings(frames=48))
    yaws = np.array([person.yaw for person in people])
    assert np.ptp(yaws) > 5
    assert np.abs(np.diff(yaws)).max() < 5  # degrees per frame: it turns, it does not jump
    assert np.ptp([person.expression["jawOpen"] for person in people]) > 0.02
    assert all(person.local_changes == identity.local_changes and person.hair == identity.hair for person in people)


def test_command_writes_clips_and_refuses_other_settings(tmp_path, capsys):
    out = tmp_path / "clips"
    command = ["synthesize", "parametric-clip", "--out", str(out), "--frames", "2", "--image-size", "64"]
    (out / ".partial-000000").mkdir(parents=True)  # what a killed run leaves
    assert main(command) == 0
    folder = out / "000000"
    assert sorted(path.name for path in (folder / "frames").iterdir()) == ["0000.png", "0001.png"]
    assert len(list((folder / "labels").iterdir())) == 2
    flow = np.load(folder / "flow" / "0000.npz")
    assert flow["flow"].shape == (64, 64, 2)
    assert flow["valid"].dtype == bool
    assert len(json.loads((folder / "clip.json").read_text())["frames"]) == 2
    assert not list(out.glob(".partial*"))
    assert main([*command, "--age", "60"]) == 2
    assert "first_age" in capsys.readouterr().err
    assert main(["synthesize", "parametric-clip", "--out", str(tmp_path / "no"), "--age", "100"]) == 2
    assert not (tmp_path / "no").exists()
