"""Show what a skin mask keeps from ageing (paper, section 4.7): one face re-aged without and with it.

Prints how much each part of the face changed, and writes the pictures with their differences beside each other.
"""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace


def configure(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("photo", type=str, help="a photo; its largest face is used")
    add("--checkpoint", type=str, required=True, help="run folder, .safetensors or exported .onnx")
    add("--source-age", type=float, default=35.0, help="years")
    add("--target-age", type=float, default=65.0, help="years")
    add("--parser", type=str, default="auto", help="face parser: auto (the bundled one), or a BiSeNet weight file")
    add("-o", "--out", type=str, default="mask_figure.png", help="picture to write, PNG or JPEG")


def run(args: Namespace) -> None:
    from fran_lightning.ages import validate_years
    from fran_lightning.callbacks.drawing import Row, draw_sheet
    from fran_lightning.errors import UserError
    from fran_lightning.evaluation.extent import PARTS
    from fran_lightning.evaluation.mask_figure import compare_masks, difference_picture
    from fran_lightning.files import atomic_path
    from fran_lightning.reaging.photo import read_photo
    from fran_lightning.reaging.reager import Reager, to_8_bit

    for option in ("source_age", "target_age"):
        validate_years(getattr(args, option), f"--{option.replace('_', '-')}")
    reager = Reager(args.checkpoint, parser=args.parser)
    if reager.parser is None:
        raise UserError("the figure needs a face parser; give --parser a weight file")
    pixels = to_8_bit(read_photo(args.photo).pixels)
    figure = compare_masks(reager, pixels, args.source_age, args.target_age)
    years = f"{args.source_age:g} to {args.target_age:g} years"
    print(f"{args.photo}: {years}; mean absolute change in steps of 8 bits")
    print(f"  {'':<18}{'without mask':>14}{'with mask':>12}")
    for part in PARTS:
        if part in figure.without.parts:
            print(f"  {part:<18}{figure.without.parts[part]:>14.3f}{figure.masked.parts[part]:>12.3f}")
    for label, name in (("inside the mask", "inside"), ("outside the mask", "outside")):
        print(f"  {label:<18}{getattr(figure.without, name):>14.3f}{getattr(figure.masked, name):>12.3f}")
    rows = [
        Row(caption, [figure.before, outcome.mask, outcome.after, difference_picture(figure.before, outcome.after)])
        for caption, outcome in (("without\nmask", figure.without), ("with\nmask", figure.masked))
    ]
    sheet = draw_sheet(["input", "may change", years, "difference x 4"], rows, 320)
    with atomic_path(args.out) as temporary:
        sheet.save(temporary)
    print(f"written: {args.out}")
