"""Bring public weights of other FRAN networks to this project's form.

Known are timroelofs123's best_unet_model.pth and ry-lu's generator (their large-aging-model.h5 is a PyTorch file in
spite of its name). The result is used like the weights of a training run: by reage, export, and fit --model.init_from.
"""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from fran_lightning.errors import UserError


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=str, help="the file as it was downloaded")
    parser.add_argument(
        "-o", "--output", type=str, help=".safetensors file to write (default: the file's name with that suffix)"
    )


def run(args: Namespace) -> None:
    source = Path(args.file)
    output = Path(args.output) if args.output else source.with_suffix(".safetensors")
    if output.suffix != ".safetensors":
        raise UserError(f"cannot write weights as {output}; give -o a name that ends in .safetensors")
    if output.exists() and source.exists() and output.samefile(source):
        raise UserError(f"the output {output} is the input itself; choose another name with -o")

    from fran_lightning.networks.community import load_community_weights
    from fran_lightning.networks.weights import save_generator

    generator, metadata = load_community_weights(source)
    output.parent.mkdir(parents=True, exist_ok=True)
    save_generator(output, generator, {**metadata, "imported_from": source.name})
    low, high = metadata["value_range"]
    millions = sum(parameter.numel() for parameter in generator.parameters()) / 1e6
    print(
        f"{output}: {generator.config['architecture']} of {metadata['source']} ({metadata['licence']}), "
        f"{millions:.1f} million weights, its RGB range [{low}, {high}] converted inside"
    )
