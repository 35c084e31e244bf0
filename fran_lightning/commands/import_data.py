"""Make a dataset folder from files named {age}_seed{id}.png, the layout of public SAM samples."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("source", type=str, help="folder with the files, or one that holds it as aged_images/")
    parser.add_argument("--out", type=str, required=True, help="dataset folder to make or to complete")


def run(args: Namespace) -> None:
    from fran_lightning.data.import_layouts import import_aged_images

    identities = import_aged_images(args.source, args.out)
    print(f"{args.out}: {identities} identities")
