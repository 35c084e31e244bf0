"""Public weights of other FRAN networks: recognised, equal to their own graphs, and used like ours."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from faces import portrait
from PIL import Image
from unet_recipe import NETWORKS, graph_input, reference, state_dict

from fran_lightning.cli import main
from fran_lightning.networks.weights import build_generator, load_generator

#: names that the files have at their sources; an .h5 that is a PyTorch file
FILES = {"timroelofs_unet": "best_unet_model.pth", "rylu_unet": "large-aging-model.h5"}


class RunsCode:
    """Unpickled, it would make a folder."""

    def __reduce__(self):
        return os.mkdir, ("code-has-run",)


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> dict[str, Path]:
    """Both networks, imported by the command. Read only."""
    folder = tmp_path_factory.mktemp("community")
    for network, name in FILES.items():
        torch.save(state_dict(network), folder / name)
        assert main(["import-weights", str(folder / name), "-o", str(folder / f"{network}.safetensors")]) == 0
        (folder / name).unlink()
    return {network: folder / f"{network}.safetensors" for network in NETWORKS}


def refusal(capsys: pytest.CaptureFixture[str], path: Path, *options: str) -> str:
    """The one line that the import ends with; nothing may be written."""
    before = sorted(path.parent.iterdir())
    assert main(["import-weights", str(path), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sorted(path.parent.iterdir()) == before
    return line


@pytest.mark.parametrize("network", NETWORKS)
def test_deltas_are_those_of_the_networks_own_graph(imported, network):
    generator, metadata = load_generator(imported[network])
    low, high = metadata["value_range"]
    x = graph_input()
    # from its own range to ours, and the delta back
    ours = torch.cat([(x[:, :3] - low) / (high - low) * 2 - 1, x[:, 3:]], dim=1)
    with torch.inference_mode():
        delta = (generator(ours) * (high - low) / 2).numpy()
    expected = reference(network)
    assert np.abs(delta[..., ::2, ::2] - expected["output"]).max() < 1e-4
    assert np.abs(delta.mean(axis=(2, 3)) - expected["output_mean"]).max() < 1e-4
    assert np.abs(delta.std(axis=(2, 3)) - expected["output_std"]).max() < 1e-4


@pytest.mark.parametrize("network", NETWORKS)
def test_metadata_name_source_licence_and_size(imported, network):
    _, metadata = load_generator(imported[network])
    assert metadata["source"].startswith("https://github.com/")
    assert metadata["licence"] == "MIT"
    assert metadata["image_size"] in (512, 1024)
    assert metadata["generator"] == {"architecture": network, "base_channels": 64}
    assert metadata["imported_from"] == FILES[network]


@pytest.mark.parametrize("wrap", [lambda w: {"state_dict": w}, lambda w: {f"module.{k}": v for k, v in w.items()}])
def test_wrapped_and_narrower_weights_are_known_too(tmp_path, capsys, wrap):
    narrow = build_generator({"architecture": "rylu_unet", "base_channels": 4})
    shapes = {name: tuple(value.shape) for name, value in narrow.state_dict().items()}
    weights = {
        key: value[tuple(slice(size // 16 if size >= 16 else size) for size in value.shape)]
        for key, value in state_dict("rylu_unet").items()
    }
    torch.save(wrap(weights), tmp_path / "model.ckpt")
    assert main(["import-weights", str(tmp_path / "model.ckpt")]) == 0
    generator, _ = load_generator(tmp_path / "model.safetensors")
    assert {name: tuple(value.shape) for name, value in generator.state_dict().items()} == shapes
    assert "rylu_unet" in capsys.readouterr().out


@pytest.mark.parametrize("network", NETWORKS)
def test_a_photo_is_re_aged_with_imported_weights(imported, network, tmp_path, capsys):
    Image.fromarray(portrait()).save(tmp_path / "photo.png")
    arguments = ["--checkpoint", str(imported[network]), "--source-age", "30", "--size", "128", "--device", "cpu"]
    assert main(["reage", str(tmp_path / "photo.png"), "-o", str(tmp_path / "older.png"), *arguments]) == 0
    assert "face 0: 30 -> 65 years" in capsys.readouterr().out
    change = np.asarray(Image.open(tmp_path / "older.png")).astype(int) - portrait()
    assert 0.02 < (change != 0).any(axis=-1).mean() < 0.3


# ---------------------------------------------------------------- what is refused


def test_other_files_are_refused_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = tmp_path / "whole.pth"
    torch.save(state_dict("timroelofs_unet"), whole)
    (tmp_path / "cut.pth").write_bytes(whole.read_bytes()[:100_000])
    torch.save({"init_conv.0.weight": RunsCode()}, tmp_path / "code.pth")
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "other.pth")
    torch.save({"model.0.weight": torch.zeros(64, 4, 4, 4)}, tmp_path / "discriminator.pth")
    torch.save({"init_conv.0.weight": torch.zeros(64, 5, 3, 3)}, tmp_path / "partial.pth")
    torch.save(
        state_dict("timroelofs_unet") | {"down1.layer.1.filt": torch.ones(64, 1, 4, 4) / 16}, tmp_path / "box.pth"
    )
    (tmp_path / "keras.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for name, message in [
        ("cut.pth", "truncated"),
        ("code.pth", "runs code"),
        ("other.pth", "not known here (it begins with layer.weight)"),
        ("discriminator.pth", "holds a discriminator"),
        ("partial.pth", "another architecture: missing: stem.0.bias"),
        ("box.pth", "another blur filter than 1-3-3-1 in down1.layer.1.filt"),
        ("keras.h5", "HDF5"),
        ("nowhere.pth", "does not exist"),
    ]:
        assert message in refusal(capsys, tmp_path / name)
    assert not (tmp_path / "code-has-run").exists()
    assert "ends in .safetensors" in refusal(capsys, whole, "-o", str(tmp_path / "out.pth"))


def test_the_input_is_not_overwritten(imported, capsys):
    assert "is the input itself" in refusal(capsys, imported["rylu_unet"])
