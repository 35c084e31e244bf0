"""The generator at work: device, precision, memory layout, and tiles where memory runs short."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from fran_lightning.ages import uniform_age_map
from fran_lightning.errors import UserError
from fran_lightning.networks.precision import bfloat16_pays
from fran_lightning.reaging.plan import FacePlan

Precision = Literal["auto", "float32", "bfloat16"]

_CUDA_PIXELS, _CPU_PIXELS = 16 * 512**2, 512**2


def choose_device(name: str = "auto") -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU.

    Raises:
        UserError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r} is not to be had here; use --device cpu or --device cuda") from error
    return device


class DeltaNetwork:
    """Predicts deltas of aligned crops, with nothing but crops and ages going in.

    Args:
        generator: (B, 5, H, W) -> (B, 3, H, W); it is copied, the caller's stays as it is.
        device: where it runs.
        precision: ``auto`` is bfloat16 where the processor has it in hardware, else float32. The sum with the
            picture is always made outside, at full precision.
    """

    def __init__(self, generator: nn.Module, device: torch.device, precision: Precision = "auto") -> None:
        self.device = device
        half = precision == "bfloat16" or (precision == "auto" and bfloat16_pays(device))
        self.dtype = torch.bfloat16 if half else torch.float32
        network = copy.deepcopy(generator).eval().requires_grad_(False)
        # convolutions run 1.4 to 2 times faster on channels-last tensors, on CPU and on CUDA
        self._generator = network.to(device=device, dtype=self.dtype, memory_format=torch.channels_last)

    def fingerprint(self) -> str:
        """A short name of the weights as they are used here."""
        digest = hashlib.sha256()
        for name, tensor in self._generator.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def batch_pixels(self) -> int:
        """Pixels of crops that fill the processor; beyond them nothing gets faster, only memory grows."""
        return _CUDA_PIXELS if self.device.type == "cuda" else _CPU_PIXELS

    def batch_size(self, size: int) -> int:
        """How many crops of ``size`` pixels go in together."""
        return max(1, self.batch_pixels // size**2)

    @torch.inference_mode()
    def __call__(self, crops: Tensor, source_years: Sequence[float], target_map: Tensor) -> Tensor:
        """Deltas (B, 3, S, S) float32 on the CPU.

        Args:
            crops: (B, 3, S, S) in [-1, 1].
            source_years: B ages of the faces as they are.
            target_map: (B, 1, S, S) years / 100.
        """
        count, _, height, width = crops.shape
        # filled in the layout in which it is used: no other copy of it is made on the CPU
        inputs = torch.empty((count, 5, height, width), memory_format=torch.channels_last)
        inputs[:, :3] = crops
        inputs[:, 3:4] = uniform_age_map(list(source_years), 1, 1)
        inputs[:, 4:] = target_map
        delta = self._run(inputs.to(device=self.device, dtype=self.dtype)).float().cpu()
        # one number that is not finite makes the sum so, too
        if not torch.isfinite(delta.sum()):
            raise UserError("the network's output is not finite; the checkpoint is damaged, or use --precision float32")
        return delta

    def _run(self, inputs: Tensor) -> Tensor:
        """One pass; where the device's memory does not hold it, one crop at a time, then in tiles."""
        try:
            return self._generator(inputs)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        if inputs.shape[0] > 1:
            return torch.cat([self._run(one) for one in inputs.split(1)])
        return run_in_tiles(self._generator, inputs)


def run_in_tiles(generator: nn.Module, inputs: Tensor, overlap: int = 64) -> Tensor:
    """The generator's output (B, 3, H, W) from four overlapping quarters that are blended linearly.

    Only for want of memory: the network sees less of the face in a quarter, so the result is not quite that of one
    pass. Quarters that still do not fit are split again.

    Raises:
        UserError: memory does not suffice for tiles of 256 pixels either.
    """
    height, width = inputs.shape[-2:]
    if min(height, width) <= 256:
        raise UserError(
            "the device's memory does not hold one tile of 256 pixels; use --device cpu or a smaller --size"
        )
    total = inputs.new_zeros((inputs.shape[0], 3, height, width), dtype=torch.float32)
    weight = inputs.new_zeros((1, 1, height, width), dtype=torch.float32)
    for rows in _halves(height, overlap):
        for columns in _halves(width, overlap):
            tile = inputs[..., slice(*rows), slice(*columns)].contiguous(memory_format=torch.channels_last)
            try:
                delta = generator(tile).float()
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                delta = run_in_tiles(generator, tile, overlap)
            ramp = torch.outer(_ramp(rows, height, overlap), _ramp(columns, width, overlap)).to(total)
            total[..., slice(*rows), slice(*columns)] += delta * ramp
            weight[..., slice(*rows), slice(*columns)] += ramp
    return total / weight


def _halves(length: int, overlap: int) -> tuple[tuple[int, int], tuple[int, int]]:
    middle = length // 2
    return (0, middle + overlap), (middle - overlap, length)


def _ramp(span: tuple[int, int], length: int, overlap: int) -> Tensor:
    """Weights of a tile along one axis: 1, falling linearly to 0 before the cut, where padding spoils the output."""
    positions = torch.arange(span[0], span[1], dtype=torch.float32) + 0.5
    reach = overlap - overlap // 4
    low, high = length // 2 - reach, length // 2 + reach
    rising = ((positions - low) / (high - low)).clamp(0, 1)
    return rising if span[0] > 0 else 1 - rising


def face_deltas(network: DeltaNetwork, plans: Sequence[FacePlan]) -> list[np.ndarray]:
    """Deltas (S, S, 3) float32 of faces, zero where their masks are zero, in as few passes as memory allows.

    Outside the mask the network is told target = input age *and* its delta is multiplied by the mask (Zoss et al.
    2022, section 4.7, asks for the former; the latter makes it exact).
    """
    import cv2

    deltas: list[np.ndarray | None] = [None] * len(plans)
    sizes = sorted({plan.crop.shape[0] for plan in plans})
    for size in sizes:
        members = [index for index, plan in enumerate(plans) if plan.crop.shape[0] == size]
        step = network.batch_size(size)
        for start in range(0, len(members), step):
            chosen = members[start : start + step]
            group = [plans[index] for index in chosen]
            crops = torch.from_numpy(np.stack([plan.crop for plan in group])).permute(0, 3, 1, 2)
            target_map = torch.from_numpy(np.stack([plan.target_map for plan in group]))[:, None]
            answer = network(crops, [plan.source_age for plan in group], target_map)
            for index, plan, delta in zip(chosen, group, answer.permute(0, 2, 3, 1).numpy(), strict=True):
                weight = plan.mask * np.float32(plan.strength)
                deltas[index] = cv2.multiply(np.ascontiguousarray(delta), cv2.merge([weight] * 3))
    return [delta for delta in deltas if delta is not None]
