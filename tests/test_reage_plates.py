"""Image sequences and passes: what survives, colour, frame numbers, resuming, and bad input."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pytest
from faces import AgeDifference, Darken, portrait, save_random_generator
from films import moving_portrait
from plates import (
    BRIGHT,
    DARK,
    INFINITE,
    LAMP,
    NAN,
    NEGATIVE,
    light,
    read_channels,
    read_header,
    same_bits,
    write_exr_frame,
    write_plates,
)

from fran_lightning.cli import main
from fran_lightning.errors import UserError
from fran_lightning.reaging import plates as plates_module
from fran_lightning.reaging.colour import PlateColour, named_by_chromaticities
from fran_lightning.reaging.exr import read_exr
from fran_lightning.reaging.passes import parse_passes
from fran_lightning.reaging.paste import Patch, sum_patches
from fran_lightning.reaging.plate_frames import ExrFrame
from fran_lightning.reaging.plates import reage_sequence
from fran_lightning.reaging.reager import Reager
from fran_lightning.reaging.sequences import FramePattern, describe_numbers, find_frames
from fran_lightning.reaging.settings import ReageSettings
from fran_lightning.reaging.targets import parse_targets

FROM_30 = {-1: 30.0}
ACESCG = (0.713, 0.293, 0.165, 0.83, 0.128, 0.044, 0.32168, 0.33767)


@pytest.fixture(scope="module")
def reager() -> Reager:
    return Reager(Darken(), device="cpu", trained_size=128)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_random_generator(tmp_path_factory.mktemp("run") / "generator.safetensors")


@pytest.fixture
def fran(checkpoint):
    """`fran reage` with a small random network and a given age; returns the exit status."""

    def call(*arguments: object) -> int:
        return main(["reage", "--checkpoint", str(checkpoint), "--source-age", "30", *map(str, arguments)])

    return call


def reage(reager: Reager, pattern: str, output: Path, **options):
    settings = ReageSettings(source_ages=FROM_30, targets=options.pop("targets", parse_targets("65")))
    sequence = find_frames(pattern, (".exr", ".png"))
    return reage_sequence(reager, sequence, FramePattern.parse(str(output)), settings, **options)


# ---------------------------------------------------------------- what survives


def test_a_float_plate_survives_outside_the_mask_to_the_bit(tmp_path, fran):
    others = {
        "A": np.ones((320, 384), np.float16),
        "Z": np.linspace(1, 1e6, 320 * 384, dtype=np.float32).reshape(320, 384),
        "crypto00.R": np.arange(320 * 384, dtype=np.uint32).reshape(320, 384),
    }
    window = (np.array([16, -8], np.int32), np.array([399, 311], np.int32))
    kept = {
        "chromaticities": ACESCG,
        "dataWindow": window,
        "displayWindow": (np.zeros(2, np.int32), np.array([409, 299], np.int32)),
        "compression": OpenEXR.ZIPS_COMPRESSION,
        "lineOrder": OpenEXR.DECREASING_Y,
        "timeCode": OpenEXR.TimeCode(1, 2, 3, 4, *([0] * 6), *range(8)),
        "studio/shot": "sc010",
        "matrix": np.arange(16, dtype=np.float64).reshape(4, 4),
        "pixelAspectRatio": 1.5,
    }
    for index in range(4):
        write_exr_frame(tmp_path / f"in/shot.{1001 + index}.exr", light(index, "acescg"), others, **kept)
    assert fran(tmp_path / "in/shot.####.exr", "-o", tmp_path / "out/o.####.exr", "--passes", "delta,mask,age_map") == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.exr")) == [f"o.{1001 + i}.exr" for i in range(4)]
    for number in range(1001, 1005):
        before = read_channels(tmp_path / f"in/shot.{number}.exr")
        after = read_channels(tmp_path / f"out/o.{number}.exr")
        mask = after["fran.mask.A"]
        for name in others:
            assert (before[name] == after[name]).all()
            assert before[name].dtype == after[name].dtype
        changed = np.zeros(mask.shape, dtype=bool)
        for name in "RGB":
            same = same_bits(before[name], after[name])
            assert same[mask == 0].all()
            for planted in (NAN, INFINITE, DARK, BRIGHT, LAMP, NEGATIVE):
                assert same[planted]
            assert np.isfinite(after[name][np.isfinite(before[name])]).all()
            delta = after[f"fran.delta.{name}"]
            assert delta.dtype == np.float32
            assert same_bits(before[name] + delta, after[name])[delta != 0].all()
            assert (delta[same] == 0).mean() > 0.99
            changed |= ~same
        # most of the face did change, the pixels beside the planted ones too
        assert changed[mask > 0.5].mean() > 0.9
        for row, column in (NAN, LAMP, NEGATIVE):
            assert mask[row, column] > 0.5
            assert changed[row, column + 1]
        assert 0.29 < after["fran.age_map.Y"][mask > 0.9].min() <= after["fran.age_map.Y"].max() < 0.66
        before_header, after_header = (
            read_header(tmp_path / name) for name in (f"in/shot.{number}.exr", f"out/o.{number}.exr")
        )
        added = {"DigitalSourceType", "AISystemUsed", "AISystemVersionUsed"}
        assert after_header.keys() - before_header.keys() == added
        assert {name: after_header[name] for name in before_header} == before_header
        assert "compositeWithTrainedAlgorithmicMedia" in after_header["DigitalSourceType"]


def test_half_stays_half_and_the_delta_says_what_rounding_left(tmp_path, reager):
    pattern = write_plates(tmp_path, 3, dtype=np.float16)
    reage(reager, pattern, tmp_path / "out.####.exr", passes=("result", "delta", "mask"))
    before, after = read_channels(tmp_path / "shot.1002.exr"), read_channels(tmp_path / "out.1002.exr")
    for name in "RGB":
        assert after[name].dtype == np.float16
        assert same_bits(before[name], after[name])[after["fran.mask.A"] == 0].all()
        total = before[name].astype(np.float32) + after[f"fran.delta.{name}"]
        finite = np.isfinite(total)
        assert (total[finite] == after[name][finite].astype(np.float32)).all()
        assert (after[f"fran.delta.{name}"] != 0).mean() > 0.05


def test_a_delta_fades_out_towards_what_no_screen_shows():
    ramp = np.linspace(0.8, 1.2, 81, dtype=np.float32)
    plate = np.repeat(np.stack([ramp, ramp / 2, ramp / 4], axis=-1)[None], 2, axis=0)
    frame = ExrFrame(read_exr_from(plate), PlateColour("rec709"))
    added = frame.add(Patch(0, 0, np.full(plate.shape, -0.2, np.float32)), tell=True).values[0]
    above = ramp > 1
    assert same_bits(frame.image.channels["R"][0], plate[0, :, 0])[above].all()
    assert (added[above] == 0).all()
    assert (added[ramp < 0.94] < -0.05)[:, 0].all()
    # no step where it ends
    assert np.abs(np.diff(added[:, 0])).max() < 0.025


def test_highlights_get_a_change_in_proportion(reager):
    colour = PlateColour("rec709")
    plate = np.full((1, 4, 3), 6.0, np.float32)
    change = colour.plate_change(plate, np.full((1, 4, 3), -0.1, np.float32))
    assert (plate + change > 4).all()
    assert (change < -0.5).all()


def test_black_is_not_carried_below_black():
    colour = PlateColour("rec709")
    dark = np.array([[0.0, 0.001, 0.2]], np.float32)
    assert (dark + colour.plate_change(dark, np.full((1, 3), -0.5, np.float32)) >= -1e-7).all()
    negative = np.array([[-0.1, -0.1, -0.1]], np.float32)
    assert (colour.plate_change(negative, np.full((1, 3), -0.5, np.float32)) == 0).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_minus_zero_under_a_delta_that_changes_nothing_stays(dtype):
    image = read_exr_from(np.full((6, 8, 3), -0.0, dtype))
    added = ExrFrame(image, PlateColour("acescg")).add(Patch(1, 1, np.full((4, 5, 3), -0.1, np.float32)), tell=True)
    assert (added.values == 0).all()
    assert all(np.signbit(channel).all() for channel in image.channels.values())


def test_a_lossy_compression_is_not_repeated(tmp_path, reager):
    for index in range(3):
        write_exr_frame(tmp_path / f"s.{index}.exr", light(index), compression=OpenEXR.DWAA_COMPRESSION)
    report = reage(reager, str(tmp_path / "s.#.exr"), tmp_path / "out.#.exr", passes=("result", "mask"))
    assert report.notes == ["DWAA compression changes pixels when it is repeated: written as ZIP, without loss"]
    before, after = read_channels(tmp_path / "s.1.exr"), read_channels(tmp_path / "out.1.exr")
    assert same_bits(before["R"], after["R"])[after["fran.mask.A"] == 0].all()


def test_frames_without_a_face_are_the_same_files(tmp_path, reager):
    pattern = write_plates(tmp_path, 8)
    for number in (1007, 1008):
        write_exr_frame(tmp_path / f"shot.{number}.exr", np.zeros((320, 384, 3), np.float32))
    report = reage(reager, pattern, tmp_path / "out.####.exr")
    assert (report.frames, report.changed_frames) == (8, 6)
    assert (tmp_path / "out.1008.exr").read_bytes() == (tmp_path / "shot.1008.exr").read_bytes()


# ---------------------------------------------------------------- colour


@pytest.mark.parametrize("space", ["rec709", "acescg", "aces2065-1"])
def test_the_change_is_the_same_in_every_colour_space(tmp_path, reager, space):
    pattern = write_plates(tmp_path, 3, space=space)
    report = reage(reager, pattern, tmp_path / "out.####.exr", colorspace=space, passes=("result", "mask"))
    assert report.colour == f"{space}, as asked"
    frame, result = (ExrFrame(read_exr(tmp_path / f"{name}.1002.exr"), PlateColour(space)) for name in ("shot", "out"))
    seen, changed = (PlateColour(space).to_display(np.nan_to_num(one.image.rgb(), posinf=0)) for one in (frame, result))
    mask = result.image.channels["fran.mask.A"]
    # Darken takes 0.25 of the network's span of 2; what is nearly black cannot get that much darker,
    # and what is nearly white fades into what is left alone
    bright = (mask > 0.999) & (seen.min(axis=-1) > 0.2) & (seen.max(axis=-1) < 0.95)
    assert bright.sum() > 2000
    assert (changed - seen)[bright] == pytest.approx(-0.125, abs=2e-3)
    # and what the detector saw is the portrait
    assert np.abs(frame.picture().reduced(384).astype(int) - moving_portrait(1))[100:200, 150:250].mean() < 1


def test_the_colour_space_is_found_by_the_primaries(tmp_path, reager, capsys):
    assert named_by_chromaticities(None) == "rec709"
    assert named_by_chromaticities(ACESCG) == "acescg"
    assert named_by_chromaticities((0.7347, 0.2653, 0, 1, 0.0001, -0.077, 0.32168, 0.33767)) == "aces2065-1"
    for index in range(2):
        strange = (0.8, 0.3, 0.2, 0.7, 0.1, 0.1, 0.3, 0.3)
        write_exr_frame(tmp_path / f"s.{index}.exr", light(index), chromaticities=strange)
    with pytest.raises(UserError, match=r"primaries that are not known here .* --colorspace"):
        reage(reager, str(tmp_path / "s.#.exr"), tmp_path / "out.#.exr")
    with pytest.raises(UserError, match="--colorspace 'srgb2' is unknown"):
        reage(reager, str(tmp_path / "s.#.exr"), tmp_path / "out.#.exr", colorspace="srgb2")


def test_holes_are_filled_for_the_network_only():
    pixels = light(0)
    pixels[140:160, 180:200] = np.nan
    frame = ExrFrame(read_exr_from(pixels), PlateColour("rec709"))
    seen = frame.read_crop(np.array([[1.0, 0, 100], [0, 1, 60]]), 160)
    assert np.isfinite(seen).all()
    whole = ExrFrame(read_exr_from(np.nan_to_num(light(0), nan=0.5, posinf=1.0)), PlateColour("rec709"))
    untouched = whole.read_crop(np.array([[1.0, 0, 100], [0, 1, 60]]), 160)
    away = np.ones((160, 160), dtype=bool)
    away[76:104, 76:104] = away[20:40, 90:110] = False
    assert np.abs(seen - untouched)[away].max() < 1e-5
    assert np.isnan(frame.image.channels["R"][150, 190])
    everything = ExrFrame(read_exr_from(np.full((64, 64, 3), np.nan, np.float32)), PlateColour("acescg"))
    assert (everything.reduced(64) == 0).all()


def read_exr_from(pixels: np.ndarray):
    from fran_lightning.reaging.exr import ExrImage

    channels = {name: np.ascontiguousarray(pixels[..., index]) for index, name in enumerate("RGB")}
    return ExrImage({}, channels, (0, 0), pixels.shape[:2])


# ---------------------------------------------------------------- numbers


def test_png_frames_keep_their_numbers_and_keyframes_go_by_them(tmp_path):
    reager = Reager(AgeDifference(), device="cpu", trained_size=128)
    for index in range(11):
        write_png(tmp_path / f"in/f_{95 + index:03d}.png", moving_portrait(index).astype(np.uint16) * 200)
    targets = parse_targets("95:30,100:30,105:60")
    reage(reager, str(tmp_path / "in/f_%03d.png"), tmp_path / "out/%05d.png", targets=targets)
    names = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert names == [f"{95 + index:05d}.png" for index in range(11)]
    change = [
        cv2.imread(str(tmp_path / f"out/{95 + i:05d}.png"), -1).astype(int)
        - cv2.imread(str(tmp_path / f"in/f_{95 + i:03d}.png"), -1)
        for i in range(11)
    ]
    assert change[0].dtype.kind == "i"
    assert not change[5].any()
    # 30 years are 0.3 of a span of 2
    assert np.percentile(change[10], 99.9) == pytest.approx(0.15 * 65535, rel=0.02)
    assert np.percentile(change[7], 99.9) == pytest.approx(0.15 * 65535 * 2 / 5, rel=0.03)


def write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)


def test_a_folder_is_one_sequence_where_the_output_is_a_pattern(tmp_path, fran):
    for index in range(3):
        write_png(tmp_path / f"in/a{index + 7}.png", moving_portrait(index))
    assert fran(tmp_path / "in", "-o", tmp_path / "out/b.####.png") == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["b.0007.png", "b.0008.png", "b.0009.png"]
    # without a pattern it is a batch of photos, as ever
    assert fran(tmp_path / "in", "-o", tmp_path / "photos") == 0
    assert sorted(path.name for path in (tmp_path / "photos").glob("*.png")) == ["a7.png", "a8.png", "a9.png"]


def test_masks_belong_to_the_frames_with_their_numbers(tmp_path, fran):
    pattern = write_plates(tmp_path / "in", 4)
    painted = np.zeros((320, 384), np.uint8)
    painted[:, 192:] = 255
    for number in range(1000, 1006):
        write_png(tmp_path / f"mask.{number}.png", painted if number % 2 else np.zeros_like(painted))
    assert fran(pattern, "-o", tmp_path / "o.####.exr", "--mask", tmp_path / "mask.####.png") == 0
    for number in range(1001, 1005):
        before, after = read_channels(tmp_path / f"in/shot.{number}.exr"), read_channels(tmp_path / f"o.{number}.exr")
        changed = ~same_bits(before["G"], after["G"])
        assert changed.any() == bool(number % 2)
        assert not changed[:, :192].any()


def test_an_exr_mask_of_the_display_window_lies_over_a_smaller_data_window(tmp_path, fran):
    display = (np.zeros(2, np.int32), np.array([499, 399], np.int32))
    window = (np.array([50, 40], np.int32), np.array([433, 359], np.int32))
    for index in range(3):
        write_exr_frame(tmp_path / f"s.{index}.exr", light(index), dataWindow=window, displayWindow=display)
    mask = np.zeros((400, 500), np.float32)
    mask[:, 50 + 192 :] = 1
    OpenEXR.File({"type": OpenEXR.scanlineimage}, {"Y": mask}).write(str(tmp_path / "mask.exr"))
    assert fran(tmp_path / "s.#.exr", "-o", tmp_path / "o.#.exr", "--mask", tmp_path / "mask.exr") == 0
    before, after = read_channels(tmp_path / "s.1.exr"), read_channels(tmp_path / "o.1.exr")
    changed = ~same_bits(before["G"], after["G"])
    assert changed[:, 192:].sum() > 1000
    assert not changed[:, :192].any()


def test_missing_frames_are_named_and_can_be_passed_over(tmp_path, fran, capsys):
    pattern = write_plates(tmp_path / "in", 8)
    for number in (1003, 1005, 1006):
        (tmp_path / f"in/shot.{number}.exr").unlink()
    assert fran(pattern, "-o", tmp_path / "out/o.####.exr") == 2
    assert "lacks frame 1003, 1005-1006" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert fran(pattern, "-o", tmp_path / "out/o.####.exr", "--missing", "gap", "--frames", "1002-1008") == 0
    assert "frame 1003, 1005-1006 is missing" in capsys.readouterr().out
    written = sorted(int(path.name[2:6]) for path in (tmp_path / "out").glob("*.exr"))
    assert written == [1002, 1004, 1007, 1008]
    # one face, not three: the gaps were bridged
    assert not same_bits(*(read_channels(tmp_path / n)["R"] for n in ("in/shot.1007.exr", "out/o.1007.exr"))).all()


def test_patterns():
    for text in ("a/shot.####.exr", "a/shot.%04d.exr"):
        pattern = FramePattern.parse(text)
        assert str(pattern.path(7)) == "a/shot.0007.exr"
        assert str(pattern.path(12345)) == "a/shot.12345.exr"
        assert str(pattern.beside("delta", ".exr").path(7)) == "a/shot.delta.0007.exr"
    assert FramePattern.parse("a/shot.exr") is None
    for wrong in ("a/##.##.exr", "a####/b.####.exr"):
        with pytest.raises(UserError, match="one place for the frame number"):
            FramePattern.parse(wrong)
    assert describe_numbers([1, 3, 4, 5, 9]) == "1, 3-5, 9"
    assert describe_numbers(list(range(1, 20, 2)), 2) == "1, 3 and 8 more"


# ---------------------------------------------------------------- passes


def test_passes_as_files_of_their_own(tmp_path, reager):
    pattern = write_plates(tmp_path / "in", 3)
    wanted = parse_passes("delta,mask,age_map,aligned")
    reage(reager, pattern, tmp_path / "o.####.exr", passes=wanted, passes_as="files")
    names = sorted(path.name for path in tmp_path.glob("o*1002*"))
    assert names == ["o.1002.exr"] + [f"o.{name}.1002.exr" for name in ("age_map", "delta", "mask")] + [
        "o.aligned0.1002.png"
    ] or sorted(names) == sorted(
        ["o.1002.exr", "o.age_map.1002.exr", "o.aligned0.1002.png", "o.delta.1002.exr", "o.mask.1002.exr"]
    )
    before, after, delta = (read_channels(tmp_path / f"{n}.1002.exr") for n in ("in/shot", "o", "o.delta"))
    assert sorted(after) == ["B", "G", "R"]
    for name in "RGB":
        touched = delta[name] != 0
        assert touched.any()
        assert same_bits(before[name] + delta[name], after[name])[touched].all()
    aligned = cv2.imread(str(tmp_path / "o.aligned0.1002.png"), -1)
    assert aligned.shape == (128, 256, 3)
    assert aligned.dtype == np.uint16
    assert aligned[50:80, 180:200].mean() < aligned[50:80, 52:72].mean() - 3000


def test_passes_of_display_frames(tmp_path, reager):
    for index in range(3):
        write_png(tmp_path / f"s{index}.png", moving_portrait(index))
    reage(reager, str(tmp_path / "s#.png"), tmp_path / "o#.png", passes=parse_passes("delta,mask"))
    before, after = (cv2.imread(str(tmp_path / f"{n}1.png"), -1)[..., ::-1].astype(np.float32) for n in "so")
    delta = np.stack([read_channels(tmp_path / "o.delta.1.exr")[name] for name in "RGB"], axis=-1)
    assert (np.rint(before + delta * 255) == after).all()
    assert b"compositeWithTrainedAlgorithmicMedia" in (tmp_path / "o1.png").read_bytes()
    mask = cv2.imread(str(tmp_path / "o.mask.1.png"), -1)
    assert mask.dtype == np.uint16
    assert (before == after)[mask == 0].all()
    assert mask.max() == 65535


def test_overlapping_patches_add_up():
    one = Patch(2, 3, np.ones((4, 5, 3), np.float32))
    other = Patch(4, 1, np.full((4, 5, 3), 2, np.float32))
    total = sum_patches([one, other])
    assert (total.left, total.top, total.values.shape) == (2, 1, (6, 7, 3))
    assert total.values[3, 3, 0] == 3
    assert total.values.sum() == one.values.sum() + other.values.sum()


# ---------------------------------------------------------------- resuming


def test_an_interrupted_sequence_goes_on_where_it_stopped(tmp_path, reager, monkeypatch):
    pattern = write_plates(tmp_path / "in", 5)
    whole = reage(reager, pattern, tmp_path / "whole/o.####.exr")
    assert whole.frames == 5
    write = plates_module._Writer.write

    def interrupted(writer, item):
        if item.number == 1004:
            raise KeyboardInterrupt
        return write(writer, item)

    monkeypatch.setattr(plates_module._Writer, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reage(reager, pattern, tmp_path / "out/o.####.exr")
    monkeypatch.undo()
    kept = (tmp_path / "out/o.1002.exr").stat().st_mtime_ns
    # another job does not take over these frames
    other = reage(reager, pattern, tmp_path / "copy/o.####.exr", resume=True, passes=("result", "mask"))
    assert other.frames_resumed == 0
    report = reage(reager, pattern, tmp_path / "out/o.####.exr", resume=True)
    assert (report.frames_resumed, report.frames) == (3, 2)
    assert (tmp_path / "out/o.1002.exr").stat().st_mtime_ns == kept
    for number in range(1001, 1006):
        assert (tmp_path / f"out/o.{number}.exr").read_bytes() == (tmp_path / f"whole/o.{number}.exr").read_bytes()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"o.{n}.exr" for n in range(1001, 1006)]


# ---------------------------------------------------------------- bad input


def spoil(folder: Path, kind: str) -> None:
    """Make the second of three frames unusable."""
    path = folder / "shot.1002.exr"
    pixels = {name: np.ascontiguousarray(light(1)[..., index]) for index, name in enumerate("RGB")}
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    if kind == "no RGB":
        OpenEXR.File(header, {"Y": pixels["R"], "Z": pixels["G"]}).write(str(path))
    elif kind == "tiled":
        header |= {"type": OpenEXR.tiledimage, "tiles": OpenEXR.TileDescription()}
        OpenEXR.File(header, pixels).write(str(path))
    elif kind == "parts":
        parts = [OpenEXR.Part({}, pixels, name="left"), OpenEXR.Part({}, pixels, name="right")]
        OpenEXR.File(parts).write(str(path))
    elif kind == "size":
        write_exr_frame(path, light(1)[:-10])
    elif kind == "window":
        origin = (np.array([3, 0], np.int32), np.array([386, 319], np.int32))
        write_exr_frame(path, light(1), dataWindow=origin)
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:-5000])
    elif kind == "whole numbers":
        write_exr_frame(path, np.ones((320, 384, 3), np.uint32))
    else:
        path.write_bytes(b"no picture at all")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no RGB", "shot.1002.exr has no channels R, G and B (it has Y, Z)"),
        ("tiled", "shot.1002.exr is tiled; save it in scan lines"),
        ("parts", "shot.1002.exr has several parts"),
        ("size", "shot.1002.exr is 384 x 310 pixels"),
        ("window", "all frames must be alike"),
        ("cut", "shot.1002.exr is cut off or broken"),
        ("whole numbers", "colour must be half or float"),
        ("text", "shot.1002.exr is broken or no OpenEXR file"),
    ],
)
def test_a_bad_frame_is_one_line_and_nothing_is_written(tmp_path, fran, capfd, kind, words):
    pattern = write_plates(tmp_path / "in", 3)
    spoil(tmp_path / "in", kind)
    assert fran(pattern, "-o", tmp_path / "out/o.####.exr") == 2
    error = [line for line in capfd.readouterr().err.splitlines() if line.startswith("fran: error:")]
    assert len(error) == 1
    assert words in error[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "OUT/one.exr"], "no place for the frame number"),
        (["-o", "OUT/o.####.png"], "cannot be written as .png"),
        (["-o", "IN/shot.%04d.exr"], "is the input itself"),
        (["-o", "OUT/o.####.exr", "--passes", "depth"], "--passes 'depth' is unknown"),
        (["-o", "OUT/o.####.exr", "--colorspace", "nonsense"], "--colorspace 'nonsense' is unknown"),
        (["-o", "OUT/o.####.exr", "--mask", "IN/small.png"], "must have the size of the frames, 384 x 320"),
        (["-o", "OUT/o.####.exr", "--mask", "IN/m.####.png"], "the mask has no image for frame 1001-1002"),
        (["-o", "OUT/o.####.exr", "--mask", "IN/n.####.exr"], "n.1002.exr is 192 x 160; it must have the size"),
        (["-o", "OUT/o.####.exr", "--mask", "IN/broken.####.png"], "broken.1002.png is broken"),
        (["-o", "OUT/o.####.exr", "--frames", "7-9"], "has only the frames 1001-1003"),
        (["-o", "OUT/o.####.exr", "--missing", "maybe"], "--missing"),
    ],
)
def test_bad_options_are_one_line_and_nothing_is_written(tmp_path, fran, capsys, arguments, words):
    pattern = write_plates(tmp_path / "in", 3)
    write_png(tmp_path / "in/small.png", np.zeros((200, 100), np.uint8))
    for number in (1000, 1003):
        write_png(tmp_path / f"in/m.{number}.png", np.zeros((320, 384), np.uint8))
    for number in (1001, 1002, 1003):
        write_png(tmp_path / f"in/broken.{number}.png", np.zeros((320, 384), np.uint8))
        half = number == 1002
        grey = np.zeros((160, 192) if half else (320, 384), np.float32)
        OpenEXR.File({"type": OpenEXR.scanlineimage}, {"Y": grey}).write(str(tmp_path / f"in/n.{number}.exr"))
    (tmp_path / "in/broken.1002.png").write_bytes(b"no picture")
    places = [text.replace("OUT", str(tmp_path / "out")).replace("IN", str(tmp_path / "in")) for text in arguments]
    assert fran(pattern, *places) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_pattern_that_finds_nothing(tmp_path, fran, capsys):
    assert fran(tmp_path / "shot.####.exr", "-o", tmp_path / "o.####.exr") == 2
    assert "finds no frame" in capsys.readouterr().err
    assert portrait().shape == (320, 384, 3)
