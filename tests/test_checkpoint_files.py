"""Checkpoints from elsewhere: what loads, and what is refused with one clear line."""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from sam_recipe import fill, mean_code

from fran_lightning.errors import UserError
from fran_lightning.networks.checkpoint_files import load_checkpoint_file
from fran_lightning.synthesis.sam.checkpoints import load_dex, load_irse50, load_sam, load_stylegan2
from fran_lightning.synthesis.sam.stylegan2 import StyleGAN2


class RunsCode:
    """Unpickled, it would create the file whose name is in RAN."""

    RAN = "code-has-run"

    def __reduce__(self):
        return os.mkdir, (self.RAN,)


@pytest.fixture(scope="module")
def small_stylegan2():
    """State dict of the smallest generator."""
    with torch.device("meta"):
        network = StyleGAN2(8)
    return fill(network).state_dict()


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def refusal(load, path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    assert str(path) in message
    return message


# --- the file itself -------------------------------------------------------------------------------------------


def test_plain_weights_load_from_every_format(tmp_path):
    weights = {"a": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}
    paths = [saved(tmp_path / "zip.pt", weights), tmp_path / "legacy.pth", tmp_path / "safe.safetensors"]
    torch.save(weights, paths[1], _use_new_zipfile_serialization=False)
    save_file(weights, paths[2])
    for path in paths:
        loaded = load_checkpoint_file(path)
        assert loaded.keys() == weights.keys()
        assert all(torch.equal(loaded[name], weights[name]) for name in weights)


def test_options_stored_as_a_namespace_are_accepted(tmp_path):
    path = saved(tmp_path / "a.pt", {"opts": argparse.Namespace(output_size=1024)})
    assert load_checkpoint_file(path)["opts"].output_size == 1024


def test_missing_file(tmp_path):
    assert "does not exist" in refusal(load_checkpoint_file, tmp_path / "none.pt")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.99])
def test_truncated_file(tmp_path, legacy, kept):
    path = tmp_path / "a.pt"
    torch.save({"a": torch.randn(300, 100)}, path, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert "download it again" in refusal(load_checkpoint_file, path)


@pytest.mark.parametrize("legacy", [False, True])
def test_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch, legacy):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pt"
    torch.save({"state_dict": RunsCode()}, path, _use_new_zipfile_serialization=not legacy)
    message = refusal(load_checkpoint_file, path)
    assert "runs code" in message
    assert "mkdir" in message
    assert not (tmp_path / RunsCode.RAN).exists()


def test_whole_module_is_refused(tmp_path):
    assert "Linear" in refusal(load_checkpoint_file, saved(tmp_path / "a.pt", {"net": torch.nn.Linear(2, 2)}))


def test_nvidia_pickle_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "stylegan3-r-ffhq-1024x1024.pkl"
    path.write_bytes(pickle.dumps({"G_ema": RunsCode()}, protocol=4))
    assert "StyleGAN3" in refusal(load_checkpoint_file, path)
    assert not (tmp_path / RunsCode.RAN).exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<!DOCTYPE html><html>Google Drive - Virus scan warning</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS"),
        (b"\x00" * 4096, "truncated or damaged"),
        (bytes(range(256)) * 8, "download it again"),
    ],
)
def test_things_that_downloads_leave_behind(tmp_path, content, told):
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    assert told in refusal(load_checkpoint_file, path)


def test_a_bare_tensor_is_no_checkpoint(tmp_path):
    assert "not a dictionary" in refusal(load_checkpoint_file, saved(tmp_path / "a.pt", torch.zeros(2)))


def test_truncated_safetensors(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:200])
    assert "truncated" in refusal(load_checkpoint_file, path)


# --- the weights in it -----------------------------------------------------------------------------------------


def test_stylegan2_loads_strictly_and_draws(tmp_path, small_stylegan2):
    path = saved(tmp_path / "a.pt", {"g_ema": small_stylegan2, "latent_avg": mean_code()})
    network, mean = load_stylegan2(path)
    assert network.output_size == 8
    assert not network.training
    assert torch.equal(mean, mean_code())
    with torch.inference_mode():
        assert network.synthesise(mean.expand(1, 4, 512)).shape == (1, 3, 8, 8)


def test_half_precision_copy_loads_as_float32(tmp_path, small_stylegan2):
    halved = {name: value.half() for name, value in small_stylegan2.items()}
    network, _ = load_stylegan2(saved(tmp_path / "a.pt", {"g_ema": halved, "latent_avg": mean_code()}))
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}


def test_missing_and_unexpected_keys_are_named(tmp_path, small_stylegan2):
    weights = dict(small_stylegan2)
    weights["conv1.noise.strength"] = weights.pop("conv1.noise.weight")
    path = saved(tmp_path / "a.pt", {"g_ema": weights, "latent_avg": mean_code()})
    message = refusal(load_stylegan2, path)
    assert "missing: conv1.noise.weight" in message
    assert "unexpected: conv1.noise.strength" in message


