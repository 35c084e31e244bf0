"""FRANModule: what a training step changes, what is averaged, saved and resumed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from fran_lightning.data.datamodule import AgePairDataModule, PairBatch
from fran_lightning.errors import UserError
from fran_lightning.module import FRANModule
from fran_lightning.networks.weights import save_generator

BATCH = 2

# what fran fit silences, or does not meet
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint"),
]


def small_module(seed: int = 0, **settings: object) -> FRANModule:
    pl.seed_everything(seed)
    defaults = {
        "base_channels": 4,
        "depth": 2,
        "discriminator_base_channels": 4,
        "discriminator_depth": 2,
        "lpips": "shift_tolerant_alex",
        "learning_rate_generator": 1e-3,
        "learning_rate_discriminator": 1e-3,
    }
    return FRANModule(**(defaults | settings))


def small_data(root: Path, batches: int, batch_size: int = BATCH, **settings: object) -> AgePairDataModule:
    defaults = {"crop_size": 32, "image_size": 32, "num_workers": 0, "val_pairs_per_identity": 4, "colour_jitter": 0.0}
    return AgePairDataModule(
        str(root),
        batch_size=batch_size,
        pairs_per_epoch=batches * batch_size,
        test_fraction=0.0,
        **(defaults | settings),
    )


def small_trainer(epochs: int = 1, callbacks: tuple[pl.Callback, ...] = (), precision: str = "32-true") -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        precision=precision,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )


def train(module: FRANModule, root: Path, batches: int = 2, **trainer: object) -> pl.Trainer:
    chosen = small_trainer(**trainer)
    chosen.fit(module, datamodule=small_data(root, batches))
    return chosen


class OnBatch(pl.Callback):
    """Calls functions with the module before and after every training batch."""

    def __init__(self, before: Callable | None = None, after: Callable | None = None) -> None:
        self.before, self.after = before, after

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.before:
            self.before(trainer, pl_module, batch)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self.after:
            self.after(trainer, pl_module, batch)


def parameters_of(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def differ(a: list[Tensor], b: list[Tensor]) -> bool:
    return any(not torch.equal(x, y) for x, y in zip(a, b, strict=True))


def distance(a: list[Tensor], b: list[Tensor]) -> float:
    return math.sqrt(sum((x - y).square().sum().item() for x, y in zip(a, b, strict=True)))


# ---------------------------------------------------------------- steps


def test_each_step_changes_its_own_network_alone(tiny_dataset, monkeypatch):
    module = small_module()
    steps = []
    original = module._step

    def watched(optimizer, network, loss):
        other = module.discriminator if network is module.generator else module.generator
        before, other_before = parameters_of(network), parameters_of(other)
        gradients = [None if p.grad is None else p.grad.clone() for p in other.parameters()]
        original(optimizer, network, loss)
        assert differ(before, parameters_of(network))
        assert not differ(other_before, parameters_of(other))
        for parameter, gradient in zip(other.parameters(), gradients, strict=True):
            assert (parameter.grad is None) == (gradient is None)
            assert gradient is None or torch.equal(parameter.grad, gradient)
        steps.append("generator" if network is module.generator else "discriminator")

    monkeypatch.setattr(module, "_step", watched)
    train(module, tiny_dataset, batches=2)
    assert steps == ["generator", "discriminator"] * 2


def test_neither_the_average_nor_lpips_is_trained(tiny_dataset):
    module = small_module()
    trainer = train(module, tiny_dataset, batches=1)
    trained = {id(p) for optimizer in trainer.optimizers for group in optimizer.param_groups for p in group["params"]}
    frozen = [*module.averaged_generator.parameters(), *module.lpips.parameters()]
    assert not any(id(parameter) in trained or parameter.requires_grad for parameter in frozen)
    assert trained == {id(p) for network in (module.generator, module.discriminator) for p in network.parameters()}


def test_training_learns_to_age_faces_it_has_not_seen(tiny_dataset):
    module = small_module(base_channels=16, lambda_lpips=0.0, lambda_adv=0.0, ema_decay=0.95)
    trainer = small_trainer()
    trainer.fit(module, datamodule=small_data(tiny_dataset, batches=120, batch_size=4, val_pairs_per_identity=16))
    assert trainer.callback_metrics["val/l1_gain"] > 0.1


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_precisions(tiny_dataset, precision):
    module = small_module()
    trainer = train(module, tiny_dataset, batches=2, precision=precision)
    assert all(torch.isfinite(value) for value in trainer.callback_metrics.values())
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())


@pytest.mark.parametrize(
    ("lambdas", "terms"),
    [
        ((1, 0, 0), {"l1"}),
        ((0, 1, 0), {"lpips"}),
        ((0, 0, 0.05), {"adversarial"}),
        ((1, 1, 0), {"l1", "lpips"}),
        ((2, 0.5, 0.05), {"l1", "lpips", "adversarial"}),
    ],
)
def test_losses_that_are_off_are_not_computed_and_the_others_are_weighted(tiny_dataset, lambdas, terms):
    module = small_module(lambda_l1=lambdas[0], lambda_lpips=lambdas[1], lambda_adv=lambdas[2])
    metrics = train(module, tiny_dataset, batches=1).callback_metrics
    computed = {name for name in ("l1", "lpips", "adversarial") if f"train/{name}" in metrics}
    assert computed == terms
    weights = dict(zip(("l1", "lpips", "adversarial"), lambdas, strict=True))
    expected = sum(weights[name] * metrics[f"train/{name}"] for name in terms)
    torch.testing.assert_close(metrics["train/generator"], expected)


def test_without_the_adversarial_loss_there_is_no_discriminator(tiny_dataset):
    module = small_module(lambda_adv=0.0)
    trainer = train(module, tiny_dataset, batches=1)
    assert module.discriminator is None
    assert not any("discriminator" in name for name in module.state_dict())
    assert len(trainer.optimizers) == 1
    assert not any("logits" in name or "discriminator" in name for name in trainer.callback_metrics)


def test_all_losses_off_is_refused():
    with pytest.raises(UserError, match="all three losses are off"):
        small_module(lambda_l1=0, lambda_lpips=0, lambda_adv=0)


@pytest.mark.parametrize("limit", [1e-4, 0.0])
def test_gradients_are_clipped(tiny_dataset, limit):
    module = small_module(gradient_clip=limit)
    norms: list[float] = []
    original = module._step

    def watched(optimizer, network, loss):
        original(optimizer, network, loss)
        norms.append(math.sqrt(sum(parameter.grad.square().sum().item() for parameter in network.parameters())))

    module._step = watched
    train(module, tiny_dataset, batches=2)
    assert len(norms) == 4
    assert all(norm == pytest.approx(limit, rel=0.01) if limit else norm > 1e-3 for norm in norms)


class AgeReader(nn.Module):
    """A discriminator whose logit is the mean of its age map times a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x[:, 3:].mean(dim=(2, 3), keepdim=True)


