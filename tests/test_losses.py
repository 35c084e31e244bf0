"""The loss terms against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from fran_lightning.losses import (
    discriminator_loss,
    fake_term,
    generator_adversarial_loss,
    l1_loss,
    r1_penalty,
    real_term,
)

#: two patches; sigmoid(log 3) = 3/4
LOGITS = torch.tensor([0.0, math.log(3)]).reshape(1, 1, 1, 2)


def test_l1_is_the_mean_absolute_difference():
    image = torch.rand(2, 3, 4, 4)
    assert l1_loss(image, image) == 0
    assert l1_loss(torch.tensor([1.0, -1.0]), torch.tensor([0.5, 0.5])).item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("kind", "real", "fake"),
    [
        ("bce", (math.log(2) + math.log(4 / 3)) / 2, (math.log(2) + math.log(4)) / 2),
        ("lsgan", (1 + (math.log(3) - 1) ** 2) / 2, math.log(3) ** 2 / 2),
        ("hinge", 0.5, (1 + 1 + math.log(3)) / 2),
    ],
)
def test_adversarial_terms(kind, real, fake):
    assert real_term(kind, LOGITS).item() == pytest.approx(real, rel=1e-6)
    assert fake_term(kind, LOGITS).item() == pytest.approx(fake, rel=1e-6)
    generator = -math.log(3) / 2 if kind == "hinge" else real
    assert generator_adversarial_loss(kind, LOGITS).item() == pytest.approx(generator, rel=1e-6)


@pytest.mark.parametrize("kind", ["bce", "lsgan", "hinge"])
def test_a_generator_step_raises_the_logit_and_a_discriminator_step_separates(kind):
    logits = torch.zeros(3, requires_grad=True)
    generator_adversarial_loss(kind, logits[:1]).backward()
    assert logits.grad[0] < 0  # descending raises it
    logits = torch.full((3,), 0.5, requires_grad=True)
    discriminator_loss(kind, *logits.split(1)).backward()
    assert logits.grad[0] < 0 < logits.grad[1] == logits.grad[2]


@pytest.mark.parametrize("kind", ["bce", "lsgan", "hinge"])
def test_the_discriminator_has_three_terms_and_the_two_fake_ones_share_a_weight(kind):
    real, generated, wrong_age = torch.tensor([1.5]), torch.tensor([-0.5]), torch.tensor([0.7])
    expected = real_term(kind, real) + fake_term(kind, generated) / 2 + fake_term(kind, wrong_age) / 2
    torch.testing.assert_close(discriminator_loss(kind, real, generated, wrong_age), expected)


@pytest.mark.parametrize("kind", ["bce", "lsgan", "hinge"])
def test_terms_are_computed_in_float32_from_half_precision(kind):
    assert real_term(kind, LOGITS.bfloat16()).dtype == torch.float32
    assert fake_term(kind, torch.tensor([200.0], dtype=torch.float16)).isfinite()


def test_r1_is_the_mean_squared_gradient_norm():
    # D(x) = 2 * sum(x[0]) + 3 * sum(x[1]): gradient norms squared 4 * 12 and 9 * 12
    x = torch.rand(2, 3, 2, 2, requires_grad=True)
    logits = (x * torch.tensor([2.0, 3.0]).reshape(2, 1, 1, 1)).sum(dim=(1, 2, 3))
    assert r1_penalty(logits, x).item() == pytest.approx((48 + 108) / 2)


def test_r1_can_be_differentiated():
    x = torch.rand(1, 3, 2, 2, requires_grad=True)
    weight = torch.tensor(2.0, requires_grad=True)
    r1_penalty(weight * x.square().sum(dim=(1, 2, 3)), x).backward()
    # |2 w x|^2 derived by w: 8 w |x|^2
    torch.testing.assert_close(weight.grad, 8 * weight.detach() * x.detach().square().sum())
