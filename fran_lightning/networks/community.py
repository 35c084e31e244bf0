"""Weights that other people published: told apart by their own keys, and brought to this project's form."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fran_lightning.errors import UserError
from fran_lightning.networks.checkpoint_files import load_checkpoint_file
from fran_lightning.networks.generator import Generator
from fran_lightning.networks.weights import Architecture, build_generator, load_matching_weights


@dataclass(frozen=True)
class CommunityNetwork:
    """A public network.

    Attributes:
        architecture: our implementation of its graph.
        source, licence: where its weights come from, and under which terms.
        value_range: of RGB in its own training; our implementation converts.
        image_size: pixels of the aligned faces that it was trained on.
        first: the key of its first convolution, by which it is known, and which tells its width.
        renaming: (pattern, replacement) from its keys to ours, applied in this order.
    """

    architecture: Architecture
    source: str
    licence: str
    value_range: tuple[int, int]
    image_size: int
    first: str
    renaming: Sequence[tuple[str, str]]


def _counted_down(match: re.Match[str]) -> str:
    """``down3`` -> ``down.2``"""
    return f"{match['block']}.{int(match['number']) - 1}"


COMMUNITY_NETWORKS = (
    CommunityNetwork(
        architecture="timroelofs_unet",
        source="https://github.com/timroelofs123/face_reaging",
        licence="MIT",
        value_range=(0, 1),
        image_size=1024,
        first="init_conv.0.weight",
        renaming=(
            (r"init_conv", "stem"),
            (r"final_conv", "head"),
            (r"(down\.\d)\.layer\.2", r"\1.2.0"),
            (r"(down\.\d)\.layer\.4", r"\1.2.2"),
            (r"(up\.\d)\.blur_upsample\.0", r"\1.upsample"),
            (r"(up\.\d)\.layer", r"\1.conv"),
        ),
    ),
    CommunityNetwork(
        architecture="rylu_unet",
        source="https://github.com/ry-lu/pytorch-face-reaging-network",
        licence="MIT",
        value_range=(-1, 1),
        image_size=512,
        first="conv1.weight",
        renaming=(
            (r"^conv1", "stem.0"),
            (r"^conv2", "stem.1"),
            (r"^batchnorm1", "stem_norm"),
            (r"^conv3", "head"),
            (r"(down\.\d)", r"\1.1"),
            (r"(up\.\d)", r"\1.conv"),
            (r"\.conv1\.", ".0."),
            (r"\.bn1\.", ".1."),
            (r"\.conv2\.", ".3."),
            (r"\.bn2\.", ".4."),
        ),
    ),
)
_BLOCK = re.compile(r"^(?P<block>down|up)(?:layer)?(?P<number>\d)")
#: wrappers of a state dictionary, and prefixes that wrappers put in front of its keys
_WRAPPERS = ("state_dict", "model_state_dict", "generator")
_PREFIXES = ("module.", "generator.")


def load_community_weights(path: str | os.PathLike[str]) -> tuple[Generator, dict[str, Any]]:
    """A public network from its own file, in eval mode on the CPU, and the metadata for :func:`save_generator`.

    Raises:
        UserError: a broken file, a pickle with code, or the weights of a network that is not known here.
    """
    weights = _state_dict(load_checkpoint_file(path), path)
    network = next((known for known in COMMUNITY_NETWORKS if known.first in weights), None)
    if "model.0.weight" in weights and network is None:
        raise UserError(f"{path} holds a discriminator, which only judges pictures; give the U-Net's file")
    if network is None:
        names = ", ".join(list(weights)[:2])
        raise UserError(
            f"{path} holds the weights of a network that is not known here (it begins with {names or 'nothing'}); "
            f"known are the generators of {' and '.join(known.source for known in COMMUNITY_NETWORKS)}"
        )
    generator = build_generator(
        {"architecture": network.architecture, "base_channels": int(weights[network.first].shape[0])}
    )
    load_matching_weights(generator, _rename(weights, network, path), str(path))
    metadata = {
        "source": network.source,
        "licence": network.licence,
        "value_range": list(network.value_range),
        "image_size": network.image_size,
    }
    return generator.eval(), metadata


def _state_dict(content: Mapping[str, Any], path: str | os.PathLike[str]) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    content = {str(name): value for name, value in content.items()}
    for prefix in _PREFIXES:
        if any(name.startswith(prefix) for name in content):
            # beside a prefixed network there may be others, like a discriminator
            content = {name.removeprefix(prefix): value for name, value in content.items() if name.startswith(prefix)}
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise UserError(f"{path} is no plain dictionary of weights: {name} is a {type(value).__name__}")
    return dict(content)


def _rename(
    weights: Mapping[str, Tensor], network: CommunityNetwork, path: str | os.PathLike[str]
) -> dict[str, Tensor]:
    """``weights`` under our names, as float32, without the constant filters."""
    renamed = {}
    for name, value in weights.items():
        if name.endswith(".filt"):
            _check_filter(name, value, path)
            continue
        ours = _BLOCK.sub(_counted_down, name)
        for pattern, replacement in network.renaming:
            ours = re.sub(pattern, replacement, ours)
        renamed[ours] = value.float() if value.is_floating_point() else value
    return renamed


def _check_filter(name: str, value: Tensor, path: str | os.PathLike[str]) -> None:
    row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    expected = torch.outer(row, row)
    if value.shape[-2:] != expected.shape or not torch.allclose(value.float(), expected.expand_as(value), atol=1e-4):
        raise UserError(f"{path} has another blur filter than 1-3-3-1 in {name}; this variant is not known here")
