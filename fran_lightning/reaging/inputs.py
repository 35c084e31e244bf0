"""Which files a job reads, and under which names it writes."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fran_lightning.errors import UserError
from fran_lightning.reaging.film import FILM_SUFFIXES
from fran_lightning.reaging.photo import PHOTO_SUFFIXES


@dataclass(frozen=True)
class Task:
    """One file in, one file out."""

    source: Path
    output: Path

    @property
    def is_film(self) -> bool:
        """Whether it is read as a film: by its suffix, or an animation that is to become one."""
        if self.source.suffix.lower() in FILM_SUFFIXES:
            return True
        return self.source.suffix.lower() in PHOTO_SUFFIXES and self.output.suffix.lower() in FILM_SUFFIXES


def find_tasks(inputs: Sequence[str], output: str | None, label: str) -> tuple[list[Task], bool]:
    """The tasks of a command line, and whether they are a batch (a folder, a glob, or several files).

    Args:
        inputs: files, folders or globs.
        output: for one file a file (or an existing folder), for a batch a folder. Absent: beside the input, with
            ``_label`` added to the name.

    Raises:
        UserError: nothing found, unknown kinds of file, two inputs of one name, or an output that is an input.
    """
    files: list[Path] = []
    batch = len(inputs) > 1
    for text in inputs:
        found, many = _expand(text)
        files += found
        batch = batch or many
    target = Path(output) if output else None
    if batch:
        if target is not None and (target.is_file() or target.suffix.lower() in (*PHOTO_SUFFIXES, *FILM_SUFFIXES)):
            raise UserError(f"{target} is one file, but there are {len(files)} inputs; give -o a folder")
        tasks = [Task(path, _default_output(path, label, target)) for path in files]
    else:
        path = files[0]
        as_folder = target is None or target.is_dir()
        tasks = [Task(path, _default_output(path, label, target) if as_folder else target)]
    _check(tasks)
    return tasks, batch


def find_photos(inputs: Sequence[str]) -> list[Path]:
    """The photos among files, folders and globs, films left out.

    Raises:
        UserError: nothing found, or unknown kinds of file.
    """
    found = [path for text in inputs for path in _expand(text)[0]]
    return [path for path in found if path.suffix.lower() in PHOTO_SUFFIXES]


def _expand(text: str) -> tuple[list[Path], bool]:
    path = Path(text)
    known = (*PHOTO_SUFFIXES, *FILM_SUFFIXES)
    if path.is_dir():
        found = sorted(entry for entry in path.iterdir() if entry.is_file() and entry.suffix.lower() in known)
        if not found:
            raise UserError(f"the folder {text} holds no photo or film that can be read")
        return found, True
    if path.exists():
        if path.suffix.lower() not in known:
            raise UserError(f"{text} is no photo or film: its suffix is none of {', '.join(known)}")
        return [path], False
    if any(sign in text for sign in "*?["):
        found = sorted(Path(name) for name in glob.glob(text) if Path(name).suffix.lower() in known)
        if not found:
            raise UserError(f"{text} finds no photo or film")
        return found, True
    raise UserError(f"{text} does not exist")


def _default_output(path: Path, label: str, folder: Path | None) -> Path:
    # GIF can be read, but its 256 colours cannot hold a re-aged face
    suffix = ".mp4" if path.suffix.lower() == ".gif" else path.suffix
    if folder is not None:
        return folder / f"{path.stem}{suffix}"
    return path.with_name(f"{path.stem}_{label}{suffix}")


def _check(tasks: Sequence[Task]) -> None:
    outputs: dict[Path, Path] = {}
    for task in tasks:
        resolved = task.output.resolve()
        if resolved in outputs:
            raise UserError(f"{outputs[resolved]} and {task.source} would both be written to {task.output}")
        outputs[resolved] = task.source
        if task.output.exists() and any(task.output.samefile(other.source) for other in tasks):
            raise UserError(f"the output {task.output} is an input itself; choose another name with -o")
        if task.output.is_dir():
            raise UserError(f"the output {task.output} is a folder; name a file")
