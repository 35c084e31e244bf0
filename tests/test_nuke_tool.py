"""The script for Nuke's own Python, run against a stand-in that only writes down what it is asked."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "tools" / "nuke_make_cat.py"


class Knob:
    def __init__(self, node: dict[str, Knob], name: str) -> None:
        self.node, self.name, self.value = node, name, None

    def setValue(self, value: object) -> None:
        self.value = value

    def execute(self) -> None:
        Path(self.node["catFile"].value).write_text("cat")


class Node(dict):
    def __missing__(self, name: str) -> Knob:
        self[name] = Knob(self, name)
        return self[name]


@pytest.fixture
def nuke(monkeypatch) -> ModuleType:
    module = ModuleType("nuke")
    module.nodes, module.layers, module.deleted = [], [], []
    module.createNode = lambda kind, inpanel: module.nodes.append((kind, Node())) or module.nodes[-1][1]
    module.Layer = lambda name, channels: module.layers.append((name, channels))
    module.delete = module.deleted.append
    monkeypatch.setitem(sys.modules, "nuke", module)
    return module


def test_the_knobs_are_those_of_the_exported_network(nuke, tmp_path):
    (tmp_path / "generator.pt").write_bytes(b"script")
    make_cat = runpy.run_path(str(SCRIPT))["make_cat"]
    assert Path(make_cat(str(tmp_path / "generator.pt"), str(tmp_path / "aged.cat"))) == tmp_path / "aged.cat"
    ((kind, node),) = nuke.nodes
    assert kind == "CatFileCreator"
    # five channels in, three out: what `fran export --format torchscript` takes and gives
    assert len(node["channelsIn"].value.split(", ")) == 5
    assert len(node["channelsOut"].value.split(", ")) == 3
    assert node["modelId"].value == "generator"
    assert nuke.layers == [("age", ["age.source", "age.target"])]
    assert nuke.deleted == [node]


def test_mistakes_are_said(nuke, tmp_path, monkeypatch):
    make_cat = runpy.run_path(str(SCRIPT))["make_cat"]
    with pytest.raises(RuntimeError, match="fran export"):
        make_cat(str(tmp_path / "nowhere.pt"), str(tmp_path / "aged.cat"))
    (tmp_path / "generator.pt").write_bytes(b"script")
    monkeypatch.setattr(Knob, "execute", lambda self: None)
    with pytest.raises(RuntimeError, match=r"wrote no .*aged\.cat"):
        make_cat(str(tmp_path / "generator.pt"), str(tmp_path / "aged.cat"))
    monkeypatch.setattr(sys, "argv", [str(SCRIPT)])
    with pytest.raises(SystemExit, match="usage: Nuke"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
