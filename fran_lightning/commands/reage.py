"""Re-age the faces of photos and films.

Everything but the face stays as it is: in films also sound, subtitles, times, bit depth and colour tags.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from fran_lightning.errors import UserError
from fran_lightning.perception.face import NoFaceError

if TYPE_CHECKING:
    from fran_lightning.reaging.inputs import Task
    from fran_lightning.reaging.reager import Reager
    from fran_lightning.reaging.settings import ReageSettings


def configure(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("inputs", type=str, nargs="+", help="a photo, a film, a folder or a glob")
    add("--checkpoint", type=str, required=True, help="run folder, .safetensors or exported .onnx")
    add(
        "-o", "--output", type=str, help="a file, or a folder for several inputs (default: the name with the age added)"
    )
    add(
        "--target-age",
        type=str,
        default="65",
        help="65 | +20 | keyframes FRAME:AGE from frame 1 (1:35,120:70) | per face from face 0 (0:65,1:30)",
    )
    add("--source-age", type=str, help="age of the face as it is, or per face 0:35,1:50 (default: estimated)")
    add("--face", type=str, default="largest", help="largest, all, INDEX from the left, or X,Y in pixels")
    add(
        "--mask",
        type=str,
        default="skin",
        help="where it may change: skin, face, none, or painted: FILE, folder, m.####.png",
    )
    add("--strength", type=str, default="1", help="factor on the change, 0 to 3, or keyframes FRAME:FACTOR (1:0,25:1)")
    add(
        "--regions",
        type=str,
        help="ages of regions: skin, forehead, eyes, nose, cheeks, mouth, chin, neck (eyes=40,neck=70)",
    )
    add(
        "--age-map",
        type=str,
        help="painted target ages over the frame: grey, black 0 to white 100 years; FILE or sequence",
    )
    add("--size", type=str, default="auto", help="pixels the network sees: auto, full or a number")
    add("--codec", type=str, help="film encoder, like libx264, prores_ks or ffv1 (default: the film's own)")
    add(
        "--quality",
        type=int,
        help="the encoder's constant-quality number, smaller is better (default: visually lossless)",
    )
    add("--preview", type=str, help="films: also write a comparison: side or wipe")
    add("--resume", action="store_true", help="continue an interrupted job; batches skip what is there")
    add("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1 ...")
    add("--backend", type=str, default="auto", help="auto (onnxruntime for .onnx, else torch), torch or onnxruntime")
    add("--precision", type=str, default="auto", help="auto, float32 or bfloat16")


def run(args: Namespace) -> None:
    from fran_lightning.reaging.inputs import find_tasks
    from fran_lightning.reaging.options import parse_choice

    settings = _settings(args)
    precision = parse_choice("--precision", args.precision, ("auto", "float32", "bfloat16"))
    backend = parse_choice("--backend", args.backend, ("auto", "torch", "onnxruntime"))
    if args.preview is not None:
        parse_choice("--preview", args.preview, ("side", "wipe"))
        if args.resume:
            raise UserError("--preview needs the whole film in one go; leave out --resume")
    label = "".join(sign if sign.isalnum() or sign in "+-." else "-" for sign in args.target_age)
    tasks, batch = find_tasks(args.inputs, args.output, label)
    if not batch:
        _check_outputs(tasks[0], args)

    from fran_lightning.reaging.reager import Reager

    reager = Reager(args.checkpoint, device=args.device, precision=precision, backend=backend)
    if batch:
        _run_batch(reager, tasks, settings, args)
    else:
        _run_task(reager, tasks[0], settings, args)


def _settings(args: Namespace) -> ReageSettings:
    from fran_lightning.reaging.frame_images import FrameImages
    from fran_lightning.reaging.options import parse_face_choice, parse_size_rule
    from fran_lightning.reaging.regions import parse_regions
    from fran_lightning.reaging.settings import ReageSettings
    from fran_lightning.reaging.strength import parse_strength
    from fran_lightning.reaging.targets import parse_source_ages, parse_targets

    return ReageSettings(
        targets=parse_targets(args.target_age),
        source_ages=parse_source_ages(args.source_age),
        mask=args.mask if args.mask in ("skin", "face", "none") else FrameImages(args.mask, "mask"),
        faces=parse_face_choice(args.face),
        strength=parse_strength(args.strength),
        size=parse_size_rule(args.size),
        regions=parse_regions(args.regions),
        age_map=FrameImages(args.age_map, "age map") if args.age_map else None,
    )


def _check_outputs(task: Task, args: Namespace) -> None:
    """What can be known to fail before the checkpoint is loaded."""
    from fran_lightning.reaging.film import choose_encoder, read_info
    from fran_lightning.reaging.photo import check_photo_suffix

    if task.is_film:
        choose_encoder(read_info(task.source), task.output.suffix, args.codec)
    else:
        check_photo_suffix(task.output)


def _run_task(reager: Reager, task: Task, settings: ReageSettings, args: Namespace, index: int = 0) -> None:
    lines = _reage_film(reager, task, settings, args) if task.is_film else _reage_photo(reager, task, settings, index)
    print("\n".join([str(task.source), *(f"  {line}" for line in lines), f"  written: {task.output}"]))


def _run_batch(reager: Reager, tasks: list[Task], settings: ReageSettings, args: Namespace) -> None:
    done = skipped = unchanged = 0
    failures: list[str] = []
    for index, task in enumerate(tasks):
        if args.resume and task.output.exists():
            skipped += 1
            continue
        try:
            _run_task(reager, task, settings, args, index)
            done += 1
        except NoFaceError as error:
            _copy(task)
            unchanged += 1
            print(f"{task.source}\n  {error}; copied as it is\n  written: {task.output}")
        except UserError as error:
            failures.append(f"{task.source}: {error}")
            print(f"{task.source}\n  failed: {error}")
    counts = f"{done} re-aged, {unchanged} without a face copied as they are, {skipped} there already"
    print(f"{counts}, {len(failures)} failed")
    if failures:
        raise UserError(f"{len(failures)} of {len(tasks)} files failed; the first was {failures[0]}")


def _copy(task: Task) -> None:
    from fran_lightning.files import atomic_path

    task.output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(task.output) as temporary:
        shutil.copyfile(task.source, temporary)


def _reage_photo(reager: Reager, task: Task, settings: ReageSettings, index: int) -> list[str]:
    from fran_lightning.reaging.photo import check_photo_suffix, read_photo, write_photo

    check_photo_suffix(task.output)
    photo = read_photo(task.source)
    result, faces = reager.reage_photo(photo, settings, index)
    notes = photo.notes + write_photo(task.output, result)
    lines = []
    for face in faces:
        how = " (estimated)" if face.source_estimated else ""
        note = f"; {face.note}" if face.note else ""
        lines.append(f"face {face.index}: {face.source_age:.0f}{how} -> {face.target_age:g} years{note}")
    return [*lines, *(f"note: {note}" for note in notes), *_mask_note(settings)]


def _reage_film(reager: Reager, task: Task, settings: ReageSettings, args: Namespace) -> list[str]:
    from fran_lightning.reaging.video import reage_film

    report = reage_film(
        reager,
        task.source,
        task.output,
        settings,
        codec=args.codec,
        quality=args.quality,
        preview=args.preview,
        resume=args.resume,
    )
    lines = [person.describe() for person in report.persons]
    passed = report.frames - report.changed_frames
    lines.append(f"{report.frames} frames: {report.changed_frames} re-aged, {passed} passed through unchanged")
    if report.frames_resumed:
        lines.append(f"{report.frames_resumed} frames were there from an earlier try")
    if report.cuts:
        lines.append(f"{report.cuts} cuts")
    if report.decoding.broken_packets or report.decoding.damaged_frames:
        broken, damaged = report.decoding.broken_packets, report.decoding.damaged_frames
        lines.append(f"note: {broken} packets could not be decoded, {damaged} frames are damaged in the source")
    return [*lines, *(f"note: {note}" for note in report.notes), *_mask_note(settings)]


def _mask_note(settings: ReageSettings) -> list[str]:
    if settings.mask == "skin":
        return ["mask: skin, by landmarks and colour (no face parser)"]
    return []
