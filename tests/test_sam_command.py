"""`fran synthesize sam` from end to end, with a small checkpoint of deterministic weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from faces import portrait
from PIL import Image
from sam_recipe import fill, mean_code, recipe_sam, write_sam_checkpoint

from fran_lightning.cli import main
from fran_lightning.errors import UserError
from fran_lightning.synthesis.sam import predictor
from fran_lightning.synthesis.sam.faces import draw_latent, find_photos
from fran_lightning.synthesis.sam.memory import memory_errors, require_memory, synthesis_bytes

SIZE = 8
IDENTITIES = 4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """The smallest SAM there is: images of 8 pixels, the encoders in full."""
    return write_sam_checkpoint(tmp_path_factory.mktemp("weights") / "sam.pt", recipe_sam(SIZE))


def command(checkpoint: Path, out: Path, *more: str, identities: int | None = IDENTITIES) -> list[str]:
    count = [] if identities is None else ["--identities", str(identities)]
    words = ["synthesize", "sam", "--sam-checkpoint", str(checkpoint), "--out", str(out), "--ages", "20,80"]
    return [*words, *count, "--accelerator", "cpu", *more]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def dataset(checkpoint, tmp_path_factory) -> Path:
    """A folder made in one go, without the gate."""
    out = tmp_path_factory.mktemp("data") / "whole"
    assert main(command(checkpoint, out, "--no-gate")) == 0
    return out


def error_line(capsys) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fran: error:")]
    assert len(lines) == 1
    return lines[0]


# --- the folder ------------------------------------------------------------------------------------------------


def test_folder_is_accepted_by_check_data(dataset):
    assert main(["check-data", str(dataset)]) == 0
    info = json.loads((dataset / "dataset.json").read_text())
    assert (info["source"], info["image_size"], info["ages"], info["identities"]) == ("sam", SIZE, [20, 80], 4)
    assert info["generator"]["truncation"] == 0.7


def test_images_differ_by_identity_and_age(dataset):
    images = [path.read_bytes() for path in sorted(dataset.glob("*/*.png"))]
    assert len(images) == len(set(images)) == 2 * IDENTITIES


def test_identity_file_reproduces_the_latent(dataset):
    record = json.loads((dataset / "000002" / "identity.json").read_text())
    stored = np.array(record["source"]["z"], dtype=np.float32)
    assert (stored == draw_latent(seed=0, identity=2, attempt=0)).all()
    assert record["gate"] is None
    assert record["rejected"] == []


def test_summary_and_data_card_describe_the_folder(dataset):
    summary = json.loads((dataset / "summary.json").read_text())
    assert summary["identities_written"] == summary["identities_planned"] == IDENTITIES
    card = (dataset / "DATA_CARD.md").read_text()
    assert "4 of 4 identities at 2 ages (20, 80)" in card
    assert "Non-commercial" in card


def test_shards_make_the_same_bytes(checkpoint, dataset, tmp_path):
    out = tmp_path / "shards"
    assert main(command(checkpoint, out, "--no-gate", "--shard", "1/2")) == 0
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["000001", "000003"]
    assert main(command(checkpoint, out, "--no-gate", "--shard", "0/2")) == 0
    assert contents(out) == contents(dataset)


def test_killed_run_is_completed_to_the_same_bytes(checkpoint, dataset, tmp_path):
    out = tmp_path / "killed"
    arguments = command(checkpoint, out, "--no-gate")
    process = subprocess.Popen([sys.executable, "-m", "fran_lightning", *arguments], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 600
        while not (out / "000000").is_dir():
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "summary.json").exists(), "the run was already over"
    # what a kill in the middle of writing leaves behind
    (out / ".partial-000003-deadbeef").mkdir()
    assert main(arguments) == 0
    assert contents(out) == contents(dataset)
    assert not list(out.glob(".*"))


@pytest.mark.slow
def test_two_processes_of_lightning_make_the_same_bytes(checkpoint, dataset, tmp_path):
    out = tmp_path / "two"
    arguments = command(checkpoint, out, "--no-gate", "--devices", "2")
    subprocess.run([sys.executable, "-m", "fran_lightning", *arguments], check=True)
    assert contents(out) == contents(dataset)


def test_finished_folder_is_left_alone(checkpoint, dataset, capsys):
    before = contents(dataset)
    assert main(command(checkpoint, dataset, "--no-gate")) == 0
    assert "4 of 4 identities" in capsys.readouterr().out
    assert contents(dataset) == before


def test_other_settings_do_not_continue_a_folder(checkpoint, dataset, capsys):
    assert main(command(checkpoint, dataset, "--no-gate", "--truncation", "0.5")) == 2
    assert "truncation = 0.7, not 0.5" in error_line(capsys)


def test_separate_generator_smaller_images_and_other_formats(checkpoint, tmp_path):
    from fran_lightning.synthesis.sam.stylegan2 import StyleGAN2

    with torch.device("meta"):
        generator = StyleGAN2(16)
    file = tmp_path / "stylegan2.pt"
    torch.save({"g_ema": fill(generator).state_dict(), "latent_avg": mean_code()}, file)
    more = ["--no-gate", "--stylegan-checkpoint", str(file), "--image-size", "4", "--image-format", "webp"]
    out = tmp_path / "out"
    assert main(command(checkpoint, out, *more, "--precision", "bfloat16", identities=1)) == 0
    assert main(["check-data", str(out)]) == 0
    with Image.open(out / "000000" / "80.webp") as image:
        assert image.size == (4, 4)


# --- the gate and photos ---------------------------------------------------------------------------------------


def test_gate_refuses_a_network_that_draws_no_faces(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(predictor, "MAXIMUM_ATTEMPTS", 5)
    out = tmp_path / "out"
    assert main(command(checkpoint, out, identities=1)) == 2
    assert "5 faces in a row were rejected (no face)" in error_line(capsys)
    assert [path.name for path in out.iterdir()] == ["dataset.json"]


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(portrait()).save(folder / "collins.jpg", quality=95)
    Image.fromarray(np.full((200, 300, 3), 128, dtype=np.uint8)).save(folder / "wall.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n not really")
    (folder / "notes.txt").write_text("no photo")
    return folder


def test_photos_are_aligned_re_aged_and_judged(checkpoint, photos, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = command(checkpoint, out, "--from-photos", str(photos), identities=None)
    assert main(arguments) == 0
    passed_over = [line for line in capsys.readouterr().err.splitlines() if "passed over" in line]
    assert len(passed_over) == 2
    assert any("wall.png shows no face" in line for line in passed_over)
    assert any("broken.png is broken" in line for line in passed_over)
    record = json.loads((out / "000000" / "identity.json").read_text())
    assert record["source"] == {"kind": "photo", "file": "collins.jpg"}
    assert record["source_measured"]["faces"] == 1
    # images of deterministic weights are no faces: noted, but the user's photo is not dropped
    assert "no face" in record["gate"]["problems"]
    assert len(json.loads((out / "summary.json").read_text())["photos_passed_over"]) == 2
    assert main(["check-data", str(out)]) == 0

    Image.fromarray(portrait()[:, ::-1]).save(photos / "collins.jpg")
    assert main(arguments) == 2
    assert "generator.photos" in error_line(capsys)


def test_aligned_photos_are_taken_as_they_are(tmp_path, photos):
    Image.fromarray(portrait()[:300, :300]).save(photos / "square.png")
    found, passed_over = find_photos(photos, aligned=True)
    assert [(photo.path.name, photo.landmarks) for photo in found] == [("square.png", None)]
    assert any("384 x 320" in line for line in passed_over)


def test_folder_without_a_face_is_refused(tmp_path, photos):
    (photos / "collins.jpg").unlink()
    with pytest.raises(UserError, match=r"no photo in .* can be re-aged: .*\(and 1 more\)"):
        find_photos(photos, aligned=False)
    with pytest.raises(UserError, match="holds no images"):
        find_photos(tmp_path, aligned=False)
    with pytest.raises(UserError, match="does not exist"):
        find_photos(tmp_path / "none", aligned=False)


# --- mistakes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--ages", "20,101"], "101"),
        (["--ages", "20"], "two different ages"),
        (["--shard", "2/2"], "--shard"),
        (["--identities", "0"], "--identities 0"),
        (["--truncation", "-1"], "--truncation"),
        (["--seed", "-1"], "--seed"),
        (["--batch-size", "-1"], "--batch-size"),
        (["--aligned"], "--from-photos"),
        (["--from-photos", "somewhere"], "--identities does not go with"),
        (["--precision", "float8"], "float8"),
        (["--image-format", "gif"], "gif"),
        (["--stylegan-checkpoint", "nowhere.pt"], "nowhere.pt"),
        (["--age-checkpoint", "nowhere.pt"], "nowhere.pt"),
        (["--image-size", "5"], "8, 4, 2, 1"),
        (["--precision", "float16"], "needs a GPU"),
        (["--accelerator", "gpu"], "no GPU"),
        (["--devices", "none"], "devices"),
    ],
)
def test_mistakes_are_one_line(checkpoint, tmp_path, capsys, more, told):
    if "--accelerator" in more and torch.cuda.is_available():
        pytest.skip("this machine has what is asked for")
    assert main(command(checkpoint, tmp_path / "out", *more)) == 2
    assert told in error_line(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_folder(checkpoint, tmp_path, capsys):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert main(command(checkpoint, locked / "out")) == 2
    assert str(locked) in error_line(capsys)


def test_too_little_memory_is_one_line():
    require_memory(10**9, None)
    require_memory(10**9, 10**9)
    with pytest.raises(UserError, match=r"about 2\.0 GB of memory, but 1\.0 GB are free; lower --batch-size"):
        require_memory(2 * 10**9, 10**9)
    with pytest.raises(UserError, match="out of memory; lower --batch-size"), memory_errors():
        torch.empty(10**15)
    with pytest.raises(RuntimeError, match="something else"), memory_errors():
        raise RuntimeError("something else")


def test_published_size_is_expected_to_fit_into_eight_gigabytes():
    assert 2_270_547_237 + synthesis_bytes(1024, batch_size=1) < 8e9


# --- randomness ------------------------------------------------------------------------------------------------


def test_latents_depend_on_seed_identity_and_attempt_alone():
    drawn = {
        (seed, identity, attempt): draw_latent(seed, identity, attempt)
        for seed in (0, 1)
        for identity in (0, 1, 1999)
        for attempt in (0, 1, 99)
    }
    assert len({latent.tobytes() for latent in drawn.values()}) == len(drawn)
    assert all((draw_latent(*key) == latent).all() for key, latent in drawn.items())
    together = np.concatenate(list(drawn.values()))
    assert abs(together.mean()) < 0.05
    assert abs(together.std() - 1) < 0.05
    # streams of neighbouring identities and attempts do not overlap
    assert len(np.unique(together)) > 0.999 * together.size


def test_latents_are_pinned():
    assert draw_latent(0, 0, 0)[:3].tolist() == pytest.approx([0.05991104, 0.01555963, -1.1644385])
