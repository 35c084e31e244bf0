"""Which frames of a sequence are done, so that an interrupted job can go on where it stopped.

While a job runs, ``.<output>.frames`` lies beside its frames: the job's fingerprint, and the number of every frame that
is completely written. It disappears when the job is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fran_lightning.files import atomic_path
from fran_lightning.reaging.sequences import FramePattern


class FrameLog:
    """The frames that a job has written; safe against an interruption at any time."""

    def __init__(self, output: FramePattern, job: str, resume: bool) -> None:
        """``job``: the fingerprint; a log of another job, or one that is not to be resumed, is begun anew."""
        self._path = output.folder / f".{output.stem}{output.suffix}.frames"
        self._done: set[int] = set()
        # what stands after the last end of a line is half a number
        lines = self._path.read_text().split("\n")[:-1] if resume and self._path.is_file() else []
        if lines[:1] == [job]:
            self._done = {int(line) for line in lines[1:]}
        with atomic_path(self._path) as temporary:
            temporary.write_text("\n".join([job, *map(str, sorted(self._done))]) + "\n")

    def has(self, number: int, paths: Sequence[Path]) -> bool:
        """Whether a frame is done, and all its files are there."""
        return number in self._done and all(path.is_file() for path in paths)

    def add(self, number: int) -> None:
        """A frame is done."""
        with self._path.open("a") as file:
            file.write(f"{number}\n")

    def remove(self) -> None:
        """The job is done."""
        self._path.unlink(missing_ok=True)
