"""The one command, ``fran`` (also ``python -m fran_lightning``).

``fit``, ``validate`` and ``test`` are Lightning's (``training.py``); every other command is a small module of
``commands/`` with two functions: ``configure(parser)`` adds its arguments, ``run(args)`` does the work.
A command's heavy imports happen in ``run``, so that ``--help`` is quick and a machine that lacks a package
loses only the commands that need it.
"""

from __future__ import annotations

import errno
import importlib
import sys
from collections.abc import Sequence

from jsonargparse import ArgumentError, ArgumentParser

from fran_lightning.errors import UserError

TRAINING_COMMANDS = {
    "fit": "train a re-ageing network",
    "validate": "run the validation of a training run",
    "test": "run the test split of a training run",
}

#: command words -> (module in ``commands/``, one line for ``fran --help``)
COMMANDS: dict[str, tuple[str, str]] = {
    "synthesize sam": ("synthesize_sam", "make training data with StyleGAN2 and SAM from the official checkpoints"),
    "check-realism": ("check_realism", "ask independent judges whether faces look like faces that age"),
    "synthesize parametric": ("synthesize_parametric", "make longitudinal faces with a parametric head"),
    "synthesize parametric-clip": ("synthesize_parametric_clip", "make clips of parametric heads with exact flow"),
    "import-data": ("import_data", "make a dataset folder from another layout"),
    "check-data": ("check_data", "look at every file of a dataset folder"),
    "pack": ("pack", "pack a dataset folder for training without decoding"),
    "parse-data": ("parse_data", "give a dataset folder class maps by the face parser"),
    "fit-parser": ("fit_parser", "train the face parser on faces with class maps"),
    "check-parser": ("check_parser", "measure the face parser's skin masks"),
    "mask-figure": ("mask_figure", "show what the skin mask keeps from ageing"),
    "ablation": ("ablation", "draw the loss ablation's grid from finished runs"),
    "reage": ("reage", "re-age the faces of photos and films"),
    "export": ("export", "write a generator as ONNX, as TorchScript for Nuke, or for FaceFusion"),
    "import-weights": ("import_weights", "bring public weights of other FRAN networks to this project's form"),
    "steadiness": ("steadiness", "measure how steady a re-aged film is"),
}


def _overview() -> str:
    rows = [*TRAINING_COMMANDS.items(), *((name, text) for name, (_, text) in COMMANDS.items())]
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name:<{width}}  {text}" for name, text in rows]
    return "usage: fran COMMAND [options]\n\n" + "\n".join(lines) + "\n\nfran COMMAND --help shows a command's options."


def _find_command(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Split ``arguments`` into the command (one or two words) and the rest."""
    for words in (2, 1):
        name = " ".join(arguments[:words])
        if len(arguments) >= words and (name in COMMANDS or name in TRAINING_COMMANDS):
            return name, list(arguments[words:])
    beginning = [name for name in COMMANDS if name.startswith(f"{arguments[0]} ")]
    known = ", ".join(beginning or [*TRAINING_COMMANDS, *COMMANDS])
    raise UserError(f"unknown command {' '.join(arguments[:1])!r}; choose one of: {known}")


def _dispatch(arguments: Sequence[str]) -> None:
    name, rest = _find_command(arguments)
    if name in TRAINING_COMMANDS:
        from fran_lightning.training import run_lightning_cli

        run_lightning_cli([name, *rest])
        return
    module_name, help_text = COMMANDS[name]
    module = importlib.import_module(f"fran_lightning.commands.{module_name}")
    parser = ArgumentParser(prog=f"fran {name}", description=module.__doc__ or help_text, exit_on_error=False)
    module.configure(parser)
    module.run(parser.parse_args(rest))


def main(args: Sequence[str] | None = None) -> int:
    """Run one ``fran`` command; ``args`` defaults to ``sys.argv[1:]``.

    Returns the exit status: 0, 2 for a user's mistake (one line on stderr says what is wrong and what to do),
    130 after Ctrl-C. Other exceptions are defects and pass through.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    try:
        _dispatch(arguments)
    except (UserError, ArgumentError) as error:
        return _report(str(error))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            where = f" while writing {error.filename}" if error.filename else ""
            return _report(f"no space left on the disk{where}; free some space and run the command again")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return _report(f"not allowed to write or read {error.filename}; choose another folder")
        raise
    except KeyboardInterrupt:
        print("fran: interrupted", file=sys.stderr)
        return 130
    return 0


def _report(message: str) -> int:
    line = " ".join(message.split())
    print(f"fran: error: {line}", file=sys.stderr)
    return 2
