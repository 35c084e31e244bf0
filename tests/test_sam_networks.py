"""SAM, StyleGAN2, pSp, DEX and the preparation of their input against reference numbers of the official code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sam_recipe import fill, image, load_fixture, load_manifest, mean_code, photo, recipe_sam, tensor, u, uniform
from torch import Tensor, nn

from fran_lightning.synthesis.sam.dex import DEX, expected_age
from fran_lightning.synthesis.sam.encoder import (
    IRSE50,
    TAPS,
    IRSEUnit,
    PyramidEncoder,
    SqueezeExcitation,
    StyleHead,
    upsample_add,
)
from fran_lightning.synthesis.sam.model import SAM, mix_codes
from fran_lightning.synthesis.sam.photo_alignment import align_photo
from fran_lightning.synthesis.sam.pixels import face_tensor, resize_output, to_uint8
from fran_lightning.synthesis.sam.stylegan2 import (
    BiasedActivation,
    EqualizedLinear,
    FIRFilter,
    ModulatedConv2d,
    PixelNorm,
    StyledConv,
    StyleGAN2,
    ToRGB,
    truncate,
)

TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


def assert_close(actual: Tensor | np.ndarray, expected: np.ndarray, tolerance: float = TOLERANCE) -> None:
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=tolerance)


def pooled(images: Tensor, size: int) -> Tensor:
    return F.adaptive_avg_pool2d(images, size)


# --- the weights themselves ------------------------------------------------------------------------------------


def test_recipe_reproduces_its_check_values():
    units = load_fixture("units")
    assert (u("probe", 8) == units["hash_probe_u"]).all()
    first = tensor("encoder.body.3.res_layer.1.weight", (128, 64, 3, 3)).flatten()[:8]
    assert (first.numpy() == units["recipe_probe_conv"]).all()


# --- small parts -----------------------------------------------------------------------------------------------


def _unit(module: nn.Module, name: str) -> nn.Module:
    return fill(module, f"unit.{name}.")


def _styled(name: str, module: nn.Module, x_shape: tuple[int, ...], **inputs: Tensor) -> Tensor:
    style = uniform(f"unit.{name}.style", (2, 4))
    return _unit(module, name)(uniform(f"unit.{name}.x", x_shape), style, **inputs)


def _linear(name: str, module: nn.Module, x_shape: tuple[int, ...]) -> Tensor:
    return _unit(module, name)(uniform(f"unit.{name}.x", x_shape))


UNITS = {
    "equal_linear": lambda: _linear("equal_linear", EqualizedLinear(8, 6), (3, 8)),
    "style.1": lambda: _linear("style.1", EqualizedLinear(8, 6, lr_multiplier=0.01, activation=True), (3, 8)),
    "pixel_norm": lambda: _linear("pixel_norm", PixelNorm(), (3, 8)),
    "fused_lrelu": lambda: _linear("fused_lrelu", BiasedActivation(5), (2, 5, 3, 3)),
    "upsample": lambda: FIRFilter().double(uniform("unit.upsample.x", (2, 3, 5, 7))),
    "blur_up": lambda: FIRFilter().smooth(uniform("unit.blur_up.x", (2, 3, 6, 7))),
    "modconv": lambda: _styled("modconv", ModulatedConv2d(6, 5, 3, 4), (2, 6, 5, 5)),
    "modconv_up": lambda: _styled("modconv_up", ModulatedConv2d(6, 5, 3, 4, upsample=True), (2, 6, 5, 5)),
    "modconv_rgb": lambda: _styled("modconv_rgb", ModulatedConv2d(6, 3, 1, 4, demodulate=False), (2, 6, 5, 5)),
    "styled_conv": lambda: _styled(
        "styled_conv",
        StyledConv(6, 5, 4, upsample=True),
        (2, 6, 5, 5),
        noise=uniform("unit.styled_conv.noise_in", (1, 1, 10, 10)),
    ),
    "to_rgb": lambda: _styled("to_rgb", ToRGB(6, 4), (2, 6, 10, 10), rgb=uniform("unit.to_rgb.skip", (2, 3, 5, 5))),
    "se": lambda: _linear("se", SqueezeExcitation(32), (2, 32, 3, 3)),
    "ir_16_16_s2": lambda: _linear("ir_16_16_s2", IRSEUnit(16, 16, 2), (2, 16, 8, 8)),
    "ir_16_32_s2": lambda: _linear("ir_16_32_s2", IRSEUnit(16, 32, 2), (2, 16, 8, 8)),
    "ir_32_32_s1": lambda: _linear("ir_32_32_s1", IRSEUnit(32, 32, 1), (2, 32, 8, 8)),
    "style_block": lambda: _linear("style_block", StyleHead(4, 16), (2, 16, 16, 16)),
    "upsample_add": lambda: upsample_add(
        uniform("unit.upsample_add.x", (2, 3, 4, 4)), uniform("unit.upsample_add.y", (2, 3, 8, 8))
    ),
}


@pytest.mark.parametrize("name", UNITS)
def test_unit_meets_its_reference(name):
    assert_close(UNITS[name](), load_fixture("units")[name], 1e-5)


def test_every_unit_of_the_fixture_is_tested():
    assert set(load_fixture("units")) - {"hash_probe_u", "recipe_probe_conv"} == set(UNITS)


@pytest.mark.parametrize("upsample", [False, True])
def test_one_sample_and_a_batch_take_different_ways_to_the_same_result(upsample):
    convolution = _unit(ModulatedConv2d(6, 5, 3, 4, upsample=upsample), "modconv")
    x, style, bias = uniform("x", (3, 6, 5, 5)), uniform("s", (3, 4)), uniform("b", (5,))
    together = convolution(x, style, gain=1.7, bias=bias)
    single = torch.cat([convolution(x[i : i + 1], style[i : i + 1], gain=1.7, bias=bias) for i in range(3)])
    assert_close(together, single.numpy(), 1e-5)


def test_large_styles_do_not_overflow_in_half_precision():
    convolution = _unit(ModulatedConv2d(64, 8, 3, 4), "modconv")
    x, style = 100 * uniform("x", (2, 64, 8, 8)), 5e3 * uniform("s", (2, 4))
    exact, half = convolution(x, style), convolution(x.half(), style)
    assert torch.isfinite(half).all()
    assert_close(half.float(), exact.numpy(), 2e-3 * float(exact.abs().max()))


# --- keys and shapes -------------------------------------------------------------------------------------------


def _build_psp() -> nn.Module:
    return nn.ModuleDict({"encoder": PyramidEncoder(3), "decoder": StyleGAN2()})


@pytest.mark.parametrize(
    ("manifest", "build"),
    [
        ("sam", SAM),
        ("stylegan2_ffhq_config_f", StyleGAN2),
        ("psp_ffhq_encode", _build_psp),
        ("dex_vgg", DEX),
        ("ir_se50", IRSE50),
    ],
)
def test_state_dict_matches_the_manifest_of_the_official_file(manifest, build):
    with torch.device("meta"):
        network = build()
    own = {
        name: (tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for name, value in network.state_dict().items()
    }
    assert own == load_manifest(manifest)


# --- whole networks --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sam32():
    return recipe_sam(32)


def _check_sam(sam: SAM, size: int) -> None:
    expected = load_fixture(f"sam_{size}")
    faces = image(2, 256)
    years = [float(age) for age in expected["ages"]]
    identity = sam.identity_codes(faces)
    codes = sam.aged_codes(faces, years, identity)
    assert_close(codes, expected["codes"])
    assert_close((codes - identity)[1], expected["enc"])

    rows = expected["mix_mask"].tolist()
    mixed = mix_codes(codes[:1], identity[1:], rows, alpha=0.5)
    assert_close(mixed[0, rows], expected["ref_mix_rows"])
    untouched = [row for row in range(codes.shape[1]) if row not in rows]
    assert (mixed[0, untouched] == codes[0, untouched]).all()

    images = sam.render(codes)
    assert images.shape == (2, 3, size, size)
    if size == 32:
        assert_close(images, expected["img"])
        return
    start = size // 2 - 16
    assert_close(pooled(images[1:], 64)[0], expected["img_pooled"])
    assert_close(pooled(images[:1], 32)[0], expected["img_age0_pooled32"])
    assert_close(images[1, :, start : start + 32, start : start + 32], expected["img_crop"])
    assert_close(resize_output(images[:1], 256)[0, :, 120:136, 120:136], expected["img256_crop"])


def test_sam_32_meets_the_reference(sam32):
    _check_sam(sam32, 32)


@pytest.mark.slow
@pytest.mark.parametrize("size", [256, 1024])
def test_sam_meets_the_reference_at_full_sizes(size):
    _check_sam(recipe_sam(size), size)


def test_encoder_features_meet_the_reference(sam32):
    expected = load_fixture("sam_32")
    plane = torch.full((1, 1, 256, 256), 0.85)
    x = torch.cat((image(2, 256)[1:], plane), dim=1)
    encoder = sam32.encoder
    stem = encoder.input_layer(x)
    features = {"stem": stem, "body2": encoder.body[:3](stem)}
    features |= dict(zip(("c1", "c2", "c3"), encoder.backbone_features(x), strict=True))
    assert len(TAPS) == 3
    for name, feature in features.items():
        step = feature.shape[-1] // 4
        assert_close(feature[0, :6, ::step, ::step][:, :4, :4], expected[f"feat_{name}"])


def test_one_face_at_several_ages_equals_that_face_repeated(sam32):
    face = image(1, 256)
    identity = torch.zeros(())
    seen = []
    handle = sam32.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    together = sam32.aged_codes(face, [37, 70.5], identity)
    handle.remove()
    single = torch.cat([sam32.aged_codes(face, [age], identity) for age in (37, 70.5)])
    assert_close(together, single.numpy())
    assert (together[0] - together[1]).abs().mean() > 0.1

    assert (seen[0][:, :3] == face).all()
    assert (seen[0][0, 3, :2, :2].numpy() == load_fixture("preprocess")["age37_last_channel"]).all()
    assert (seen[0][1, 3] == torch.tensor(0.705)).all()


@pytest.mark.parametrize("size", [32, 256, pytest.param(1024, marks=pytest.mark.slow)])
def test_stylegan2_meets_the_reference(size):
    expected = load_fixture(f"stylegan2_{size}")
    with torch.device("meta"):
        generator = StyleGAN2(size)
    fill(generator)
    w = generator.map(uniform("z", (2, 512)))
    assert_close(w, expected["w"])
    truncated = truncate(w, mean_code(), 0.7)
    assert_close(truncated, expected["w_trunc07"])

    def draw(style: Tensor) -> Tensor:
        return generator.synthesise(style[:, None].expand(-1, generator.style_count, -1))

    if size == 32:
        assert_close(draw(truncated), expected["img_psi07"])
        assert_close(draw(w), expected["img_psi1"])
        return
    images = draw(truncated)
    start = size // 2 - 16
    assert_close(pooled(images, 64), expected["img_psi07_pooled"])
    assert_close(images[..., start : start + 32, start : start + 32], expected["img_psi07_crop"])
    assert_close(pooled(draw(w), 32), expected["img_psi1_pooled32"])


def test_bfloat16_stays_within_a_few_grey_levels():
    with torch.device("meta"):
        generator = StyleGAN2(256)
    fill(generator)
    codes = generator.map(uniform("z", (2, 512)))[:1, None].expand(-1, generator.style_count, -1)
    exact, coarse = to_uint8(generator.synthesise(codes)), to_uint8(generator.synthesise(codes, torch.bfloat16))
    difference = np.abs(exact.astype(int) - coarse)
    assert 0 < difference.mean() < 1.5


@pytest.fixture(scope="module")
def dex():
    with torch.device("meta"):
        network = DEX()
    return fill(network)


def test_dex_meets_the_reference(dex):
    expected = load_fixture("dex")
    faces = image(2, 224)
    logits = dex.logits(faces)
    assert_close(logits, expected["fc8_224"], 1e-3)
    assert_close(logits.softmax(dim=1), expected["probs_224"])
    assert_close(expected_age(logits), expected["age_224"], 1e-2)
    first = F.relu(dex.conv1_2(F.relu(dex.conv1_1(faces))))
    assert_close(first[:, :8, 100:108, 100:108], expected["r12_crop"])
    assert_close(dex(image(2, 256)), expected["ages_256"], 1e-2)


def test_dex_pools_large_faces_to_the_aligned_size(dex):
    face = image(1, 256)
    enlarged = face.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert_close(dex(enlarged), dex(face).numpy(), 1e-2)


def test_irse50_gives_unit_vectors_that_tell_faces_apart():
    with torch.device("meta"):
        network = IRSE50()
    vectors = fill(network)(image(2, 256))
    assert_close(vectors.norm(dim=1), np.ones(2), 1e-5)
    assert vectors[0] @ vectors[1] < 0.999


# --- input and output pictures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["plain", "rot_pad", "shrink"])
def test_photo_alignment_meets_the_reference(case):
    expected = load_fixture("preprocess")
    aligned = align_photo(photo(*expected[f"{case}_hw"]), expected[f"{case}_lm"]).astype(np.float32)
    # one level for other versions of Pillow
    assert_close(aligned.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3)), expected[f"{case}_pooled64"], 1)
    assert_close(aligned[112:144, 112:144], expected[f"{case}_crop"], 1)
    assert_close(aligned[:16, :16], expected[f"{case}_corner"], 1)


@pytest.mark.parametrize(("height", "width"), [(1024, 1024), (300, 280), (256, 256)])
def test_face_tensor_meets_the_reference(height, width):
    expected = load_fixture("preprocess")
    tensor = face_tensor(photo(height, width))[0]
    assert_close(pooled(tensor[None], 64)[0], expected[f"tf_{height}x{width}_pooled64"], 1 / 127)
    assert_close(tensor[:, 100:116, 60:76], expected[f"tf_{height}x{width}_crop"], 1 / 127)


def test_output_is_clamped_and_truncated_as_officially():
    expected = load_fixture("preprocess")
    assert (to_uint8(torch.from_numpy(expected["tensor2im_in"])[None])[0] == expected["tensor2im_out"]).all()
    assert to_uint8(torch.tensor([-3.0, 3.0, 0.999]).view(1, 3, 1, 1)).ravel().tolist() == [0, 255, 254]
