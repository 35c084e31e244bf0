"""`FaceParser`: which of 19 classes every pixel of a face belongs to.

>>> parser = FaceParser()
>>> mask = parser.mask(crop)  # (B, 1, H, W): skin, as a soft mask
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fran_lightning.errors import UserError
from fran_lightning.networks.generator import pad_to_multiple
from fran_lightning.networks.precision import bfloat16_pays
from fran_lightning.perception.bisenet_v2 import SIZE_MULTIPLE
from fran_lightning.perception.folded import fold_batch_norms
from fran_lightning.perception.parsing_classes import CLASSES, GLASSES, MIRRORED, SKIN
from fran_lightning.perception.parsing_layouts import Architecture
from fran_lightning.perception.parsing_weights import BUNDLED_PARSER, ClassOrder, ParserNetwork, load_parser
from fran_lightning.perception.pixels import imagenet_normalised

Precision = Literal["auto", "float32", "bfloat16"]
#: images below this side show no face
SMALLEST_SIDE = 32
#: shares of a face crop up to which "glasses" are specks, and from which they are glasses
_SPECKS, _GLASSES = 0.004, 0.008
#: What our own parsers are given, relative to what they were trained on: eyes and brows then span more of the cells, an
#: eighth of the resolution, in which BiSeNet answers.
_ENLARGED = 1.25


class FaceParser:
    """Finds the classes of CelebAMask-HQ in aligned face crops.

    Args:
        weights: a run folder of ``fran fit-parser``, a weight file (see :func:`load_parser`) or a loaded network; the
            parser that comes with the package when absent.
        architecture: what the file has to be.
        class_order: the order of the file's classes.
        device: of the network.
        precision: ``auto`` is bfloat16 where the processor has it in hardware.
        size: side in pixels to which crops are scaled for the network, and 0 for the crop's own size. When absent 512
            for other people's files, and for our own a quarter more than they were trained on.
        mirrored: whether the answer is the mean of that for the picture and that for its mirror image, which is better
            and takes twice the time; when absent for our own files only.

    Raises:
        UserError: the weights cannot be used.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | ParserNetwork | None = None,
        *,
        architecture: Architecture | Literal["auto"] = "auto",
        class_order: ClassOrder = "auto",
        device: torch.device | str = "cpu",
        precision: Precision = "auto",
        size: int | None = None,
        mirrored: bool | None = None,
    ) -> None:
        if weights is None and not BUNDLED_PARSER.is_file():
            raise UserError("this installation has no trained face parser; train one with `fran fit-parser`")
        if isinstance(weights, ParserNetwork):
            loaded = weights
        else:
            loaded = load_parser(weights or BUNDLED_PARSER, architecture, class_order)
        self.device = torch.device(device)
        self.metadata = loaded.metadata
        self.size = _default_size(loaded) if size is None else size
        self.mirrored = loaded.is_ours if mirrored is None else mirrored
        #: changes when the weights, or how they are used, change
        self.fingerprint = f"{_fingerprint(loaded.network)} {self.size} {self.mirrored}"
        self.network = fold_batch_norms(loaded.network).to(self.device, memory_format=torch.channels_last)
        self._in_bfloat16 = bfloat16_pays(self.device) if precision == "auto" else precision == "bfloat16"
        self._order = torch.tensor(loaded.order, device=self.device)

    @torch.inference_mode()
    def probabilities(self, image: Tensor) -> Tensor:
        """Class probabilities (B, 19, H, W) float32 on the parser's device, for images (B, 3, H, W) in [-1, 1].

        Classes that the network does not know have probability 0.

        Raises:
            UserError: another shape, or sides below 32 pixels.
        """
        if image.ndim != 4 or image.shape[1] != 3:
            raise UserError(f"an image to parse must be (B, 3, H, W), not {tuple(image.shape)}")
        height, width = image.shape[-2:]
        if min(height, width) < SMALLEST_SIDE:
            raise UserError(
                f"an image of {width} x {height} pixels is too small to parse; {SMALLEST_SIDE} pixels are the least"
            )
        x = image.to(self.device, torch.float32)
        longest = max(height, width)
        if self.size and longest != self.size:
            # never below the least side, however long the picture
            factor = max(self.size / longest, SMALLEST_SIDE / min(height, width))
            size = (max(SMALLEST_SIDE, round(height * factor)), max(SMALLEST_SIDE, round(width * factor)))
            x = F.interpolate(x, size=size, mode="bilinear", antialias=True)
        seen = x.shape[-2:]
        x = imagenet_normalised(x)
        found = self._in_our_order(self._parse(torch.cat([x, x.flip(-1)]) if self.mirrored else x))
        if self.mirrored:
            straight, mirror_image = found.chunk(2)
            found = (straight + mirror_image[:, list(MIRRORED)].flip(-1)) / 2
        return found if seen == (height, width) else F.interpolate(found, size=(height, width), mode="bilinear")

    def _parse(self, x: Tensor) -> Tensor:
        """Normalised images of any size -> probabilities of the network's own classes."""
        height, width = x.shape[-2:]
        x = pad_to_multiple(x, SIZE_MULTIPLE).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._in_bfloat16):
            logits = self.network(x)
        return logits[..., :height, :width].float().softmax(dim=1)

    def _in_our_order(self, found: Tensor) -> Tensor:
        if len(self._order) == CLASSES and bool((self._order == torch.arange(CLASSES, device=self.device)).all()):
            return found
        return found.new_zeros(len(found), CLASSES, *found.shape[-2:]).index_copy_(1, self._order, found)

    def mask(self, image: Tensor, classes: Sequence[int] = SKIN) -> Tensor:
        """How likely each pixel belongs to one of ``classes``: (B, 1, H, W) in [0, 1].

        The sum of probabilities, not the winner's mask: it is steadier from frame to frame, and soft at edges.
        """
        return self.probabilities(image)[:, list(classes)].sum(dim=1, keepdim=True).clamp(0, 1)

    def skin(self, image: Tensor) -> Tensor:
        """:meth:`mask` of skin in aligned face crops, where a few specks of "glasses" count as skin too.

        Deep folds under old eyes look like thin rims. Real glasses fill 1 to 3 % of a crop, such specks at most 0.35 %
        (measured on faces of known glasses), so below 0.4 % none are believed, and from 0.8 % on all.
        """
        probabilities = self.probabilities(image)
        glasses = probabilities[:, [GLASSES]]
        doubt = ((_GLASSES - glasses.mean(dim=(1, 2, 3), keepdim=True)) / (_GLASSES - _SPECKS)).clamp(0, 1)
        return (probabilities[:, list(SKIN)].sum(dim=1, keepdim=True) + doubt * glasses).clamp(0, 1)

    def classes(self, image: Tensor) -> Tensor:
        """The most likely class of every pixel, (B, H, W) uint8."""
        return self.probabilities(image).argmax(dim=1).to(torch.uint8)


def _default_size(loaded: ParserNetwork) -> int:
    return round(_ENLARGED * loaded.size / SIZE_MULTIPLE) * SIZE_MULTIPLE if loaded.is_ours else loaded.size


def _fingerprint(network: torch.nn.Module) -> str:
    return hashlib.sha256(b"".join(p.detach().cpu().numpy().tobytes() for p in network.parameters())).hexdigest()[:16]


@functools.lru_cache(maxsize=2)
def bundled_parser(device: str = "cpu") -> FaceParser | None:
    """The parser that comes with the package, loaded once; None where the package holds none."""
    return FaceParser(device=device) if BUNDLED_PARSER.is_file() else None
