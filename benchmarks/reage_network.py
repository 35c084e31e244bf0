"""How much faster the re-ageing engine runs the generator than a plain call of it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.table import Table
from fran_lightning.networks.precision import bfloat16_pays
from fran_lightning.networks.unet import FRANUNet
from fran_lightning.reaging.backends import OnnxNetwork
from fran_lightning.reaging.network import DeltaNetwork

NAME = "reage-network"


def run(quick: bool, device: torch.device) -> Table:
    """Milliseconds per crop of the paper's U-Net (64 channels, 4 levels)."""
    sizes = (256,) if quick else (512, 1024) if device.type == "cuda" else (256, 512)
    repeats = 2 if quick else 5
    torch.manual_seed(0)
    generator = FRANUNet().eval().requires_grad_(False)
    exported = _export(generator) if device.type == "cpu" else None
    rows = []
    for size in sizes:
        crops, target = torch.rand(1, 3, size, size) * 2 - 1, torch.full((1, 1, size, size), 0.65)
        calls: dict[str, Callable[[], object]] = {"plain": _plain_call(generator, device, crops, target)}
        for precision in ("float32", "bfloat16"):
            engine = DeltaNetwork(generator, device, precision)
            calls[precision] = lambda engine=engine, crops=crops, target=target: engine(crops, [35.0], target)
        if exported is not None:
            calls["onnx"] = lambda crops=crops, target=target: exported(crops, [35.0], target)
        best = best_milliseconds(calls, repeats)
        chosen = best["bfloat16" if bfloat16_pays(device) else "float32"]
        onnx = best.get("onnx")
        factors = [best["plain"] / chosen, onnx and best["plain"] / onnx]
        rows.append([size, best["plain"], best["float32"], best["bfloat16"], onnx, *factors])
    return Table(
        title="Re-ageing: the network",
        columns=[
            "crop",
            "plain float32 NCHW: ms",
            "engine, float32: ms",
            "engine, bfloat16: ms",
            "onnxruntime, float32: ms",
            "engine's choice: x",
            "onnxruntime: x",
        ],
        rows=rows,
        notes=(
            "One crop through FRANUNet(64, 4), best of several turns that take each variant once, transfers to and "
            "from the device included; the last two columns are times faster than the plain call. The engine uses "
            "channels-last memory; its own choice is bfloat16 where the processor multiplies it in hardware. "
            "onnxruntime runs the file of `fran export --format onnx`, on the processor only."
        ),
    )


def _export(generator: FRANUNet) -> OnnxNetwork:
    from fran_lightning.export.onnx_files import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generator.onnx"
        export_onnx(path, generator, {})
        return OnnxNetwork(path, "cpu")


def _plain_call(generator: FRANUNet, device: torch.device, crops: Tensor, target: Tensor) -> Callable[[], object]:
    import copy

    network = copy.deepcopy(generator).to(device)
    inputs = torch.cat([crops, torch.full_like(target, 0.35), target], dim=1)

    def call() -> Tensor:
        with torch.inference_mode():
            return network(inputs.to(device)).cpu()

    return call


def best_milliseconds(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The shortest time of each call; they take turns, so that a busy moment hits all of them."""
    best = dict.fromkeys(calls, float("inf"))
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            # the first turn chooses algorithms and allocates
            if turn:
                best[name] = min(best[name], (time.perf_counter() - start) * 1000)
    return best