def test_the_discriminator_sees_real_and_generated_with_the_target_age_and_real_with_the_wrong_age():
    module = small_module()
    module.discriminator = AgeReader()
    source, target = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    maps = [torch.full((2, 1, 8, 8), age) for age in (0.2, 0.6, 0.9)]
    logs: dict[str, Tensor] = {}
    module._discriminator_loss(source, PairBatch(source, target, *maps), 0, logs)
    logits = [logs[f"train/logits_{name}"].item() for name in ("real", "generated", "wrong_age")]
    assert logits == pytest.approx([0.6, 0.6, 0.9])
    # the generator's own term: its output with the target age
    module._generator_loss = FRANModule._generator_loss.__get__(module)
    module.hparams.update(lambda_l1=0.0, lambda_lpips=0.0)
    module._generator_loss(source, PairBatch(source, target, *maps), logs)
    assert logs["train/adversarial"].item() == pytest.approx(math.log(1 + math.exp(-0.6)))


def test_r1_is_applied_at_its_interval_and_changes_the_step(tiny_dataset):
    seen, discriminators = [], []
    for weight in (0.0, 10.0):
        module = small_module(lambda_r1=weight, r1_interval=2)
        penalties: list[float] = []

        def watched(output, batch, batch_idx, logs, module=module, penalties=penalties):
            loss = FRANModule._discriminator_loss(module, output, batch, batch_idx, logs)
            penalties.append(logs["train/r1"].item() if "train/r1" in logs else 0.0)
            return loss

        module._discriminator_loss = watched
        train(module, tiny_dataset, batches=3)
        seen.append([penalty > 0 for penalty in penalties])
        discriminators.append(parameters_of(module.discriminator))
    assert seen == [[False] * 3, [True, False, True]]
    assert differ(*discriminators)


