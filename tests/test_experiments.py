"""Every shipped configuration, parsed by the real command line as `make train` stacks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from jsonargparse import Namespace

from fran_lightning import training
from fran_lightning.cli import main
from fran_lightning.training import FRANCLI

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
SCALES = sorted(path.stem for path in (EXPERIMENTS / "scale").glob("*.yaml"))
#: experiment -> weights of L1, LPIPS and the adversarial loss
LAMBDAS = {
    "l1": (1.0, 0.0, 0.0),
    "adv": (0.0, 0.0, 0.05),
    "lpips": (0.0, 1.0, 0.0),
    "l1_lpips": (1.0, 1.0, 0.0),
    "l1_lpips_adv": (1.0, 1.0, 0.05),
    "smp_resnet18": (1.0, 1.0, 0.05),
}
EVERY_YAML = [path for path in sorted(EXPERIMENTS.rglob("*.yaml")) if "sweeps" not in path.parts]


class ParsingOnly(Exception):
    """Carries the resolved configuration out of the command line, before anything is made from it."""


@pytest.fixture
def parse(monkeypatch) -> Iterator[object]:
    def leave(self: FRANCLI) -> None:
        raise ParsingOnly(self.config.fit)

    monkeypatch.setattr(training.FRANCLI, "before_instantiate_classes", leave)

    def parse(experiment: str, scale: str, *arguments: str) -> Namespace:
        files = [EXPERIMENTS / "base.yaml", EXPERIMENTS / "scale" / f"{scale}.yaml", EXPERIMENTS / f"{experiment}.yaml"]
        with pytest.raises(ParsingOnly) as caught:
            main(["fit", *(word for file in files for word in ("--config", str(file))), *arguments])
        return caught.value.args[0]

    return parse


def test_every_experiment_is_listed_here():
    assert set(LAMBDAS) == {path.stem for path in EXPERIMENTS.glob("*.yaml")} - {"base"}


@pytest.mark.parametrize(
    ("experiment", "scale"),
    [*((experiment, "laptop") for experiment in LAMBDAS), *(("l1_lpips_adv", scale) for scale in SCALES)],
)
def test_experiments_resolve_to_their_losses_at_their_scale(parse, experiment, scale):
    config = parse(experiment, scale)
    model = config.model
    assert (model.lambda_l1, model.lambda_lpips, model.lambda_adv) == LAMBDAS[experiment]
    assert (config.experiment, config.scale) == (experiment, scale)
    assert model.architecture == ("smp_unet" if experiment.startswith("smp") else "fran_unet")
    assert config.data.seed == model.seed == config.seed_everything == 0
    assert (config.export.experiment, config.export.scale) == (experiment, scale)
    assert config.ablation_grid.runs == config.runs
    assert config.checkpoint.monitor == "val/lpips"
    assert config.last_checkpoint.monitor is None


def test_paper_scale_is_the_papers(parse):
    config = parse("l1_lpips_adv", "paper")
    assert (config.data.image_size, config.data.crop_size, config.data.batch_size) == (1024, 512, 8)
    assert (config.model.base_channels, config.model.depth) == (64, 4)
    assert (config.model.learning_rate_generator, config.model.learning_rate_discriminator) == (1e-4, 1e-4)


def test_ablation_scale_is_section_4_8(parse):
    config = parse("l1", "ablation")
    assert config.trainer.max_epochs == 20
    assert config.data.pairs_per_epoch is None  # every ordered pair of every identity


def test_the_command_line_has_the_last_word(parse):
    config = parse("l1", "laptop", "--model.lambda_adv", "0.01", "--trainer.max_epochs", "2", "--data.root", "other")
    assert (config.model.lambda_l1, config.model.lambda_adv) == (1.0, 0.01)
    assert (config.trainer.max_epochs, config.data.root) == (2, "other")


@pytest.mark.parametrize("path", EVERY_YAML, ids=lambda path: path.stem)
def test_files_are_flat_and_say_what_they_ask(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    content = yaml.safe_load(text)

    def leaves(value: object, name: str) -> Iterator[tuple[str, object]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                assert key not in ("config", "class_path", "init_args"), f"{name}{key} does not stack"
                yield from leaves(inner, f"{name}{key}.")
        else:
            yield name, value

    for name, value in leaves(content, ""):
        assert name.count(".") <= 2, f"{name} is a dict argument, which a later file would replace whole"
        assert isinstance(value, int | float | str | bool | None), f"{name} is no scalar"
        # plain YAML reads 1e-4 as a string
        assert not (isinstance(value, str) and value[:1].isdigit()), f"{name}: {value} is text"


@pytest.mark.parametrize("path", EVERY_YAML, ids=lambda path: path.stem)
def test_experiments_name_themselves(path):
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.parent.name == "scale":
        assert content["scale"] == path.stem
    elif path.stem != "base":
        assert content["experiment"] == path.stem
