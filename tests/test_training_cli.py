"""Training through the real command line: what a run leaves behind, how it goes on after an end, and bad input."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from tiny_data import AGES, write_tiny_dataset
from wandb_server import WandbServer

from fran_lightning.cli import main
from fran_lightning.networks.weights import GENERATOR_FILE, build_generator, load_generator, save_generator

ROOT = Path(__file__).parents[1]
BATCH = 2
#: overrides that make any experiment tiny
TINY = {
    "model.base_channels": 4,
    "model.depth": 2,
    "model.discriminator_base_channels": 4,
    "model.discriminator_depth": 2,
    "data.image_size": "null",
    "data.crop_size": 32,
    "data.batch_size": BATCH,
    "data.pairs_per_epoch": 4 * BATCH,
    "data.val_pairs_per_identity": 2,
    "data.cache_megabytes": 8,
    "trainer.max_epochs": 2,
    "trainer.accelerator": "cpu",
    "trainer.precision": "32-true",
    "trainer.log_every_n_steps": 1,
    "sample_sheet.tile": 32,
    "ablation_grid.tile": 32,
}


def fit_arguments(data: Path, run_dir: Path, experiment: str = "l1_lpips_adv", **settings: object) -> list[str]:
    """Arguments of ``fran fit`` as `make train` gives them, made tiny; a double underscore stands for a dot."""
    files = ("base", "scale/laptop", experiment)
    arguments = ["fit", *(word for file in files for word in ("--config", f"{ROOT}/experiments/{file}.yaml"))]
    overrides = TINY | {name.replace("__", "."): value for name, value in settings.items()}
    for name, value in overrides.items():
        arguments += [f"--{name}", str(value)]
    return [*arguments, "--data.root", str(data), "--run_dir", str(run_dir), "--runs", str(run_dir.parents[1])]


def environment(**variables: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "SLURM"))}
    # an empty home has no W&B login
    return own | {"OMP_NUM_THREADS": "1", "FRAN_OFFLINE": "1", "HOME": "/nonexistent"} | variables


def start(arguments: list[str], **variables: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fran_lightning", *arguments]
    return subprocess.Popen(
        command, env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    output, _ = process.communicate(timeout=500)
    assert process.returncode == status, output
    assert "Traceback" not in output, output
    return output


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 400
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def metrics_of(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def images_seen(run: Path) -> int:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return int(checkpoint["state_dict"]["images_seen"])


def wandb_records(run: Path) -> list[dict]:
    """All records of a run's W&B files, oldest first, read by wandb's own reader."""
    records = []
    for file in sorted(run.glob("wandb/*run-*/*.wandb")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
        records += [json.loads(line) for line in output.splitlines()]
    return records


def error_line(capfd: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The one line that a user's mistake must end with."""
    assert main(arguments) == 2
    captured = capfd.readouterr()
    assert "Traceback" not in captured.out + captured.err
    lines = [line for line in captured.err.splitlines() if line.startswith("fran: error: ")]
    assert len(lines) == 1, captured.err
    assert captured.err.rstrip().splitlines()[-1] == lines[0]
    return lines[0]


@pytest.fixture(scope="module")
def run(tiny_dataset, tmp_path_factory) -> Path:
    """A finished run of two epochs, made by a process of its own. Read only."""
    folder = tmp_path_factory.mktemp("runs") / "l1_lpips_adv" / "first"
    output = finish(start(fit_arguments(tiny_dataset, folder)))
    assert "held-out identities: LPIPS" in output
    assert f"fran: run folder {folder}" in output
    assert "W&B offline" in output
    return folder


# ---------------------------------------------------------------- what a run leaves behind


def test_a_run_folder_holds_everything(run):
    names = {path.name for path in run.iterdir()}
    assert {"config.yaml", "metrics.csv", "checkpoints", "samples", "wandb", "wandb_run_id", GENERATOR_FILE} <= names
    checkpoints = {path.name for path in (run / "checkpoints").iterdir()}
    assert "last.ckpt" in checkpoints
    assert len(checkpoints) == 2  # and the best by val/lpips
    assert not [path for path in run.rglob("*") if ".tmp" in path.name]


