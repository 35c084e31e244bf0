"""``fran fit`` with the arguments given, then each process writes its weights to ``$DUMP_FOLDER/<rank>.pt``.

Lightning starts the further processes of a distributed run with this same script and these arguments.
"""

import os
import sys
from pathlib import Path

import torch

from fran_lightning.training import run_lightning_cli

if __name__ == "__main__":
    torch.set_num_threads(1)
    cli = run_lightning_cli(["fit", *sys.argv[1:]])
    weights = {name: tensor for name, tensor in cli.model.state_dict().items() if not name.startswith("lpips.")}
    torch.save(weights, Path(os.environ["DUMP_FOLDER"]) / f"{cli.trainer.global_rank}.pt")
