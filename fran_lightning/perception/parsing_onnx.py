"""The weights inside an ONNX file of a face parser, under the names that they had in PyTorch.

Exporters fold batch normalisation into the convolution before it and then number the weights; where they lay is told
by the name of the node alone, as in ``/fpn/backbone/layer1/layer1.0/conv1/Conv``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fran_lightning.errors import UserError

#: what batch normalisation adds to the variance
_EPSILON = 1e-5


def onnx_weights(path: Path) -> dict[str, Tensor]:
    """State dictionary of a network that was exported to ONNX; folded batch normalisation comes back as a shift.

    Raises:
        UserError: no such file, a damaged one, or nodes without names.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise UserError("reading an ONNX parser needs the package onnx; pip install onnx") from error
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist; download it first (nothing is downloaded for you)")
    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:  # protobuf's DecodeError, and whatever external data raise
        raise UserError(f"checkpoint {path} is damaged or no ONNX file; download it again") from error
    stored = {tensor.name: tensor for tensor in graph.initializer}

    def value(name: str) -> Tensor:
        return torch.from_numpy(np.array(numpy_helper.to_array(stored[name]), dtype=np.float32))

    weights = {
        name: value(name) for name in stored if name.endswith((".weight", ".bias", ".running_mean", ".running_var"))
    }
    for node in graph.node:
        if node.op_type != "Conv" or node.input[1] not in stored:
            continue
        named = node.input[1] in weights
        if not named and not node.name:
            raise UserError(f"checkpoint {path} has numbered weights and nodes without names; give the PyTorch file")
        place = node.input[1].removesuffix(".weight") if named else _module_path(node.name)
        weights[f"{place}.weight"] = value(node.input[1])
        if len(node.input) > 2 and f"{place}.bias" not in weights:
            shift = value(node.input[2])
            weights |= {f"{_normalisation_after(place)}.{key}": part for key, part in _as_normalisation(shift).items()}
    return weights


def _as_normalisation(shift: Tensor) -> dict[str, Tensor]:
    one = torch.ones_like(shift)
    return {"weight": one, "bias": shift, "running_mean": 0 * one, "running_var": (1 - _EPSILON) * one}


def _module_path(node: str) -> str:
    """``/cp/resnet/layer1/layer1.0/conv1/Conv`` -> ``cp.resnet.layer1.0.conv1``."""
    parts: list[str] = []
    for part in node.strip("/").split("/")[:-1]:
        # a sequence is named twice: by itself and before its element's number
        if parts and part.startswith(f"{parts[-1]}."):
            parts[-1] = part
        else:
            parts.append(part)
    return ".".join(parts)


def _normalisation_after(convolution: str) -> str:
    """The name of the batch normalisation that follows a convolution in these networks."""
    stem, _, last = convolution.rpartition(".")
    if last.isdigit():
        return f"{stem}.{int(last) + 1}"
    if last == "conv" and stem.startswith("fpn"):
        return f"{stem}.norm"
    if last == "conv" and stem.endswith("conv_block"):
        return f"{stem}.norm"
    return f"{stem}.{last.replace('conv', 'bn')}"
