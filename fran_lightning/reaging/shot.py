"""The shot file: everything that made a result, as a small YAML file that ``fran reage --shot`` does again.

Its keys are the options of ``fran reage`` with ``_`` for ``-``, ``input`` for the files, and ``checkpoint_sha256`` for
what the checkpoint must be. Every value may be written as on the command line; ages and strengths over time also as a
mapping::

    input: plates/shot.####.exr
    target_age:
      1001: 35
      1100: +30
    strength: {1001: 0, 1025: 1}

Relative paths start at the folder of the shot file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from fran_lightning.errors import UserError
from fran_lightning.files import atomic_path
from fran_lightning.reaging.masks import MaskKind

#: What may stand in a shot file, and what it is where neither the file nor the command line says anything.
OPTIONS: dict[str, str | None] = {
    "input": None,
    "output": None,
    "frames": None,
    "checkpoint": None,
    "checkpoint_sha256": None,
    "backend": "auto",
    "precision": "auto",
    "target_age": "65",
    "source_age": None,
    "face": "largest",
    "mask": "skin",
    "parser": "auto",
    "strength": "1",
    "regions": None,
    "age_map": None,
    "size": "auto",
    "colorspace": None,
    "missing": "refuse",
    "passes": "result",
    "passes_as": None,
    "codec": None,
    "quality": None,
    "preview": None,
    "provenance": "yes",
}
_PATHS = ("input", "output", "checkpoint", "mask", "parser", "age_map")
#: What stands for no path in those.
_WORDS: dict[str, tuple[str, ...]] = {"mask": get_args(MaskKind), "parser": ("auto", "none")}
#: Options whose text is a list of NAME:VALUE, or NAME=VALUE.
_MAPPINGS = {"target_age": ":", "source_age": ":", "strength": ":", "regions": "="}
_HEAD = "# what `fran reage` did; `fran reage --shot` with this file does it again\n"


def shot_path(output: str) -> Path:
    """Where the shot file of an output lies: ``out.exr.shot.yaml`` for ``out.####.exr``."""
    from fran_lightning.reaging.sequences import FramePattern

    pattern = None if Path(output).is_file() else FramePattern.parse(output)
    if pattern is not None:
        return pattern.folder / f"{pattern.stem}{pattern.suffix}.shot.yaml"
    return Path(f"{output}.shot.yaml")


def read_shot(path: Path) -> dict[str, Any]:
    """The options of a shot file as texts; ``input`` is a list of texts.

    Raises:
        UserError: missing, no YAML, an unknown key, or a value of the wrong kind.
    """
    import yaml

    try:
        # BaseLoader leaves all scalars texts: "+20" must not become the number 20
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"shot file {path} cannot be read ({getattr(error, 'strerror', error)})") from error
    except yaml.YAMLError as error:
        raise UserError(f"shot file {path} is no YAML: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"shot file {path} must hold KEY: VALUE lines; keys are {', '.join(OPTIONS)}")
    options: dict[str, Any] = {}
    for key, value in values.items():
        if key not in OPTIONS:
            raise UserError(f"shot file {path}: unknown key {key!r}; allowed are {', '.join(OPTIONS)}")
        options[key] = _as_text(path, key, value)
        if key in _PATHS:
            options[key] = _below(path.parent, key, options[key])
    return options


def _as_text(path: Path, key: str, value: Any) -> Any:
    if isinstance(value, dict) and key in _MAPPINGS and all(isinstance(item, str) for item in value.values()):
        return ",".join(f"{name}{_MAPPINGS[key]}{item}" for name, item in value.items())
    if key == "input" and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    if not isinstance(value, str) or not value:
        kinds = {**dict.fromkeys(_MAPPINGS, " or a mapping"), "input": " or a list of texts"}
        raise UserError(f"shot file {path}: {key} must be a text{kinds.get(key, '')}")
    return [value] if key == "input" else value


def _below(folder: Path, key: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_below(folder, key, item) for item in value]
    if value in _WORDS.get(key, ()):
        return value
    return str(folder / value)


def write_shot(path: Path, options: Mapping[str, Any]) -> None:
    """Write ``options`` (texts by key; paths from the current folder) atomically; those that are None are left out."""
    import yaml

    values = {}
    for key in OPTIONS:
        value = options.get(key)
        if value is None:
            continue
        if key in _PATHS:
            value = _from_folder(path.parent, key, value)
        values[key] = value if isinstance(value, dict) else str(value)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=10_000)
    with atomic_path(path) as temporary:
        temporary.write_text(_HEAD + text, encoding="utf-8")


def _from_folder(folder: Path, key: str, value: str) -> str:
    if os.path.isabs(value) or value in _WORDS.get(key, ()):
        return value
    return os.path.relpath(value, folder)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_checkpoint(path: str, expected: str | None) -> str:
    """The SHA-256 of a checkpoint (a file, or a run folder).

    Raises:
        UserError: there is none, or it is not the ``expected`` one.
    """
    from fran_lightning.networks.weights import resolve_generator_file

    found = file_sha256(Path(path) if Path(path).is_file() else resolve_generator_file(path))
    if expected is not None and found != expected.lower():
        raise UserError(
            f"checkpoint {path} is not the one of the shot file (SHA-256 {found[:12]}..., not {expected[:12]}...); "
            "name the right one, or give --checkpoint to use another"
        )
    return found
