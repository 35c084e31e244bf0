"""The perceptual distance LPIPS (Zhang et al. 2018) and the choice of its weights.

The FRAN paper uses LPIPS on VGG-16. Its linear heads come with the ``lpips`` package; the ImageNet trunk
(``vgg16-397923af.pth``, 528 MB) has to be found or downloaded. Where that is impossible, the shift-tolerant
LPIPS of Ghildyal and Liu (ECCV 2022), whose complete weights the ``stlpips-pytorch`` wheel carries, takes its
place. The choice is made once per run and kept when the run is resumed.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import urllib.error
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fran_lightning.errors import UserError

LpipsWeights = Literal["vgg", "shift_tolerant_alex", "shift_tolerant_vgg"]
LpipsChoice = Literal["auto", "vgg", "shift_tolerant_alex", "shift_tolerant_vgg"]

VGG_URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
#: seconds without an answer after which the download of the VGG trunk counts as impossible
DOWNLOAD_TIMEOUT = 10.0
#: indices of torchvision's VGG-16 ``features`` at which LPIPS cuts it into five slices
_VGG_SLICES = ((0, 4), (4, 9), (9, 16), (16, 23), (23, 30))

log = logging.getLogger(__name__)


def choose_lpips(choice: LpipsChoice, weights_path: str | None = None, download: bool = True) -> LpipsWeights:
    """Decide which weights a run uses; ``auto`` prefers VGG and falls back with one line of warning.

    Args:
        choice: ``auto``, or one kind of weights that must then be available.
        weights_path: a ``vgg16-397923af.pth``; looked at before torch's cache folder and the download.
        download: whether the VGG trunk may be downloaded.

    Raises:
        UserError: ``weights_path`` is missing, or ``vgg`` was asked for and cannot be had.
    """
    if choice not in ("auto", "vgg"):
        return cast(LpipsWeights, choice)
    if _find_vgg_trunk(weights_path, download) is not None:
        return "vgg"
    if choice == "vgg":
        raise UserError(
            f"LPIPS weights vgg16-397923af.pth are neither in {_torch_cache()} nor can they be downloaded; "
            "give --model.lpips_weights FILE or choose --model.lpips shift_tolerant_alex"
        )
    log.warning(
        "LPIPS: the VGG-16 trunk is not at hand and cannot be downloaded; using the bundled shift-tolerant "
        "LPIPS (AlexNet) instead. Give --model.lpips_weights vgg16-397923af.pth for the paper's loss."
    )
    return "shift_tolerant_alex"


def build_lpips(weights: LpipsWeights, weights_path: str | None = None) -> nn.Module:
    """LPIPS with ``weights``: ``lpips(a, b) -> (B, 1, 1, 1)`` for images in [-1, 1]; frozen, in eval mode.

    Raises:
        UserError: the weights cannot be had.
    """
    if weights == "vgg":
        trunk = _find_vgg_trunk(weights_path, download=True)
        if trunk is None:
            raise UserError(
                "this run uses LPIPS on VGG-16, whose weights are not at hand; give --model.lpips_weights "
                "vgg16-397923af.pth, or start a new run"
            )
        network: nn.Module = _vgg_lpips(trunk)
    else:
        network = ShiftTolerantLPIPS(weights)
    return network.requires_grad_(False).eval()


def _torch_cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _find_vgg_trunk(weights_path: str | None, download: bool) -> Path | None:
    if weights_path:
        if not Path(weights_path).is_file():
            raise UserError(f"LPIPS weights {weights_path} do not exist; give the path of vgg16-397923af.pth")
        return Path(weights_path)
    cached = _torch_cache() / Path(VGG_URL).name
    if cached.is_file():
        return cached
    if not download or os.environ.get("FRAN_OFFLINE"):
        return None
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        # writes a temporary file and renames it, so an interrupted download leaves nothing behind
        torch.hub.download_url_to_file(VGG_URL, str(cached), hash_prefix="397923af", progress=True)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        log.info("download of %s failed: %s", VGG_URL, error)
        return None
    finally:
        socket.setdefaulttimeout(previous)
    return cached


def _vgg_lpips(trunk: Path) -> nn.Module:
    import lpips

    try:
        weights = torch.load(trunk, map_location="cpu", weights_only=True)
        slices: dict[str, Tensor] = {}
        for number, (start, stop) in enumerate(_VGG_SLICES, start=1):
            for layer in range(start, stop):
                for kind in ("weight", "bias"):
                    if (name := f"features.{layer}.{kind}") in weights:
                        slices[f"slice{number}.{layer}.{kind}"] = weights[name]
        network = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
        network.net.load_state_dict(slices)
    except Exception as error:
        raise UserError(f"LPIPS weights {trunk} are not torchvision's VGG-16 (vgg16-397923af.pth)") from error
    return network


class _BlurStride2(nn.Module):
    """Reflect two pixels, filter 1-2-1, keep every second sample."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (2, 2, 2, 2), mode="reflect")
        return F.avg_pool2d(F.avg_pool2d(x, 2, stride=1), 2, stride=2)


