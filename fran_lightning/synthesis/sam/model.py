"""SAM: re-age a face by moving its StyleGAN2 code.

Alaluf et al., "Only a Matter of Style: Age Transformation Using a Style-Based Regression Model" (2021)::

    W+ = E_s([x ; a / 100]) + (E_p(x) + mean code)        y = G(W+ ; stored noise)

E_s sees the face x and a plane with the target age a, E_p the face alone, so its part is computed once per
identity. The generator's mapping network comes with the same file: SAM alone can draw faces, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fran_lightning.ages import YEARS_PER_UNIT, validate_years
from fran_lightning.synthesis.sam.encoder import PyramidEncoder
from fran_lightning.synthesis.sam.stylegan2 import STYLE_SIZE, StyleGAN2, style_count


class SAM(nn.Module):
    """The three networks of a SAM checkpoint and the mean code. Sub-modules are named as in the official file.

    Args:
        output_size: side of the generated images (1024 in the published model).
    """

    latent_avg: Tensor

    def __init__(self, output_size: int = 1024) -> None:
        super().__init__()
        self.output_size = output_size
        self.encoder = PyramidEncoder(in_channels=4, output_size=output_size)
        self.decoder = StyleGAN2(output_size)
        self.pretrained_encoder = PyramidEncoder(in_channels=3, output_size=output_size)
        # beside the state_dict in the official file, hence not persistent here
        self.register_buffer("latent_avg", torch.zeros(style_count(output_size), STYLE_SIZE), persistent=False)

    def identity_codes(self, faces: Tensor) -> Tensor:
        """Codes (B, N, 512) of aligned faces (B, 3, 256, 256) in [-1, 1] as they are: E_p(x) + mean code."""
        return self.pretrained_encoder(faces) + self.latent_avg

    def aged_codes(self, faces: Tensor, years: Tensor | Sequence[float], identity_codes: Tensor) -> Tensor:
        """Codes (B, N, 512) of faces at other ages.

        Args:
            faces: (B, 3, 256, 256) in [-1, 1], FFHQ-aligned; or (1, 3, 256, 256) for one face at B ages.
            years: B target ages, 0 to 100; fractions are legitimate (SAM was trained with some).
            identity_codes: (B or 1, N, 512) from :meth:`identity_codes`.
        """
        ages = validate_years(years, what="target age").to(faces.device)
        faces = faces.expand(len(ages), -1, -1, -1)
        plane = (ages / YEARS_PER_UNIT).view(-1, 1, 1, 1).expand(-1, 1, *faces.shape[2:])
        return self.encoder(torch.cat((faces, plane), dim=1)) + identity_codes

    def render(self, codes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Images (B, 3, S, S), float32, about [-1, 1], not clamped. ``dtype``: see :meth:`StyleGAN2.synthesise`."""
        return self.decoder.synthesise(codes, dtype)


def mix_codes(codes: Tensor, injected: Tensor, rows: Sequence[int], alpha: float = 1.0) -> Tensor:
    """``codes`` (B, N, 512) whose ``rows`` are blended with those of ``injected``: alpha in, 1 - alpha kept.

    SAM's style mixing and reference-guided ageing: rows 8 and 9 of a 1024 model carry skin and hair colour.
    """
    mixed = codes.clone()
    index = list(rows)
    mixed[:, index] = alpha * injected[:, index] + (1 - alpha) * codes[:, index]
    return mixed
