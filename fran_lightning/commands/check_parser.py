"""Check a face parser: against class maps, on one identity at many ages, on photos, and on films.

Every option adds its figures; the mask by landmarks and colour, which needs no network, is measured beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from jsonargparse import ArgumentParser, Namespace

if TYPE_CHECKING:
    from fran_lightning.evaluation.parsing import MaskedFace

_Architecture = Literal["auto", "bisenet_v2", "bisenet_v1"]


def configure(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--parser", type=str | None, default=None, help="run folder or weight file (default: the bundled parser)")
    add("--architecture", type=_Architecture, default="auto", help="what the weight file has to be")
    add("--labelled", type=list[str], default=[], help="dataset folders with class maps, not those of the training")
    add("--ages", type=list[str], default=[], help="folders of identities at many ages: dataset or {age}_seed{id}.png")
    add("--photos", type=list[str], default=[], help="photos: files, folders or globs")
    add("--films", type=list[str], default=[], help="films")
    add("--classes", action="store_true", help="also print the IoU of every class")
    add("-o", "--out", type=str | None, default=None, help="picture (PNG or JPEG) of faces and masks to write")
    add("--json", type=str | None, default=None, help="file for the figures")


def run(args: Namespace) -> None:
    from dataclasses import asdict
    from pathlib import Path

    import numpy as np

    from fran_lightning.errors import UserError
    from fran_lightning.evaluation.parsing import (
        mask_face,
        point_cover,
        score_film,
        score_labelled,
        score_self_overlap,
    )
    from fran_lightning.evaluation.realism import find_series
    from fran_lightning.files import write_json
    from fran_lightning.parser_training.faces import labelled_files
    from fran_lightning.perception.detection import FaceDetector
    from fran_lightning.perception.parsing import FaceParser
    from fran_lightning.perception.parsing_classes import CLASS_NAMES
    from fran_lightning.reaging.inputs import find_photos
    from fran_lightning.reaging.photo import read_photo
    from fran_lightning.reaging.reager import to_8_bit

    if not (args.labelled or args.ages or args.photos or args.films):
        raise UserError("nothing to check; give --labelled, --ages, --photos or --films")
    parser, detector = FaceParser(args.parser, architecture=args.architecture), FaceDetector()
    figures: dict[str, object] = {}
    pictures: list[MaskedFace] = []
    for root in args.labelled:
        files = labelled_files(Path(root))
        scores = score_labelled(parser, files, detector)
        figures[f"labelled {root}"] = asdict(scores)
        print(f"{root}: {scores.images} faces, {scores.undetected} of them not detected")
        print(f"  parser            mIoU {scores.mean_iou:.4f}   skin IoU {scores.skin_iou:.4f}")
        print(
            f"  as used           skin IoU {scores.parser_skin_iou_detected:.4f}   mean trust {scores.mean_trust:.3f}"
        )
        print(f"  landmarks, colour skin IoU {scores.floor_skin_iou:.4f}")
        if args.classes:
            for name, value in zip(CLASS_NAMES, scores.class_iou, strict=True):
                print(f"    {name:<12} {value:.3f}")
    for root in args.ages:
        overlaps = []
        for series in find_series(root):
            scores, faces = score_self_overlap(parser, series, detector)
            overlaps.append(scores)
            shown = list(faces.values())
            pictures += _some(shown)
            print(
                f"{root} {scores.identity}: {len(shown)} ages, overlap mean {scores.mean:.4f} least "
                f"{scores.least:.4f}   landmarks, colour mean {scores.floor_mean:.4f} least {scores.floor_least:.4f}"
            )
        mean = {name: float(np.nanmean([getattr(o, name) for o in overlaps])) for name in ("mean", "floor_mean")}
        figures[f"ages {root}"] = [asdict(o) for o in overlaps]
        print(
            f"{root}: {len(overlaps)} identities, mean {mean['mean']:.4f}, landmarks, colour {mean['floor_mean']:.4f}"
        )
    for path in find_photos(args.photos) if args.photos else []:
        face = mask_face(parser, detector, to_8_bit(read_photo(path).pixels))
        if face is None:
            print(f"{path}: no face")
            continue
        cover = point_cover(parser, face)
        pictures.append(face)
        figures[f"photo {path}"] = asdict(cover) | {"trust": face.answer.trust}
        print(
            f"{path}: around eyes {cover.eyes:.3f} nose {cover.nose:.3f} mouth {cover.mouth:.3f}   border "
            f"{cover.border:.3f} (parser alone {cover.raw_border:.3f})   trust {face.answer.trust:.2f}"
        )
    for film in args.films:
        scores, faces = score_film(parser, Path(film))
        figures[f"film {film}"] = asdict(scores)
        pictures += _some(faces)
        covers = [point_cover(parser, face) for face in faces]
        print(f"{film}: {scores.frames} frames, neighbouring masks overlap (mean, least)")
        for name in ("steady", "single", "floor"):
            mean_value, least = getattr(scores, name)
            print(f"  {name:<8} {mean_value:.4f} {least:.4f}")
        print(
            f"  around eyes {min(c.eyes for c in covers):.3f} nose {min(c.nose for c in covers):.3f} mouth "
            f"{min(c.mouth for c in covers):.3f} (least of {len(covers)} frames), border "
            f"{max(c.border for c in covers):.3f}, trust {scores.mean_trust:.3f}"
        )
    if args.out is not None:
        _draw(args.out, pictures)
        print(f"written: {args.out}")
    if args.json is not None:
        write_json(args.json, figures)


def _some(faces: list[MaskedFace]) -> list[MaskedFace]:
    """The first, the middle and the last."""
    return faces if len(faces) <= 3 else [faces[0], faces[len(faces) // 2], faces[-1]]


def _draw(path: str, faces: list[MaskedFace], columns: int = 6) -> None:
    """Faces, and below each the mask by the parser and the one by landmarks and colour, as a red veil."""
    import numpy as np

    from fran_lightning.callbacks.drawing import Row, draw_sheet
    from fran_lightning.files import atomic_path

    def veil(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
        red = np.array([230, 30, 60], np.float32)
        return np.rint(pixels + (red - pixels) * (0.6 * mask[..., None])).astype(np.uint8)

    rows = []
    for start in range(0, len(faces), columns):
        some = faces[start : start + columns]
        rows += [
            Row("faces", [face.crop for face in some]),
            Row("parser", [veil(face.crop, face.mask) for face in some]),
            Row("landmarks,\ncolour", [veil(face.crop, face.request.floor) for face in some]),
        ]
    sheet = draw_sheet([""] * min(columns, max(1, len(faces))), rows, 120, "skin masks")
    with atomic_path(path) as temporary:
        sheet.save(temporary, **({"quality": 80} if path.lower().endswith((".jpg", ".jpeg")) else {}))
