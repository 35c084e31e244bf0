"""The face-parsing networks against the reference numbers of the public code, and the files that people have."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bisenet_recipe import README, fill, manifest, recipe_image, recipe_weights, reference
from torch import Tensor, nn

from fran_lightning.errors import UserError
from fran_lightning.perception.bisenet_v1 import BiSeNetV1
from fran_lightning.perception.bisenet_v2 import AUXILIARY_HEADS, BiSeNetV2
from fran_lightning.perception.folded import fold_batch_norms
from fran_lightning.perception.parsing import FaceParser
from fran_lightning.perception.parsing_classes import CLASS_NAMES, CLASS_ORDERS, HAIR, SKIN
from fran_lightning.perception.parsing_layouts import recognise
from fran_lightning.perception.parsing_weights import load_parser, save_parser
from fran_lightning.perception.pixels import imagenet_normalised

TOLERANCE = 1e-3


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _recipe_input() -> Tensor:
    return torch.from_numpy(recipe_image()).permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("bisenetv2_coincheung_19_train", lambda: BiSeNetV2(19, auxiliary=AUXILIARY_HEADS)),
        ("bisenetv2_coincheung_19_eval", lambda: BiSeNetV2(19)),
        ("bisenetv2_coincheung_19_pixelshuffle", lambda: BiSeNetV2(19, "pixel_shuffle", AUXILIARY_HEADS)),
        ("bisenetv2_coincheung_19_plain2020", lambda: BiSeNetV2(19, "plain", AUXILIARY_HEADS)),
        ("bisenetv1_r18_zllrunning_19", lambda: BiSeNetV1(19, auxiliary=True)),
    ],
)
def test_networks_have_the_keys_and_shapes_of_the_public_code(name, network):
    assert list(_shapes(network()).items()) == list(manifest(name).items())


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("bisenetv2_coincheung_19", lambda: BiSeNetV2(19, auxiliary=AUXILIARY_HEADS)),
        ("bisenetv1_r18_zllrunning_19", lambda: BiSeNetV1(19, auxiliary=True)),
    ],
)
def test_logits_are_those_of_the_public_code(name, network):
    assert hashlib.sha256(recipe_image().tobytes()).hexdigest() == README["input_sha256_uint8_hwc"]
    expected = reference(name)
    filled = fill(network())
    with torch.inference_mode():
        x = imagenet_normalised(_recipe_input())
        main, *auxiliary = filled.all_logits(x)
        assert torch.equal(main, filled(x))
    np.testing.assert_allclose(F.avg_pool2d(main, 16)[0], expected["logits_32"], rtol=0, atol=TOLERANCE)
    for number, logits in enumerate(auxiliary, start=1):
        np.testing.assert_allclose(F.avg_pool2d(logits, 64)[0], expected[f"aux{number}_8"], rtol=0, atol=TOLERANCE)


def test_recipe_reproduces_its_check_values():
    weights = recipe_weights(manifest("bisenetv2_coincheung_19_train"))
    for name, values in README["recipe_check_v2_train_layout"].items():
        np.testing.assert_allclose(weights[name].flatten()[: len(values)], values, rtol=0, atol=1e-7)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(
    ("name", "architecture", "classes"),
    [
        ("bisenetv2_coincheung_19_train", "bisenet_v2", 19),
        ("bisenetv2_coincheung_19_pixelshuffle", "bisenet_v2", 19),
        ("bisenetv2_coincheung_19_plain2020", "bisenet_v2", 19),
        ("bisenetv2_sithu_helen_11", "bisenet_v2", 11),
        ("bisenetv1_r18_zllrunning_19", "bisenet_v1", 19),
        ("bisenetv1_r18_yakhyo_19", "bisenet_v1", 19),
        ("bisenetv1_r34_yakhyo_19", "bisenet_v1", 19),
    ],
)
def test_every_public_layout_is_recognised_and_complete(name, architecture, classes, prefix):
    meta = {prefix + key: torch.empty(shape, device="meta") for key, shape in manifest(name).items()}
    layout = recognise(meta, name)
    assert (layout.architecture, layout.classes) == (architecture, classes)
    with torch.device("meta"):
        network = BiSeNetV2(classes, layout.head) if architecture == "bisenet_v2" else BiSeNetV1(classes, layout.depth)
    assert {key: tuple(value.shape) for key, value in layout.weights.items()} == _shapes(network)


@pytest.mark.parametrize("which", ["yakhyo_to_zllrunning", "sithu_to_coincheung_pixelshuffle"])
def test_renamed_keys_are_those_of_the_key_map(which):
    key_map = README[which]
    names = {"yakhyo_to_zllrunning": "bisenetv1_r18_yakhyo_19"}
    shapes = manifest(names.get(which, "bisenetv2_sithu_helen_11"))
    weights = {name: torch.empty(shapes[name], device="meta") for name in key_map}
    renamed = recognise(weights, which).weights
    by_identity = {id(value): name for name, value in renamed.items()}
    kept = {name: by_identity[id(value)] for name, value in weights.items() if id(value) in by_identity}
    assert kept
    assert all(key_map[name] == here for name, here in kept.items())


def test_class_orders_name_the_same_things():
    official = README["classes_celebamaskhq_official_and_facexlib_parsenet"]
    ours = README["classes_zllrunning_yakhyo_facexlib_bisenet"]
    assert [ours[here] for here in CLASS_ORDERS["celebamask"]] == official
    assert [CLASS_NAMES[c] for c in SKIN] == ["skin", *CLASS_NAMES[2:4], *CLASS_NAMES[7:9], "nose", *CLASS_NAMES[12:15]]
    assert [CLASS_NAMES[c] for c in CLASS_ORDERS["helen"]][6:] == ["nose", "u_lip", "mouth", "l_lip", "hair"]


@pytest.fixture
def small_file(tmp_path):
    """A BiSeNet V2 of the recipe's weights in our own file format."""
    path = tmp_path / "parser.safetensors"
    save_parser(path, fill(BiSeNetV2(19)), {"class_order": "bisenet", "size": 256})
    return path