# ---------------------------------------------------------------- average


def test_the_average_follows_its_formula_and_lags_behind(tiny_dataset):
    module = small_module(ema_decay=0.8)
    live: list[list[Tensor]] = []
    start = parameters_of(module.generator)
    train(
        module,
        tiny_dataset,
        batches=5,
        callbacks=(OnBatch(after=lambda trainer, module, batch: live.append(parameters_of(module.generator))),),
    )
    average = live[0]
    for step in live[1:]:
        average = [0.8 * a + 0.2 * b for a, b in zip(average, step, strict=True)]
    for a, b in zip(average, parameters_of(module.ema_generator), strict=True):
        torch.testing.assert_close(a, b)
    assert 0 < distance(average, start) < distance(live[-1], start)


def test_validation_uses_the_average(tiny_dataset):
    module = small_module()
    nn.init.constant_(module.ema_generator.head.bias, 5.0)  # white, whatever the input
    data = small_data(tiny_dataset, batches=1)
    (metrics,) = small_trainer().validate(module, datamodule=data, verbose=False)
    targets = torch.cat([batch["target"] for batch in data.val_dataloader()]).float() / 127.5 - 1
    sources = torch.cat([batch["source"] for batch in data.val_dataloader()]).float() / 127.5 - 1
    assert metrics["val/l1"] == pytest.approx((1 - targets).mean().item(), rel=1e-4)
    assert metrics["val/l1_unchanged"] == pytest.approx((sources - targets).abs().mean().item(), rel=1e-4)
    assert metrics["val/l1_gain"] == pytest.approx(1 - metrics["val/l1"] / metrics["val/l1_unchanged"], rel=1e-4)


def test_an_untrained_network_gains_nothing(tiny_dataset):
    (metrics,) = small_trainer().validate(small_module(), datamodule=small_data(tiny_dataset, 1), verbose=False)
    assert metrics["val/l1_gain"] == pytest.approx(0, abs=1e-6)
    assert metrics["val/lpips_gain"] == pytest.approx(0, abs=1e-6)
    assert metrics["val/lpips_unchanged"] > 0


# ---------------------------------------------------------------- schedules


def test_images_seen_counts_pairs(tiny_dataset):
    module = small_module(lambda_lpips=0.0)
    train(module, tiny_dataset, batches=3, epochs=2)
    assert int(module.images_seen) == 2 * 3 * BATCH


def test_learning_rates_rise_and_fall(tiny_dataset):
    module = small_module(lambda_lpips=0.0, warmup_steps=4, learning_rate_schedule="cosine")
    rates: list[list[float]] = []
    train(
        module,
        tiny_dataset,
        batches=6,
        epochs=2,
        callbacks=(
            OnBatch(before=lambda trainer, *_: rates.append([o.param_groups[0]["lr"] for o in trainer.optimizers])),
        ),
    )
    factors = [rate[0] / 1e-3 for rate in rates]
    assert [rate[0] for rate in rates] == [rate[1] for rate in rates]
    assert factors[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert factors[4] == pytest.approx(1.0)
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert module._learning_rate_factor(12) == pytest.approx(0.05)


# ---------------------------------------------------------------- reproducibility


def first_losses(root: Path, seed: int) -> list[float]:
    module = small_module(seed)
    losses: list[float] = []
    data = small_data(root, batches=3, seed=seed, colour_jitter=0.5)
    after = OnBatch(after=lambda trainer, *_: losses.append(trainer.callback_metrics["train/generator"].item()))
    small_trainer(callbacks=(after,)).fit(module, datamodule=data)
    return losses


def test_one_seed_decides_the_first_losses(tiny_dataset):
    assert first_losses(tiny_dataset, 0) == first_losses(tiny_dataset, 0) != first_losses(tiny_dataset, 1)


# ---------------------------------------------------------------- checkpoints


@pytest.fixture
def checkpoint(tiny_dataset, tmp_path) -> Path:
    module = small_module(lpips="shift_tolerant_vgg")
    trainer = train(module, tiny_dataset, batches=2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def test_checkpoints_hold_no_lpips_weights_but_say_which_were_used(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    assert not any(name.startswith("lpips") for name in content["state_dict"])
    assert content["lpips_weights"] == "shift_tolerant_vgg"
    assert int(content["state_dict"]["images_seen"]) == 4
    assert any(name.startswith("averaged_generator.") for name in content["state_dict"])


def test_a_resumed_run_goes_on_with_its_weights_its_count_and_its_lpips(checkpoint, tiny_dataset):
    content = torch.load(checkpoint, weights_only=True)["state_dict"]
    module = small_module(seed=5, lpips="auto")
    begun: list[list[Tensor]] = []
    watch = OnBatch(before=lambda trainer, module, batch: begun.append(parameters_of(module.generator)))
    trainer = small_trainer(epochs=2, callbacks=(watch,))
    trainer.fit(module, datamodule=small_data(tiny_dataset, 2), ckpt_path=checkpoint, weights_only=True)
    stored = [content[f"generator.{name}"] for name, _ in module.generator.named_parameters()]
    assert not differ(begun[0], stored)
    assert len(begun) == 2  # the second epoch
    assert int(module.images_seen) == 8
    assert module.lpips_in_use == "shift_tolerant_vgg"


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"base_channels": 6}, "stem"), ({"depth": 3}, "missing"), ({"discriminator_base_channels": 8}, "discriminator")],
)
def test_a_checkpoint_of_another_architecture_is_refused(checkpoint, tiny_dataset, settings, message):
    trainer = small_trainer(epochs=2)
    with pytest.raises(UserError, match=f"another architecture.*{message}|{message}.*another architecture"):
        trainer.fit(
            small_module(**settings), datamodule=small_data(tiny_dataset, 2), ckpt_path=checkpoint, weights_only=True
        )


