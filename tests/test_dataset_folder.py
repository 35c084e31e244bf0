"""Dataset folders: writing, importing, checking and packing them, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_data import AGES, SIZE, draw_face, tiny_info, write_tiny_dataset

from fran_lightning.cli import main
from fran_lightning.data.check import check_dataset
from fran_lightning.data.folder import (
    PACKED_IMAGES,
    PACKED_LABELS,
    identity_folders,
    read_image,
    read_info,
    read_labels,
)
from fran_lightning.data.pack import pack_dataset
from fran_lightning.data.pairs import IdentityReader
from fran_lightning.errors import UserError
from fran_lightning.synthesis.writer import DatasetWriter, parse_shard


@pytest.fixture
def dataset(tmp_path, tiny_dataset) -> Path:
    """A copy of the tiny dataset that a test may change."""
    return shutil.copytree(tiny_dataset, tmp_path / "dataset")


def faces_of(index: int) -> list[np.ndarray]:
    return [draw_face(index, age)[0] for age in AGES]


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def fails_with(capfd, arguments: list[str]) -> str:
    """The error line of a ``fran`` command that must fail as a user's mistake does."""
    assert main(arguments) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("fran:")]
    assert len(lines) == 1
    return lines[0].removeprefix("fran: error: ")


# ---------------------------------------------------------------- writer


def test_a_written_dataset_reads_back(tiny_dataset):
    info = read_info(tiny_dataset)
    assert info == tiny_info()
    assert [folder.name for folder in identity_folders(tiny_dataset)] == [f"{i:06d}" for i in range(5)]
    image, labels = draw_face(3, AGES[2])
    assert np.array_equal(read_image(tiny_dataset / "000003" / f"{AGES[2]}.png"), image)
    assert np.array_equal(read_labels(tiny_dataset / "000003" / "labels" / f"{AGES[2]}.png"), labels)


@pytest.mark.parametrize("image_format", ["png", "webp", "jpg"])
def test_formats(tmp_path, image_format):
    writer = DatasetWriter(tmp_path, tiny_info(1), image_format=image_format)
    folder = writer.write_identity(0, faces_of(0))
    error = np.abs(read_image(folder / f"{AGES[0]}.{image_format}").astype(int) - faces_of(0)[0])
    assert error.mean() < (3 if image_format == "jpg" else 1e-9)
    assert check_dataset(tmp_path, decode=True).problems == []


def test_the_same_command_writes_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        write_tiny_dataset(tmp_path / name, identities=2)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_an_identity_that_fails_leaves_nothing(tmp_path):
    writer = DatasetWriter(tmp_path, tiny_info(2))
    with pytest.raises(ValueError, match="zip"):
        writer.write_identity(0, faces_of(0)[:-1])
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.json"]
    assert writer.missing() == [0, 1]


def test_writing_resumes_with_the_missing_identities_and_removes_leftovers(tmp_path):
    DatasetWriter(tmp_path, tiny_info(3)).write_identity(1, faces_of(1))
    kept = contents(tmp_path)
    leftover = tmp_path / ".partial-000002-abcd1234"
    leftover.mkdir()
    (leftover / "18.png").write_bytes(b"half an image")
    writer = DatasetWriter(tmp_path, tiny_info(3))
    assert not leftover.exists()
    assert writer.missing() == [0, 2]
    assert contents(tmp_path) == kept


def test_a_half_written_identity_is_no_part_of_the_dataset(dataset):
    shutil.copytree(dataset / "000000", dataset / ".partial-000005-abcd1234")
    assert len(identity_folders(dataset)) == 5
    assert check_dataset(dataset).problems == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ages": (20, 40)}, r"made with ages = \[20, 40, 60, 80\], not \[20, 40\]"),
        ({"image_size": 128}, "made with image_size = 64, not 128"),
        ({"seed": 5}, "made with seed = 0, not 5"),
        ({"identities": 9}, "made with identities = 5, not 9"),
        ({"generator": {"skin": {"spots": 2}}}, "made with generator.skin.spots = None, not 2"),
    ],
)
def test_other_settings_are_refused_by_name(dataset, changes, message):
    before = contents(dataset)
    with pytest.raises(UserError, match=message):
        DatasetWriter(dataset, tiny_info(**changes))
    assert contents(dataset) == before


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("no dataset")
    with pytest.raises(UserError, match=r"holds files but no dataset\.json"):
        DatasetWriter(tmp_path, tiny_info())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_shards_partition_the_identities(tmp_path):
    writers = [DatasetWriter(tmp_path, tiny_info(7), shard=(index, 3)) for index in range(3)]
    assert [writer.missing() for writer in writers] == [[0, 3, 6], [1, 4], [2, 5]]
    foreign = tmp_path / ".partial-000001-abcd1234"
    foreign.mkdir()
    DatasetWriter(tmp_path, tiny_info(7), shard=(0, 3))
    assert foreign.exists()  # another shard is at work on it


