"""Exported files compute what PyTorch computes, and `fran reage` runs them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from faces import portrait, save_random_generator
from PIL import Image
from torch import nn

from fran_lightning.cli import main
from fran_lightning.errors import UserError
from fran_lightning.export.comparison import TOLERANCE, largest_difference
from fran_lightning.networks.weights import build_generator, load_generator, save_generator
from fran_lightning.reaging.backends import OnnxNetwork
from fran_lightning.reaging.photo import read_photo

CONFIGS = {
    "fran_unet": {"architecture": "fran_unet", "base_channels": 4, "depth": 3},
    "smp_unet": {"architecture": "smp_unet", "encoder_name": "tu-resnet10t", "decoder_channels": 32},
    "timroelofs_unet": {"architecture": "timroelofs_unet", "base_channels": 4},
    "rylu_unet": {"architecture": "rylu_unet", "base_channels": 4},
}
#: torch's ONNX exporter takes seconds; these two go the same way as the others
SLOW = ("smp_unet", "rylu_unet")
BY_ONNX = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CONFIGS]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, Path]:
    """A random generator of every architecture. Read only."""
    folder = tmp_path_factory.mktemp("weights")
    for name, config in CONFIGS.items():
        torch.manual_seed(0)
        generator = build_generator(config)
        for module in generator.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_var, 0.5, 2)
        nn.init.normal_(generator.head.weight, std=0.1)
        save_generator(folder / f"{name}.safetensors", generator, {"image_size": 128, "licence": "MIT"})
    return {name: folder / f"{name}.safetensors" for name in CONFIGS}


@pytest.fixture(scope="module")
def exported(weights, tmp_path_factory) -> Path:
    """The FRAN U-Net as ONNX. Read only."""
    path = tmp_path_factory.mktemp("onnx") / "fran.onnx"
    assert main(["export", str(weights["fran_unet"]), "--format", "onnx", "-o", str(path)]) == 0
    return path


def generator_input(batch: int, height: int, width: int) -> torch.Tensor:
    torch.manual_seed(1)
    x = torch.rand(batch, 5, height, width)
    x[:, :3] = x[:, :3] * 2 - 1
    return x


def difference(a: np.ndarray | torch.Tensor, b: torch.Tensor) -> float:
    return float((torch.as_tensor(a) - b).abs().max())


# ---------------------------------------------------------------- the files


@pytest.mark.parametrize("architecture", BY_ONNX)
def test_onnx_is_the_network_with_the_addition_at_any_size(weights, architecture, tmp_path, capsys):
    path = tmp_path / "network.onnx"
    assert main(["export", str(weights[architecture]), "--format", "onnx", "-o", str(path)]) == 0
    assert "largest difference from PyTorch" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [path]
    generator, _ = load_generator(weights[architecture])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for size in [(1, 64, 64), (3, 77, 51), (1, 33, 129), (2, 100, 96)]:
        x = generator_input(*size)
        inputs = {"image": x[:, :3], "source_age": x[:, 3:4], "target_age": x[:, 4:]}
        reaged, delta = session.run(["reaged", "delta"], {name: part.numpy() for name, part in inputs.items()})
        with torch.inference_mode():
            expected = generator(x)
        assert expected.std() > 0.01
        assert difference(delta, expected) < TOLERANCE
        assert difference(reaged, x[:, :3] + expected) < TOLERANCE


@pytest.mark.parametrize("architecture", CONFIGS)
def test_torchscript_is_the_delta_of_one_tensor_at_any_size(weights, architecture, tmp_path):
    path = tmp_path / "network.pt"
    assert main(["export", str(weights[architecture]), "--format", "torchscript", "-o", str(path)]) == 0
    generator, metadata = load_generator(weights[architecture])
    files = {"fran.json": ""}
    script = torch.jit.load(path, _extra_files=files)
    assert json.loads(files["fran.json"]) == metadata | {"export": "torchscript"}
    for size in [(1, 64, 64), (3, 77, 51), (1, 33, 129)]:
        x = generator_input(*size)
        # beyond what a picture holds: nothing is clipped
        x[:, :3] *= 3
        with torch.inference_mode():
            assert difference(script(x), generator(x)) < TOLERANCE
    # no device and no precision is fixed in the file
    assert "cpu" not in script.code
    with torch.inference_mode():
        assert difference(script.double()(x.double()), generator(x)) < TOLERANCE


@pytest.mark.parametrize("architecture", ["fran_unet", pytest.param("timroelofs_unet", marks=pytest.mark.slow)])
def test_facefusion_gets_its_contract(weights, architecture, tmp_path):
    path = tmp_path / "network.onnx"
    assert main(["export", str(weights[architecture]), "--format", "facefusion", "-o", str(path)]) == 0
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [(value.name, value.shape) for value in session.get_inputs()] == [
        ("target", [1, 3, 1024, 1024]),
        ("direction", [2]),
    ]
    assert [value.shape for value in session.get_outputs()] == [[1, 3, 1024, 1024]]
    crop = np.asarray(Image.fromarray(portrait()).resize((1024, 1024)))[..., ::-1]  # BGR, as FaceFusion holds it
    target = (crop[..., ::-1] / 255).transpose(2, 0, 1)[None].astype(np.float32)
    direction = (np.array([35, 35 + 40], dtype=np.float32) / 100).clip(0, 1)
    output = session.run(None, {"target": target, "direction": direction})[0]
    generator, _ = load_generator(weights[architecture])
    maps = torch.from_numpy(direction).reshape(1, 2, 1, 1).expand(1, 2, 1024, 1024)
    image = torch.from_numpy(target) * 2 - 1
    with torch.inference_mode():
        expected = ((image + generator(torch.cat([image, maps], dim=1)) + 1) / 2).clamp(0, 1)
    assert difference(output, expected) < TOLERANCE
    assert difference(output, torch.from_numpy(target)) > 0.01


def test_files_say_what_they_are_and_nothing_of_the_machine(exported):
    model = onnx.load(exported)
    # old enough for runtimes that are built into other programs
    assert model.ir_version == 8
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [18]
    (stored,) = model.metadata_props
    assert stored.key == "fran"
    metadata = json.loads(stored.value)
    assert metadata["export"] == "onnx"
    assert metadata["image_size"] == 128
    assert metadata["licence"] == "MIT"
    assert metadata["generator"] == CONFIGS["fran_unet"]
    content = exported.read_bytes()
    assert os.getcwd().encode() not in content
    assert b".py" not in content
    assert [value.name for value in model.graph.input] == ["image", "source_age", "target_age"]
    assert {value.name: value.type.tensor_type.shape.dim[0].dim_param for value in model.graph.output} == {
        "reaged": "batch",
        "delta": "batch",
    }


def test_the_default_name_is_beside_the_weights(weights, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "generator.safetensors").write_bytes(weights["fran_unet"].read_bytes())
    assert main(["export", str(run), "--format", "torchscript"]) == 0
    assert {path.name for path in run.iterdir()} == {"generator.safetensors", "generator.pt"}


def test_weights_in_half_precision_are_exported_as_float32(tmp_path):
    torch.manual_seed(0)
    generator = build_generator(CONFIGS["fran_unet"])
    nn.init.normal_(generator.head.weight, std=0.3)
    save_generator(tmp_path / "half.safetensors", generator.bfloat16(), {})
    assert main(["export", str(tmp_path / "half.safetensors"), "--format", "torchscript"]) == 0
    x = generator_input(1, 64, 64)
    with torch.inference_mode():
        delta = torch.jit.load(tmp_path / "half.pt")(x)
        assert difference(delta, generator.float()(x)) < TOLERANCE


def test_a_file_that_computes_something_else_is_refused(weights):
    generator, _ = load_generator(weights["fran_unet"])
    generator.requires_grad_(False)
    assert largest_difference(generator, lambda x: generator(x) + 5e-5) == pytest.approx(5e-5, rel=0.1)
    with pytest.raises(UserError, match="differs from PyTorch by 2"):
        largest_difference(generator, lambda x: generator(x) + 2e-4)
    with pytest.raises(UserError, match="differs from PyTorch by nan"):
        largest_difference(generator, lambda x: generator(x) * float("nan"))


# ---------------------------------------------------------------- fran reage


def reaged(photo: Path, *options: str) -> np.ndarray:
    """What `fran reage` makes of ``photo``, 16 bits as signed numbers."""
    output = photo.with_name("result.png")
    arguments = ["--source-age", "30", "--target-age", "70", "--device", "cpu", *options]
    assert main(["reage", str(photo), "-o", str(output), *arguments]) == 0
    return read_photo(output).pixels.astype(int)


def test_reage_gives_the_same_picture_with_onnxruntime(weights, exported, tmp_path):
    import cv2

    sixteen = portrait().astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "photo.png"), sixteen[..., ::-1])
    photo = tmp_path / "photo.png"
    eager = reaged(photo, "--checkpoint", str(weights["fran_unet"]), "--precision", "float32")
    assert 0.02 < (eager != sixteen).any(axis=-1).mean() < 0.3
    by_file = reaged(photo, "--checkpoint", str(exported))
    # 1e-4 of [-1, 1] in 16 bits, and a rounding
    assert np.abs(by_file - eager).max() <= 1e-4 * 65535 / 2 + 1
    by_flag = reaged(photo, "--checkpoint", str(weights["fran_unet"]), "--backend", "onnxruntime")
    assert (by_flag == by_file).all()


def test_networks_at_work_are_equal_for_every_map(weights, exported):
    from fran_lightning.reaging.network import DeltaNetwork

    generator, metadata = load_generator(weights["fran_unet"])
    eager = DeltaNetwork(generator, torch.device("cpu"), "float32")
    network = OnnxNetwork(exported)
    assert network.metadata["image_size"] == metadata["image_size"]
    crops, ages = generator_input(2, 80, 80)[:, :3], torch.rand(2, 1, 80, 80)
    assert difference(network(crops, [30.0, 55.0], ages), eager(crops, [30.0, 55.0], ages)) < TOLERANCE
    assert network.fingerprint() == OnnxNetwork(exported).fingerprint() != eager.fingerprint()


# ---------------------------------------------------------------- what is refused


def error_line(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_bad_checkpoints_are_one_line_and_leave_nothing(weights, exported, tmp_path, capsys):
    Image.fromarray(portrait()).save(tmp_path / "photo.png")
    (tmp_path / "cut.onnx").write_bytes(exported.read_bytes()[:2000])
    (tmp_path / "text.onnx").write_text("this is no network")
    foreign = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", ["x"], ["y"])],
            "foreign",
            [onnx.helper.make_tensor_value_info("x", 1, [1])],
            [onnx.helper.make_tensor_value_info("y", 1, [1])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.save(foreign, tmp_path / "foreign.onnx")
    before = sorted(tmp_path.iterdir())
    reage = ("reage", tmp_path / "photo.png", "-o", tmp_path / "older.png", "--checkpoint")
    assert "broken or no ONNX network" in error_line(capsys, *reage, tmp_path / "cut.onnx")
    assert "broken or no ONNX network" in error_line(capsys, *reage, tmp_path / "text.onnx")
    assert "of another program" in error_line(capsys, *reage, tmp_path / "foreign.onnx")
    assert "does not exist" in error_line(capsys, *reage, tmp_path / "nowhere.onnx")
    assert "PyTorch does not run" in error_line(capsys, *reage, exported, "--backend", "torch")
    assert "float32" in error_line(capsys, *reage, exported, "--precision", "bfloat16")
    assert "no CUDA" in error_line(capsys, *reage, exported, "--device", "cuda")
    line = error_line(capsys, *reage, weights["fran_unet"], "--backend", "tensorrt")
    assert "choose one of: auto, torch, onnxruntime" in line
    assert sorted(tmp_path.iterdir()) == before


def test_bad_exports_are_one_line_and_leave_nothing(weights, exported, tmp_path, capsys):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    damaged = save_random_generator(tmp_path / "damaged.safetensors")
    generator, metadata = load_generator(damaged)
    nn.init.constant_(generator.head.bias, float("nan"))
    save_generator(damaged, generator, metadata)
    before = sorted(tmp_path.iterdir())
    assert "choose one of: onnx, torchscript, facefusion" in error_line(
        capsys, "export", weights["fran_unet"], "--format", "coreml"
    )
    line = error_line(capsys, "export", weights["fran_unet"], "--format", "onnx", "-o", tmp_path / "network.pt")
    assert "ends in .onnx" in line
    assert "fran import-weights" in error_line(capsys, "export", tmp_path / "other.pth", "--format", "onnx")
    assert "no .safetensors file" in error_line(capsys, "export", exported, "--format", "torchscript")
    assert "no such file" in error_line(capsys, "export", tmp_path / "nowhere", "--format", "onnx")
    for name in ("torchscript", "facefusion"):
        assert "differs from PyTorch by nan" in error_line(capsys, "export", damaged, "--format", name)
    assert sorted(tmp_path.iterdir()) == before