def test_probabilities_sum_to_one_at_every_size(small_file):
    parser = FaceParser(small_file)
    for height, width in ((32, 32), (97, 64), (256, 256), (300, 400)):
        found = parser.probabilities(torch.rand(1, 3, height, width) * 2 - 1)
        assert found.shape == (1, 19, height, width)
        assert torch.allclose(found.sum(dim=1), torch.ones(1, height, width), atol=1e-4)


def test_own_parsers_answer_for_a_mirror_image_is_the_mirrored_answer(small_file):
    parser, image = FaceParser(small_file, precision="float32"), torch.rand(1, 3, 96, 64) * 2 - 1
    found, mirrored = parser.probabilities(image), parser.probabilities(image.flip(-1)).flip(-1)
    assert parser.size == 320
    left, right = CLASS_NAMES.index("l_eye"), CLASS_NAMES.index("r_eye")
    torch.testing.assert_close(found[:, [left, right, HAIR]], mirrored[:, [right, left, HAIR]], atol=1e-5, rtol=0)
    once = FaceParser(small_file, precision="float32", mirrored=False)
    assert once.fingerprint != parser.fingerprint
    assert (once.probabilities(image) - once.probabilities(image.flip(-1)).flip(-1)).abs().max() > 1e-3


@pytest.mark.parametrize("make", [lambda: BiSeNetV2(19), lambda: BiSeNetV1(19, 18)], ids=["v2", "v1"])
def test_folded_batch_norms_keep_the_answer(make):
    network = fill(make())
    x = imagenet_normalised(_recipe_input())[..., :128, :128]
    with torch.inference_mode():
        expected, folded = network(x), fold_batch_norms(network)(x)
    assert (expected - folded).abs().max() < 1e-4 * expected.abs().max()
    left = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    # the one before a convolution stays
    assert left == (["segment.S5_5.bn"] if isinstance(network, BiSeNetV2) else [])


def test_mask_is_the_sum_of_its_classes(small_file):
    parser, image = FaceParser(small_file), torch.rand(2, 3, 64, 64) * 2 - 1
    found = parser.probabilities(image)
    assert torch.allclose(parser.mask(image, (1, 10)), found[:, [1, 10]].sum(dim=1, keepdim=True), atol=1e-5)
    assert torch.allclose(parser.mask(image, range(19)), torch.ones(2, 1, 64, 64), atol=1e-4)


@pytest.mark.parametrize(("side", "believed"), [(2, False), (12, True)])
def test_specks_of_glasses_are_skin_and_glasses_are_not(small_file, side, believed, monkeypatch):
    found = torch.zeros(1, 19, 64, 64)
    found[:, 1] = 1
    found[:, :, 20 : 20 + side, 20:32] = 0
    found[:, 6, 20 : 20 + side, 20:32] = 1
    found[:, :, 50:] = 0
    found[:, 17, 50:] = 1
    parser = FaceParser(small_file)
    monkeypatch.setattr(parser, "probabilities", lambda image: found)
    skin = parser.skin(torch.zeros(1, 3, 64, 64))[0, 0]
    assert skin[20 : 20 + side, 20:32].max() == pytest.approx(0.0 if believed else 0.535, abs=0.01)
    assert skin[:20].min() == 1
    assert skin[50:].max() == 0


