"""Pack the images of every identity into one array, so that training cuts crops without decoding."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("root", type=str, help="dataset folder; the image files stay")


def run(args: Namespace) -> None:
    from fran_lightning.data.pack import pack_dataset

    packed, size = pack_dataset(args.root)
    print(f"{args.root}: {packed} identities packed, {size / 2**20:.0f} MiB")