def test_an_identity_that_another_process_wrote_meanwhile_is_kept(tmp_path):
    first, second = (DatasetWriter(tmp_path, tiny_info(1)) for _ in range(2))
    first.write_identity(0, faces_of(0))
    kept = contents(tmp_path)
    assert second.write_identity(0, faces_of(0)) == tmp_path / "000000"
    assert contents(tmp_path) == kept


@pytest.mark.parametrize("text", ["3/3", "-1/2", "1", "a/b", "1/2/3", "0/0"])
def test_wrong_shards_are_refused(text):
    with pytest.raises(UserError, match="--shard"):
        parse_shard(text)


def test_a_shard_is_read():
    assert parse_shard("1/4") == (1, 4)


# ---------------------------------------------------------------- check-data


def test_a_whole_dataset_passes(tiny_dataset, capsys):
    assert main(["check-data", str(tiny_dataset), "--decode"]) == 0
    assert "5 complete identities, 20 images of 64 x 64, ages 20 40 60 80" in capsys.readouterr().out


def remove_age(dataset: Path) -> None:
    (dataset / "000001" / "40.png").unlink()


def truncate(dataset: Path) -> None:
    path = dataset / "000001" / "40.png"
    path.write_bytes(path.read_bytes()[:-20])


def break_file(dataset: Path) -> None:
    (dataset / "000001" / "40.png").write_bytes(b"not an image")


def resize(dataset: Path) -> None:
    Image.new("RGB", (32, 64)).save(dataset / "000001" / "40.png")


def remove_label(dataset: Path) -> None:
    (dataset / "000001" / "labels" / "40.png").unlink()


def unknown_class(dataset: Path) -> None:
    Image.fromarray(np.full((SIZE, SIZE), 19, np.uint8)).save(dataset / "000001" / "labels" / "40.png")


def resize_label(dataset: Path) -> None:
    Image.new("L", (32, 32)).save(dataset / "000001" / "labels" / "40.png")


def truncate_label(dataset: Path) -> None:
    path = dataset / "000001" / "labels" / "40.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove_identity(dataset: Path) -> None:
    shutil.rmtree(dataset / "000004")


def wrong_array(dataset: Path) -> None:
    np.save(dataset / "000001" / PACKED_IMAGES, np.zeros((2, SIZE, SIZE, 3), np.uint8))


def broken_array(dataset: Path) -> None:
    (dataset / "000001" / PACKED_IMAGES).write_bytes(b"no array")


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (remove_age, "000001: age 40 is missing"),
        (truncate, "000001/40.png: truncated"),
        (break_file, "000001/40.png: broken or no image"),
        (resize, "000001/40.png: 32 x 64 pixels, not 64 x 64"),
        (remove_label, "000001/labels: age 40 is missing"),
        (unknown_class, "000001/labels/40.png: class 19; classes go from 0 to 18"),
        (resize_label, "000001/labels/40.png: 32 x 32 L, not 64 x 64 with 8 bits"),
        (truncate_label, "000001/labels/40.png: truncated"),
        (remove_identity, "4 of 5 identities exist"),
        (wrong_array, "packed.npy: uint8 (2, 64, 64, 3), not uint8 (4, 64, 64, 3)"),
        (broken_array, "packed.npy: broken"),
    ],
)
def test_check_data_names_the_problem(dataset, capfd, damage, problem):
    damage(dataset)
    assert main(["check-data", str(dataset)]) == 2
    out, err = capfd.readouterr()
    assert [line for line in out.splitlines() if problem in line]
    assert "has 1 problems, listed above" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_truncation_is_seen_in_every_format(tmp_path, suffix):
    folder = DatasetWriter(tmp_path, tiny_info(1), image_format=suffix).write_identity(0, faces_of(0))
    path = folder / f"{AGES[1]}.{suffix}"
    path.write_bytes(path.read_bytes()[:-20])
    (problem,) = check_dataset(tmp_path).problems
    assert problem in (f"{path}: truncated", f"{path}: broken or no image")


