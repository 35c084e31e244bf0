"""Whose face parser a set of weights is, by its keys alone, and how those keys are called here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fran_lightning.errors import UserError
from fran_lightning.perception.bisenet_v2 import HeadLayout

Architecture = Literal["bisenet_v2", "bisenet_v1"]
#: names for messages
SPOKEN = {"bisenet_v2": "BiSeNet V2", "bisenet_v1": "BiSeNet V1"}


@dataclass(frozen=True)
class Layout:
    """What weights say about their network.

    Attributes:
        architecture: the network.
        classes: number of classes.
        head: layout of a V2's heads.
        depth: of a V1's ResNet.
        weights: under the names used here, without the parts that only training needs.
        class_order: name of the order in which this family of files has its classes.
    """

    architecture: Architecture
    classes: int
    weights: dict[str, Any]
    head: HeadLayout = "upsample"
    depth: Literal[18, 34] = 18
    class_order: str = "bisenet"


#: yakhyo's names -> zllrunning's
_YAKHYO = (
    (r"^fpn\.backbone\.", "cp.resnet."),
    (r"^fpn\.", "cp."),
    (r"^ffm\.conv_block\.", "ffm.convblk."),
    (r"^(conv_out(?:16|32)?)\.conv\.", r"\1.conv_out."),
    (r"\.conv_block\.", ".conv."),
    (r"\.attention\.0\.", ".conv_atten."),
    (r"\.attention\.1\.", ".bn_atten."),
    (r"\.norm\.", ".bn."),
)
#: where sithu31296 has a numbered sequence of convolution, batch normalisation and ReLU that has names here
_UNIT = r"(?:detail|segment|head|aux\d)\.(?:.*\.)?(?:S\d\.\d|conv|left\.\d|fuse|conv1|conv_gap|conv_last)"
#: sithu31296's names -> the reference implementation's, in steps
_SITHU = (
    (r"^detail_branch\.", "detail."),
    (r"^semantic_branch\.S5_1\.", "segment.S5_4."),
    (r"^semantic_branch\.S5_2\.", "segment.S5_5."),
    (r"^semantic_branch\.", "segment."),
    (r"^aggregation_layer\.", "bga."),
    (r"^output_head\.", "head."),
    (r"^aux(\d)_head\.", r"aux\1."),
    (r"^(segment\.S5_5)\.inner\.1\.", r"\1.bn."),
    (r"^(segment\.S5_5)\.inner\.2\.", r"\1.conv_gap."),
    (r"^(segment\.S5_5)\.conv\.", r"\1.conv_last."),
    # the first unit of a stage goes down and has a shortcut
    (r"^(segment\.S\w+\.0)\.outer\.", r"\1.shortcut."),
    (r"^(segment\.S\w+\.0)\.inner\.1\.", r"\1.dwconv1.0."),
    (r"^(segment\.S\w+\.0)\.inner\.2\.", r"\1.dwconv1.1."),
    (r"^(segment\.S\w+\.0)\.inner\.3\.", r"\1.dwconv2."),
    (r"^(segment\.S\w+\.0)\.inner\.4\.", r"\1.conv2.0."),
    (r"^(segment\.S\w+\.0)\.inner\.5\.", r"\1.conv2.1."),
    (r"^(segment\.S\w+\.\d)\.inner\.1\.", r"\1.dwconv."),
    (r"^(segment\.S\w+\.\d)\.inner\.2\.", r"\1.conv2.0."),
    (r"^(segment\.S\w+\.\d)\.inner\.3\.", r"\1.conv2.1."),
    (r"^(segment\.S\w+\.\d)\.inner\.0\.", r"\1.conv1."),
    (r"\.conv_3x3\.", ".conv."),
    (rf"^({_UNIT})\.0\.", r"\1.conv."),
    (rf"^({_UNIT})\.1\.", r"\1.bn."),
)


def recognise(weights: Mapping[str, Any], where: str) -> Layout:
    """The layout of ``weights``; ``where`` names them in messages.

    Raises:
        UserError: no BiSeNet, or one that is no face parser.
    """
    keys = {_without_wrapper(name): value for name, value in weights.items()}
    if any(name.startswith("sp.") for name in keys):
        raise UserError(
            f"{where} is a BiSeNet V1 with a spatial path, which no public face parser has; give a face-parsing "
            "checkpoint (BiSeNet V2, or V1 by zllrunning, facexlib or yakhyo)"
        )
    if any(name.startswith("fpn.backbone.") for name in keys):
        renamed = {_renamed(name, _YAKHYO): value for name, value in keys.items() if ".backbone.fc." not in name}
        return _v1(renamed, where)
    if any(name.startswith("cp.resnet.") for name in keys):
        return _v1(keys, where)
    if any(name.startswith("detail_branch.") for name in keys):
        return _v2({_renamed(name, _SITHU): value for name, value in keys.items()}, where)
    if any(name.startswith("detail.S1.") for name in keys):
        return _v2(keys, where)
    raise UserError(f"{where} is no BiSeNet face parser: it has keys like {next(iter(keys), 'none at all')!r}")


def _without_wrapper(name: str) -> str:
    """Without the prefix that data-parallel training adds."""
    return name.removeprefix("module.")


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _v1(keys: Mapping[str, Any], where: str) -> Layout:
    weights = {name: value for name, value in keys.items() if not name.startswith(("conv_out16.", "conv_out32."))}
    depth: Literal[18, 34] = 34 if any(name.startswith("cp.resnet.layer1.2.") for name in keys) else 18
    last = _wanted(keys, "conv_out.conv_out.weight", where)
    return Layout("bisenet_v1", last.shape[0], weights, depth=depth)


def _v2(keys: Mapping[str, Any], where: str) -> Layout:
    weights = {name: value for name, value in keys.items() if not name.startswith("aux")}
    if "head.conv_out.weight" in keys:
        head: HeadLayout = "plain"
        classes = keys["head.conv_out.weight"].shape[0]
    elif "head.conv_out.0.weight" in keys:
        head = "pixel_shuffle"
        # eight by eight pixels lie in the channels
        classes = keys["head.conv_out.0.weight"].shape[0] // 64
    else:
        head = "upsample"
        classes = _wanted(keys, "head.conv_out.1.weight", where).shape[0]
    return Layout("bisenet_v2", classes, weights, head=head, class_order="helen" if classes == 11 else "bisenet")


def _wanted(keys: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in keys:
        raise UserError(f"{where} is incomplete: it has no {name}")
    return keys[name]
