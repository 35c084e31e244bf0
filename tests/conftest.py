"""What all tests share: few threads, no network, a tiny dataset."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from tiny_data import write_tiny_dataset

# tests run side by side with other things, and none of them may reach out; set before the first training process
os.environ["FRAN_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
torch.set_num_threads(2)


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5 drawn identities x 4 ages x 64 pixels with class maps. Read only."""
    root = tmp_path_factory.mktemp("data") / "tiny"
    write_tiny_dataset(root)
    return root
