"""Generators and discriminator: sizes, start, blur pooling, skips, weight files."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fran_lightning.errors import UserError
from fran_lightning.networks.blur_pool import BlurPool2d, MaxBlurPool2d
from fran_lightning.networks.discriminator import PatchDiscriminator
from fran_lightning.networks.generator import Generator, pad_to_multiple
from fran_lightning.networks.unet import FRANUNet
from fran_lightning.networks.weights import (
    GENERATOR_FILE,
    build_generator,
    load_generator,
    read_metadata,
    save_generator,
)

CONFIGS = {
    "fran_unet": {"architecture": "fran_unet", "base_channels": 4, "depth": 3},
    "smp_unet": {"architecture": "smp_unet", "encoder_name": "tu-resnet18", "decoder_channels": 32},
    "timroelofs_unet": {"architecture": "timroelofs_unet", "base_channels": 4},
    "rylu_unet": {"architecture": "rylu_unet", "base_channels": 4},
}


def small_generator(architecture: str, trained: bool = False) -> Generator:
    """A small network; ``trained`` gives its delta head random weights."""
    torch.manual_seed(0)
    network = build_generator(CONFIGS[architecture])
    if trained:
        nn.init.normal_(network.head.weight, std=0.1)
    return network.eval()


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("size", [(64, 64), (65, 47), (33, 100), (1, 1), (2, 3), (7, 5)])
def test_any_height_and_width(architecture, size):
    generator = small_generator(architecture, trained=True)
    with torch.no_grad():
        delta = generator(torch.rand(2, 5, *size))
    assert delta.shape == (2, 3, *size)
    assert delta.isfinite().all()
    assert delta.std() > 0


@pytest.mark.parametrize("architecture", CONFIGS)
def test_an_untrained_generator_changes_nothing_but_can_learn(architecture):
    generator = small_generator(architecture)
    delta = generator(torch.rand(1, 5, 64, 64))
    assert torch.equal(delta, torch.zeros_like(delta))
    (delta - 1).square().mean().backward()
    assert generator.head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("architecture", CONFIGS)
def test_config_is_enough_to_build_the_network_again(architecture):
    first = small_generator(architecture)
    again = build_generator(json.loads(json.dumps(first.config)))
    shapes = [{name: tensor.shape for name, tensor in network.state_dict().items()} for network in (first, again)]
    assert shapes[0] == shapes[1]
    assert again.config == first.config == CONFIGS[architecture]


@pytest.mark.parametrize("architecture", CONFIGS)
def test_both_age_maps_matter_pixel_by_pixel(architecture):
    generator = small_generator(architecture, trained=True)
    x = torch.rand(1, 5, 64, 64)
    for channel in (3, 4):
        other = x.clone()
        other[:, channel, :, 32:] += 0.5
        assert (generator(other) - generator(x)).abs().max() > 1e-4


def test_paper_scale_has_the_papers_widths():
    with torch.device("meta"):
        generator = FRANUNet()
    assert [generator.stem[0].out_channels, *(block[1][0].out_channels for block in generator.down)] == [
        64,
        128,
        256,
        512,
        1024,
    ]
    assert generator.size_multiple == 16


def test_padding_reflects_and_repeats_where_reflection_is_impossible():
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    padded = pad_to_multiple(x, 4)
    assert padded.shape == (1, 1, 4, 4)
    assert padded[0, 0, 0].tolist() == [0, 1, 2, 2]  # two rows cannot be reflected by two
    wide = pad_to_multiple(torch.arange(5.0).reshape(1, 1, 1, 5).expand(1, 1, 5, 5), 6)
    assert wide[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 3]
    assert pad_to_multiple(wide, 6) is wide


# ---------------------------------------------------------------- blur pooling


def test_blur_pool_is_the_binomial_filter_of_four():
    impulse = torch.zeros(1, 1, 9, 9)
    impulse[..., 4, 4] = 1
    row = torch.tensor([1.0, 3, 3, 1]) / 8
    reference = F.conv2d(F.pad(impulse, (1, 1, 1, 1)), torch.outer(row, row)[None, None], stride=2)
    torch.testing.assert_close(BlurPool2d()(impulse)[..., :4, :4], reference[..., :4, :4])


def test_max_blur_pool_is_a_dense_maximum_and_the_binomial_filter_of_three():
    x = torch.rand(1, 2, 10, 12)
    row = torch.tensor([1.0, 2, 1]) / 4
    dense = F.max_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 2, stride=1)
    kernel = torch.outer(row, row)[None, None].repeat(2, 1, 1, 1)
    torch.testing.assert_close(MaxBlurPool2d()(x), F.conv2d(dense, kernel, stride=2, groups=2))


@pytest.mark.parametrize("pool", [BlurPool2d(), MaxBlurPool2d()])
def test_pooling_commutes_with_flips_and_keeps_constants(pool):
    x = torch.rand(1, 2, 12, 16)
    torch.testing.assert_close(pool(x.flip(-1)), pool(x).flip(-1))
    torch.testing.assert_close(pool(x.flip(-2)), pool(x).flip(-2))
    torch.testing.assert_close(pool(torch.full((1, 1, 8, 8), 0.3)), torch.full((1, 1, 4, 4), 0.3))


@pytest.mark.parametrize("pool", [BlurPool2d(), MaxBlurPool2d()])
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 5), (8, 7)])
def test_pooling_rounds_halves_up(pool, size):
    assert pool(torch.rand(1, 2, *size)).shape == (1, 2, -(-size[0] // 2), -(-size[1] // 2))


def test_max_blur_pool_is_steadier_under_shifts_than_max_pool():
    torch.manual_seed(0)
    x = F.avg_pool2d(torch.rand(1, 8, 66, 66), 3, stride=1)

    def change(pool: nn.Module) -> Tensor:
        # the mean level of a pooled picture should not depend on where the grid lies
        pooled, shifted = pool(x[..., 1:-1, :-2]), pool(x[..., 1:-1, 1:-1])
        return (pooled - shifted).square().mean()

    assert change(MaxBlurPool2d()) < 0.5 * change(nn.MaxPool2d(2))


def test_full_resolution_detail_reaches_the_output():
    """The finest checkerboard is lost by every pooling, and must come through the skip at full resolution."""
    generator = small_generator("fran_unet", trained=True)
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    checkerboard = ((x + y) % 2 * 2.0 - 1).expand(1, 5, 32, 32)
    with torch.no_grad():
        delta = generator(0.2 * checkerboard)
        stem = generator.stem(0.2 * checkerboard)
        pooled = generator.down[0][0](stem)
    # after the first pooling hardly anything of the pattern is left, but the output has it
    inner = (slice(None), slice(None), slice(8, 24), slice(8, 24))
    contrast = (delta * checkerboard[:, :3])[inner].mean(dim=(2, 3)).abs().max()
    assert contrast > 0.05 * delta[inner].abs().max()
    assert pooled[..., 4:12, 4:12].std(dim=(2, 3)).max() < 1e-3


def test_the_smp_generator_blurs_before_it_subsamples():
    from timm.layers import BlurPool2d as TimmBlurPool2d

    generator = small_generator("smp_unet")
    blurs = [module for module in generator.modules() if isinstance(module, TimmBlurPool2d)]
    assert len(blurs) >= 4
    strided = [
        m for m in generator.modules() if isinstance(m, nn.Conv2d) and m.kernel_size > (1, 1) and m.stride > (1, 1)
    ]
    # only the stem's first convolution still strides by itself
    assert len(strided) <= 1


# ---------------------------------------------------------------- discriminator


@pytest.mark.parametrize(("size", "patches"), [((64, 64), (8, 8)), ((50, 33), (7, 5))])
def test_the_discriminator_judges_patches(size, patches):
    assert PatchDiscriminator(4, 3)(torch.rand(2, 4, *size)).shape == (2, 1, *patches)


def test_a_patch_sees_50_pixels():
    discriminator = PatchDiscriminator(4, 3).eval()
    x = torch.rand(1, 4, 96, 96, requires_grad=True)
    discriminator(x)[0, 0, 6, 6].backward()
    seen = x.grad.abs().sum(dim=(0, 1))
    rows = seen.sum(dim=1).nonzero()
    assert rows.max() - rows.min() + 1 == 50


def test_the_discriminator_sees_the_age():
    discriminator = PatchDiscriminator(4, 3).eval()
    image = torch.rand(1, 3, 32, 32)
    young, old = (torch.cat([image, torch.full((1, 1, 32, 32), age)], dim=1) for age in (0.2, 0.8))
    assert (discriminator(young) - discriminator(old)).abs().max() > 1e-3


# ---------------------------------------------------------------- weight files


@pytest.mark.parametrize("architecture", CONFIGS)
def test_weights_come_back_as_they_were(architecture, tmp_path):
    generator = small_generator(architecture, trained=True)
    save_generator(tmp_path / GENERATOR_FILE, generator, {"ages": [18, 85], "image_size": 128})
    x = torch.rand(1, 5, 40, 40)
    for path in (tmp_path, tmp_path / GENERATOR_FILE):
        loaded, metadata = load_generator(path)
        assert torch.equal(loaded(x), generator(x))
        assert not loaded.training
        assert metadata == {"ages": [18, 85], "image_size": 128, "generator": generator.config}
    assert [path.name for path in tmp_path.iterdir()] == [GENERATOR_FILE]


def test_weights_of_another_architecture_are_refused(tmp_path):
    generator = small_generator("fran_unet")
    generator.config = generator.config | {"base_channels": 8}
    save_generator(tmp_path / GENERATOR_FILE, generator, {})
    with pytest.raises(UserError, match=r"another architecture: .*weight.*\(4, 5, 3, 3\), not \(8, 5, 3, 3\)") as info:
        load_generator(tmp_path)
    assert "\n" not in str(info.value)


def test_unknown_architectures_and_arguments_are_refused():
    with pytest.raises(
        UserError, match="unknown generator architecture 'resnet'; choose one of fran_unet, smp_unet, timroelofs_unet"
    ):
        build_generator({"architecture": "resnet"})
    with pytest.raises(UserError, match="do not fit fran_unet"):
        build_generator({"architecture": "fran_unet", "channels": 3})


def test_broken_missing_and_foreign_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    whole = tmp_path / "whole.safetensors"
    save_generator(whole, small_generator("fran_unet"), {})
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:500])
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps({"x": 1}))
    (tmp_path / "empty").mkdir()
    for name, message in [
        ("cut.safetensors", "broken or incomplete"),
        ("foreign.safetensors", "not made by this program"),
        ("weights.pkl", r"no \.safetensors file"),
        ("nowhere.safetensors", "no such file"),
        ("empty", "has not finished an epoch yet"),
    ]:
        with pytest.raises(UserError, match=message) as info:
            read_metadata(tmp_path / name)
        assert "\n" not in str(info.value)


def test_a_save_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / GENERATOR_FILE).mkdir()
    with pytest.raises(IsADirectoryError):
        save_generator(tmp_path / GENERATOR_FILE, small_generator("fran_unet"), {})
    assert [entry.name for entry in tmp_path.iterdir()] == [GENERATOR_FILE]
