"""Generator weight files: safetensors with the metadata that is needed to build and to judge the network."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from fran_lightning.errors import UserError
from fran_lightning.files import atomic_path
from fran_lightning.networks.generator import Generator

Architecture = Literal["fran_unet", "smp_unet", "timroelofs_unet", "rylu_unet"]
#: name of the exported weights in a run folder
GENERATOR_FILE = "generator.safetensors"
#: key of the JSON text in a file's own metadata
METADATA_KEY = "fran"


def build_generator(config: Mapping[str, Any]) -> Generator:
    """Build the network that ``config`` (``Generator.config``) describes, untrained.

    Raises:
        UserError: an unknown architecture or argument.
    """
    arguments = dict(config)
    architecture = arguments.pop("architecture", None)
    try:
        if architecture == "fran_unet":
            from fran_lightning.networks.unet import FRANUNet

            return FRANUNet(**arguments)
        if architecture == "smp_unet":
            from fran_lightning.networks.smp_unet import SMPUNet

            return SMPUNet(**arguments)
        if architecture == "timroelofs_unet":
            from fran_lightning.networks.timroelofs_unet import TimRoelofsUNet

            return TimRoelofsUNet(**arguments)
        if architecture == "rylu_unet":
            from fran_lightning.networks.rylu_unet import RyLuUNet

            return RyLuUNet(**arguments)
    except TypeError as error:
        raise UserError(f"generator arguments {arguments} do not fit {architecture}: {error}") from error
    raise UserError(
        f"unknown generator architecture {architecture!r}; choose one of {', '.join(get_args(Architecture))}"
    )


def save_generator(path: str | os.PathLike[str], generator: Generator, metadata: Mapping[str, Any]) -> None:
    """Write weights and ``metadata`` (plain JSON values) atomically; the network's config is added to it."""
    from safetensors.torch import save_file

    content = {**metadata, "generator": generator.config}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={METADATA_KEY: json.dumps(content)})


def resolve_generator_file(path: str | os.PathLike[str]) -> Path:
    """The weight file of a run folder, or the file itself.

    Raises:
        UserError: there is none, or it is not a safetensors file.
    """
    given = Path(path)
    file = given / GENERATOR_FILE if given.is_dir() else given
    if not file.is_file():
        hint = "the run has not finished an epoch yet" if given.is_dir() else "no such file"
        raise UserError(f"checkpoint {file}: {hint}; give a run folder or its {GENERATOR_FILE}")
    if file.suffix != ".safetensors":
        raise UserError(
            f"checkpoint {file} is no .safetensors file; give a run folder or its {GENERATOR_FILE}, "
            "or bring other people's weights to that form by `fran import-weights`"
        )
    return file


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata of a weight file or run folder, without loading the weights.

    Raises:
        UserError: broken file, or one that was not written by :func:`save_generator`.
    """
    from safetensors import SafetensorError, safe_open

    file = resolve_generator_file(path)
    try:
        with safe_open(file, framework="pt") as handle:
            stored = handle.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"checkpoint {file} is broken or incomplete ({error}); export it again") from error
    if METADATA_KEY not in stored:
        raise UserError(f"checkpoint {file} was not made by this program: it has no {METADATA_KEY!r} metadata")
    return json.loads(stored[METADATA_KEY])


def load_generator(path: str | os.PathLike[str]) -> tuple[Generator, dict[str, Any]]:
    """Load a generator, in eval mode on the CPU, and its metadata.

    Args:
        path: a run folder (``runs/<exp>/<run id>``) or a ``generator.safetensors``.

    Raises:
        UserError: missing or broken file, or weights that do not fit the architecture that they name.
    """
    from safetensors.torch import load_file

    metadata = read_metadata(path)
    generator = build_generator(metadata["generator"])
    load_matching_weights(generator, load_file(resolve_generator_file(path)), str(path))
    return generator.eval(), metadata


def load_matching_weights(network: nn.Module, weights: Mapping[str, Any], where: str, assign: bool = False) -> None:
    """Load ``weights`` strictly; the error names the first keys that are missing, unexpected or of another shape.

    With ``assign`` the network takes over the tensors themselves: no second copy, and it may come from the
    meta device.

    Raises:
        UserError: the weights belong to another architecture.
    """
    own = network.state_dict()
    problems = {
        "missing": [name for name in own if name not in weights],
        "unexpected": [name for name in weights if name not in own],
        "of another shape": [
            f"{name} ({tuple(weights[name].shape)}, not {tuple(own[name].shape)})"
            for name in own
            if name in weights and weights[name].shape != own[name].shape
        ],
    }
    if any(problems.values()):
        told = "; ".join(f"{kind}: {_first_names(names)}" for kind, names in problems.items() if names)
        raise UserError(f"{where} holds the weights of another architecture: {told}")
    network.load_state_dict(dict(weights), assign=assign)


def _first_names(names: list[str], shown: int = 2) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
