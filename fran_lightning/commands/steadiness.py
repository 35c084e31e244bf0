"""Measure how steady a re-aged film is, beside the same film with per-frame alignment.

Prints the wiggle of the face crop before and after smoothing, how far the smoothed path leaves the measured one, the
pixels changed outside the face, how many frames differ when one frame is repeated as a film, and warping error, T-Age
and TL-ID of the original, of per-frame alignment and of the smoothed alignment.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

if TYPE_CHECKING:
    import numpy as np

    from fran_lightning.evaluation.parametric_clip import ParametricClip
    from fran_lightning.evaluation.temporal import FramePair, Steadiness
    from fran_lightning.reaging.film import FilmInfo
    from fran_lightning.reaging.tracks import SteadyTrack, Tracker


#: Frames of the film that shows one frame only.
_STILL_FRAMES = 12


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("film", type=str, help="a film with one face, or the folder of a parametric clip")
    parser.add_argument("--checkpoint", type=str, required=True, help="run folder or generator.safetensors")
    parser.add_argument("--target-age", type=str, default="65", help="as for fran reage")
    parser.add_argument("--pairs", type=int, default=40, help="neighbouring frames that are measured, spread evenly")
    parser.add_argument("--json", type=str, help="also write the figures to this file")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1 ...")


def run(args: Namespace) -> None:
    from fran_lightning.evaluation.parametric_clip import ParametricClip
    from fran_lightning.files import write_json
    from fran_lightning.perception.face import NoFaceError
    from fran_lightning.reaging.film import read_info
    from fran_lightning.reaging.reager import Reager
    from fran_lightning.reaging.settings import ReageSettings
    from fran_lightning.reaging.targets import parse_targets
    from fran_lightning.reaging.video import look_for_faces, reage_film

    settings = ReageSettings(targets=parse_targets(args.target_age))
    reager = Reager(args.checkpoint, device=args.device)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source, clip = Path(args.film), None
        if source.is_dir():
            clip = ParametricClip(source)
            source = folder / "clip.mkv"
            clip.write_film(source)
        info = read_info(source)
        tracker = look_for_faces(source, info)
        tracks = tracker.finish()
        if not tracks:
            raise NoFaceError(f"no face found in {args.film}")
        track = max(tracks, key=lambda one: len(one.squares))
        figures = _alignment_figures(tracker, track)
        films = [source]
        for name, smoothing in (("per-frame.mkv", False), ("smoothed.mkv", True)):
            films.append(folder / name)
            reage_film(reager, source, films[-1], settings, codec="ffv1", tracker=tracker, smoothing=smoothing)
        figures["changed_pixels_outside"] = _changed_outside(source, films[2], tracks, info.quarter_turns)
        still = folder / "still.mkv"
        _repeat_frame(source, info, track.start, still)
        reage_film(reager, still, folder / "still-aged.mkv", settings, codec="ffv1")
        figures["still_frames_that_differ"] = _frames_that_differ(folder / "still-aged.mkv")
        measured = _measure(films, track, args.pairs, clip)
    figures["flow"] = "estimated" if clip is None else "exact"
    for name, steadiness in zip(("original", "per_frame", "smoothed"), measured, strict=True):
        figures[name] = {key: round(value, 4) for key, value in vars(steadiness).items()}
    _show(args.film, figures, measured)
    if args.json:
        write_json(args.json, figures)


def _alignment_figures(tracker: Tracker, track: SteadyTrack) -> dict[str, object]:
    import numpy as np

    from fran_lightning.perception.alignment import FFHQ_POINTS_512
    from fran_lightning.reaging.smoothing import wiggle

    raw = next(one for one in tracker.finish(smoothing=False) if one.start == track.start and one.stop == track.stop)
    before, after = wiggle(raw.squares), wiggle(track.squares)
    # in FFHQ's template the eyes are this share of the square's side apart
    eyes = np.linalg.norm(FFHQ_POINTS_512[1] - FFHQ_POINTS_512[0]) / 512
    distance = [
        np.hypot(a.x - b.x, a.y - b.y) / (eyes * b.side) for a, b in zip(track.squares, raw.squares, strict=True)
    ]
    names = ("x", "y", "side", "angle")
    return {
        "frames": len(track.squares),
        "wiggle_per_frame": dict(zip(names, before.round(4).tolist(), strict=True)),
        "wiggle_smoothed": dict(zip(names, after.round(4).tolist(), strict=True)),
        "wiggle_ratio": dict(zip(names, (before / np.maximum(after, 1e-9)).round(1).tolist(), strict=True)),
        "distance_to_measured_path": round(float(np.mean(distance)), 5),
    }


def _pictures(path: Path) -> Iterator[np.ndarray]:
    from fran_lightning.reaging.film import DecodeReport, decode, open_film

    with open_film(path) as container:
        for frame in decode(container, DecodeReport()):
            yield frame.to_ndarray(format="rgb24")


def _changed_outside(source: Path, edited: Path, tracks: list[SteadyTrack], quarter_turns: int) -> int:
    """Pixels whose stored codes differ outside every face's square, over the whole film."""
    import numpy as np

    from fran_lightning.evaluation.temporal import square_mask
    from fran_lightning.reaging.film import DecodeReport, decode, open_film
    from fran_lightning.reaging.planes import PlaneLayout, as_planar, plane_array

    changed = 0
    with open_film(source) as before, open_film(edited) as after:
        pairs = zip(decode(before, DecodeReport()), decode(after, DecodeReport()), strict=True)
        for index, (one, other) in enumerate(pairs):
            one = as_planar(one)
            if one.format.name != other.format.name:
                other = other.reformat(format=one.format.name)
            outside = np.ones((one.height, one.width), dtype=bool)
            for track in tracks:
                if track.start <= index < track.stop:
                    outside &= ~square_mask(track.squares[index - track.start], one.height, one.width)
            for part in PlaneLayout.of(one).components:
                across, down = part.step
                different = plane_array(one, part.plane) != plane_array(other, part.plane)
                changed += int((different & outside[::down, ::across]).sum())
    return changed


