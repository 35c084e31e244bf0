"""Give a dataset folder class maps, so that its regional pairs age real regions instead of random blobs.

Faces have to be aligned (FFHQ), as those of `fran synthesize sam` are. Class maps that are there are kept; an
interrupted job is continued by the same command.
"""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace


def configure(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("root", type=str, help="dataset folder")
    add("--parser", type=str | None, default=None, help="run folder or weight file (default: the bundled parser)")
    add("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1 ...")


def run(args: Namespace) -> None:
    from pathlib import Path

    from fran_lightning.data.parse import write_class_maps
    from fran_lightning.perception.parsing import FaceParser
    from fran_lightning.reaging.network import choose_device

    parser = FaceParser(args.parser, device=choose_device(args.device))
    written, kept = write_class_maps(Path(args.root), parser)
    print(f"{args.root}: {written} class maps written, {kept} were there")
