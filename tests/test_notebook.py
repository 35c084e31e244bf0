"""The notebooks are stored without outputs and run from the first cell to the last."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def with_parameters(path: Path, parameters: str) -> nbformat.NotebookNode:
    """The notebook with a cell of other ``parameters`` after its own, as papermill does it."""
    notebook = nbformat.read(path, as_version=4)
    (position,) = (n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    notebook.cells.insert(position + 1, nbformat.v4.new_code_cell(parameters))
    return notebook


def execute(notebook: nbformat.NotebookNode) -> None:
    # in this folder, the kernel imports this checkout's package; a busy machine takes minutes to start it
    resources = {"metadata": {"path": str(ROOT)}}
    NotebookClient(notebook, timeout=1200, startup_timeout=600, resources=resources).execute()


def pictures(notebook: nbformat.NotebookNode) -> dict[str, int]:
    """How many pictures each cell showed, for the cells that showed any."""
    counts = {
        cell.id: sum("image/png" in output.get("data", {}) for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    return {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_quickstart_makes_data_trains_shows_and_reages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAN_OFFLINE", "1")
    notebook = with_parameters(
        ROOT / "notebooks" / "01_quickstart.ipynb",
        f"FOLDER, IDENTITIES, AGES, IMAGE_SIZE = {str(tmp_path)!r}, 3, '20,35,80', 64\n"
        "EPOCHS, PAIRS_PER_EPOCH, WANDB = 1, 16, 'disabled'",
    )
    # the network has been trained on 16 pairs: its images differ between ages, and stay images
    notebook.cells.append(
        nbformat.v4.new_code_cell(
            "assert metadata['images_seen'] == 16\n"
            "assert all(torch.isfinite(delta).all() and delta.shape == (3, 64, 64) for delta in deltas)\n"
            "assert not torch.equal(deltas[0], deltas[-1])"
        )
    )
    execute(notebook)
    assert pictures(notebook) == {"look": 1, "sheet": 1, "reage": 1, "regional": 1}
    assert (tmp_path / "run" / "generator.safetensors").is_file()
    assert (tmp_path / "run" / "samples" / "ages_000000016.png").is_file()
