"""Seconds per identity and peak memory of SAM at several sizes, with random weights.

The weights are random: they cost the same arithmetic as the official ones. Writing image files and the quality gate
are not part of the figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import peak_resident_bytes
from benchmarks.processes import measure_apart
from benchmarks.table import Cell, Table
from fran_lightning.ages import DEFAULT_AGES
from fran_lightning.progress import progress_bar
from fran_lightning.synthesis.sam.encoder import INPUT_SIZE
from fran_lightning.synthesis.sam.model import SAM
from fran_lightning.synthesis.sam.rendering import (
    Precision,
    RenderSettings,
    chosen_batch_size,
    feature_dtype,
    render_ages,
    set_float32_products,
)

NAME = "sam"

COLUMNS = (
    "size",
    "precision",
    "ages at once",
    "encoder s/face",
    "generator s/image",
    f"s/identity ({len(DEFAULT_AGES)} ages)",
    "identities/h",
    "TFLOP/s",
    "share of matrix peak %",
    "peak GB",
)


@dataclass(frozen=True)
class Setting:
    """One row: image side, number format and device."""

    size: int
    precision: Precision
    device: str


def settings(quick: bool, device: torch.device) -> list[Setting]:
    """What is worth measuring on ``device``."""
    sizes = (256,) if quick else (256, 1024)
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    if device.type == "cuda":
        precisions = ("float32", "tf32", "bfloat16", "float16")
    return [Setting(size, precision, str(device)) for size in sizes for precision in precisions]


def run(quick: bool, device: torch.device) -> Table:
    """Measure all settings; the figures of one that does not fit into memory are left out."""
    rows: list[list[Cell]] = []
    chosen = settings(quick, device)
    with progress_bar("SAM", len(chosen), "settings") as bar:
        for setting in chosen:
            figures = measure_apart(measure, setting) or [None] * (len(COLUMNS) - 2)
            rows.append([setting.size, setting.precision, *figures])
            bar.advance()
    return Table(
        "SAM synthesis",
        COLUMNS,
        rows,
        "One identity: E_p once, E_s and the generator for every age. TFLOP/s counts two operations per multiply-add; "
        "its share is of what a large matrix product reaches here in the number format of most layers. Peak memory is "
        "of the process on a CPU, of the allocator on a GPU.",
    )


def measure(setting: Setting) -> list[Cell]:
    """The cells of one row after size and precision."""
    device = torch.device(setting.device)
    set_float32_products(setting.precision)
    render = RenderSettings(DEFAULT_AGES, setting.size, precision=setting.precision)
    batch = chosen_batch_size(render, device.type)
    sam = SAM(setting.size).requires_grad_(False).eval().to(device)
    if device.type == "cuda":
        sam.to(memory_format=torch.channels_last)
    face = torch.rand(1, 3, INPUT_SIZE, INPUT_SIZE, device=device) * 2 - 1
    with torch.inference_mode():
        identity_codes = sam.identity_codes(face)
        ages = DEFAULT_AGES[:batch]
        codes = sam.aged_codes(face, ages, identity_codes)
        dtype = feature_dtype(setting.precision)
        encoder = _seconds(lambda: sam.aged_codes(face, ages, identity_codes), device) / batch
        generator = _seconds(lambda: sam.render(codes, dtype), device) / batch
        identity = _seconds(lambda: render_ages(sam, face, render), device, repeats=1)
        # counted apart: counting slows down
        with FlopCounterMode(display=False) as counter:
            sam.render(sam.aged_codes(face, ages[:1], identity_codes), dtype)
        with FlopCounterMode(display=False) as once:
            sam.identity_codes(face)
    operations = counter.get_total_flops() * len(DEFAULT_AGES) + once.get_total_flops()
    rate = operations / identity
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_resident_bytes()
    share = 100 * rate / _matrix_peak(device, dtype)
    return [batch, encoder, generator, identity, 3600 / identity, rate / 1e12, share, peak / 1e9]


def _seconds(work: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """The least time of ``work`` after one call to warm up: what others do on the machine only adds to it."""
    best = float("inf")
    for attempt in range(repeats + 1):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        if attempt:
            best = min(best, time.perf_counter() - start)
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a large matrix product."""
    side = 8192 if device.type == "cuda" else 2048
    matrix = torch.rand(side, side, device=device, dtype=dtype)
    return 2 * side**3 / _seconds(lambda: matrix @ matrix, device)
