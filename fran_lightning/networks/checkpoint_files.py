"""Reads checkpoint files that come from elsewhere, without ever running code that lies in them."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fran_lightning.errors import UserError

_BEGINNINGS = {
    b"<": "is a web page, not a checkpoint: the download was answered by a confirmation page; download it again",
    b"\x89HDF": "is an HDF5 file, as Keras writes them, and holds no PyTorch weights",
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself; run `git lfs pull`",
}


def load_checkpoint_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The top-level dictionary of a ``.pt``/``.pth``/``.ckpt``/``.safetensors`` file, tensors on the CPU.

    Only tensors and plain Python values are accepted (``weights_only=True``); a pickle with code is refused.
    Files of the current format are mapped into memory: nothing is copied until a tensor is used, and several
    processes on one machine share the pages.

    Raises:
        UserError: no such file, truncated or damaged, a pickle with code, or something else than a dictionary.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"checkpoint {file} does not exist; download it first (nothing is downloaded for you)")
    with file.open("rb") as stream:
        head = stream.read(64).lstrip()
    for beginning, explanation in _BEGINNINGS.items():
        if head.startswith(beginning):
            raise UserError(f"checkpoint {file} {explanation}")
    content = _load_safetensors(file) if file.suffix == ".safetensors" else _load_pickle(file)
    if not isinstance(content, Mapping):
        raise UserError(f"checkpoint {file} holds a {type(content).__name__}, not a dictionary of weights")
    return dict(content)


def _load_safetensors(file: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"checkpoint {file} is truncated or damaged ({error}); download it again") from error


def _load_pickle(file: Path) -> Any:
    in_current_format = zipfile.is_zipfile(file)
    with file.open("rb") as stream:
        head = stream.read(2)
    if not in_current_format and head == b"PK":
        raise UserError(f"checkpoint {file} is truncated: its end is missing; download it again")
    if not in_current_format and head in (b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise UserError(
            f"checkpoint {file} is a pickle of program objects (NVIDIA publishes StyleGAN2 and StyleGAN3 so), "
            "which can run code, and was not opened; give a PyTorch file of plain weights"
        )
    try:
        # options are often stored as a Namespace: a bag of values without behaviour
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=in_current_format)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise UserError(
                f"checkpoint {file} is a pickle that runs code ({_forbidden_name(str(error))}) and was not opened; "
                "give a PyTorch file of plain weights"
            ) from error
        raise UserError(f"checkpoint {file} is damaged or no PyTorch file; download it again") from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"checkpoint {file} is truncated or damaged; download it again") from error


def _forbidden_name(message: str) -> str:
    """The global that PyTorch's restricted unpickler stopped at, as far as its message says."""
    words = message.split("GLOBAL", 1)[1].split()
    return words[0].strip("`'\".,:") if words else "an unknown object"
