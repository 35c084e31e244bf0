"""Weight files of face parsers: our own (safetensors in half precision with their data card), and other people's."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor, nn

from fran_lightning.errors import UserError
from fran_lightning.files import atomic_path
from fran_lightning.networks.checkpoint_files import load_checkpoint_file
from fran_lightning.networks.weights import load_matching_weights
from fran_lightning.perception.bisenet_v1 import BiSeNetV1
from fran_lightning.perception.bisenet_v2 import BiSeNetV2
from fran_lightning.perception.parsing_classes import CLASS_ORDERS, CLASSES
from fran_lightning.perception.parsing_layouts import SPOKEN, Architecture, recognise

#: name of the exported weights in a run folder
PARSER_FILE = "parser.safetensors"
#: the weights that come with the package
BUNDLED_PARSER = Path(__file__).parent / "weights" / "face_parser.safetensors"
ClassOrder = Literal["auto", "bisenet", "celebamask", "helen"]
_METADATA_KEY = "fran_parser"


@dataclass(frozen=True)
class ParserNetwork:
    """A parser's network and what its file says about it.

    Attributes:
        network: normalised images -> logits, in eval mode on the CPU.
        order: for each of its classes, the class here.
        size: pixels of the face crops it was trained on.
        metadata: the data card of our own files; empty for others.
    """

    network: nn.Module
    order: tuple[int, ...]
    size: int
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        """Whether ``fran fit-parser`` made it."""
        return bool(self.metadata)


def save_parser(path: str | os.PathLike[str], network: BiSeNetV2, metadata: Mapping[str, Any]) -> None:
    """Write a BiSeNet V2 without its auxiliary heads, as float16, atomically; ``metadata`` is plain JSON values."""
    from safetensors.torch import save_file

    tensors = {
        name: (tensor.half() if tensor.dtype.is_floating_point else tensor).detach().cpu().contiguous()
        for name, tensor in network.state_dict().items()
        if not name.startswith("aux") and not name.endswith("num_batches_tracked")
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={_METADATA_KEY: json.dumps(metadata)})


def load_parser(
    path: str | os.PathLike[str],
    architecture: Architecture | Literal["auto"] = "auto",
    class_order: ClassOrder = "auto",
) -> ParserNetwork:
    """Load a face parser: a run folder of ``fran fit-parser``, or a safetensors, PyTorch or ONNX file.

    Args:
        path: the folder or file.
        architecture: what the file has to be; ``auto`` takes what its keys say.
        class_order: the order of its classes; ``auto`` is that of its metadata or its kind.

    Raises:
        UserError: missing, damaged or unsafe file, no face parser, another architecture than asked for, or a number of
            classes that no known order has.
    """
    file = Path(path)
    if file.is_dir():
        file = file / PARSER_FILE
    metadata = _read_metadata(file)
    layout = recognise(_weights(file), f"checkpoint {file}")
    if architecture not in ("auto", layout.architecture):
        raise UserError(
            f"checkpoint {file} is a {SPOKEN[layout.architecture]}, not a {SPOKEN[architecture]}; leave the "
            "architecture at auto, or give another file"
        )
    order_name = metadata.get("class_order", layout.class_order) if class_order == "auto" else class_order
    if order_name not in CLASS_ORDERS:
        raise UserError(f"class order {order_name!r} is unknown; choose one of {', '.join(get_args(ClassOrder))}")
    order = CLASS_ORDERS[order_name]
    if layout.classes != len(order):
        raise UserError(
            f"checkpoint {file} has {layout.classes} classes, and the {order_name} order has {len(order)}; face "
            f"parsers have {CLASSES} (CelebAMask-HQ) or 11 (HELEN)"
        )
    network: nn.Module
    if layout.architecture == "bisenet_v2":
        network = BiSeNetV2(layout.classes, layout.head)
    else:
        network = BiSeNetV1(layout.classes, layout.depth)
    load_matching_weights(network, _completed(layout.weights, network), f"checkpoint {file}")
    return ParserNetwork(network.eval().requires_grad_(False), order, int(metadata.get("size", 512)), metadata)


def _weights(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".onnx":
        from fran_lightning.perception.parsing_onnx import onnx_weights

        return onnx_weights(file)
    content = load_checkpoint_file(file)
    for wrapper in ("state_dict", "model_state_dict", "model", "params_ema"):
        if isinstance(content.get(wrapper), Mapping):
            content = dict(content[wrapper])
            break
    weights = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        raise UserError(f"checkpoint {file} holds no weights")
    return weights


def _completed(weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """``weights`` as float32, with the counters of batches that files may leave out."""
    counters = {name: value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    return counters | {name: v.float() if v.dtype.is_floating_point else v for name, v in weights.items()}


def _read_metadata(file: Path) -> dict[str, Any]:
    """Of our own files; an empty dictionary for others."""
    if file.suffix != ".safetensors" or not file.is_file():
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as handle:
            stored = handle.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"checkpoint {file} is truncated or damaged ({error}); download it again") from error
    return json.loads(stored[_METADATA_KEY]) if _METADATA_KEY in stored else {}
