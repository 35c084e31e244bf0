"""What users write on the command line, as values; every mistake is one clear line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fran_lightning.errors import UserError
from fran_lightning.reaging.resolution import SizeRule
from fran_lightning.reaging.settings import FaceChoice


def parse_choice(option: str, text: str, choices: Sequence[str]) -> Any:
    """``text``, if it is one of ``choices``.

    Raises:
        UserError: it is not.
    """
    if text not in choices:
        raise UserError(f"{option} {text!r} is unknown; choose one of: {', '.join(choices)}")
    return text


def parse_face_choice(text: str) -> FaceChoice:
    """``largest``, ``all``, an index ``1``, or a point ``640,360``.

    Raises:
        UserError: none of these.
    """
    if text in ("largest", "all"):
        return text
    try:
        if "," in text:
            x, y = (float(word) for word in text.split(","))
            return x, y
        return int(text)
    except ValueError as error:
        raise UserError(f"--face {text!r} is unknown; write largest, all, an index like 0, or a point X,Y") from error


def parse_size_rule(text: str) -> SizeRule | int:
    """``auto``, ``full``, or a number of pixels from 64 to 8192.

    Raises:
        UserError: none of these.
    """
    if text in ("auto", "full"):
        return text
    if text.isdigit() and 64 <= int(text) <= 8192:
        return int(text)
    raise UserError(f"--size {text!r} is unknown; write auto, full, or pixels from 64 to 8192")


def parse_quality(text: str | None) -> int | None:
    """An encoder's constant-quality number.

    Raises:
        UserError: no whole number.
    """
    if text is None:
        return None
    if not text.strip().isdigit():
        raise UserError(f"--quality {text!r} is no whole number; write one like 18")
    return int(text)
