"""The terms of the FRAN objective besides LPIPS (``perceptual.py``), each with its formula.

Generator: ``lambda_l1 * L1 + lambda_lpips * LPIPS + lambda_adv * adversarial`` with weights 1, 1 and 0.05
(Zoss et al. 2022, section 3.3).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

AdversarialKind = Literal["bce", "lsgan", "hinge"]


def l1_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of two image batches of one shape: mean |output - target|."""
    return F.l1_loss(output, target)


def real_term(kind: AdversarialKind, logits: Tensor) -> Tensor:
    """How far the discriminator is from calling ``logits`` real, averaged over patches.

    bce: -log sigmoid(l); lsgan: (l - 1)^2; hinge: max(0, 1 - l).
    """
    logits = logits.float()
    if kind == "bce":
        return F.softplus(-logits).mean()
    if kind == "lsgan":
        return (logits - 1).square().mean()
    return F.relu(1 - logits).mean()


def fake_term(kind: AdversarialKind, logits: Tensor) -> Tensor:
    """How far the discriminator is from calling ``logits`` fake, averaged over patches.

    bce: -log(1 - sigmoid(l)); lsgan: l^2; hinge: max(0, 1 + l).
    """
    logits = logits.float()
    if kind == "bce":
        return F.softplus(logits).mean()
    if kind == "lsgan":
        return logits.square().mean()
    return F.relu(1 + logits).mean()


def discriminator_loss(kind: AdversarialKind, real: Tensor, generated: Tensor, wrong_age: Tensor) -> Tensor:
    """The discriminator's loss from its logits on three batches.

    ``real`` images with their right age are real; ``generated`` images with the target age are fake; real
    images with a ``wrong_age`` are fake too, so that the age map cannot be ignored. The two fake terms share
    the weight of the real one: real_term(real) + (fake_term(generated) + fake_term(wrong_age)) / 2.
    """
    return real_term(kind, real) + 0.5 * (fake_term(kind, generated) + fake_term(kind, wrong_age))


def generator_adversarial_loss(kind: AdversarialKind, generated: Tensor) -> Tensor:
    """The generator's reward for fooling the discriminator, from the logits on its output.

    bce: -log sigmoid(l) (non-saturating); lsgan: (l - 1)^2; hinge: -l.
    """
    if kind == "hinge":
        return -generated.float().mean()
    return real_term(kind, generated)


def r1_penalty(logits: Tensor, real_input: Tensor) -> Tensor:
    """Squared gradient norm of the discriminator on real data: mean over the batch of |d sum(D(x)) / dx|^2.

    Mescheder et al. 2018, equation 9 (without gamma / 2). ``real_input`` (B, C, H, W) must require gradients.
    """
    (gradient,) = torch.autograd.grad(logits.float().sum(), real_input, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean()
