"""FRANModule: the training step, its optimizers and the EMA of the generator. Nothing is drawn here."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fran_lightning.data.datamodule import PairBatch
from fran_lightning.errors import UserError
from fran_lightning.losses import (
    AdversarialKind,
    discriminator_loss,
    generator_adversarial_loss,
    l1_loss,
    r1_penalty,
)
from fran_lightning.networks.discriminator import PatchDiscriminator
from fran_lightning.networks.generator import Generator
from fran_lightning.networks.weights import (
    Architecture,
    build_generator,
    load_generator,
    load_matching_weights,
)
from fran_lightning.perceptual import LpipsChoice, LpipsWeights, build_lpips, choose_lpips

_LPIPS_PREFIX = "lpips."
_CHECKPOINT_LPIPS = "lpips_weights"


class FRANModule(pl.LightningModule):
    """Trains a re-ageing generator with L1, LPIPS and a PatchGAN (Zoss et al. 2022, section 3.3).

    Manual optimisation: per batch one generator forward, one generator step, one discriminator step. A loss
    whose weight is zero is not computed, and without ``lambda_adv`` there is no discriminator at all.

    Args:
        architecture: ``fran_unet``, ``smp_unet`` (segmentation-models-pytorch), or one of the public U-Nets
            ``timroelofs_unet`` and ``rylu_unet``.
        base_channels: at full resolution, of all but the smp U-Net.
        depth: halvings of the FRAN U-Net.
        encoder_name: of the smp U-Net; ``tu-...`` takes timm's.
        decoder_channels: of the smp U-Net's deepest decoder block.
        discriminator_base_channels: channels of the discriminator's first convolution.
        discriminator_depth: halvings of the discriminator.
        lambda_l1: weight of the L1 loss.
        lambda_lpips: weight of LPIPS.
        lambda_adv: weight of the adversarial loss in the generator's objective.
        adversarial: bce, lsgan or hinge.
        lambda_r1: weight gamma / 2 of the R1 penalty on the discriminator; 0 is off.
        r1_interval: batches between two R1 penalties, which are weighted up by it.
        lpips: weights of LPIPS; auto takes VGG where its weights can be had, else the bundled ones.
        lpips_weights: path of a ``vgg16-397923af.pth``.
        lpips_float32: compute LPIPS of the training loss in float32 even where the networks run in bfloat16;
            validation always does. Without it CPU training is a fifth faster, and the gradient's direction changes
            little (measured: cosine 0.996).
        learning_rate_generator: of Adam.
        learning_rate_discriminator: of Adam.
        adam_beta1: of both optimizers.
        adam_beta2: of both optimizers.
        learning_rate_schedule: constant, or cosine to a twentieth at the end of the run.
        warmup_steps: batches over which the learning rates rise from zero.
        ema_decay: of the averaged generator, per batch.
        gradient_clip: largest norm of each network's gradient; 0 is off.
        channels_last: memory layout of the networks; faster on CPUs and on GPUs with tensor cores.
        compile: compile the networks with ``torch.compile``.
        init_from: run folder or ``.safetensors`` whose generator a new run begins with, for example one trained on
            the embedded data, or public weights from ``fran import-weights``. It also decides the architecture and
            the widths.
        seed: recorded with the run.
    """

    images_seen: Tensor

    def __init__(
        self,
        architecture: Architecture = "fran_unet",
        base_channels: int = 64,
        depth: int = 4,
        encoder_name: str = "tu-resnet18",
        decoder_channels: int = 256,
        discriminator_base_channels: int = 64,
        discriminator_depth: int = 3,
        lambda_l1: float = 1.0,
        lambda_lpips: float = 1.0,
        lambda_adv: float = 0.05,
        adversarial: AdversarialKind = "bce",
        lambda_r1: float = 0.0,
        r1_interval: int = 16,
        lpips: LpipsChoice = "auto",
        lpips_weights: str | None = None,
        lpips_float32: bool = True,
        learning_rate_generator: float = 1e-4,
        learning_rate_discriminator: float = 1e-4,
        adam_beta1: float = 0.5,
        adam_beta2: float = 0.99,
        learning_rate_schedule: Literal["constant", "cosine"] = "constant",
        warmup_steps: int = 0,
        ema_decay: float = 0.999,
        gradient_clip: float = 1.0,
        channels_last: bool = True,
        compile: bool = False,
        init_from: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if lambda_l1 <= 0 and lambda_lpips <= 0 and lambda_adv <= 0:
            raise UserError("all three losses are off; set one of --model.lambda_l1, lambda_lpips, lambda_adv above 0")
        self.save_hyperparameters()
        self.automatic_optimization = False
        # LPIPS is frozen and left out of the checkpoint; everything else is checked in on_load_checkpoint
        self.strict_loading = False

        #: metadata of the file that the generator comes from
        self.initial_metadata: dict[str, Any] | None = None
        if init_from is None:
            self.generator = build_generator(self._generator_config())
        else:
            trained, self.initial_metadata = load_generator(init_from)
            self.generator = trained.train()
            self.save_hyperparameters(trained.config)
        self.averaged_generator = AveragedModel(
            self.generator, multi_avg_fn=get_ema_multi_avg_fn(ema_decay), use_buffers=True
        )
        self.averaged_generator.requires_grad_(False).eval()
        self.discriminator: PatchDiscriminator | None = None
        if lambda_adv > 0:
            self.discriminator = PatchDiscriminator(discriminator_base_channels, discriminator_depth)
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64))
        self.lpips: nn.Module | None = None
        self.lpips_in_use: LpipsWeights | None = None

    def _generator_config(self) -> dict[str, Any]:
        names = {"fran_unet": ("base_channels", "depth"), "smp_unet": ("encoder_name", "decoder_channels")}
        architecture = self.hparams["architecture"]
        own = names.get(architecture, ("base_channels",))
        return {"architecture": architecture} | {name: self.hparams[name] for name in own}

    @property
    def ema_generator(self) -> Generator:
        """The averaged generator, which validation, samples and export use."""
        return self.averaged_generator.module

    # --- set-up -----------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        if self.hparams["channels_last"]:
            for network in (*self._trained_networks(), self.averaged_generator):
                network.to(memory_format=torch.channels_last)
        if self.hparams["compile"]:
            for network in self._trained_networks():
                network.compile()
        if self.lpips is None:
            # one rank looks and the others follow, so that all train with the same loss
            choice = None
            if self.trainer.is_global_zero:
                choice = choose_lpips(self.hparams["lpips"], self.hparams["lpips_weights"])
            self._use_lpips(self.trainer.strategy.broadcast(choice))

    def _trained_networks(self) -> list[nn.Module]:
        return [network for network in (self.generator, self.discriminator) if network is not None]

    def _use_lpips(self, weights: LpipsWeights) -> None:
        self.lpips = build_lpips(weights, self.hparams["lpips_weights"]).to(self.device)
        self.lpips_in_use = weights

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[dict[str, Any]]]:
        betas = (self.hparams["adam_beta1"], self.hparams["adam_beta2"])
        optimizers, schedulers = [], []
        for name, network in (("generator", self.generator), ("discriminator", self.discriminator)):
            if network is None:
                continue
            rate = self.hparams[f"learning_rate_{name}"]
            optimizer = torch.optim.Adam(network.parameters(), lr=rate, betas=betas)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._learning_rate_factor)
            optimizers.append(optimizer)
            schedulers.append({"scheduler": schedule, "interval": "step", "name": f"learning_rate/{name}"})
        return optimizers, schedulers

    def _learning_rate_factor(self, step: int) -> float:
        """Factor on the learning rates after ``step`` batches."""
        warmup = self.hparams["warmup_steps"]
        if step < warmup:
            return (step + 1) / warmup
        if self.hparams["learning_rate_schedule"] == "constant":
            return 1.0
        total = self.trainer.estimated_stepping_batches
        progress = min(1.0, (step - warmup) / max(1, total - warmup)) if math.isfinite(total) else 0.0
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress))

    # --- training ---------------------------------------------------------------------------------------------

    def training_step(self, batch: PairBatch, batch_idx: int) -> None:
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        logs: dict[str, Tensor] = {}
        with self.toggled_optimizer(optimizers[0]):
            output = batch.source + self.generator(self._layout(batch.generator_input))
            loss = self._generator_loss(output, batch, logs)
            self._step(optimizers[0], self.generator, loss)
        self.averaged_generator.update_parameters(self.generator)
        if self.discriminator is not None:
            with self.toggled_optimizer(optimizers[1]):
                loss = self._discriminator_loss(output.detach(), batch, batch_idx, logs)
                self._step(optimizers[1], self.discriminator, loss)
        for scheduler in self._schedulers():
            scheduler.step()
        self.images_seen += batch.source.shape[0] * self.trainer.world_size
        logs["images_seen"] = self.images_seen.float()
        self.log_dict(logs)

    def _generator_loss(self, output: Tensor, batch: PairBatch, logs: dict[str, Tensor]) -> Tensor:
        """lambda_l1 L1 + lambda_lpips LPIPS + lambda_adv A(D(output, target-age map))."""
        weights = self.hparams
        total = output.new_zeros(())
        if weights["lambda_l1"] > 0:
            logs["train/l1"] = l1_loss(output, batch.target)
            total = total + weights["lambda_l1"] * logs["train/l1"]
        if weights["lambda_lpips"] > 0:
            logs["train/lpips"] = self.perceptual_distance(output, batch.target, float32=weights["lpips_float32"])
            total = total + weights["lambda_lpips"] * logs["train/lpips"]
        if self.discriminator is not None:
            logits = self._judge(output, batch.target_age_map)
            logs["train/adversarial"] = generator_adversarial_loss(weights["adversarial"], logits)
            total = total + weights["lambda_adv"] * logs["train/adversarial"]
        logs["train/generator"] = total
        return total

    def _discriminator_loss(self, output: Tensor, batch: PairBatch, batch_idx: int, logs: dict[str, Tensor]) -> Tensor:
        """Real with its age is real; generated is fake; real with a wrong age is fake."""
        real = self._judge(batch.target, batch.target_age_map)
        generated = self._judge(output, batch.target_age_map)
        wrong_age = self._judge(batch.target, batch.wrong_age_map)
        loss = discriminator_loss(self.hparams["adversarial"], real, generated, wrong_age)
        logs["train/discriminator"] = loss
        logs["train/logits_real"] = real.mean()
        logs["train/logits_generated"] = generated.mean()
        logs["train/logits_wrong_age"] = wrong_age.mean()
        interval = self.hparams["r1_interval"]
        if self.hparams["lambda_r1"] > 0 and batch_idx % interval == 0:
            with torch.autocast(self.device.type, enabled=False):
                real_input = torch.cat([batch.target, batch.target_age_map], dim=1).requires_grad_()
                penalty = r1_penalty(self.discriminator(self._layout(real_input)), real_input)
            logs["train/r1"] = penalty
            loss = loss + self.hparams["lambda_r1"] * interval * penalty
        return loss

    def _judge(self, image: Tensor, age_map: Tensor) -> Tensor:
        assert self.discriminator is not None
        return self.discriminator(self._layout(torch.cat([image, age_map], dim=1)))

    def _layout(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last) if self.hparams["channels_last"] else x

    def _step(self, optimizer: Any, network: nn.Module, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        self.manual_backward(loss)
        if self.hparams["gradient_clip"] > 0:
            nn.utils.clip_grad_norm_(network.parameters(), self.hparams["gradient_clip"])
        optimizer.step()

    def _schedulers(self) -> list[Any]:
        schedulers = self.lr_schedulers()
        return schedulers if isinstance(schedulers, list) else [schedulers]

    def perceptual_distance(self, a: Tensor, b: Tensor, float32: bool = True) -> Tensor:
        """Mean LPIPS of two batches (B, 3, H, W) in [-1, 1]; ``float32`` overrides the training's precision."""
        assert self.lpips is not None, "setup() chooses the LPIPS weights"
        a, b = self._layout(a.float()), self._layout(b.float())
        if not float32:
            return self.lpips(a, b).mean()
        with torch.autocast(self.device.type, enabled=False):
            return self.lpips(a, b).mean()

    # --- validation -------------------------------------------------------------------------------------------

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:
        self._evaluate(batch, "val")

    def test_step(self, batch: PairBatch, batch_idx: int) -> None:
        self._evaluate(batch, "test")

    def _evaluate(self, batch: PairBatch, split: str) -> None:
        """L1 (of [-1, 1]) and LPIPS of the EMA generator's output, and of the input left as it is."""
        output = (batch.source + self.ema_generator(self._layout(batch.generator_input))).float().clamp(-1, 1)
        logs = {
            f"{split}/l1": l1_loss(output, batch.target),
            f"{split}/lpips": self.perceptual_distance(output, batch.target),
            f"{split}/l1_unchanged": l1_loss(batch.source, batch.target),
            f"{split}/lpips_unchanged": self.perceptual_distance(batch.source, batch.target),
        }
        self.log_dict(logs, on_epoch=True, sync_dist=True, batch_size=batch.source.shape[0])

    def on_validation_epoch_end(self) -> None:
        self._log_gains("val")

    def on_test_epoch_end(self) -> None:
        self._log_gains("test")

    def _log_gains(self, split: str) -> None:
        """1 - distance / distance of doing nothing: 0 is useless, 1 is perfect."""
        metrics = self.trainer.callback_metrics
        for name in ("l1", "lpips"):
            unchanged = metrics[f"{split}/{name}_unchanged"]
            self.log(
                f"{split}/{name}_gain", 1 - metrics[f"{split}/{name}"] / unchanged.clamp_min(1e-8), rank_zero_only=True
            )
        self.log("images_seen", self.images_seen.float(), rank_zero_only=True)

    # --- checkpoints ------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        weights = checkpoint["state_dict"]
        for name in [name for name in weights if name.startswith(_LPIPS_PREFIX)]:
            del weights[name]
        checkpoint[_CHECKPOINT_LPIPS] = self.lpips_in_use

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse other architectures, and keep the LPIPS weights that the run began with.

        Raises:
            UserError: the checkpoint belongs to another architecture, or its LPIPS weights cannot be had.
        """
        prefix = "generator."
        weights = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
        load_matching_weights(self.generator, weights, "the checkpoint")
        if self.discriminator is not None:
            prefix = "discriminator."
            weights = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
            load_matching_weights(self.discriminator, weights, "the checkpoint's discriminator")
        recorded = checkpoint.get(_CHECKPOINT_LPIPS)
        if recorded is not None and recorded != self.lpips_in_use:
            self._use_lpips(recorded)
