"""TorchScript files: one tensor in, one out, as Nuke's CatFileCreator wants it."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from fran_lightning.export.comparison import largest_difference
from fran_lightning.export.graphs import DeltaGraph, PredictDelta, example_input
from fran_lightning.files import atomic_path
from fran_lightning.networks.generator import Generator

#: name of the metadata inside the file, for ``torch.jit.load(..., _extra_files=...)``
METADATA_FILE = "fran.json"


def export_torchscript(path: str | os.PathLike[str], generator: Generator, metadata: Mapping[str, Any]) -> float:
    """Write :class:`DeltaGraph`, (B, 5, H, W) -> delta (B, 3, H, W), once it is known to equal PyTorch.

    Returns the largest difference. The network is traced, which fixes its layers; the extension to whole multiples
    around it is scripted, so that size, device and precision stay free.

    Raises:
        UserError: it computes something else.
    """
    with warnings.catch_warnings():
        # the comparison below is what tracing warns that one needs
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(PredictDelta(generator).eval(), example_input(1, 96, 160), check_trace=False)
        script = torch.jit.script(DeltaGraph(traced, generator.size_multiple).eval())
        content = json.dumps({**metadata, "export": "torchscript"})
        with atomic_path(path) as temporary:
            torch.jit.save(script, str(temporary), _extra_files={METADATA_FILE: content})
            return largest_difference(generator, torch.jit.load(str(temporary)))