def _alexnet_slices() -> list[nn.Sequential]:
    conv = nn.Conv2d
    return [
        nn.Sequential(conv(3, 64, 11, padding=2), _BlurStride2(), nn.ReLU()),
        nn.Sequential(nn.MaxPool2d(3, 1), _BlurStride2(), conv(64, 192, 5, padding=2), nn.ReLU()),
        nn.Sequential(nn.MaxPool2d(3, 1), _BlurStride2(), conv(192, 384, 3, padding=1), nn.ReLU()),
        nn.Sequential(conv(384, 256, 3, padding=1), nn.ReLU()),
        nn.Sequential(conv(256, 256, 3, padding=1), nn.ReLU()),
    ]


def _vgg16_slices() -> list[nn.Sequential]:
    slices: list[nn.Sequential] = []
    previous = 3
    for level, (channels, convolutions) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        layers: list[nn.Module] = [] if level == 0 else [nn.MaxPool2d(2, 1), _BlurStride2()]
        for _ in range(convolutions):
            layers += [nn.Conv2d(previous, channels, 3, padding=1), nn.ReLU()]
            previous = channels
        slices.append(nn.Sequential(*layers))
    return slices


class ShiftTolerantLPIPS(nn.Module):
    """Shift-tolerant LPIPS (Ghildyal and Liu, ECCV 2022) with the weights of the ``stlpips-pytorch`` wheel.

    ``lpips(a, b)``: images (B, 3, H, W) in [-1, 1], at least 32 x 32; returns distances (B, 1, 1, 1). Only the
    wheel's weight files are used: importing the package needs two undeclared packages.

    LPIPS(a, b) = sum over layers l of mean over pixels of w_l . (f_l(a) - f_l(b))^2, with the features f_l
    of unit length in every pixel.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, weights: LpipsWeights = "shift_tolerant_alex") -> None:
        super().__init__()
        self.slices = nn.ModuleList(_alexnet_slices() if weights == "shift_tolerant_alex" else _vgg16_slices())
        stored = _read_stlpips("alex" if weights == "shift_tolerant_alex" else "vgg")
        self._load_trunk(stored)
        self.heads = nn.ParameterList([stored[f"lin{i}.model.1.weight"] for i in range(len(self.slices))])
        self.register_buffer("shift", stored["scaling_layer.shift"])
        self.register_buffer("scale", stored["scaling_layer.scale"])

    def _load_trunk(self, stored: Mapping[str, Tensor]) -> None:
        # the files number their layers differently, but hold the convolutions in the same order
        names = [name.removesuffix(".weight") for name in stored if name.startswith("net.") and name.endswith("weight")]
        convolutions = [module for module in self.slices.modules() if isinstance(module, nn.Conv2d)]
        for name, convolution in zip(names, convolutions, strict=True):
            convolution.load_state_dict({kind: stored[f"{name}.{kind}"] for kind in ("weight", "bias")})

    def _features(self, x: Tensor) -> list[Tensor]:
        features = []
        x = (x - self.shift) / self.scale
        for part in self.slices:
            x = part(x)
            # half-precision sums of squares overflow and lose the small differences that matter here
            features.append(F.normalize(x.float(), dim=1, eps=1e-10))
        return features

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        total = torch.zeros(a.shape[0], 1, 1, 1, device=a.device)
        for head, f_a, f_b in zip(self.heads, self._features(a), self._features(b), strict=True):
            total = total + F.conv2d((f_a - f_b).square(), head).mean(dim=(2, 3), keepdim=True)
        return total


def _read_stlpips(trunk: Literal["alex", "vgg"]) -> dict[str, Tensor]:
    spec = importlib.util.find_spec("stlpips_pytorch")
    if spec is None or spec.origin is None:
        raise UserError("the bundled LPIPS weights are missing; run `pip install stlpips-pytorch==0.0.2`")
    path = Path(spec.origin).parent / "weights" / "vST0.0" / f"{trunk}_shift_tolerant.pth"
    return torch.load(path, map_location="cpu", weights_only=True)