def _repeat_frame(source: Path, info: FilmInfo, index: int, path: Path) -> None:
    """Write a lossless film that shows frame ``index`` of another one again and again."""
    from fran_lightning.reaging.film import DecodeReport, FilmWriter, choose_encoder, decode, open_film

    encoder, pixel_format = choose_encoder(info, path.suffix, "ffv1")
    with open_film(source) as container:
        frame = next(itertools.islice(decode(container, DecodeReport()), index, None))
        with FilmWriter(path, container, encoder, pixel_format, copies=False) as writer:
            for turn in range(_STILL_FRAMES):
                frame.pts = round(turn / (info.rate * frame.time_base))
                writer.write(frame)


def _frames_that_differ(path: Path) -> int:
    """How many frames of a film are not, to the bit, as its first one."""
    from fran_lightning.reaging.film import DecodeReport, decode, open_film
    from fran_lightning.reaging.planes import as_planar

    with open_film(path) as container:
        frames = [as_planar(frame).to_ndarray() for frame in decode(container, DecodeReport())]
    return sum(bool((frame != frames[0]).any()) for frame in frames)


def _measure(films: list[Path], track: SteadyTrack, count: int, clip: ParametricClip | None) -> list[Steadiness]:
    import numpy as np

    from fran_lightning.evaluation.temporal import FlowWarp, FramePair, measure_pairs
    from fran_lightning.progress import progress_bar

    last = track.stop - 2
    wanted = set(np.linspace(track.start, max(last, track.start), count).astype(int).tolist())

    def pairs() -> Iterator[FramePair]:
        with contextlib.ExitStack() as stack, progress_bar("measuring", len(wanted), "pairs") as bar:
            readers = [stack.enter_context(contextlib.closing(_pictures(path))) for path in films]
            previous: list[np.ndarray] = []
            for index, pictures in enumerate(zip(*readers, strict=True)):
                if index - 1 in wanted and index < track.stop:
                    here = index - 1 - track.start
                    both = list(zip(previous, pictures, strict=True))
                    warp = FlowWarp.estimated(*both[0]) if clip is None else FlowWarp(*clip.flow(index - 1))
                    yield FramePair((track.squares[here], track.squares[here + 1]), both, warp)
                    bar.advance()
                previous = list(pictures)

    return measure_pairs(pairs())


def _show(source: str, figures: dict[str, object], measured: list[Steadiness]) -> None:
    print(f"{source}: {figures['frames']} frames")
    print("wiggle of the crop (standard deviation of the second difference, pixels)")
    for key, label in (("wiggle_per_frame", "per frame"), ("wiggle_smoothed", "smoothed"), ("wiggle_ratio", "ratio")):
        values = figures[key]
        assert isinstance(values, dict)
        print(f"  {label:<10}" + "".join(f"{name} {value:<9g}" for name, value in values.items()))
    distance = figures["distance_to_measured_path"]
    assert isinstance(distance, float)
    print(f"distance to the measured path: {distance:.2%} of the distance between the eyes")
    print(f"pixels changed outside the face's square: {figures['changed_pixels_outside']}")
    print(f"frames that differ when one frame is repeated {_STILL_FRAMES} times: {figures['still_frames_that_differ']}")
    print(f"warping error by {figures['flow']} flow:")
    print(f"{'':<12}{'warping error':>14}{'T-Age':>8}{'TL-ID':>8}")
    for name, steadiness in zip(("original", "per frame", "smoothed"), measured, strict=True):
        print(f"  {name:<10}{steadiness.warping_error:>14.3f}{steadiness.t_age:>8.2f}{steadiness.tl_id:>8.4f}")
