"""Re-age the faces of photos, films and image sequences.

Everything but the face stays as it is: in films also sound, subtitles, times, bit depth and colour tags, in EXR
sequences all other channels and all attributes. Every run leaves a shot file beside its output that makes it again.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from fran_lightning.errors import UserError
from fran_lightning.perception.face import NoFaceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fran_lightning.reaging.inputs import SequenceTask, Task
    from fran_lightning.reaging.reager import Reager
    from fran_lightning.reaging.sequences import FrameSequence
    from fran_lightning.reaging.settings import ReageSettings


def configure(parser: ArgumentParser) -> None:
    # what a shot file can hold has no default here: the shot file comes first, then the defaults of shot.OPTIONS
    add = parser.add_argument
    add("inputs", type=str, nargs="*", help="a photo, a film, a sequence shot.####.exr, a folder or a glob")
    add("--shot", type=str, help="do what a shot file says; other options take precedence over it")
    add("--checkpoint", type=str, help="run folder, .safetensors or exported .onnx")
    add(
        "-o",
        "--output",
        type=str,
        help="a file, out.####.exr for a sequence, a folder for several inputs (default: the name with the age added)",
    )
    add(
        "--target-age",
        type=str,
        help="65 | +20 | keyframes FRAME:AGE (1:35,120:70) | per face from face 0 (0:65,1:30) (default: 65)",
    )
    add("--source-age", type=str, help="age of the face as it is, or per face 0:35,1:50 (default: estimated)")
    add("--face", type=str, help="largest, all, INDEX from the left, or X,Y in pixels (default: largest)")
    add(
        "--mask",
        type=str,
        help="where it may change: skin, face, none, or painted: FILE, folder, m.####.png (default: skin)",
    )
    add(
        "--parser",
        type=str,
        help="what finds the skin: auto (the bundled face parser), none (landmarks and colour), or a BiSeNet file "
        "(default: auto)",
    )
    add("--strength", type=str, help="factor on the change, 0 to 3, or keyframes FRAME:FACTOR (1:0,25:1) (default: 1)")
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
    add("--size", type=str, help="pixels the network sees: auto, full or a number (default: auto)")
    add("--colorspace", type=str, help="of EXR frames: rec709, acescg, aces2065-1 ... (default: as the files say)")
    add("--frames", type=str, help="of a sequence, only the frames FIRST-LAST")
    add("--missing", type=str, help="frames missing in a sequence: refuse, or gap to pass over them (default: refuse)")
    add("--passes", type=str, help="also write: delta, mask, age_map, aligned (a list with commas)")
    add("--passes-as", type=str, help="EXR: layers of the result's files, or files of their own (default: layers)")
    add("--codec", type=str, help="film encoder, like libx264, prores_ks or ffv1 (default: the film's own)")
    add("--quality", type=str, help="the encoder's constant-quality number (default: visually lossless)")
    add("--preview", type=str, help="films: also write a comparison: side or wipe")
    add("--resume", action="store_true", help="continue an interrupted job; batches skip what is there")
    add(
        "--no-provenance",
        action="store_true",
        help="do not say in the metadata that a generative model edited the result",
    )
    add("--no-shot-file", action="store_true", help="leave no OUTPUT.shot.yaml beside the output")
    add("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1 ...")
    add("--backend", type=str, help="auto (onnxruntime for .onnx, else torch), torch or onnxruntime (default: auto)")
    add("--precision", type=str, help="auto, float32 or bfloat16 (default: auto)")


def run(args: Namespace) -> None:
    from fran_lightning.reaging.pipeline import let_waiting_threads_sleep

    # before anything loads torch
    let_waiting_threads_sleep()
    from fran_lightning.reaging.inputs import find_tasks
    from fran_lightning.reaging.options import parse_choice
    from fran_lightning.reaging.shot import check_checkpoint

    _complete(args)
    settings = _settings(args)
    precision = parse_choice("--precision", args.precision, ("auto", "float32", "bfloat16"))
    backend = parse_choice("--backend", args.backend, ("auto", "torch", "onnxruntime"))
    parse_choice("--missing", args.missing, ("refuse", "gap"))
    if args.passes_as is not None:
        parse_choice("--passes-as", args.passes_as, ("layers", "files"))
    if args.preview is not None:
        parse_choice("--preview", args.preview, ("side", "wipe"))
        if args.resume:
            raise UserError("--preview needs the whole film in one go; leave out --resume")
    label = "".join(sign if sign.isalnum() or sign in "+-." else "-" for sign in args.target_age)
    tasks, batch = find_tasks(args.inputs, args.output, label)
    if not batch:
        _check_outputs(tasks[0], args)

    from fran_lightning.reaging.reager import Reager

    reager = Reager(args.checkpoint, device=args.device, precision=precision, backend=backend, parser=args.parser)
    args.checkpoint_sha256 = check_checkpoint(args.checkpoint, args.checkpoint_sha256)
    if batch:
        _run_batch(reager, tasks, settings, args)
    else:
        _run_task(reager, tasks[0], settings, args)


def _complete(args: Namespace) -> None:
    """Fill in what the command line leaves open: from the shot file, then from the defaults."""
    from fran_lightning.reaging.options import parse_choice, parse_quality
    from fran_lightning.reaging.passes import parse_passes
    from fran_lightning.reaging.shot import OPTIONS, read_shot

    shot = read_shot(Path(args.shot)) if args.shot else {}
    args.inputs = args.inputs or shot.pop("input", [])
    marked = parse_choice("provenance", shot.get("provenance", "yes"), ("yes", "no"))
    args.no_provenance = args.no_provenance or marked == "no"
    # another checkpoint on the command line is meant to be another one
    args.checkpoint_sha256 = None if args.checkpoint else shot.pop("checkpoint_sha256", None)
    for name, default in OPTIONS.items():
        if name not in ("input", "checkpoint_sha256", "provenance") and args[name] is None:
            args[name] = shot.get(name, default)
    if not args.inputs:
        raise UserError("name a photo, a film or a sequence, or a shot file with --shot")
    if not args.checkpoint:
        raise UserError("name a run folder or its generator.safetensors with --checkpoint")
    args.quality = parse_quality(args.quality)
    args.passes = parse_passes(args.passes)


def _settings(args: Namespace) -> ReageSettings:
    from typing import get_args

    from fran_lightning.reaging.frame_images import FrameImages
    from fran_lightning.reaging.masks import MaskKind
    from fran_lightning.reaging.options import parse_face_choice, parse_size_rule
    from fran_lightning.reaging.regions import parse_regions
    from fran_lightning.reaging.settings import ReageSettings
    from fran_lightning.reaging.strength import parse_strength
    from fran_lightning.reaging.targets import parse_source_ages, parse_targets

    return ReageSettings(
        targets=parse_targets(args.target_age),
        source_ages=parse_source_ages(args.source_age),
        mask=args.mask if args.mask in get_args(MaskKind) else FrameImages(args.mask, "mask"),
        faces=parse_face_choice(args.face),
        strength=parse_strength(args.strength),
        size=parse_size_rule(args.size),
        regions=parse_regions(args.regions),
        age_map=FrameImages(args.age_map, "age map") if args.age_map else None,
    )


def _check_outputs(task: Task | SequenceTask, args: Namespace) -> None:
    """What can be known to fail before the checkpoint is loaded."""
    from fran_lightning.reaging.film import choose_encoder, read_info
    from fran_lightning.reaging.inputs import SequenceTask
    from fran_lightning.reaging.photo import check_photo_suffix
    from fran_lightning.reaging.plates import check_missing

    if isinstance(task, SequenceTask):
        check_missing(_chosen_frames(task, args), args.missing)
        return
    if args.frames is not None or args.colorspace is not None:
        option = "--frames" if args.frames is not None else "--colorspace"
        raise UserError(f"{option} is for image sequences like shot.####.exr; leave it out")
    if task.is_film:
        choose_encoder(read_info(task.source), task.output.suffix, args.codec)
    else:
        check_photo_suffix(task.output)


def _run_task(
    reager: Reager, task: Task | SequenceTask, settings: ReageSettings, args: Namespace, index: int = 0
) -> None:
    from fran_lightning.reaging.inputs import SequenceTask

    if isinstance(task, SequenceTask):
        lines, ages = _reage_sequence(reager, task, settings, args)
    elif task.is_film:
        lines, ages = _reage_film(reager, task, settings, args)
    else:
        lines, ages = _reage_photo(reager, task, settings, args, index)
    if not args.no_shot_file:
        _write_shot_file(reager, task, settings, args, ages, index)
    print("\n".join([str(task.source), *(f"  {line}" for line in lines), f"  written: {task.output}"]))


def _write_shot_file(
    reager: Reager,
    task: Task | SequenceTask,
    settings: ReageSettings,
    args: Namespace,
    ages: Mapping[int, float],
    index: int,
) -> None:
    """Beside the output; with the ages that were estimated, so that nothing is estimated again."""
    from fran_lightning.reaging.frame_images import FrameImages
    from fran_lightning.reaging.inputs import SequenceTask, Task
    from fran_lightning.reaging.shot import OPTIONS, shot_path, write_shot

    options: dict[str, Any] = {name: args[name] for name in OPTIONS if name not in ("input", "provenance")}
    options |= {"input": str(task.source), "output": str(task.output)}
    options["provenance"] = "no" if args.no_provenance else "yes"
    options["source_age"] = {str(face): repr(years) for face, years in sorted(ages.items())}
    options["passes"] = ",".join(args.passes)
    options["precision"] = str(reager.network.dtype).removeprefix("torch.")
    if isinstance(task, SequenceTask):
        numbers = _chosen_frames(task, args).numbers
        options["frames"] = f"{numbers[0]}-{numbers[-1]}"
    if isinstance(task, Task) and not task.is_film:
        # of several painted images, the one that was this photo's
        for name, images in (("mask", settings.mask), ("age_map", settings.age_map)):
            if isinstance(images, FrameImages):
                options[name] = str(images.path_at(index))
    write_shot(shot_path(str(task.output)), options)


def _chosen_frames(task: SequenceTask, args: Namespace) -> FrameSequence:
    from fran_lightning.reaging.sequences import choose_frames

    return choose_frames(task.source, args.frames)


def _reage_sequence(
    reager: Reager, task: SequenceTask, settings: ReageSettings, args: Namespace
) -> tuple[list[str], dict[int, float]]:
    from fran_lightning.reaging.plates import reage_sequence
    from fran_lightning.reaging.sequences import describe_numbers

    report = reage_sequence(
        reager,
        _chosen_frames(task, args),
        task.output,
        settings,
        colorspace=args.colorspace,
        passes=args.passes,
        passes_as=args.passes_as,
        missing=args.missing,
        resume=args.resume,
        provenance=not args.no_provenance,
    )
    lines = [person.describe() for person in report.persons]
    lines.append(f"colour: {report.colour}")
    passed = report.frames - report.changed_frames
    lines.append(f"{report.frames} frames: {report.changed_frames} re-aged, {passed} passed through unchanged")
    if report.frames_resumed:
        lines.append(f"{report.frames_resumed} frames were there from an earlier try")
    if report.missing:
        lines.append(f"note: frame {describe_numbers(report.missing)} is missing")
    if report.cuts:
        lines.append(f"{report.cuts} cuts")
    ages = {person.person: person.source_age for person in report.persons}
    return [*lines, *(f"note: {note}" for note in report.notes), *_mask_note(reager, settings)], ages


def _run_batch(reager: Reager, tasks: list[Task | SequenceTask], settings: ReageSettings, args: Namespace) -> None:
    from fran_lightning.reaging.inputs import Task

    done = skipped = unchanged = 0
    failures: list[str] = []
    for index, task in enumerate(tasks):
        if args.resume and isinstance(task, Task) and task.output.exists():
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


def _copy(task: Task | SequenceTask) -> None:
    from fran_lightning.files import atomic_path
    from fran_lightning.reaging.inputs import Task

    if isinstance(task, Task):
        pairs = [(task.source, task.output)]
    else:
        pairs = [(task.source.pattern.path(number), task.output.path(number)) for number in task.source.numbers]
    for source, output in pairs:
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(output) as temporary:
            shutil.copyfile(source, temporary)


def _reage_photo(
    reager: Reager, task: Task, settings: ReageSettings, args: Namespace, index: int
) -> tuple[list[str], dict[int, float]]:
    import numpy as np

    from fran_lightning.reaging.passes import PassFiles
    from fran_lightning.reaging.photo import check_photo_suffix, read_photo, write_photo
    from fran_lightning.reaging.sequences import FramePattern

    check_photo_suffix(task.output)
    photo = read_photo(task.source)
    passes = None
    if args.passes == ("result",):
        result, faces = reager.reage_photo(photo, settings, index)
    else:
        result, faces, passes = reager.reage_photo_with_passes(photo, settings, index)
    if not args.no_provenance and not np.array_equal(result.pixels, photo.pixels):
        result = result.marked_as_edited()
    notes = result.notes + write_photo(task.output, result)
    if passes is not None:
        PassFiles(FramePattern.single(task.output), args.passes).write(1, passes)
    lines = []
    for face in faces:
        how = " (estimated)" if face.source_estimated else ""
        note = f"; {face.note}" if face.note else ""
        lines.append(f"face {face.index}: {face.source_age:.0f}{how} -> {face.target_age:g} years{note}")
    ages = {face.index: face.source_age for face in faces}
    return [*lines, *(f"note: {note}" for note in notes), *_mask_note(reager, settings)], ages


def _reage_film(
    reager: Reager, task: Task, settings: ReageSettings, args: Namespace
) -> tuple[list[str], dict[int, float]]:
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
        provenance=not args.no_provenance,
        passes=args.passes,
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
    ages = {person.person: person.source_age for person in report.persons}
    return [*lines, *(f"note: {note}" for note in report.notes), *_mask_note(reager, settings)], ages


def _mask_note(reager: Reager, settings: ReageSettings) -> list[str]:
    if settings.mask != "skin":
        return []
    if reager.parser is None:
        return ["mask: skin, by landmarks and colour (no face parser)"]
    return ["mask: skin, by the face parser, and by landmarks and colour where it is unsure"]