def test_wrong_shape_is_named(tmp_path, small_stylegan2):
    weights = small_stylegan2 | {"style.3.weight": torch.zeros(256, 512)}
    message = refusal(load_stylegan2, saved(tmp_path / "a.pt", {"g_ema": weights, "latent_avg": mean_code()}))
    assert "style.3.weight ((256, 512), not (512, 512))" in message


def test_another_filter_is_refused(tmp_path, small_stylegan2):
    weights = small_stylegan2 | {"convs.0.conv.blur.kernel": torch.ones(4, 4) / 4}
    message = refusal(load_stylegan2, saved(tmp_path / "a.pt", {"g_ema": weights, "latent_avg": mean_code()}))
    assert "convs.0.conv.blur.kernel" in message


@pytest.mark.parametrize("mean", [None, torch.zeros(18, 512)])
def test_mean_code_of_another_shape_is_refused(tmp_path, small_stylegan2, mean):
    message = refusal(load_stylegan2, saved(tmp_path / "a.pt", {"g_ema": small_stylegan2, "latent_avg": mean}))
    assert "latent_avg" in message
    assert "(512,)" in message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"lora_unet_down_blocks_0.lora_down.weight": torch.zeros(2)}, "LoRA"),
        ({"state_dict": {"layers.0.lora_A.weight": torch.zeros(2)}}, "LoRA"),
        ({"state_dict": {"synthesis.L0_36_1024.weight": torch.zeros(2)}}, "StyleGAN3"),
        ({"G_ema.synthesis.L0_36_1024.weight": torch.zeros(2)}, "StyleGAN3"),
        ({"state_dict": {"synthesis.b4.conv1.weight": torch.zeros(2)}}, "StyleGAN2-ADA"),
        ({"state_dict": {"model.diffusion_model.out.weight": torch.zeros(2)}}, "diffusion"),
        ({"epoch": 3, "model": {}}, "no 'state_dict'"),
        ({"state_dict": {"encoder.weight": torch.zeros(2)}}, "decoder.to_rgbs.0.bias"),
        ({"state_dict": {}}, "begins with nothing"),
    ],
)
def test_sam_refuses_other_files_by_name(tmp_path, content, told):
    assert told in refusal(load_sam, saved(tmp_path / "a.pt", content))


def test_sam_refuses_a_file_without_its_second_encoder(tmp_path, small_stylegan2):
    weights = {f"decoder.{name}": value for name, value in small_stylegan2.items()}
    message = refusal(load_sam, saved(tmp_path / "psp.pt", {"state_dict": weights, "latent_avg": mean_code()}))
    assert "missing: encoder.input_layer.0.weight" in message
    assert "more" in message


def test_entries_that_are_no_tensors_are_refused(tmp_path, small_stylegan2):
    weights = small_stylegan2 | {"conv1.noise.weight": 0.1}
    message = refusal(load_stylegan2, saved(tmp_path / "a.pt", {"g_ema": weights, "latent_avg": mean_code()}))
    assert "conv1.noise.weight is a float" in message


def test_the_judges_refuse_other_files(tmp_path, small_stylegan2):
    message = refusal(load_dex, saved(tmp_path / "a.pt", {"state_dict": small_stylegan2}))
    assert "missing: conv1_1.weight, conv1_1.bias and 30 more; unexpected: style.1.weight" in message
    message = refusal(load_irse50, saved(tmp_path / "b.pt", small_stylegan2))
    assert "missing: input_layer.0.weight" in message


def test_dex_accepts_both_spellings(tmp_path):
    from fran_lightning.synthesis.sam.dex import DEX

    with torch.device("meta"):
        shapes = DEX().state_dict()
    # shared zeros: the names are what is tested, and the file stays small
    zero = torch.zeros(1)
    weights = {name: zero.expand(value.shape) for name, value in shapes.items()}
    dashed = {name.replace("fc8_101", "fc8-101"): value for name, value in weights.items()}
    for spelling in (weights, dashed):
        dex = load_dex(saved(tmp_path / "dex.pth", {"state_dict": spelling, "epoch": 7}))
        assert dex.fc8_101.weight.shape == (101, 4096)
    message = refusal(load_dex, saved(tmp_path / "dex.pth", {"state_dict": {**dashed, "fc9.bias": zero}}))
    assert "unexpected: fc9.bias" in message


def test_irse50_loads_without_step_counters(tmp_path):
    from fran_lightning.synthesis.sam.encoder import IRSE50

    with torch.device("meta"):
        shapes = IRSE50().state_dict()
    zero = torch.zeros(1)
    weights = {
        name: zero.expand(value.shape) for name, value in shapes.items() if not name.endswith("num_batches_tracked")
    }
    network = load_irse50(saved(tmp_path / "ir.pth", weights))
    assert network.body[0].res_layer[0].num_batches_tracked.item() == 0
    del weights["input_layer.2.weight"]
    assert "missing: input_layer.2.weight" in refusal(load_irse50, saved(tmp_path / "ir.pth", weights))
