"""Make clips of parametric heads that turn, talk and change expression, with class maps and exact optical flow.

The age may move slowly from the first to the last frame. An interrupted folder is continued by the same command.
"""

from __future__ import annotations

from typing import Literal

from jsonargparse import ArgumentParser, Namespace


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=str, required=True, help="folder to write or to continue")
    parser.add_argument("--clips", type=int, default=1, help="number of clips, each of another person")
    parser.add_argument("--frames", type=int, default=48, help="frames per clip")
    parser.add_argument("--fps", type=float, default=24.0, help="frames per second: the speed of the motion")
    parser.add_argument("--age", type=float, default=40.0, help="age in years, 18 to 85")
    parser.add_argument("--last-age", type=float | None, default=None, help="age of the last frame; default: the same")
    parser.add_argument("--image-size", type=int, default=256, help="edge in pixels: a multiple of 16, 64 to 1024")
    parser.add_argument("--seed", type=int, default=0, help="decides everything")
    parser.add_argument("--shard", type=str, default="0/1", help="i/n: make only the clips i modulo n")
    parser.add_argument("--device", type=Literal["auto", "cpu", "cuda"], default="auto", help="auto: CUDA if present")


def run(args: Namespace) -> None:
    from fran_lightning.synthesis.parametric.clip import ClipSettings, generate_clips
    from fran_lightning.synthesis.writer import parse_shard

    last_age = args.age if args.last_age is None else args.last_age
    settings = ClipSettings(args.image_size, args.frames, args.fps, args.age, last_age)
    generate_clips(args.out, args.clips, args.seed, settings, parse_shard(args.shard), args.device)
