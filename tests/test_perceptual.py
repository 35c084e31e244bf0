"""LPIPS: its values, and the choice of its weights."""

from __future__ import annotations

import logging

import lpips as lpips_package
import numpy as np
import pytest
import torch
from torch import Tensor

from fran_lightning import perceptual
from fran_lightning.errors import UserError
from fran_lightning.perceptual import build_lpips, choose_lpips


def pattern_pair(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Two smooth patterns (1, 3, H, W) in [-1, 1] that formulas give, so that any program can make them."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [np.sin(x / 5 + y / 9), np.cos(x / 7 - y / 4), np.sin(x * y / 180)]
    changed = [0.6 * planes[0] + 0.2, planes[1] * np.cos(y / 11), 0.9 * planes[2] - 0.1]
    return tuple(torch.from_numpy(np.stack(images).astype(np.float32))[None] for images in (planes, changed))


# the lpips package builds its trunk with torchvision's former arguments
pytestmark = pytest.mark.filterwarnings("ignore:.*weight.*:UserWarning:torchvision")


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory):
    """torchvision's VGG-16 with random weights, in the form of vgg16-397923af.pth (convolutions only)."""
    import torchvision

    with torch.random.fork_rng():
        torch.manual_seed(3)
        trunk = torchvision.models.vgg16(weights=None).features
    path = tmp_path_factory.mktemp("vgg") / "vgg16-397923af.pth"
    torch.save({f"features.{name}": tensor for name, tensor in trunk.state_dict().items()}, path)
    return path


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path / "checkpoints"


# reference values: stlpips_pytorch 0.0.2, LPIPS(net=..., variant="shift_tolerant") of the package itself
@pytest.mark.parametrize(
    ("weights", "size", "expected"),
    [
        ("shift_tolerant_alex", (64, 64), 0.1644442230463028),
        ("shift_tolerant_alex", (97, 80), 0.15346257388591766),
        ("shift_tolerant_vgg", (64, 64), 0.41919535398483276),
        ("shift_tolerant_vgg", (97, 80), 0.38425323367118835),
    ],
)
def test_shift_tolerant_lpips_equals_the_package(weights, size, expected):
    with torch.no_grad():
        distance = build_lpips(weights)(*pattern_pair(*size))
    assert distance.shape == (1, 1, 1, 1)
    assert distance.item() == pytest.approx(expected, rel=1e-4)


def test_identical_images_have_distance_zero_and_order_does_not_matter():
    network = build_lpips("shift_tolerant_alex")
    a, b = pattern_pair(64, 64)
    assert network(a, a).item() == 0
    assert network(a, b).item() == pytest.approx(network(b, a).item(), rel=1e-5)


def test_each_image_of_a_batch_has_its_own_distance():
    network = build_lpips("shift_tolerant_alex")
    a, b = pattern_pair(64, 64)
    batch = network(torch.cat([a, a, b]), torch.cat([b, a, b])).flatten()
    assert batch[0].item() == pytest.approx(network(a, b).item(), rel=1e-4)
    assert batch[1:].tolist() == pytest.approx([0, 0], abs=1e-6)


def test_weights_are_frozen_but_gradients_reach_the_image():
    network = build_lpips("shift_tolerant_alex")
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not network.training
    a, b = pattern_pair(64, 64)
    a.requires_grad_()
    network(a, b).sum().backward()
    assert a.grad.abs().sum() > 0


def test_vgg_lpips_is_the_lpips_package_on_that_trunk(vgg_file):
    network = build_lpips("vgg", str(vgg_file))
    assert isinstance(network, lpips_package.LPIPS)
    trunk = torch.load(vgg_file, weights_only=True)
    assert torch.equal(network.net.slice1[0].weight, trunk["features.0.weight"])
    assert torch.equal(network.net.slice5[-2].weight, trunk["features.28.weight"])
    # the heads are the trained ones of the package
    heads = lpips_package.LPIPS(net="vgg", pnet_rand=True, verbose=False).lin0.model[-1].weight
    assert torch.equal(network.lin0.model[-1].weight, heads)
    a, b = pattern_pair(64, 64)
    assert network(a, a).item() == 0
    assert network(a, b).item() > 0


def test_the_vgg_trunk_is_found_at_its_path_and_in_torchs_cache(vgg_file, empty_cache):
    assert choose_lpips("auto", str(vgg_file)) == "vgg"
    assert choose_lpips("auto") != "vgg"
    empty_cache.mkdir()
    (empty_cache / vgg_file.name).hardlink_to(vgg_file)
    assert choose_lpips("auto") == "vgg"
    assert choose_lpips("vgg") == "vgg"
    assert isinstance(build_lpips("vgg"), lpips_package.LPIPS)


def test_auto_falls_back_with_one_line(empty_cache, caplog):
    with caplog.at_level(logging.WARNING):
        assert choose_lpips("auto") == "shift_tolerant_alex"
    (record,) = caplog.records
    assert "VGG-16" in record.message
    assert "shift-tolerant" in record.message
    assert "\n" not in record.message


def test_a_download_that_fails_falls_back_and_leaves_nothing(empty_cache, monkeypatch):
    monkeypatch.delenv("FRAN_OFFLINE", raising=False)
    monkeypatch.setattr(perceptual, "VGG_URL", "http://127.0.0.1:9/vgg16-397923af.pth")  # nobody listens there
    assert choose_lpips("auto") == "shift_tolerant_alex"
    assert list(empty_cache.iterdir()) == []


def test_an_explicit_choice_is_taken_as_it_is(empty_cache):
    assert choose_lpips("shift_tolerant_vgg") == "shift_tolerant_vgg"


def test_vgg_that_was_asked_for_and_cannot_be_had_is_an_error(empty_cache):
    with pytest.raises(UserError, match=r"--model\.lpips_weights FILE"):
        choose_lpips("vgg")
    with pytest.raises(UserError, match="this run uses LPIPS on VGG-16"):
        build_lpips("vgg")


def test_a_missing_or_wrong_weight_file_is_refused(tmp_path):
    for choice in ("auto", "vgg"):
        with pytest.raises(UserError, match=r"nowhere\.pth do not exist"):
            choose_lpips(choice, str(tmp_path / "nowhere.pth"))
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    for name in ("other.pth", "broken.pth"):
        with pytest.raises(UserError, match=f"{name} are not torchvision's VGG-16"):
            build_lpips("vgg", str(tmp_path / name))
