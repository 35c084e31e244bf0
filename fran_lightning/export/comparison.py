"""Whether an exported file computes what PyTorch computes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fran_lightning.errors import UserError
from fran_lightning.export.graphs import example_input
from fran_lightning.networks.generator import Generator

#: largest difference that is accepted, of values in [-1, 1]
TOLERANCE = 1e-4
#: batch, height and width of the images that are compared; two have odd sides
COMPARED_SIZES = ((1, 128, 128), (2, 97, 131), (1, 65, 190))


@torch.inference_mode()
def largest_difference(generator: Generator, run: Callable[[Tensor], Tensor]) -> float:
    """The largest difference of ``run(x)``, the exported delta, from ``generator(x)`` over :data:`COMPARED_SIZES`.

    Raises:
        UserError: it is above :data:`TOLERANCE`.
    """
    largest = 0.0
    for seed, size in enumerate(COMPARED_SIZES):
        x = example_input(*size, seed=seed)
        largest = max(largest, check(float((run(x) - generator(x)).abs().max())))
    return largest


def check(difference: float) -> float:
    """``difference`` itself.

    Raises:
        UserError: it is above :data:`TOLERANCE`, or not a number.
    """
    if not difference <= TOLERANCE:
        raise UserError(
            f"the exported network differs from PyTorch by {difference:.1e} (at most {TOLERANCE:g} is accepted): "
            "nothing was written; the weights may hold huge or infinite values"
        )
    return difference
