"""Draw the grid of a loss ablation: the same validation faces re-aged by every setting, with the ground truth."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="folder of one of the runs; the others are found by data, seed and scale")
    parser.add_argument("--data", type=str, required=True, help="dataset folder that they were trained on")
    parser.add_argument("--runs", type=str, default="runs", help="folder of all runs")
    parser.add_argument("--identities", type=int, default=4, help="validation identities to show")
    parser.add_argument("--source-age", type=float, default=35.0, help="years")
    parser.add_argument("--target-age", type=float, default=65.0, help="years")
    parser.add_argument("-o", "--out", type=str, default="ablation.png", help="PNG to write")


def run(args: Namespace) -> None:
    from fran_lightning.callbacks.ablation_grid import comparable_runs, draw_ablation_grid
    from fran_lightning.callbacks.faces import validation_faces
    from fran_lightning.data.datamodule import AgePairDataModule
    from fran_lightning.errors import UserError
    from fran_lightning.files import atomic_path
    from fran_lightning.networks.weights import read_metadata

    reference = read_metadata(args.run)
    if "data" not in reference:
        raise UserError(f"{args.run} does not say what it was trained on; give the folder of a training run")
    data = AgePairDataModule(args.data, **reference["data"]["settings"])
    data.setup()
    if data.describe()["fingerprint"] != reference["data"]["fingerprint"]:
        raise UserError(f"{args.run} was trained on other data than {args.data}; give --data its dataset folder")
    runs = comparable_runs(args.runs, reference)
    grid = draw_ablation_grid(runs, validation_faces(data, args.identities), args.source_age, args.target_age, tile=160)
    with atomic_path(args.out) as temporary:
        grid.save(temporary)
    print(f"{args.out}: {', '.join(runs)}")
