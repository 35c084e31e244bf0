"""``python -m benchmarks [--quick] [--only NAME ...] [--device DEVICE] [--out FILE.md|FILE.json]``."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

import benchmarks
from benchmarks.machine import Bystanders, Machine, this_machine
from benchmarks.table import Table
from fran_lightning.errors import UserError
from fran_lightning.files import atomic_path, write_json


class Benchmark(Protocol):
    """What a module of this package offers to be run by this command."""

    NAME: str

    def run(self, quick: bool, device: torch.device) -> Table:
        """Measure; ``quick`` asks for a look within a minute, ``device`` is where networks run."""


def find_benchmarks() -> dict[str, Benchmark]:
    """All modules of this package with a NAME, by it, in the order of the modules' names."""
    names = [module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name != "__main__"]
    modules = [importlib.import_module(f"benchmarks.{name}") for name in sorted(names)]
    return {module.NAME: module for module in modules if hasattr(module, "NAME")}


def main(args: Sequence[str] | None = None) -> int:
    """Run the benchmarks asked for, print their tables, and write them to a file if one is given."""
    known = find_benchmarks()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures speed and memory.")
    parser.add_argument("--quick", action="store_true", help="the smallest settings only: to see that it works")
    parser.add_argument("--only", nargs="+", choices=list(known), metavar="NAME", help=f"some of: {', '.join(known)}")
    parser.add_argument("--device", type=_device, default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--out", type=_output, help="FILE.md or FILE.json, written beside what is printed")
    options = parser.parse_args(args)

    # Lightning's own use of a tree function that torch renamed
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    machine, bystanders = this_machine(options.device), Bystanders()
    print(f"{machine.to_markdown()}\n", flush=True)
    tables: dict[str, Table] = {}
    skipped: dict[str, str] = {}
    for name in options.only or known:
        try:
            tables[name] = known[name].run(options.quick, options.device)
            print(tables[name].to_markdown(), flush=True)
        except UserError as error:
            skipped[name] = str(error)
            print(f"{name}: not measured: {error}", file=sys.stderr)
    print(bystanders.to_markdown())
    if options.out is not None:
        write_report(options.out, machine, bystanders, tables, skipped)
    return 1 if skipped else 0


def _device(text: str) -> torch.device:
    if text == "auto":
        text = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(text)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no device; choose auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise argparse.ArgumentTypeError(f"there is no CUDA device {device.index or 0} here; choose auto or cpu")
    return device


def _output(text: str) -> Path:
    path = Path(text)
    if path.suffix not in (".md", ".json"):
        raise argparse.ArgumentTypeError(f"{text!r} must end in .md or .json")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"the folder {path.parent} does not exist")
    return path


def write_report(
    path: Path, machine: Machine, bystanders: Bystanders, tables: dict[str, Table], skipped: dict[str, str]
) -> None:
    """Write the results as Markdown or JSON, by the suffix of ``path``; ``skipped``: reason by benchmark."""
    if path.suffix == ".json":
        results = {name: table.to_json() for name, table in tables.items()}
        content = {"machine": machine.to_json(), "share_of_other_programs": bystanders.share()}
        write_json(path, content | {"tables": results, "skipped": skipped})
        return
    parts = ["# Benchmarks", "", "Written by `make bench`; `benchmarks/README.md` explains it.", ""]
    parts += [machine.to_markdown(), "", bystanders.to_markdown(), ""]
    parts += [table.to_markdown() for table in tables.values()]
    parts += [f"{name}: not measured: {reason}\n" for name, reason in skipped.items()]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
