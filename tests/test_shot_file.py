"""The shot file: every run leaves one, and it makes the same bytes again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from faces import portrait, save_random_generator
from films import write_film
from PIL import Image
from plates import write_plates

from fran_lightning.cli import main
from fran_lightning.errors import UserError
from fran_lightning.reaging import reager as reager_module
from fran_lightning.reaging.shot import OPTIONS, read_shot, shot_path, write_shot
from fran_lightning.reaging.strength import parse_strength
from fran_lightning.reaging.targets import parse_targets


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_random_generator(tmp_path_factory.mktemp("run") / "generator.safetensors")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["photo", "film", "exr"])
def test_a_replay_makes_the_same_bytes(tmp_path, checkpoint, kind, monkeypatch):
    options = ["--target-age", "+30", "--strength", "0.8", "--mask", "face"]
    if kind == "photo":
        Image.fromarray(portrait()).save(tmp_path / "in.png")
        source, output = "in.png", "out/older.png"
    elif kind == "film":
        write_film(tmp_path / "in.mp4", 6, sound=True)
        source, output = "in.mp4", "out/older.mp4"
        options[1:4:2] = ["1:+0,6:+40", "1:0,4:1"]
    else:
        source, output = Path(write_plates(tmp_path, 4)).name, "out/older.####.exr"
        options[1:4:2] = ["1001:+0,1004:+40", "1001:0,1003:1"]
        options += ["--passes", "delta,mask", "--frames", "1001-1003", "--size", "96"]
    monkeypatch.chdir(tmp_path)
    assert main(["reage", source, "-o", output, "--checkpoint", str(checkpoint), *options]) == 0
    written = contents(tmp_path / "out")
    assert len(written) == (4 if kind == "exr" else 2)
    shot = shot_path(output)
    ages = yaml.safe_load(shot.read_text())["source_age"]
    assert 5 < float(ages["0"]) < 95
    # an age is never estimated again, not even to the same number
    monkeypatch.setattr(reager_module.Reager, "age_estimator", property(lambda _: pytest.fail("estimated again")))
    for path in (tmp_path / "out").iterdir():
        if path.suffix != ".yaml":
            path.unlink()
    # from another folder: its paths start where it lies
    os.chdir(tmp_path / "out")
    assert main(["reage", "--shot", shot.name]) == 0
    assert contents(tmp_path / "out") == written


def test_the_command_line_takes_precedence_and_the_file_can_be_left_out(tmp_path, checkpoint, capsys):
    Image.fromarray(portrait()).save(tmp_path / "in.png")
    (tmp_path / "my.yaml").write_text(
        f"input: in.png\ncheckpoint: {checkpoint}\ntarget_age: +20\nsource_age: {{0: 30}}\n"
    )
    call = ["reage", "--shot", str(tmp_path / "my.yaml"), "--no-shot-file"]
    assert main([*call, "-o", str(tmp_path / "a.png")]) == 0
    assert "face 0: 30 -> 50 years" in capsys.readouterr().out
    assert main([*call, "-o", str(tmp_path / "b.png"), "--target-age", "65", "--source-age", "40"]) == 0
    assert "face 0: 40 -> 65 years" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "in.png", "my.yaml"]


def test_another_checkpoint_is_refused_unless_it_is_asked_for(tmp_path, checkpoint, capsys):
    Image.fromarray(portrait()).save(tmp_path / "in.png")
    own = tmp_path / "generator.safetensors"
    own.write_bytes(checkpoint.read_bytes())
    output = tmp_path / "out/older.png"
    given = ["--source-age", "30"]
    assert main(["reage", str(tmp_path / "in.png"), "-o", str(output), "--checkpoint", str(own), *given]) == 0
    save_random_generator(own, image_size=96)
    before = contents(tmp_path / "out")
    shot = str(shot_path(str(output)))
    assert main(["reage", "--shot", shot]) == 2
    assert "is not the one of the shot file (SHA-256" in capsys.readouterr().err
    assert contents(tmp_path / "out") == before
    assert main(["reage", "--shot", shot, "--checkpoint", str(own)]) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "input: in.png\ntarget_ages: 65\n",
            "unknown key 'target_ages'; allowed are input, output, frames, checkpoint",
        ),
        ("input: in.png\nface: [1, 2]\n", "face must be a text"),
        ("strength: {1: [2]}\n", "strength must be a text or a mapping"),
        ("- input\n", "must hold KEY: VALUE lines"),
        ("input: [\n", "is no YAML"),
        ("target_age: 65\n", "name a photo, a film or a sequence"),
        ("input: in.png\nquality: good\ncheckpoint: x\n", "--quality 'good' is no whole number"),
    ],
)
def test_a_bad_shot_file_is_one_line(tmp_path, capsys, text, words):
    (tmp_path / "shot.yaml").write_text(text)
    assert main(["reage", "--shot", str(tmp_path / "shot.yaml")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["shot.yaml"]
    with pytest.raises(UserError, match="cannot be read"):
        read_shot(tmp_path / "none.yaml")


def test_mappings_relative_ages_and_paths(tmp_path):
    (tmp_path / "shot.yaml").write_text(
        "input: [a/shot.####.exr, /b/x.png]\ntarget_age: {1001: 35, 1100: +30}\nstrength:\n  1001: 0\n  1025: 1.5\n"
        "regions: {eyes: 40}\nmask: face\nage_map: ages.png\n"
    )
    options = read_shot(tmp_path / "shot.yaml")
    assert options["input"] == [str(tmp_path / "a/shot.####.exr"), "/b/x.png"]
    curve = parse_targets(options["target_age"]).default
    assert [curve.at(frame, 40) for frame in (1, 1001, 1100)] == [35, 35, 70]
    assert parse_strength(options["strength"]).at(1013) == 0.75
    assert options["regions"] == "eyes=40"
    assert (options["mask"], options["age_map"]) == ("face", str(tmp_path / "ages.png"))
    write_shot(tmp_path / "again.yaml", {**options, "input": "/b/x.png", "quality": 5})
    again = read_shot(tmp_path / "again.yaml")
    assert again == {**options, "input": ["/b/x.png"], "quality": "5"}
    assert set(again) <= set(OPTIONS)


def test_the_example_of_the_documentation_can_be_read(tmp_path):
    documentation = (Path(__file__).parents[1] / "docs/vfx.md").read_text()
    example = documentation.partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "shot.yaml").write_text(example)
    options = read_shot(tmp_path / "shot.yaml")
    curve = parse_targets(options["target_age"]).default
    assert [curve.at(frame, 40) for frame in (1001, 1100)] == [35, 70]
    assert parse_strength(options["strength"]).at(1013) == 0.5
    assert options["mask"] == str(tmp_path / "roto/face.####.exr")
