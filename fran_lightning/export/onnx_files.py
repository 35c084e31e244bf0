"""ONNX files: for any program with an ONNX runtime, and to FaceFusion's contract."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from fran_lightning.export.comparison import check, largest_difference
from fran_lightning.export.graphs import (
    FACEFUSION_SIZE,
    FaceFusionGraph,
    ReageGraph,
    example_input,
)
from fran_lightning.files import atomic_path
from fran_lightning.networks.generator import INPUT_AGE, INPUT_CHANNELS, TARGET_AGE, Generator
from fran_lightning.networks.weights import METADATA_KEY

if TYPE_CHECKING:
    import onnx

#: operator set and format version of ONNX 1.13 (2022); tried from onnxruntime 1.15 (2023) on
OPSET, FORMAT_VERSION = 18, 8


def export_onnx(path: str | os.PathLike[str], generator: Generator, metadata: Mapping[str, Any]) -> float:
    """Write :class:`ReageGraph` with free batch, height and width, once it is known to equal PyTorch.

    Returns the largest difference. The sides of images should not be below ``generator.size_multiple``.

    Raises:
        UserError: it computes something else.
    """
    examples = _split(example_input(2, 96, 160))
    batch = torch.export.Dim("batch")
    height, width = (torch.export.Dim(name, min=generator.size_multiple) for name in ("height", "width"))
    model = _to_onnx(ReageGraph(generator).eval(), examples, ReageGraph, [{0: batch, 2: height, 3: width}] * 3)
    text = (
        "Re-ages faces. image (B, 3, H, W): RGB in [-1, 1]; source_age and target_age (B, 1, H, W): years / 100. "
        "reaged = image + delta, not clipped."
    )
    with atomic_path(path) as temporary:
        _save(model, temporary, metadata, "onnx", text)
        session = _session(temporary)

        def run(x: Tensor) -> Tensor:
            image, source_age, target_age = (part.numpy() for part in _split(x))
            inputs = dict(zip(ReageGraph.INPUTS, (image, source_age, target_age), strict=True))
            reaged, delta = session.run(list(ReageGraph.OUTPUTS), inputs)
            check(float(np.abs(reaged - (image + delta)).max()))
            return torch.from_numpy(delta)

        return largest_difference(generator, run)


def export_facefusion(path: str | os.PathLike[str], generator: Generator, metadata: Mapping[str, Any]) -> float:
    """Write :class:`FaceFusionGraph`, once a picture that takes FaceFusion's way through it comes out as in PyTorch.

    Returns the largest difference, of values in [0, 1].

    Raises:
        UserError: it computes something else.
    """
    x = example_input(1, FACEFUSION_SIZE, FACEFUSION_SIZE)
    picture = ((x[0, :INPUT_AGE] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()[..., ::-1]
    direction = torch.tensor([0.35, 0.65])
    target = torch.from_numpy(_facefusion_prepare(picture))
    model = _to_onnx(FaceFusionGraph(generator).eval(), (target, direction), FaceFusionGraph, None)
    text = (
        "Re-ages faces by FaceFusion's contract. target (1, 3, 1024, 1024): RGB in [0, 1] of an aligned face; "
        "direction (2,): [age, wanted age] in years / 100. output: RGB in [0, 1]."
    )
    with atomic_path(path) as temporary:
        _save(model, temporary, metadata, "facefusion", text)
        inputs = {"target": target.numpy(), "direction": direction.numpy()}
        frame = _facefusion_normalize(_session(temporary).run(None, inputs)[0][0])
        maps = direction.reshape(1, 2, 1, 1).expand(1, 2, FACEFUSION_SIZE, FACEFUSION_SIZE)
        with torch.inference_mode():
            delta = generator(torch.cat([target * 2 - 1, maps], dim=1))
        expected = _facefusion_normalize((target + delta / 2).clamp(0, 1).numpy()[0])
        return check(float(np.abs(frame - expected).max()) / 255)


def _facefusion_prepare(frame: np.ndarray) -> np.ndarray:
    """FaceFusion's documented input: a BGR uint8 crop (1024, 1024, 3) becomes RGB (1, 3, 1024, 1024) in [0, 1]."""
    return np.ascontiguousarray(frame[..., ::-1].transpose(2, 0, 1)[None] / 255, dtype=np.float32)


def _facefusion_normalize(output: np.ndarray) -> np.ndarray:
    """FaceFusion's documented output: RGB (3, 1024, 1024) becomes BGR (1024, 1024, 3) in [0, 255]."""
    return output.transpose(1, 2, 0).clip(0, 1)[..., ::-1] * 255


def _split(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Image, source-age map and target-age map."""
    parts = x[:, :INPUT_AGE], x[:, INPUT_AGE:TARGET_AGE], x[:, TARGET_AGE:INPUT_CHANNELS]
    return tuple(part.contiguous() for part in parts)  # type: ignore[return-value]


def _to_onnx(
    graph: nn.Module,
    examples: Sequence[Tensor],
    names: type[ReageGraph] | type[FaceFusionGraph],
    dynamic_shapes: list[dict[int, Any]] | None,
) -> onnx.ModelProto:
    with _quietly():
        program = torch.onnx.export(
            graph,
            tuple(examples),
            dynamo=True,
            input_names=list(names.INPUTS),
            output_names=list(names.OUTPUTS),
            dynamic_shapes=dynamic_shapes,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The exporter tells of its own deprecations and of operators that it does not need."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _save(model: onnx.ModelProto, path: Path, metadata: Mapping[str, Any], kind: str, text: str) -> None:
    import onnx

    from fran_lightning import __version__

    # the exporter notes the lines of source code, with their paths, that every operation comes from
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.metadata_props[:], model.metadata_props[:]
    # nothing of the newer format that the exporter names is used
    model.ir_version = FORMAT_VERSION
    model.producer_name, model.producer_version, model.doc_string = "FRAN Lightning", __version__, text
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps({**metadata, "export": kind})})
    onnx.checker.check_model(model)
    onnx.save_model(model, path)


def _session(path: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