def test_damage_inside_an_image_is_seen_with_decode(dataset):
    path = dataset / "000002" / "60.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert len(check_dataset(dataset, decode=True).problems) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no dataset.json"),
        ("{", "is broken"),
        ('{"format": 2}', "has format 2; this version reads format 1"),
        ('{"format": 1, "source": "sam"}', "is broken"),
        ('{"format": 1, "source": "sam", "image_size": 4, "identities": 1, "ages": [200, 3]}', "200 is not an age"),
        ("[]", "is broken"),
    ],
)
def test_a_folder_that_is_no_dataset_is_refused(tmp_path, capfd, content, message):
    if content is not None:
        (tmp_path / "dataset.json").write_text(content)
    assert message in fails_with(capfd, ["check-data", str(tmp_path)])
    assert "does not exist" in fails_with(capfd, ["check-data", str(tmp_path / "nowhere")])


# ---------------------------------------------------------------- import-data


@pytest.fixture
def aged_images(tmp_path) -> Path:
    """Two identities in the public layout, one of them as JPEG."""
    folder = tmp_path / "sam" / "aged_images"
    folder.mkdir(parents=True)
    for identity, suffix in ((2, "png"), (11, "jpg")):
        for age in AGES:
            Image.fromarray(draw_face(identity, age)[0]).save(folder / f"{age}_seed{identity:04d}.{suffix}")
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.mark.parametrize("level", ["files", "parent"])
def test_import_copies_the_bytes(aged_images, tmp_path, level):
    source = aged_images if level == "files" else aged_images.parent
    out = tmp_path / "out"
    assert main(["import-data", str(source), "--out", str(out)]) == 0
    assert read_info(out).ages == AGES
    assert read_info(out).image_size == SIZE
    for folder, identity, suffix in (("000000", 2, "png"), ("000001", 11, "jpg")):
        for age in AGES:
            original = aged_images / f"{age}_seed{identity:04d}.{suffix}"
            assert (out / folder / f"{age}.{suffix}").read_bytes() == original.read_bytes()
        assert f"{identity:04d}" in (out / folder / "identity.json").read_text()
    assert main(["check-data", str(out), "--decode"]) == 0
    before = contents(out)
    assert main(["import-data", str(source), "--out", str(out)]) == 0  # nothing left to do
    assert contents(out) == before


def test_import_refuses_a_missing_age_and_makes_nothing(aged_images, tmp_path, capfd):
    (aged_images / "40_seed0011.jpg").unlink()
    message = fails_with(capfd, ["import-data", str(aged_images), "--out", str(tmp_path / "out")])
    assert "identity 0011" in message
    assert "no image of age 40" in message
    assert not (tmp_path / "out").exists()


def test_import_refuses_two_sizes_and_makes_nothing(aged_images, tmp_path, capfd):
    Image.new("RGB", (48, 48)).save(aged_images / "40_seed0002.png")
    message = fails_with(capfd, ["import-data", str(aged_images), "--out", str(tmp_path / "out")])
    assert "40_seed0002.png is 48 x 48 pixels, but most are 64 x 64" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["40_seed0002.png", "40_seed0011.jpg"])
def test_import_refuses_a_truncated_image(aged_images, tmp_path, capfd, name):
    path = aged_images / name
    path.write_bytes(path.read_bytes()[:-60])
    message = fails_with(capfd, ["import-data", str(aged_images), "--out", str(tmp_path / "out")])
    assert f"{name} is broken or no image" in message
    assert not any(folder.name == "000001" or folder.name.startswith(".") for folder in (tmp_path / "out").glob("*"))


