"""Re-age the faces of a photo."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from fran_lightning.errors import UserError


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("photo", type=str, help="JPEG, PNG, TIFF, WebP or BMP")
    parser.add_argument("--checkpoint", type=str, required=True, help="run folder or generator.safetensors")
    parser.add_argument("-o", "--output", type=str, help="default: the photo's name with _AGE, beside it")
    parser.add_argument("--target-age", type=float, default=65, help="years wanted")
    parser.add_argument("--source-age", type=float, help="years of the face as it is (default: estimated)")
    parser.add_argument("--mask", type=str, default="skin", help="where the face may change: skin, face or none")
    parser.add_argument("--face", type=str, default="largest", help="largest, all, INDEX from the left, or X,Y")
    parser.add_argument("--strength", type=float, default=1.0, help="factor on the change")
    parser.add_argument("--size", type=str, default="auto", help="pixels the network sees: auto, full or a number")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1 ...")
    parser.add_argument("--precision", type=str, default="auto", help="auto, float32 or bfloat16")


def run(args: Namespace) -> None:
    from fran_lightning.reaging.options import (
        check_strength,
        parse_choice,
        parse_face_choice,
        parse_size_rule,
    )
    from fran_lightning.reaging.photo import check_photo_suffix, read_photo, write_photo
    from fran_lightning.reaging.reager import Reager

    mask = parse_choice("--mask", args.mask, ("skin", "face", "none"))
    precision = parse_choice("--precision", args.precision, ("auto", "float32", "bfloat16"))
    face, size = parse_face_choice(args.face), parse_size_rule(args.size)
    check_strength(args.strength)
    source = Path(args.photo)
    photo = read_photo(source)
    default = source.with_name(f"{source.stem}_{args.target_age:g}{source.suffix}")
    output = Path(args.output) if args.output else default
    check_photo_suffix(output)
    if output.exists() and output.samefile(source):
        raise UserError(f"the output {output} is the input itself; choose another name with -o")
    reager = Reager(args.checkpoint, device=args.device, precision=precision)
    result, faces = reager.reage_photo(
        photo, args.target_age, args.source_age, mask=mask, face=face, strength=args.strength, size=size
    )
    notes = photo.notes + write_photo(output, result)
    for reaged in faces:
        how = " (estimated)" if reaged.source_estimated else ""
        note = f"; {reaged.note}" if reaged.note else ""
        print(f"face {reaged.index}: {reaged.source_age:.0f}{how} -> {reaged.target_age:g} years{note}")
    for note in notes:
        print(f"note: {note}")
    print(f"written: {output}")