def test_config_holds_the_resolved_settings_and_no_checkpoint(run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["experiment"] == "l1_lpips_adv"
    assert config["model"]["lpips"] == "shift_tolerant_alex"  # what auto came to
    assert config["model"]["lambda_adv"] == 0.05
    assert config["ckpt_path"] is None


def test_metrics_hold_the_losses_and_the_validation(run):
    rows = metrics_of(run)
    for name in ("train/l1", "train/lpips", "train/adversarial", "train/discriminator", "learning_rate/generator"):
        assert [row for row in rows if row.get(name)], name
    for name in ("val/l1", "val/lpips", "val/l1_gain", "val/lpips_gain"):
        assert len([row for row in rows if row.get(name)]) == 2, name
    assert max(float(row["images_seen"]) for row in rows if row["images_seen"]) == 2 * 4 * BATCH == images_seen(run)


def test_samples_are_pictures_of_all_ages(run):
    assert {path.name for path in (run / "samples").iterdir()} == {
        "targets.png",
        "ages_000000000.png",
        "ages_000000008.png",
        "ages_000000016.png",
    }
    for path in (run / "samples").iterdir():
        with Image.open(path) as image:
            image.load()
            assert image.width > (len(AGES) + 1) * 32 - 32


def test_the_exported_generator_is_the_checkpoints_average_and_knows_where_it_comes_from(run):
    generator, metadata = load_generator(run)
    stored = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, tensor in generator.state_dict().items():
        assert torch.equal(tensor, stored[f"averaged_generator.module.{name}"])
    assert (metadata["experiment"], metadata["scale"], metadata["seed"]) == ("l1_lpips_adv", "laptop", 0)
    assert metadata["ages"] == list(AGES)
    assert metadata["image_size"] == 32
    assert metadata["images_seen"] == 16
    assert metadata["lpips"] == "shift_tolerant_alex"
    assert metadata["losses"] == {"lambda_l1": 1.0, "lambda_lpips": 1.0, "lambda_adv": 0.05}
    assert "val/lpips" in metadata["metrics"]


def test_the_offline_wandb_file_holds_losses_metrics_images_and_settings(run):
    records = wandb_records(run)
    (start_record,) = [record["run"] for record in records if record["type"] == "run"]
    assert start_record["project"] == "fran"
    assert start_record["run_id"] == (run / "wandb_run_id").read_text().strip()
    assert {"l1_lpips_adv", "laptop"} <= set(start_record["tags"])
    history = [record["history"]["item"] for record in records if record["type"] == "history"]
    for name in ("train/generator", "train/discriminator", "train/l1", "train/lpips", "val/lpips", "val/l1_gain"):
        values = [item[name] for item in history if name in item]
        assert values, name
        assert all(isinstance(value, int | float) for value in values)
    assert [item for item in history if item.get("samples/targets._type") == "images/separated"]
    captions = [item["samples/ages.captions"][0] for item in history if "samples/ages.captions" in item]
    assert captions == ["untrained", "8 images seen", "16 images seen"]
    files = [entry["path"] for record in records if record["type"] == "files" for entry in record["files"]["files"]]
    pictures = [path for path in files if path.endswith(".png")]
    assert len(pictures) == 4
    for path in pictures:
        (file,) = run.glob(f"wandb/*run-*/files/{path}")
        with Image.open(file) as image:
            image.load()
    settings = [record["config"]["update"] for record in records if record["type"] == "config"]
    merged = {name: value for update in settings for name, value in update.items()}
    assert merged["lpips"] == "shift_tolerant_alex"
    assert merged["lambda_adv"] == 0.05
    assert records[-1]["exit"]["exit_code"] == 0


def test_validate_and_test_read_the_run(run, tiny_dataset, capfd):
    for command in ("validate", "test"):
        arguments = fit_arguments(tiny_dataset, run, data__test_fraction=0.2)
        assert main([command, *arguments[1:]]) == 0
    before = (run / "metrics.csv").read_bytes()
    assert "val/lpips" in capfd.readouterr().out
    assert (run / "metrics.csv").read_bytes() == before


# ---------------------------------------------------------------- ends and resumptions


def test_a_killed_run_goes_on(tiny_dataset, tmp_path):
    folder = tmp_path / "runs" / "l1" / "killed"
    process = start(fit_arguments(tiny_dataset, folder, "l1", trainer__max_epochs=1000))
    wait_for(lambda: (folder / "checkpoints" / "last.ckpt").is_file() and (folder / "metrics.csv").is_file(), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    seen, run_id = images_seen(folder), (folder / "wandb_run_id").read_text()
    before = [row for row in metrics_of(folder) if row["images_seen"] and float(row["images_seen"]) <= seen]
    assert seen > 0
    assert before

    epochs = seen // (4 * BATCH) + 1
    assert main(fit_arguments(tiny_dataset, folder, "l1", trainer__max_epochs=epochs)) == 0
    assert images_seen(folder) == epochs * 4 * BATCH > seen
    assert (folder / "wandb_run_id").read_text() == run_id
    assert len(list(folder.glob("wandb/offline-run-*"))) == 2
    assert {path.name.rsplit("-", 1)[1] for path in folder.glob("wandb/offline-run-*")} == {run_id.strip()}
    rows = metrics_of(folder)
    validated = [float(row["images_seen"]) for row in rows if row.get("val/l1")]
    assert validated == [4 * BATCH * (epoch + 1) for epoch in range(epochs)]
    kept = [row for row in rows if row["images_seen"] and float(row["images_seen"]) <= seen]
    assert [row["val/l1"] for row in kept] == [row["val/l1"] for row in before]
    assert [path.name for path in (folder / "checkpoints").glob("last*")] == ["last.ckpt"]
    assert not list(folder.glob("*.before-resume"))


def test_a_warning_signal_saves_within_the_epoch_and_the_run_goes_on_there(tiny_dataset, tmp_path):
    folder = tmp_path / "runs" / "l1" / "preempted"
    settings = {"trainer__max_epochs": 1, "data__pairs_per_epoch": 4000 * BATCH, "preemption__interval": 1}
    process = start(fit_arguments(tiny_dataset, folder, "l1", **settings))
    wait_for((folder / "metrics.csv").is_file, process)  # written every 50 batches
    process.send_signal(signal.SIGUSR1)
    finish(process)
    seen = images_seen(folder)
    assert 0 < seen < 4000 * BATCH

    # the epoch's end comes soon where only few batches are left
    settings["data__pairs_per_epoch"] = seen + 3 * BATCH
    assert main(fit_arguments(tiny_dataset, folder, "l1", **settings)) == 0
    assert images_seen(folder) == seen + 3 * BATCH
    assert [path.name for path in (folder / "checkpoints").glob("last*")] == ["last.ckpt"]


def test_two_processes_end_with_equal_weights(tiny_dataset, tmp_path):
    folder = tmp_path / "runs" / "l1_lpips_adv" / "ddp"
    arguments = fit_arguments(
        tiny_dataset, folder, trainer__devices=2, trainer__strategy="ddp_find_unused_parameters_true"
    )
    script = Path(__file__).with_name("train_and_dump.py")
    result = subprocess.run(
        [sys.executable, str(script), *arguments[1:]],
        env=environment(DUMP_FOLDER=str(tmp_path), PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
        assert torch.isfinite(tensor.float()).all(), name
    assert int(first["images_seen"]) == 16  # 4 batches of 2 pairs, dealt out to two processes, twice
    assert images_seen(folder) == 16
    assert len([row for row in metrics_of(folder) if row.get("val/lpips")]) == 2
    assert len(list(folder.glob("wandb/offline-run-*"))) == 1


# ---------------------------------------------------------------- W&B is lost


def test_a_wrong_key_costs_one_line_and_the_run_goes_on_offline(tiny_dataset, tmp_path):
    folder = tmp_path / "runs" / "l1" / "key"
    with WandbServer(refuse=True) as server:
        process = start(
            fit_arguments(tiny_dataset, folder, "l1", trainer__max_epochs=1),
            WANDB_API_KEY="0" * 40,
            WANDB_BASE_URL=server.address,
            WANDB_INIT_TIMEOUT="20",
        )
        output = finish(process)
    assert len([line for line in output.splitlines() if "W&B is not available" in line]) == 1
    assert images_seen(folder) == 4 * BATCH
    history = [record["history"]["item"] for record in wandb_records(folder) if record["type"] == "history"]
    assert [item for item in history if "val/l1" in item]


def test_a_network_lost_within_a_run_neither_stops_nor_hangs_it(tiny_dataset, tmp_path):
    folder = tmp_path / "runs" / "l1" / "network"
    with WandbServer() as server:
        process = start(
            fit_arguments(tiny_dataset, folder, "l1", trainer__max_epochs=3),
            WANDB_API_KEY="0" * 40,
            WANDB_BASE_URL=server.address,
            WANDB_FINISH_TIMEOUT="5",
        )
        wait_for((folder / "samples" / "targets.png").is_file, process)
        assert server.started.is_set()
    finish(process)
    assert images_seen(folder) == 3 * 4 * BATCH
    # everything is on the disk, for `wandb sync`
    history = [record["history"]["item"] for record in wandb_records(folder) if record["type"] == "history"]
    assert len([item for item in history if "val/l1" in item]) == 3


# ---------------------------------------------------------------- bad input


def test_an_unknown_option_is_one_line(tiny_dataset, tmp_path, capfd):
    folder = tmp_path / "runs" / "l1" / "new"
    line = error_line(capfd, [*fit_arguments(tiny_dataset, folder), "--model.lambda_l2", "1"])
    assert "lambda_l2" in line
    assert not folder.exists()


def test_a_wrong_value_is_one_line(tiny_dataset, tmp_path, capfd):
    folder = tmp_path / "runs" / "l1" / "new"
    line = error_line(capfd, fit_arguments(tiny_dataset, folder, model__adversarial="wgan"))
    assert "adversarial" in line


def test_a_missing_configuration_is_one_line(capfd):
    assert "nowhere.yaml" in error_line(capfd, ["fit", "--config", "nowhere.yaml"])


def test_missing_data_is_one_line(tmp_path, capfd):
    folder = tmp_path / "runs" / "l1" / "new"
    line = error_line(capfd, fit_arguments(tmp_path / "nowhere", folder, "l1"))
    assert "nowhere does not exist; make one with" in line


def test_one_identity_is_one_line(tmp_path, capfd):
    write_tiny_dataset(tmp_path / "one", identities=1)
    line = error_line(capfd, fit_arguments(tmp_path / "one", tmp_path / "runs" / "l1" / "new", "l1"))
    assert "at least two are needed" in line


def test_an_epoch_shorter_than_a_batch_is_one_line(tiny_dataset, tmp_path, capfd):
    arguments = fit_arguments(tiny_dataset, tmp_path / "runs" / "l1" / "new", "l1", data__pairs_per_epoch=1)
    assert "less than one batch of 2" in error_line(capfd, arguments)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_image_met_in_training_is_one_line(tiny_dataset, tmp_path, capfd, workers):
    data = shutil.copytree(tiny_dataset, tmp_path / "data")
    for path in data.glob("*/*.png"):
        path.write_bytes(path.read_bytes()[:-60])
    arguments = fit_arguments(data, tmp_path / "runs" / "l1" / "new", "l1", data__num_workers=workers)
    # the sheets read images before the first batch
    line = error_line(capfd, [*arguments, "--sample_sheet.identities", "0", "--trainer.limit_val_batches", "0"])
    assert line.endswith(".png is broken or no image; run `fran check-data` and replace it")


def test_public_weights_are_fine_tuned_with_their_own_architecture(tiny_dataset, tmp_path, capfd):
    torch.manual_seed(0)
    public = build_generator({"architecture": "timroelofs_unet", "base_channels": 4})
    torch.nn.init.normal_(public.head.weight, std=0.1)
    save_generator(tmp_path / "public.safetensors", public, {"source": "https://example.org", "licence": "MIT"})
    folder = tmp_path / "runs" / "l1" / "tuned"
    options = {"model.init_from": tmp_path / "public.safetensors", "trainer.max_epochs": 1}
    assert main(fit_arguments(tiny_dataset, folder, "l1", **options)) == 0
    tuned, metadata = load_generator(folder)
    assert metadata["generator"] == public.config
    assert metadata["init_from"]["licence"] == "MIT"
    difference = (tuned.head.weight - public.head.weight).abs().max()
    assert 0 < difference < 0.05
    # and goes on
    assert main(fit_arguments(tiny_dataset, folder, "l1", **(options | {"trainer.max_epochs": 2}))) == 0
    assert "continuing from" in capfd.readouterr().err


def test_two_sizes_met_in_training_are_one_line(tiny_dataset, tmp_path, capfd):
    data = shutil.copytree(tiny_dataset, tmp_path / "data")
    for path in data.glob("*/40.png"):
        Image.new("RGB", (48, 48)).save(path)
    line = error_line(capfd, fit_arguments(data, tmp_path / "runs" / "l1" / "new", "l1", data__image_size=32))
    assert "40 is 48 x 48 pixels, not 64 x 64" in line


def test_a_checkpoint_of_another_architecture_is_one_line(run, tiny_dataset, tmp_path, capfd):
    folder = shutil.copytree(run, tmp_path / "runs" / "l1_lpips_adv" / "copy")
    before = (folder / "checkpoints" / "last.ckpt").read_bytes()
    line = error_line(capfd, fit_arguments(tiny_dataset, folder, model__base_channels=8))
    assert "another architecture" in line
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == before


@pytest.mark.parametrize("damage", ["truncated", "pickle", "tensor"])
def test_a_checkpoint_that_is_none_is_one_line(run, tiny_dataset, tmp_path, capfd, damage):
    folder = shutil.copytree(run, tmp_path / "runs" / "l1_lpips_adv" / "copy")
    path = folder / "checkpoints" / "last.ckpt"
    marker = tmp_path / "executed"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-5000])
    elif damage == "tensor":
        torch.save(torch.zeros(3), path)
    else:
        path.write_bytes(pickle.dumps(_Malicious(str(marker))))
    line = error_line(capfd, fit_arguments(tiny_dataset, folder, trainer__max_epochs=3))
    assert "last.ckpt is" in line
    assert not marker.exists()


class _Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


def test_a_checkpoint_given_by_path_may_be_missing(tiny_dataset, tmp_path, capfd):
    folder = tmp_path / "runs" / "l1" / "new"
    line = error_line(capfd, [*fit_arguments(tiny_dataset, folder, "l1"), "--ckpt_path", str(tmp_path / "no.ckpt")])
    assert "no.ckpt does not exist" in line


def test_a_folder_with_other_files_is_no_run_folder(tiny_dataset, tmp_path, capfd):
    folder = tmp_path / "runs" / "l1" / "thesis"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    assert "holds other files" in error_line(capfd, fit_arguments(tiny_dataset, folder, "l1"))
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_validating_without_a_checkpoint_is_one_line(tiny_dataset, tmp_path, capfd):
    arguments = fit_arguments(tiny_dataset, tmp_path / "runs" / "l1" / "new", "l1")
    assert "has no checkpoint" in error_line(capfd, ["validate", *arguments[1:]])


def test_two_runs_of_one_process_get_two_folders_and_two_wandb_runs(tiny_dataset, tmp_path):
    for _ in range(2):
        arguments = fit_arguments(tiny_dataset, tmp_path / "runs" / "l1" / "any", "l1", trainer__max_epochs=1)
        position = arguments.index("--run_dir")
        assert main([*arguments[:position], *arguments[position + 2 :]]) == 0
    folders = sorted((tmp_path / "runs" / "l1").iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert images_seen(folder) == 4 * BATCH
        assert len(list(folder.glob("wandb/offline-run-*"))) == 1


def test_unknown_commands_list_the_known_ones(capfd):
    assert "choose one of: fit, validate" in error_line(capfd, ["trian"])
    assert main([]) == 0
    assert "usage: fran COMMAND" in capfd.readouterr().out


def test_last_checkpoint_is_of_the_last_epoch_even_if_the_metric_got_worse(tiny_dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "exp" / "run"
    # smallest after the first epoch, so that no later epoch is the best
    settings = {"checkpoint__monitor": "images_seen", "checkpoint__filename": "best", "wandb": "disabled"}
    assert main(fit_arguments(tiny_dataset, run, "l1", **settings)) == 0
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert int(best["state_dict"]["images_seen"]) == 4 * BATCH
    assert images_seen(run) == 2 * 4 * BATCH
