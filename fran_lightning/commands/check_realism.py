"""Ask independent judges whether longitudinal faces look like faces that age.

Prints one column of figures per folder, with the bar that parametric data should meet. The reference folder (real
re-aged faces, for example SAM's) spans the range for colour, contrast and spectrum.
"""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("folders", type=str, nargs="+", help="dataset folders, or folders of {age}_seed{id}.png files")
    parser.add_argument("--reference", type=str | None, default=None, help="folder for colour, contrast and spectrum")
    parser.add_argument("--limit", type=int | None, default=None, help="judge only so many identities per folder")
    parser.add_argument("--sheet", type=str | None, default=None, help="picture of the faces with estimated ages")
    parser.add_argument("--json", type=str | None, default=None, help="file for the figures")


def run(args: Namespace) -> None:
    import math
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from fran_lightning.evaluation.realism import (
        FIGURES,
        Judges,
        draw_sheet,
        find_series,
        judge_folder,
        range_details,
        summarise,
    )
    from fran_lightning.files import atomic_path, write_json

    roots = list(dict.fromkeys([*args.folders, *([args.reference] if args.reference else [])]))
    for root in roots:  # a wrong folder is found before minutes of judging
        find_series(root)
    judges = Judges()
    judged = {root: judge_folder(root, judges, None if root == args.reference else args.limit) for root in roots}
    reference = judged.get(args.reference)
    figures = {root: summarise(folder, reference) for root, folder in judged.items()}
    table = Table(title="what independent judges see")
    table.add_column("judge")
    table.add_column("bar")
    for root in roots:
        table.add_column(Path(root).name, justify="right")
    for key, figure in FIGURES.items():
        cells = []
        for root in roots:
            value = figures[root][key]
            mark = (
                ""
                if math.isnan(value) or not figure.bar
                else (" [green]yes[/]" if figure.meets(value) else " [red]no[/]")
            )
            cells.append(("-" if math.isnan(value) else figure.style.format(value)) + mark)
        table.add_row(figure.name, figure.bar, *cells)
    Console(width=max(100, 60 + 22 * len(roots))).print(table)
    if reference is not None:
        for root in roots:
            if root != args.reference:
                shares = range_details(judged[root], reference)
                print(f"{Path(root).name} in range: " + ", ".join(f"{k} {v:.0%}" for k, v in shares.items()))
    if args.sheet:
        from PIL import Image

        with atomic_path(args.sheet) as temporary:
            Image.fromarray(draw_sheet(list(judged.values()))).save(temporary)
    if args.json:
        clean = {root: {k: None if math.isnan(v) else v for k, v in row.items()} for root, row in figures.items()}
        write_json(args.json, clean)
