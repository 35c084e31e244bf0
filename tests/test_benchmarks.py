"""The benchmarks: their tables, their command, and that they measure what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from benchmarks.__main__ import find_benchmarks, main, write_report
from benchmarks.machine import Bystanders, this_machine
from benchmarks.part_clock import PARTS, Part, PartClock
from benchmarks.processes import measure_apart
from benchmarks.sample_data import write_sample_dataset
from benchmarks.table import Table
from benchmarks.training_step import Setting, measure, model_settings
from fran_lightning.data.check import check_dataset
from fran_lightning.data.datamodule import AgePairDataModule
from fran_lightning.data.pack import pack_dataset
from fran_lightning.module import FRANModule

TABLE = Table(
    title="Speed",
    columns=["what", "n", "pairs/s"],
    rows=[["a|b", 2, 1234.5], ["c", 10, 0.256], ["d", 3, None]],
    notes="How.",
)


def test_a_table_becomes_markdown() -> None:
    assert TABLE.to_markdown().splitlines() == [
        "## Speed",
        "",
        "How.",
        "",
        "| what |   n | pairs/s |",
        "| ---- | --: | ------: |",
        "| a\\|b |   2 |    1234 |",
        "| c    |  10 |    0.26 |",
        "| d    |   3 |       - |",
    ]


def test_a_table_keeps_its_numbers_as_plain_values() -> None:
    assert TABLE.to_json()["rows"] == [["a|b", 2, 1234.5], ["c", 10, 0.256], ["d", 3, None]]


def test_a_row_with_too_few_cells_is_refused() -> None:
    with pytest.raises(ValueError, match="3 columns, but a row of 2"):
        Table("t", ["a", "b", "c"], [[1, 2]])


def test_modules_are_found_by_their_name() -> None:
    assert {"data-path", "training-step"} <= find_benchmarks().keys()


def test_a_report_says_what_it_was_measured_on_and_what_was_not_measured(tmp_path: Path) -> None:
    machine = this_machine(torch.device("cpu"))
    write_report(tmp_path / "report.md", machine, Bystanders(), {"speed": TABLE}, {"film": "no film here"})
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert f"{machine.cores} cores" in text
    assert ("No GPU was available" in text) == (not torch.cuda.is_available())
    assert TABLE.to_markdown() in text
    assert "film: not measured: no film here" in text


def test_the_data_path_is_measured_through_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.json"
    assert main(["--quick", "--only", "data-path", "--device", "cpu", "--out", str(out)]) == 0
    results = json.loads(out.read_text(encoding="utf-8"))
    assert results["machine"]["device"] == "cpu"
    table = results["tables"]["data-path"]
    assert [(row[0], row[2]) for row in table["rows"]] == [
        (storage, workers) for storage in ("png", "webp", "jpg", "packed") for workers in (0, 2)
    ]
    assert all(row[3] > 0 for row in table["rows"])
    assert "## Data path" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "report.txt"], "must end in .md or .json"),
        (["--out", "nowhere/report.md"], "the folder nowhere does not exist"),
        (["--only", "film"], "film"),
        (["--device", "abacus"], "is no device"),
        (["--device", "cuda:99"], "there is no CUDA device 99 here"),
    ],
)
def test_a_users_mistake_ends_with_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def small_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_sample_dataset(tmp_path_factory.mktemp("sample"), image_size=32)
    pack_dataset(root)
    return root


def test_the_sample_dataset_keeps_the_contract(small_dataset: Path) -> None:
    assert check_dataset(small_dataset).problems == []


def test_a_training_step_is_measured_in_its_own_process(small_dataset: Path) -> None:
    setting = Setting(
        root=str(small_dataset),
        scale="laptop",
        size=32,
        batch_size=2,
        precision="32-true",
        lpips="shift_tolerant_alex",
        device="cpu",
        workers=0,
        seconds=0.0,
    )
    figures = measure_apart(measure, setting)
    assert figures is not None
    assert figures.pairs_per_second > 0
    assert figures.memory > 50e6  # torch alone takes more
    assert set(figures.shares) == set(PARTS)
    assert sum(figures.shares.values()) == pytest.approx(1)
    assert all(share > 0 for share in figures.shares.values())


class RecordingClock(PartClock):
    """Also remembers the order of the parts."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.order: list[Part] = []

    def switch(self, part: Part) -> None:
        super().switch(part)
        if part != "other" and self.order[-1:] != [part]:
            self.order.append(part)


def test_the_clock_follows_a_training_step_through_the_networks(small_dataset: Path) -> None:
    clock = RecordingClock()

    class Attach(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
            clock.attach(pl_module)

        def on_train_batch_end(self, *_: Any) -> None:
            clock.detach()

    module = FRANModule(**model_settings("laptop") | {"lpips": "shift_tolerant_alex", "base_channels": 4})
    data = AgePairDataModule(str(small_dataset), crop_size=32, batch_size=2, num_workers=0)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        limit_train_batches=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        profiler=clock,
        callbacks=[Attach()],
    )
    trainer.fit(module, data)
    assert clock.order == [
        "data",
        # forwards
        "generator",
        "lpips",
        "discriminator",
        # backwards: discriminator, then
        "lpips",
        "generator",
        # the discriminator's own step
        "discriminator",
    ]
    assert sum(clock.shares().values()) == pytest.approx(1)
