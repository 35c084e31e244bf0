"""Write a trained or imported generator for other programs.

onnx: image and two age maps in, re-aged image and delta out, any size. torchscript: one tensor in, the delta out, for
Nuke. facefusion: an ONNX file to the contract of FaceFusion's age modifier. Every file is compared with PyTorch before
it gets its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from jsonargparse import ArgumentParser, Namespace

from fran_lightning.errors import UserError

ExportFormat = Literal["onnx", "torchscript", "facefusion"]
_ENDINGS = {"onnx": ".onnx", "torchscript": ".pt", "facefusion": ".facefusion.onnx"}


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder or .safetensors of a generator")
    parser.add_argument("--format", type=str, required=True, help=", ".join(get_args(ExportFormat)))
    parser.add_argument("-o", "--output", type=str, help="file to write (default: beside the weights)")


def run(args: Namespace) -> None:
    from fran_lightning.reaging.options import parse_choice

    chosen = parse_choice("--format", args.format, get_args(ExportFormat))
    suffix = "." + _ENDINGS[chosen].rpartition(".")[2]
    if args.output is not None and Path(args.output).suffix != suffix:
        raise UserError(f"cannot write {chosen} as {args.output}; give -o a name that ends in {suffix}")

    from fran_lightning.networks.weights import load_generator, resolve_generator_file

    weights = resolve_generator_file(args.run)
    output = Path(args.output) if args.output else weights.with_name(weights.stem + _ENDINGS[chosen])
    generator, metadata = load_generator(args.run)
    # what was trained in bfloat16 is stored so, and other programs expect float32
    generator = generator.float().requires_grad_(False)
    if chosen == "torchscript":
        from fran_lightning.export.torchscript import export_torchscript as export
    elif chosen == "facefusion":
        from fran_lightning.export.onnx_files import export_facefusion as export
    else:
        from fran_lightning.export.onnx_files import export_onnx as export
    output.parent.mkdir(parents=True, exist_ok=True)
    difference = export(output, generator, metadata)
    print(
        f"{output}: {chosen} of {generator.config['architecture']}, {output.stat().st_size / 2**20:.1f} MiB; "
        f"largest difference from PyTorch {difference:.1e}"
    )
