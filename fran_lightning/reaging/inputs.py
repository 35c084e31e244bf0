"""Which files a job reads, and under which names it writes."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fran_lightning.errors import UserError
from fran_lightning.reaging.film import FILM_SUFFIXES
from fran_lightning.reaging.photo import PHOTO_SUFFIXES
from fran_lightning.reaging.sequences import EXR_SUFFIX, SEQUENCE_SUFFIXES, FramePattern, FrameSequence, find_frames


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


@dataclass(frozen=True)
class SequenceTask:
    """Numbered frames in, frames with the same numbers out."""

    source: FrameSequence
    output: FramePattern


def find_tasks(inputs: Sequence[str], output: str | None, label: str) -> tuple[list[Task | SequenceTask], bool]:
    """The tasks of a command line, and whether they are a batch (a folder, a glob, or several inputs).

    Args:
        inputs: files, patterns of frames, folders or globs. A folder is one sequence if ``output`` is a pattern of
            frames, or if EXR is all that it holds.
        output: for one file a file (or an existing folder), for a sequence a pattern of frames (or a folder), for a
            batch a folder. Absent: beside the input, with ``_label`` added to the name.

    Raises:
        UserError: nothing found, unknown kinds of file, two inputs of one name, or an output that is an input.
    """
    pattern = FramePattern.parse(output) if output and not Path(output).exists() else None
    sources: list[Path | FrameSequence] = []
    batch = len(inputs) > 1
    for text in inputs:
        found, many = ([find_frames(text, SEQUENCE_SUFFIXES)], False) if _is_sequence(text, pattern) else _expand(text)
        sources += found
        batch = batch or many
    target = Path(output) if output else None
    if batch:
        known = (*PHOTO_SUFFIXES, *FILM_SUFFIXES, EXR_SUFFIX)
        if target is not None and (target.is_file() or target.suffix.lower() in known):
            raise UserError(f"{target} is one file, but there are {len(sources)} inputs; give -o a folder")
        folder: Path | None = target
    else:
        folder = target if target is not None and (target.is_dir() or str(output).endswith("/")) else None
    tasks: list[Task | SequenceTask] = []
    for source in sources:
        if isinstance(source, FrameSequence):
            tasks.append(_sequence_task(source, pattern, None if batch or folder else target, label, folder))
        elif target is None or batch or folder is not None:
            tasks.append(Task(source, _default_output(source, label, folder)))
        else:
            tasks.append(Task(source, target))
    _check(tasks)
    return tasks, batch


def _is_sequence(text: str, output: FramePattern | None) -> bool:
    path = Path(text)
    if path.is_dir():
        suffixes = {entry.suffix.lower() for entry in path.iterdir()}
        return output is not None or (EXR_SUFFIX in suffixes and not suffixes & {*PHOTO_SUFFIXES, *FILM_SUFFIXES})
    if path.is_file():
        return path.suffix.lower() == EXR_SUFFIX
    return FramePattern.parse(text) is not None and not any(sign in text for sign in "*?[")


def _sequence_task(
    source: FrameSequence, pattern: FramePattern | None, target: Path | None, label: str, folder: Path | None
) -> SequenceTask:
    own = source.pattern
    if own.suffix not in SEQUENCE_SUFFIXES:
        raise UserError(f"{source} is no sequence that can be read; frames are {', '.join(SEQUENCE_SUFFIXES)} files")
    if pattern is None and target is not None and not own.digits:
        pattern = FramePattern.single(target)
    if pattern is None and target is not None:
        raise UserError(f"{target} has no place for the frame number; write it like {target.stem}.####{own.suffix}")
    if pattern is None:
        if folder is not None:
            pattern = replace(own, folder=folder)
        else:
            mark = "." if own.digits else ""
            pattern = replace(own, before=f"{own.stem}_{label}{mark}", after=own.suffix)
    if (pattern.suffix == EXR_SUFFIX) != (own.suffix == EXR_SUFFIX) or pattern.suffix not in SEQUENCE_SUFFIXES:
        written = EXR_SUFFIX if own.suffix == EXR_SUFFIX else "PNG or TIFF"
        raise UserError(f"{source} cannot be written as {pattern.suffix or 'files without suffix'}; give -o {written}")
    return SequenceTask(source, pattern)


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
            raise UserError(f"{text} finds no photo or film; an EXR sequence is written like shot.####.exr")
        return found, True
    raise UserError(f"{text} does not exist")


def _default_output(path: Path, label: str, folder: Path | None) -> Path:
    # GIF can be read, but its 256 colours cannot hold a re-aged face
    suffix = ".mp4" if path.suffix.lower() == ".gif" else path.suffix
    if folder is not None:
        return folder / f"{path.stem}{suffix}"
    return path.with_name(f"{path.stem}_{label}{suffix}")


def _check(tasks: Sequence[Task | SequenceTask]) -> None:
    outputs: dict[Path, str] = {}
    for task in tasks:
        resolved = Path(str(task.output)).resolve()
        if resolved in outputs:
            raise UserError(f"{outputs[resolved]} and {task.source} would both be written to {task.output}")
        outputs[resolved] = str(task.source)
        if isinstance(task, SequenceTask):
            first = task.source.first
            if task.output.path(first).exists() and task.output.path(first).samefile(task.source.pattern.path(first)):
                raise UserError(f"the output {task.output} is the input itself; choose another name with -o")
            continue
        files = [other.source for other in tasks if isinstance(other, Task)]
        if task.output.exists() and any(task.output.samefile(other) for other in files):
            raise UserError(f"the output {task.output} is an input itself; choose another name with -o")
        if task.output.is_dir():
            raise UserError(f"the output {task.output} is a folder; name a file")
