"""Numbered images that are one shot: ``shot.####.exr``, ``shot.%04d.png``, or a folder with one such sequence."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fran_lightning.errors import UserError

EXR_SUFFIX = ".exr"
#: Formats whose frames are lossless: what is not touched must survive.
SEQUENCE_SUFFIXES = (EXR_SUFFIX, ".png", ".tif", ".tiff")
#: ``####`` (at least as many digits as signs) or ``%04d`` (``%d``: as many digits as the number needs).
_PLACE = re.compile(r"#+|%0?(\d*)d")
_LAST_NUMBER = re.compile(r"(.*?)(\d+)(\D*)")


@dataclass(frozen=True)
class FramePattern:
    """The name of a frame as a function of its number.

    Attributes:
        folder: where the frames lie.
        before, after: the name's parts around the number; ``after`` ends in the suffix.
        digits: to how many digits numbers are filled up with zeros; 0 for a single image without a number.
    """

    folder: Path
    before: str
    digits: int
    after: str

    @classmethod
    def parse(cls, text: str) -> FramePattern | None:
        """The pattern that ``text`` is, or None if it holds no ``####`` or ``%04d``.

        Raises:
            UserError: two places for numbers, or one in the folder's name.
        """
        path = Path(text)
        places = list(_PLACE.finditer(path.name))
        in_folder = _PLACE.search(str(path.parent)) is not None
        if not places and not in_folder:
            return None
        if len(places) != 1 or in_folder:
            raise UserError(f"{text} must have one place for the frame number, in the file's name, like shot.####.exr")
        place = places[0]
        digits = len(place.group()) if place.group()[0] == "#" else int(place.group(1) or 1)
        return cls(path.parent, path.name[: place.start()], digits, path.name[place.end() :])

    @classmethod
    def single(cls, path: Path) -> FramePattern:
        """One image, whose number is 1."""
        return cls(path.parent, path.stem, 0, path.suffix)

    @property
    def suffix(self) -> str:
        """Of the files, in lower case, with its dot."""
        return Path(f"x{self.after}").suffix.lower()

    @property
    def stem(self) -> str:
        """The name without number and suffix: ``shot`` of ``shot.####.exr``."""
        rest = self.after[: -len(self.suffix)] if self.suffix else self.after
        return (self.before + rest).strip("._- ") or "frames"

    def path(self, number: int) -> Path:
        """The file of a frame."""
        place = f"{number:0{self.digits}d}" if self.digits else ""
        return self.folder / f"{self.before}{place}{self.after}"

    def beside(self, word: str, suffix: str) -> FramePattern:
        """The pattern of other images of the same frames: ``shot.delta.####.exr``."""
        joint = "." if self.digits else ""
        return FramePattern(self.folder, f"{self.stem}.{word}{joint}", self.digits, suffix)

    def numbers(self) -> list[int]:
        """The numbers of the frames that are there, rising."""
        if not self.digits:
            return [1] if self.path(1).is_file() else []
        if not self.folder.is_dir():
            return []
        # longer than its places only where the number needs it: no frame has two names
        number = f"(\\d{{{self.digits}}}|[1-9]\\d{{{self.digits},}})"
        name = re.compile(re.escape(self.before) + number + re.escape(self.after))
        found = (name.fullmatch(entry.name) for entry in self.folder.iterdir())
        return sorted(int(match.group(1)) for match in found if match)

    def __str__(self) -> str:
        return str(self.folder / f"{self.before}{'#' * self.digits}{self.after}")


@dataclass(frozen=True)
class FrameSequence:
    """The frames of a shot.

    Attributes:
        pattern: their names.
        numbers: those that are there, rising; at least one.
    """

    pattern: FramePattern
    numbers: tuple[int, ...]

    @property
    def first(self) -> int:
        """The number of the first frame."""
        return self.numbers[0]

    @property
    def missing(self) -> list[int]:
        """Numbers between the first and the last that are not there."""
        there = set(self.numbers)
        return [number for number in range(self.numbers[0], self.numbers[-1] + 1) if number not in there]

    def __str__(self) -> str:
        return str(self.pattern)


def find_frames(text: str, suffixes: Sequence[str]) -> FrameSequence:
    """The sequence that ``text`` names: a pattern, a folder that holds exactly one sequence, or one image.

    Args:
        text: as the user writes it.
        suffixes: what counts as an image in a folder.

    Raises:
        UserError: nothing there, or several sequences in the folder.
    """
    path = Path(text)
    if path.is_dir():
        return _only_sequence(path, suffixes)
    pattern = FramePattern.single(path) if path.is_file() else FramePattern.parse(text)
    if pattern is None:
        raise UserError(f"{text} does not exist")
    numbers = pattern.numbers()
    if not numbers:
        raise UserError(f"{text} finds no frame; {pattern.path(1)} would be its frame 1")
    return FrameSequence(pattern, tuple(numbers))


def _only_sequence(folder: Path, suffixes: Sequence[str]) -> FrameSequence:
    groups: dict[tuple[str, str], list[str]] = {}
    for entry in folder.iterdir():
        # (\D*) reaches to the end: it is the last number of a name that counts frames
        match = _LAST_NUMBER.fullmatch(entry.name)
        if match and entry.suffix.lower() in suffixes:
            groups.setdefault((match.group(1), match.group(3)), []).append(match.group(2))
    if not groups:
        raise UserError(f"the folder {folder} holds no numbered frames ({', '.join(suffixes)})")
    patterns = [FramePattern(folder, before, min(map(len, names)), after) for (before, after), names in groups.items()]
    if len(patterns) > 1:
        shown = ", ".join(sorted(str(pattern) for pattern in patterns)[:3])
        raise UserError(f"the folder {folder} holds {len(patterns)} sequences ({shown}); name one of them")
    return FrameSequence(patterns[0], tuple(patterns[0].numbers()))


def choose_frames(sequence: FrameSequence, span: str | None) -> FrameSequence:
    """Those frames of a sequence that ``span`` (``1001-1100``, or ``1001``) names; all where it is None.

    Raises:
        UserError: no span, or no frame in it.
    """
    if span is None:
        return sequence
    first, _, last = span.partition("-")
    if not first.strip().isdigit() or (last and not last.strip().isdigit()):
        raise UserError(f"--frames {span!r} is no span of frames; write it like 1001-1100")
    low, high = int(first), int(last or first)
    numbers = tuple(number for number in sequence.numbers if low <= number <= high)
    if not numbers:
        raise UserError(f"--frames {span}: {sequence} has only the frames {describe_numbers(sequence.numbers)}")
    return replace(sequence, numbers=numbers)


def describe_numbers(numbers: Sequence[int], shown: int = 5) -> str:
    """``1003, 1007-1009``; of more than ``shown`` spans only the first are named."""
    spans = []
    for _, group in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        spans.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    rest = f" and {len(spans) - shown} more" if len(spans) > shown else ""
    return ", ".join(spans[:shown]) + rest
