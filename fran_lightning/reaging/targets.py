"""Which age each person gets: absolute, relative, keyframed over a shot, or another one for each person.

::

    65                  everyone chosen is 65
    +20  -10            older or younger by so many years
    1:35,120:70         keyframes, frames counted from 1: 35 at the first frame, 70 from frame 120 on, linear between
    1:+0,120:+30        the same with relative ages
    0:65,1:30           a list that begins with 0 is one age per person, persons counted from 0
    0=65; 1=1:35,120:70 per person, each with any of the forms above
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fran_lightning.ages import MAXIMUM_AGE, MINIMUM_AGE, validate_years
from fran_lightning.errors import UserError


@dataclass(frozen=True)
class AgeCurve:
    """An age over the frames of a shot.

    Attributes:
        frames: frame numbers from 1, rising.
        years: the age at each, absolute, or added to the source age where ``relative`` says so.
    """

    frames: tuple[int, ...]
    years: tuple[float, ...]
    relative: tuple[bool, ...]

    def at(self, frame: int, source_age: float) -> float:
        """Years at ``frame`` (from 1) for a face of ``source_age``, within 0 to 100."""
        ages = [source_age + value if added else value for value, added in zip(self.years, self.relative, strict=True)]
        return float(np.clip(np.interp(frame, self.frames, ages), MINIMUM_AGE, MAXIMUM_AGE))

    def describe(self, source_age: float) -> str:
        """``65``, or ``35 to 70``."""
        ages = [self.at(frame, source_age) for frame in self.frames]
        return f"{ages[0]:g}" if len(set(ages)) == 1 else f"{ages[0]:g} to {ages[-1]:g}"


@dataclass(frozen=True)
class Targets:
    """The age curve of each person; ``default`` for those not named, None if only named ones are meant."""

    default: AgeCurve | None
    persons: Mapping[int, AgeCurve]

    def for_person(self, person: int) -> AgeCurve | None:
        """The curve of a person, or None if it is not to be changed."""
        return self.persons.get(person, self.default)


def parse_targets(text: str | float, option: str = "--target-age") -> Targets:
    """Read the forms of this module's description.

    Raises:
        UserError: not one of them, ages out of range, or frames that do not rise.
    """
    words = str(text).strip()
    if "=" in words:
        persons = {}
        for part in filter(None, (piece.strip() for piece in words.split(";"))):
            person, _, curve = part.partition("=")
            persons[_whole(person, words, option)] = _parse_curve(curve, option)
        return Targets(None, persons)
    if words.split(":")[0].strip() == "0" and ":" in words:
        pairs = [piece.partition(":") for piece in words.split(",")]
        return Targets(None, {_whole(person, words, option): _parse_curve(age, option) for person, _, age in pairs})
    return Targets(_parse_curve(words, option), {})


def _parse_curve(text: str, option: str) -> AgeCurve:
    pieces = [piece.strip() for piece in text.split(",")]
    if len(pieces) == 1 and ":" not in pieces[0]:
        years, relative = _parse_age(pieces[0], option)
        return AgeCurve((1,), (years,), (relative,))
    frames, ages = [], []
    for piece in pieces:
        frame, colon, age = piece.partition(":")
        if not colon:
            raise UserError(f"{option} {text!r}: write keyframes as FRAME:AGE, like 1:35,120:70")
        frames.append(_whole(frame, text, option))
        ages.append(_parse_age(age, option))
    if sorted(set(frames)) != frames:
        raise UserError(f"{option} {text!r}: the frames of the keyframes must rise")
    return AgeCurve(tuple(frames), tuple(age for age, _ in ages), tuple(added for _, added in ages))


def _parse_age(text: str, option: str) -> tuple[float, bool]:
    word = text.strip()
    try:
        years = float(word)
    except ValueError as error:
        raise UserError(f"{option}: {word!r} is no age; write 65, +20, 1:35,120:70 or 0:65,1:30") from error
    relative = word[:1] in ("+", "-")
    if relative:
        validate_years(abs(years), f"{option}: difference of")
    else:
        validate_years(years, f"{option}:")
    return years, relative


def _whole(text: str, whole: str, option: str) -> int:
    word = text.strip()
    if not word.isdigit():
        raise UserError(f"{option} {whole!r}: {word!r} is no frame or person number")
    return int(word)


def parse_source_ages(text: str | float | None) -> Mapping[int, float]:
    """``35`` for everyone (key -1), or ``0:35,1:50`` per person.

    Raises:
        UserError: neither, or ages out of range.
    """
    if text is None:
        return {}
    targets = parse_targets(text, "--source-age")
    curves = dict(targets.persons) | ({-1: targets.default} if targets.default else {})
    for curve in curves.values():
        if len(curve.frames) != 1 or curve.relative[0]:
            raise UserError(f"--source-age {text!r} must be one age, or one per person like 0:35,1:50")
    return {person: curve.years[0] for person, curve in curves.items()}