def test_half_precision_file_keeps_the_answer(small_file):
    loaded = load_parser(small_file)
    assert small_file.stat().st_size < 8 * 2**20
    x = imagenet_normalised(_recipe_input())[..., :128, :128]
    with torch.inference_mode():
        expected, actual = fill(BiSeNetV2(19))(x), loaded.network(x)
    assert (expected - actual).abs().max() < 0.02 * expected.abs().max()


def test_helen_classes_arrive_in_their_places(tmp_path):
    path = tmp_path / "helen.pth"
    torch.save(recipe_weights(manifest("bisenetv2_sithu_helen_11")), path)
    found = FaceParser(path).probabilities(torch.rand(1, 3, 64, 64) * 2 - 1)
    present = {c for c in range(19) if found[:, c].max() > 0}
    assert present == set(CLASS_ORDERS["helen"])


def test_onnx_file_answers_like_the_pytorch_one(tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    # as exporters write it: batch normalisation folded into convolutions whose weights have numbers
    network = fill(BiSeNetV1(19, 18))
    to_yakhyo = {here: there for there, here in README["yakhyo_to_zllrunning"].items()}
    state = network.state_dict()
    nodes, tensors, number = [], [], 1000
    for name, module in network.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        place = to_yakhyo[f"{name}.weight"].removesuffix(".weight")
        parts = place.split(".")
        # sequences are named twice in node names
        path = [".".join(parts[k - 1 : k + 1]) if part.isdigit() else part for k, part in enumerate(parts)]
        stem, _, last = name.rpartition(".")
        follower = f"{stem}.{int(last) + 1}" if last.isdigit() else f"{stem}.{last.replace('conv', 'bn')}"
        weight, names = module.weight, [f"{place}.weight"]
        if f"{follower}.running_var" in state:
            scale = state[f"{follower}.weight"] / (state[f"{follower}.running_var"] + 1e-5).sqrt()
            weight = weight * scale.view(-1, 1, 1, 1)
            bias = state[f"{follower}.bias"] - state[f"{follower}.running_mean"] * scale
            names = [f"onnx::Conv_{number}", f"onnx::Conv_{number + 1}"]
            tensors.append(numpy_helper.from_array(bias.numpy(), names[1]))
            number += 2
        tensors.append(numpy_helper.from_array(weight.numpy(), names[0]))
        nodes.append(helper.make_node("Conv", ["x", *names], [f"y{number}"], name="/" + "/".join([*path, "Conv"])))
        number += 1
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    onnx.save(helper.make_model(helper.make_graph(nodes, "parser", [value], [value], tensors)), tmp_path / "r18.onnx")

    x = imagenet_normalised(_recipe_input())[..., 128:256, 128:256]
    with torch.inference_mode():
        expected, actual = network(x), load_parser(tmp_path / "r18.onnx").network(x)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-3)


def test_wrong_files_are_refused_in_one_line(tmp_path, small_file):
    v1 = tmp_path / "v1.pth"
    torch.save(fill(BiSeNetV1(19)).state_dict(), v1)
    with pytest.raises(UserError, match=r"is a BiSeNet V1, not a BiSeNet V2"):
        load_parser(v1, "bisenet_v2")
    odd = tmp_path / "odd.pth"
    torch.save(BiSeNetV2(7).state_dict(), odd)
    with pytest.raises(UserError, match=r"has 7 classes.*19 \(CelebAMask-HQ\) or 11"):
        load_parser(odd)
    with_path = {key: torch.zeros(shape) for key, shape in manifest("bisenetv1_coincheung_19").items()}
    torch.save(with_path, odd)
    with pytest.raises(UserError, match="spatial path"):
        load_parser(odd)
    torch.save({"w": torch.zeros(1)}, odd)
    with pytest.raises(UserError, match="no BiSeNet face parser"):
        load_parser(odd)
    with pytest.raises(UserError, match="helen order has 11"):
        load_parser(small_file, class_order="helen")
    incomplete = BiSeNetV2(19).state_dict()
    del incomplete["bga.conv.0.weight"]
    torch.save(incomplete, odd)
    with pytest.raises(UserError, match=r"missing: bga\.conv\.0\.weight"):
        load_parser(odd)
    (tmp_path / "broken.onnx").write_bytes(b"nothing like it")
    with pytest.raises(UserError, match=r"no ONNX file|no BiSeNet|holds no weights"):
        load_parser(tmp_path / "broken.onnx")


def test_images_that_cannot_be_parsed_are_refused(small_file):
    parser = FaceParser(small_file)
    with pytest.raises(UserError, match="31 x 40 pixels is too small"):
        parser.probabilities(torch.zeros(1, 3, 40, 31))
    with pytest.raises(UserError, match=r"must be \(B, 3, H, W\)"):
        parser.probabilities(torch.zeros(3, 40, 40))