@pytest.mark.parametrize("stopped_after", [3, 5])
def test_a_run_resumed_within_an_epoch_sees_the_pairs_that_it_has_not_seen(tiny_dataset, tmp_path, stopped_after):
    seen: list[float] = []

    def remember(trainer, module, batch):
        seen.append(batch.source.double().sum().item())

    def stop(trainer, module, batch):
        if len(seen) == stopped_after:
            trainer.save_checkpoint(tmp_path / "last.ckpt")
            raise SystemExit(0)

    def fit(callback: OnBatch, **resume: object) -> list[float]:
        seen.clear()
        module = small_module(lambda_lpips=0.0, lambda_adv=0.0)
        small_trainer(epochs=2, callbacks=(callback,)).fit(
            module, datamodule=small_data(tiny_dataset, batches=5), **resume
        )
        return list(seen)

    whole = fit(OnBatch(before=remember))
    assert len(set(whole)) == 10
    with pytest.raises(SystemExit):
        fit(OnBatch(before=remember, after=stop))
    assert seen == whole[:stopped_after]
    assert fit(OnBatch(before=remember), ckpt_path=tmp_path / "last.ckpt", weights_only=True) == whole[stopped_after:]


def test_a_run_can_begin_with_another_runs_generator(tmp_path):
    trained = small_module(seed=3)
    nn.init.normal_(trained.generator.head.weight)
    save_generator(tmp_path / "generator.safetensors", trained.generator, {})
    module = small_module(seed=4, init_from=str(tmp_path))
    assert not differ(parameters_of(module.generator), parameters_of(trained.generator))
    assert not differ(parameters_of(module.ema_generator), parameters_of(trained.generator))
    assert module.initial_metadata == {"generator": trained.generator.config}


@pytest.mark.parametrize("architecture", ["fran_unet", "smp_unet", "rylu_unet"])
def test_the_file_that_a_run_begins_with_decides_the_architecture(tmp_path, architecture):
    trained = small_module(architecture=architecture, base_channels=6, encoder_name="tu-resnet10t", decoder_channels=16)
    save_generator(tmp_path / "generator.safetensors", trained.generator, {"licence": "MIT"})
    module = small_module(init_from=str(tmp_path))
    assert module.generator.config == trained.generator.config
    # what is recorded is what was built, also for the trackers
    for recorded in (module.hparams, module.hparams_initial):
        assert trained.generator.config.items() <= dict(recorded).items()
    assert all(parameter.requires_grad for parameter in module.generator.parameters())
    assert module.generator.training


@pytest.mark.slow
def test_compiling_keeps_the_names_of_the_weights(tiny_dataset):
    plain, compiled = small_module(), small_module(compile=True)
    train(compiled, tiny_dataset, batches=2)
    names = {name for name in compiled.state_dict() if not name.startswith("lpips.")}
    assert names == set(plain.state_dict())
