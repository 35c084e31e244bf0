"""The front door: what make prints, refuses and would run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: the environment that the tests run in
VENV = str(Path(sys.executable).parents[1])

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    # make passes its own variables to what it runs, and these tests may be run by it
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_help_lists_the_targets_the_experiments_and_the_scales():
    result = make("help")
    assert result.returncode == 0
    for word in ("train", "ablation", "test", "lint", "bench", "setup", "sync", "l1_lpips_adv", "laptop", "paper"):
        assert word in result.stdout
    assert make().stdout == result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "EXP=l2"), "unknown EXP=l2; choose one of: .*l1_lpips_adv"),
        (("train", "EXP=base"), "unknown EXP=base"),
        (("train", "SCALE=huge"), "unknown SCALE=huge; choose one of: .*laptop"),
        (("ablation", "SCALE=huge"), "unknown SCALE=huge"),
        (("train", "DATA=nowhere"), "DATA=nowhere is no dataset folder; make one with"),
    ],
)
def test_unknown_names_are_one_line_and_status_2(arguments, message):
    result = make(*arguments, f"VENV={VENV}")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert re.search(message, line)


def test_train_stacks_base_scale_and_experiment(tiny_dataset):
    result = make("-n", "train", "EXP=l1", "SCALE=laptop", f"DATA={tiny_dataset}", f"VENV={VENV}")
    assert result.returncode == 0
    words = result.stdout.split()
    fit = words.index("fit")
    configs = [words[i + 1] for i, word in enumerate(words) if word == "--config" and i > fit][:3]
    assert configs == ["experiments/base.yaml", "experiments/scale/$scale.yaml", "experiments/l1.yaml"]
    assert "scale=laptop" in result.stdout
    assert f"{VENV}/bin/python -m fran_lightning" in result.stdout


def test_several_devices_train_with_the_strategy_that_a_gan_needs(tiny_dataset):
    result = make("-n", "train", "DEVICES=2", "SCALE=laptop", f"DATA={tiny_dataset}", f"VENV={VENV}")
    assert "--trainer.devices 2 --trainer.strategy ddp_find_unused_parameters_true" in result.stdout
    one = make("-n", "train", "SCALE=laptop", f"DATA={tiny_dataset}", f"VENV={VENV}")
    assert "--trainer.devices" not in one.stdout


def test_slurm_submits_nodes_and_gpus(tiny_dataset):
    result = make(
        "-n", "train", "LAUNCH=slurm", "NODES=2", "GPUS=4", "SCALE=paper", f"DATA={tiny_dataset}", f"VENV={VENV}"
    )
    assert "sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-node=4" in result.stdout
    assert "experiments/slurm/train.sbatch" in result.stdout


def test_another_environment_is_taken_as_it_is():
    result = make("-n", "train", "SCALE=laptop", f"VENV={VENV}")
    assert "pip install" not in result.stdout
    system = make("-n", "lint", "VENV=")
    assert system.stdout.startswith("python3 -m ruff")


def test_setup_installs_once_and_again_when_the_requirements_change(tmp_path):
    """Asked of make itself, without installing: -q says whether there is anything to do."""
    for name in ("Makefile", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    assert "pip install" in make("-n", "setup", folder=tmp_path).stdout
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed").touch()
    for name in ("setup.cfg", "pyproject.toml"):
        os.utime(tmp_path / name, (1, 1))
    assert make("-q", "setup", folder=tmp_path).returncode == 0
    (tmp_path / "setup.cfg").touch()
    os.utime(tmp_path / ".venv" / ".installed", (2, 2))
    assert make("-q", "setup", folder=tmp_path).returncode == 1


def test_the_slurm_script_is_valid_shell_and_refuses_to_run_alone():
    script = ROOT / "experiments" / "slurm" / "train.sbatch"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    environment = {name: value for name, value in os.environ.items() if name != "FRAN_COMMAND"}
    result = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "make train LAUNCH=slurm" in result.stderr
