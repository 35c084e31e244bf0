"""Loads the official SAM, StyleGAN2, DEX and ArcFace files by their own keys, strictly.

The size of a generator is read off the keys, so that smaller models of the same family load as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from fran_lightning.errors import UserError
from fran_lightning.networks.checkpoint_files import load_checkpoint_file
from fran_lightning.networks.weights import load_matching_weights
from fran_lightning.synthesis.sam.dex import DEX
from fran_lightning.synthesis.sam.encoder import IRSE50
from fran_lightning.synthesis.sam.model import SAM
from fran_lightning.synthesis.sam.stylegan2 import FIR_TAPS, STYLE_SIZE, StyleGAN2

PathLike = str | os.PathLike[str]
NetworkT = TypeVar("NetworkT", bound=nn.Module)

#: what a file of the wrong kind gives itself away by -> what it is
_OTHER_FILES = {
    r"lora_(down|up|A|B)|\.lora\.": "a LoRA adapter",
    r"^(G_ema\.)?synthesis\.L\d+_": "a StyleGAN3 network",
    r"^(G_ema\.)?synthesis\.b\d+\.": "a StyleGAN2-ADA network in NVIDIA's layout",
    r"^model\.diffusion_model\.": "a diffusion model",
}


def load_sam(path: PathLike) -> SAM:
    """Load ``sam_ffhq_aging.pt``: the two encoders, the generator with its mapping network, and the mean code.

    Raises:
        UserError: another file; the message names the first missing or unexpected keys.
    """
    content = load_checkpoint_file(path)
    where = f"SAM checkpoint {path}"
    weights = _entry(content, "state_dict", where)
    sam = _load(SAM, _generator_size(weights, "decoder.", where), weights, where)
    sam.latent_avg = _mean_code(content, where, tuple(sam.latent_avg.shape))
    _check_filters(sam.decoder, where)
    return sam.eval()


def load_stylegan2(path: PathLike) -> tuple[StyleGAN2, Tensor]:
    """Load ``stylegan2-ffhq-config-f.pt`` (``g_ema``): the network and its mean style (512,).

    Raises:
        UserError: another file.
    """
    content = load_checkpoint_file(path)
    where = f"StyleGAN2 checkpoint {path}"
    weights = _entry(content, "g_ema", where)
    network = _load(StyleGAN2, _generator_size(weights, "", where), weights, where)
    _check_filters(network, where)
    return network.eval(), _mean_code(content, where, (STYLE_SIZE,))


def load_dex(path: PathLike) -> DEX:
    """Load ``dex_age_classifier.pth``; both spellings of its keys (``fc8_101`` and ``fc8-101``) are accepted.

    Raises:
        UserError: another file.
    """
    where = f"age checkpoint {path}"
    weights = _entry(load_checkpoint_file(path), "state_dict", where)
    return _load(DEX, None, {name.replace("-", "_"): value for name, value in weights.items()}, where).eval()


def load_irse50(path: PathLike) -> IRSE50:
    """Load ``model_ir_se50.pth`` (ArcFace identity network; a flat state_dict).

    Raises:
        UserError: another file.
    """
    return _load(IRSE50, None, load_checkpoint_file(path), f"identity checkpoint {path}").eval()


def _entry(content: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    weights = content.get(name)
    if isinstance(weights, Mapping):
        return dict(weights)
    _refuse_other_files(content, where)
    found = ", ".join(list(map(str, content))[:3]) or "nothing"
    raise UserError(f"{where} is another kind of file: it has no {name!r} (it begins with {found})")


def _refuse_other_files(names: Iterable[Any], where: str) -> None:
    for name in names:
        for pattern, kind in _OTHER_FILES.items():
            if re.search(pattern, str(name)):
                raise UserError(f"{where} is {kind} (it has the key {name})")


def _generator_size(weights: Mapping[str, Any], prefix: str, where: str) -> int:
    """Side of the images, from the number of RGB layers below ``prefix``."""
    _refuse_other_files(weights, where)
    levels = sum(1 for name in weights if re.fullmatch(re.escape(prefix) + r"to_rgbs\.\d+\.bias", name))
    if levels == 0:
        found = ", ".join(list(weights)[:3]) or "nothing"
        raise UserError(f"{where} holds no StyleGAN2 generator: no key {prefix}to_rgbs.0.bias (it begins with {found})")
    return 4 * 2**levels


def _load(kind: type[NetworkT], output_size: int | None, weights: Mapping[str, Any], where: str) -> NetworkT:
    """Build the network without memory of its own and let it take over the tensors of the file."""
    with torch.device("meta"):
        network = kind() if output_size is None else kind(output_size)
    expected = network.state_dict()
    tensors: dict[str, Any] = {}
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            raise UserError(f"{where} is another kind of file: {name} is a {type(value).__name__}, not a tensor")
        tensors[name] = value.to(expected[name].dtype) if name in expected else value
    for name in expected.keys() - tensors.keys():
        # a counter of training steps that some copies leave out; nothing reads it
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.zeros((), dtype=torch.int64)
    if not any(name in expected for name in weights):
        _refuse_other_files(weights, where)
    load_matching_weights(network, tensors, where, assign=True)
    return network.requires_grad_(False)


def _mean_code(content: Mapping[str, Any], where: str, shape: tuple[int, ...]) -> Tensor:
    mean = content.get("latent_avg")
    if not isinstance(mean, Tensor) or tuple(mean.shape) != shape:
        found = f"shape {tuple(mean.shape)}" if isinstance(mean, Tensor) else "none"
        raise UserError(f"{where} must hold a mean code 'latent_avg' of shape {shape}; found {found}")
    return mean.float()


def _check_filters(network: StyleGAN2, where: str) -> None:
    """The fast up-sampling relies on the symmetry of the stored filter."""
    for name, buffer in network.named_buffers():
        if name.endswith(".kernel") and not torch.allclose(buffer, FIR_TAPS):
            raise UserError(f"{where}: the up-sampling filter {name} is not the [1, 3, 3, 1] of StyleGAN2")
