"""experiments/README.md says what the YAML files say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
EXPERIMENT_FILES = sorted(path for path in EXPERIMENTS.glob("*.yaml") if path.name != "base.yaml")
SCALE_FILES = sorted(EXPERIMENTS.glob("scale/*.yaml"))


def readme_rows() -> dict[str, list[str]]:
    """The cells of every table row that begins with a name in backticks, by that name."""
    rows = {}
    for line in (EXPERIMENTS / "README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            rows[name.strip("`")] = cells
    return rows


def leading_comment(path: Path) -> str:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines)


@pytest.mark.parametrize("path", EXPERIMENT_FILES, ids=lambda path: path.stem)
def test_every_experiment_has_its_question_and_expectation_in_the_readme(path: Path) -> None:
    question, separator, expected = leading_comment(path).partition(" Expected: ")
    assert separator, f"{path.name}: the comment is not of the form '# Question? Expected: answer (source).'"
    assert question.endswith("?")
    row = readme_rows()[path.stem]
    assert row[:2] == [question, expected]
    assert row[2], "a result, or that there is none yet"


@pytest.mark.parametrize("path", SCALE_FILES, ids=lambda path: path.stem)
def test_every_scale_has_its_numbers_in_the_readme(path: Path) -> None:
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    data = settings["data"]
    expected = [
        settings["model"]["base_channels"],
        data["image_size"],
        data["crop_size"],
        data["batch_size"],
        settings["trainer"]["max_epochs"],
        data.get("pairs_per_epoch", "all"),
    ]
    assert readme_rows()[path.stem][:-1] == [str(number) for number in expected]


def test_the_readme_names_nothing_that_does_not_exist() -> None:
    assert set(readme_rows()) == {path.stem for path in [*EXPERIMENT_FILES, *SCALE_FILES]}
