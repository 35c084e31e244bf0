"""Long films in parts, so that an interrupted job can go on where it stopped.

Beside the output lies a folder ``.<output>.parts`` with ``job.json`` (what was asked for) and films of
:data:`PART_FRAMES` frames each. It disappears when the output is complete.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fran_lightning.files import write_json
from fran_lightning.reaging.film import FilmWriter, join_films

if TYPE_CHECKING:
    import av

#: Frames of one part: what an interruption can cost.
PART_FRAMES = 250


def fingerprint(*facts: Any) -> str:
    """A short name of everything that decides how a frame looks."""
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


class PartsWriter:
    """Takes frames like a :class:`FilmWriter`, and writes them in parts; :meth:`join` makes the film of them."""

    def __init__(self, output: Path, job: str, open_part: Callable[[Path], FilmWriter]) -> None:
        """``job``: the fingerprint; parts of another job are thrown away."""
        self.folder = output.with_name(f".{output.name}.parts")
        self._suffix = output.suffix
        self._open_part = open_part
        self._writer: FilmWriter | None = None
        self._path = self._temporary = Path()
        self._in_part = 0
        note = self.folder / "job.json"
        if self.folder.exists() and (not note.exists() or json.loads(note.read_text())["job"] != job):
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(note, {"job": job, "frames_per_part": PART_FRAMES})
        for unfinished in self.folder.glob("unfinished*"):
            unfinished.unlink()
        self._done = len(self.parts())

    def parts(self) -> list[Path]:
        """The finished parts in order."""
        return sorted(self.folder.glob(f"[0-9]*{self._suffix}"))

    @property
    def frames_done(self) -> int:
        """Frames that need not be made again."""
        return self._done * PART_FRAMES

    def write(self, frame: av.VideoFrame) -> None:
        """Encode the next frame after those done."""
        if self._writer is None:
            self._path = self.folder / f"{self._done:06d}{self._suffix}"
            self._temporary = self.folder / f"unfinished{self._suffix}"
            self._writer = self._open_part(self._temporary)
            self._in_part = 0
        self._writer.write(frame)
        self._in_part += 1
        if self._in_part == PART_FRAMES:
            self._finish_part()

    def _finish_part(self) -> None:
        if self._writer is not None:
            self._writer.finish()
            self._temporary.replace(self._path)
            self._writer = None
            self._done += 1

    def join(self, path: Path, source: av.container.InputContainer, notes: list[str], edited: bool = False) -> None:
        """Finish the last part and write the whole film to ``path``; ``edited`` as for :func:`join_films`."""
        self._finish_part()
        join_films(path, self.parts(), source, notes, edited)

    def remove(self) -> None:
        """Throw the parts away."""
        shutil.rmtree(self.folder, ignore_errors=True)
