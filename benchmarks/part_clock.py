"""PartClock: divides the time of training steps among the networks, the data and the rest."""

from __future__ import annotations

import time
from typing import Literal, get_args

import torch
from pytorch_lightning.profilers import Profiler
from torch import nn

from benchmarks.machine import synchronize
from fran_lightning.module import FRANModule

Part = Literal["generator", "discriminator", "lpips", "data", "other"]
PARTS: tuple[Part, ...] = get_args(Part)


class PartClock(Profiler):
    """A stopwatch that always runs for exactly one part, so that the shares sum to one.

    Hooks on the networks switch it: before and after each forward pass, and where the gradient reaches a network's
    output on the way back. Autograd works through the branches of the generator's loss one after the other, the
    newest first, so the way back is discriminator, LPIPS, generator. A backward pass lasts until the next part
    begins; the generator's and the discriminator's thus include clipping and the optimizer's step, the
    generator's also its moving average. Lightning, whose profiler this is, announces the reading and the transfer
    of batches: data. All else is other: the L1 loss, logging, Lightning's loop.

    On CUDA each switch waits for the device, so steps on this clock are slower than others.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.seconds: dict[Part, float] = dict.fromkeys(PARTS, 0.0)
        self._part: Part | None = None
        self._since = 0.0

    def attach(self, module: FRANModule) -> None:
        """Hook into the networks of ``module``, whose optimizers exist, and start, in the middle of nothing."""
        networks: dict[Part, nn.Module | None] = {
            "generator": module.generator,
            "discriminator": module.discriminator,
            "lpips": module.lpips,
        }
        for part, network in networks.items():
            if network is not None:
                network.register_forward_pre_hook(lambda *_, part=part: self.switch(part))
                network.register_forward_hook(lambda *_: self.switch("other"))
                network.register_full_backward_pre_hook(lambda *_, part=part: self.switch(part))
        self._part, self._since = "other", self._now()

    def detach(self) -> None:
        """Stop the clock; the hooks stay and do nothing."""
        self.switch("other")
        self._part = None

    def switch(self, part: Part) -> None:
        """The time from now on belongs to ``part``; without effect while the clock is stopped."""
        if self._part is None:
            return
        now = self._now()
        self.seconds[self._part] += now - self._since
        self._part, self._since = part, now

    def shares(self) -> dict[Part, float]:
        """Parts of the time on the clock; their sum is 1."""
        total = sum(self.seconds.values())
        return {part: seconds / total for part, seconds in self.seconds.items()}

    def start(self, action_name: str) -> None:
        """Called by Lightning when it begins ``action_name``."""
        if action_name.endswith(("train_dataloader_next", "batch_to_device")):
            self.switch("data")

    def stop(self, action_name: str) -> None:
        """Called by Lightning when it has done ``action_name``."""
        if action_name.endswith(("train_dataloader_next", "batch_to_device", "run_training_batch")):
            self.switch("other")

    def _now(self) -> float:
        synchronize(self.device)
        return time.perf_counter()