def test_import_refuses_folders_without_such_files(tmp_path, capfd):
    for source in (tmp_path, tmp_path / "nowhere"):
        assert "_seed" in fails_with(capfd, ["import-data", str(source), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- pack


def test_packed_arrays_hold_what_the_files_hold(dataset, capsys):
    from_files = IdentityReader(dataset, AGES)
    expected = {age: (from_files.image("000002", age), from_files.labels("000002", age)) for age in AGES}
    assert main(["pack", str(dataset)]) == 0
    assert "5 identities packed" in capsys.readouterr().out
    for folder in identity_folders(dataset):
        for image in folder.glob("*.png"):
            image.unlink()  # what is read now can only come from the arrays
        shutil.rmtree(folder / "labels")
    packed = IdentityReader(dataset, AGES)
    for age, (image, labels) in expected.items():
        assert np.array_equal(packed.image("000002", age), image)
        assert np.array_equal(packed.labels("000002", age), labels)
    assert check_dataset(dataset).problems == []


def test_packing_again_packs_only_what_is_new(dataset):
    assert pack_dataset(dataset)[0] == 5
    (dataset / "000003" / PACKED_IMAGES).unlink()
    assert pack_dataset(dataset) == (1, len(AGES) * SIZE * SIZE * 3)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_age, "no image of age 40"),
        (truncate, "40.png is broken"),
        (resize, "32 x 64 pixels, not 64 x 64"),
        (truncate_label, "class map"),
        (resize_label, "32 x 32 pixels, not 64 x 64"),
    ],
)
def test_packing_a_damaged_dataset_names_the_file_and_leaves_no_half_array(dataset, capfd, damage, message):
    damage(dataset)
    assert message in fails_with(capfd, ["pack", str(dataset)])
    assert not list((dataset / "000001").glob(f"*{PACKED_IMAGES}*"))
    assert not list(dataset.rglob(".*"))


def test_pack_without_labels_makes_no_label_array(tmp_path):
    write_tiny_dataset(tmp_path, identities=1, labels=False)
    pack_dataset(tmp_path)
    assert (tmp_path / "000000" / PACKED_IMAGES).is_file()
    assert not (tmp_path / "000000" / PACKED_LABELS).exists()


# ---------------------------------------------------------------- a full disk


def run_on_a_small_disk(mount: Path, kilobytes: int, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script with ``mount`` as a file system of that size; skips where that is not allowed."""
    mounted = f"mount -t tmpfs -o size={kilobytes}k tmpfs {mount} && "
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    try:
        allowed = subprocess.run([*command, mounted + "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("this system lets nobody mount a small file system")
    return subprocess.run([*command, mounted + script], capture_output=True, text=True, check=False)


def is_one_line_about_space(result: subprocess.CompletedProcess[str]) -> bool:
    lines = [line for line in result.stderr.splitlines() if line.startswith("fran:")]
    return len(lines) == 1 and "no space left on the disk" in lines[0] and "Traceback" not in result.stderr


def test_a_full_disk_while_importing_is_one_line_and_no_half_identity(aged_images, tmp_path):
    mount = tmp_path / "disk"
    mount.mkdir()
    bytes_of_one = sum(path.stat().st_size for path in aged_images.glob("*_seed0002.png"))
    result = run_on_a_small_disk(
        mount,
        -(-bytes_of_one // 1024) + 8,
        f"{sys.executable} -m fran_lightning import-data {aged_images} --out {mount}/out; echo status $?; "
        f"find {mount}/out",
    )
    assert "status 2" in result.stdout
    assert is_one_line_about_space(result), result.stderr
    assert "/000001" not in result.stdout
    assert "partial" not in result.stdout
    assert ".tmp" not in result.stdout


def test_a_full_disk_while_packing_is_one_line_and_no_half_array(dataset, tmp_path):
    mount = tmp_path / "disk"
    mount.mkdir()
    result = run_on_a_small_disk(
        mount,
        420,
        f"cp -r {dataset} {mount}/copy && {sys.executable} -m fran_lightning pack {mount}/copy; echo status $?; "
        f"find {mount}/copy",
    )
    assert "status 2" in result.stdout
    assert is_one_line_about_space(result), result.stderr
    assert ".tmp" not in result.stdout
