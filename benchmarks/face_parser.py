"""How fast faces are parsed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from benchmarks.reage_network import best_milliseconds
from benchmarks.table import Table
from fran_lightning.networks.precision import bfloat16_pays
from fran_lightning.perception.bisenet_v1 import BiSeNetV1
from fran_lightning.perception.bisenet_v2 import BiSeNetV2
from fran_lightning.perception.parsing import FaceParser
from fran_lightning.perception.parsing_weights import BUNDLED_PARSER, ParserNetwork

NAME = "face-parser"


def run(quick: bool, device: torch.device) -> Table:
    """Frames per second of mask(), one frame at a time, for the networks that `fran reage --parser` takes."""
    networks = {
        "BiSeNet V2": BiSeNetV2(),
        "BiSeNet V1, ResNet18": BiSeNetV1(),
        "BiSeNet V1, ResNet34": BiSeNetV1(19, 34),
    }
    if quick:
        networks = {"BiSeNet V2": BiSeNetV2()}
    repeats = 3 if quick else 8
    parsers: dict[tuple[str, int], Callable[..., FaceParser]] = {}
    if BUNDLED_PARSER.is_file():
        for size in (256, 512):
            parsers["the bundled parser, as it is used", size] = partial(FaceParser, device=device)
    for name, network in networks.items():
        for size in (256, 512):
            loaded = ParserNetwork(network.eval().requires_grad_(False), tuple(range(19)), size)
            parsers[name, size] = partial(FaceParser, loaded, device=device)
    rows = []
    for (name, size), make in parsers.items():
        image = torch.rand(1, 3, size, size) * 2 - 1
        calls = {}
        for precision in ("float32", "bfloat16"):
            parser = make(precision=precision)
            calls[precision] = lambda parser=parser, image=image: parser.mask(image).cpu()
        best = best_milliseconds(calls, repeats)
        chosen = best["bfloat16" if bfloat16_pays(device) else "float32"]
        rows.append([name, size, best["float32"], best["bfloat16"], 1000 / chosen])
    return Table(
        title="Face parsing",
        columns=["network", "image", "float32: ms", "bfloat16: ms", "chosen: frames/s"],
        rows=rows,
        notes=(
            "One image at a time through FaceParser.mask, transfers included, best of several turns: each network once "
            "at the image's own size, and the bundled parser as re-ageing uses it, at 320 pixels for the image and its "
            "mirror image. The choice is bfloat16 where the processor multiplies it in hardware. Faces of photos and "
            "films are parsed as crops of 256."
        ),
    )
