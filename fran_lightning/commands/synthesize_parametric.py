"""Make longitudinal faces with a parametric head: any number of identities, each at every age, no download.

A folder that was interrupted is continued by the same command. `--shard i/n` lets n machines share one folder.
"""

from __future__ import annotations

from typing import Literal

from jsonargparse import ArgumentParser, Namespace


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=str, required=True, help="dataset folder to write or to continue")
    parser.add_argument("--identities", type=int, default=60, help="number of identities")
    parser.add_argument("--image-size", type=int, default=256, help="edge in pixels: a multiple of 16, 64 to 1024")
    parser.add_argument("--seed", type=int, default=0, help="decides everything")
    parser.add_argument(
        "--ages", type=str, default=None, help="years from 18 to 85, for example 18,35,65; default 14 ages"
    )
    parser.add_argument("--max-yaw", type=float, default=30.0, help="largest turn of the head, 0 to 45 degrees")
    parser.add_argument("--labels", type=bool, default=True, help="write class maps (19 CelebAMask-HQ classes)")
    parser.add_argument("--depth", type=bool, default=False, help="write depth maps (16 bit, tenths of a millimetre)")
    parser.add_argument("--lens", type=float, default=1.0, help="softness of the lens; 0 is none, 1 as photographs")
    parser.add_argument("--depth-blur", type=float, default=1.0, help="out of focus beside the eyes; 0 is none")
    parser.add_argument("--noise", type=float, default=1.0, help="noise of the sensor; 0 is none")
    parser.add_argument("--jpeg-quality", type=int | None, default=None, help="1 to 100; default: no compression")
    parser.add_argument("--grey-hair", type=bool, default=False, help="hair turns grey; default: the same at all ages")
    parser.add_argument("--shard", type=str, default="0/1", help="i/n: make only the identities i modulo n")
    parser.add_argument("--format", type=Literal["png", "webp", "jpg"], default="png", help="png and webp are lossless")
    parser.add_argument("--device", type=Literal["auto", "cpu", "cuda"], default="auto", help="auto: CUDA if present")
    parser.add_argument("--workers", type=int | None, default=None, help="processes; default one per core")


def run(args: Namespace) -> None:
    from fran_lightning.ages import DEFAULT_AGES, parse_ages
    from fran_lightning.synthesis.parametric.film import Optics
    from fran_lightning.synthesis.parametric.generate import Settings, generate
    from fran_lightning.synthesis.writer import parse_shard

    settings = Settings(
        image_size=args.image_size,
        ages=DEFAULT_AGES if args.ages is None else parse_ages(args.ages),
        max_yaw=args.max_yaw,
        labels=args.labels,
        depth=args.depth,
        optics=Optics(args.lens, args.depth_blur, args.noise, args.jpeg_quality),
        grey_hair=args.grey_hair,
    )
    generate(
        args.out,
        args.identities,
        args.seed,
        settings,
        parse_shard(args.shard),
        args.format,
        args.device,
        args.workers,
    )
