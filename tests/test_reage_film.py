"""Re-ageing films: times, sound, bit depth, tags, untouched pixels, steadiness, several people, and bad input."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from faces import AgeDifference, Darken, portrait, save_random_generator
from films import frames_of, moving_portrait, packets_of, planes_of, times_of, write_film
from PIL import Image

from fran_lightning.cli import main
from fran_lightning.errors import UserError
from fran_lightning.perception.alignment import FaceSquare, quarter_turn_matrix
from fran_lightning.perception.picture import ArrayPicture
from fran_lightning.reaging.frame_images import FrameImages, find_sequence
from fran_lightning.reaging.frame_picture import FramePicture
from fran_lightning.reaging.inputs import find_tasks
from fran_lightning.reaging.masks import border_mask
from fran_lightning.reaging.pipeline import Behind, ahead
from fran_lightning.reaging.planes import PlaneLayout, add_delta_to_planes, as_planar, plane_array, read_crop
from fran_lightning.reaging.reager import Reager
from fran_lightning.reaging.regions import parse_regions, region_mask, regional_targets
from fran_lightning.reaging.settings import ReageSettings
from fran_lightning.reaging.smoothing import smooth, smooth_squares, wiggle
from fran_lightning.reaging.targets import parse_source_ages, parse_targets
from fran_lightning.reaging.tracks import Tracker
from fran_lightning.reaging.video import reage_film

FROM_30 = {-1: 30.0}


@pytest.fixture(scope="module")
def reager() -> Reager:
    return Reager(Darken(), device="cpu", trained_size=128)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_random_generator(tmp_path_factory.mktemp("run") / "generator.safetensors")


def settings(**options) -> ReageSettings:
    options.setdefault("source_ages", FROM_30)
    return ReageSettings(**options)


def lossless(reager: Reager, source: Path, output: Path, **options):
    """Re-age with an encoder that keeps every bit."""
    return reage_film(reager, source, output, settings(**options), codec="libx264", quality=0)


# ---------------------------------------------------------------- what is kept


def test_sound_subtitles_and_times_are_kept_exactly(tmp_path, reager):
    irregular = [0, 400, 1000, 1300, 2100, 2500, 3400, 3600, 4400, 5000]
    source = write_film(tmp_path / "in.mp4", 10, times=irregular, sound=True, subtitles=True)
    report = reage_film(reager, source, tmp_path / "out.mp4", settings())
    assert times_of(tmp_path / "out.mp4") == [Fraction(tick, 12800) for tick in irregular]
    assert packets_of(tmp_path / "out.mp4", "audio") == packets_of(source, "audio")
    assert len(packets_of(source, "audio")) > 10
    spoken = [data for data, _ in packets_of(tmp_path / "out.mp4", "subtitle") if len(data) > 2]
    assert spoken == [b"\x00\x05Hello"]
    assert (report.frames, report.changed_frames) == (10, 10)


def test_times_that_start_late_are_kept(tmp_path, reager):
    late = [5000 + 512 * index for index in range(6)]
    source = write_film(tmp_path / "in.mp4", 6, times=late, sound=True)
    reage_film(reager, source, tmp_path / "out.mp4", settings())
    assert times_of(tmp_path / "out.mp4") == times_of(source)
    assert packets_of(tmp_path / "out.mp4", "audio") == packets_of(source, "audio")


@pytest.mark.parametrize(
    ("codec", "pixel_format"),
    [("libx264", "yuv420p"), ("libx264", "yuv422p10le"), ("libx265", "yuv420p10le"), ("ffv1", "yuv444p12le")],
)
def test_bit_depth_and_codec_are_kept(tmp_path, reager, codec, pixel_format):
    source = write_film(tmp_path / "in.mkv", 4, codec=codec, pixel_format=pixel_format)
    reage_film(reager, source, tmp_path / "out.mkv", settings())
    first = frames_of(tmp_path / "out.mkv")[0]
    assert first.format.name == pixel_format
    with av.open(str(tmp_path / "out.mkv")) as container, av.open(str(source)) as original:
        assert container.streams.video[0].codec_context.name == original.streams.video[0].codec_context.name


def test_colour_tags_and_pixel_aspect_are_kept(tmp_path, reager):
    def tag(stream):
        context = stream.codec_context
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = 2, 9, 9, 16
        context.sample_aspect_ratio = Fraction(4, 3)

    source = write_film(tmp_path / "in.mp4", 4, prepare=tag)
    reage_film(reager, source, tmp_path / "out.mp4", settings())

    def tags(path):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            ratio = stream.sample_aspect_ratio
            return context.color_range, context.colorspace, context.color_primaries, context.color_trc, ratio

    assert tags(tmp_path / "out.mp4") == tags(source) == (2, 9, 9, 16, Fraction(4, 3))


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotated_films_are_seen_upright_and_stay_rotated(tmp_path, reager, rotation):
    # stored so that a player's rotation brings it upright
    turns = {90: 1, 180: 2, -90: -1}[rotation]
    stored = [np.rot90(moving_portrait(index), -turns) for index in range(4)]
    source = write_film(tmp_path / "in.mp4", stored, rotation=rotation, pixel_format="yuv444p")
    report = lossless(reager, source, tmp_path / "out.mp4", mask="face")
    assert report.changed_frames == 4
    before, after = frames_of(source)[1], frames_of(tmp_path / "out.mp4")[1]
    assert after.rotation % 360 == before.rotation % 360 == rotation % 360
    change = np.rot90(planes_of(after)[0].astype(int) - planes_of(before)[0], turns)
    row, column = np.argwhere(change < -15).mean(axis=0)
    assert (column, row) == pytest.approx((164, 120), abs=15)  # the middle of the face


def test_pixels_outside_the_mask_do_not_change(tmp_path, reager):
    source = write_film(tmp_path / "in.mp4", 4)
    lossless(reager, source, tmp_path / "out.mp4", mask="face")
    for before, after in zip(frames_of(source), frames_of(tmp_path / "out.mp4"), strict=True):
        for plane, (one, other) in enumerate(zip(planes_of(before), planes_of(after), strict=True)):
            changed = one != other
            scale = 1 if plane == 0 else 2
            outside = np.ones_like(changed)
            outside[20 // scale : 210 // scale, 70 // scale : 260 // scale] = False
            assert not changed[outside].any()
        assert 0.03 < (planes_of(before)[0] != planes_of(after)[0]).mean() < 0.2


def test_painted_mask_is_exact(tmp_path, reager):
    source = write_film(tmp_path / "in.mp4", 3)
    painted = np.zeros(portrait().shape[:2], dtype=np.uint8)
    painted[:, 165:] = 255  # an odd column, in the middle of a chroma sample
    Image.fromarray(painted).save(tmp_path / "mask.png")
    lossless(reager, source, tmp_path / "out.mp4", mask=FrameImages(tmp_path / "mask.png", "mask"))
    for before, after in zip(frames_of(source), frames_of(tmp_path / "out.mp4"), strict=True):
        changed = [one != other for one, other in zip(planes_of(before), planes_of(after), strict=True)]
        assert not changed[0][:, :165].any()
        assert changed[0][:, 165:].any()
        assert not changed[1][:, :83].any()
        assert not changed[2][:, :83].any()


def test_a_still_picture_stays_still_to_the_bit(tmp_path, checkpoint):
    source = write_film(tmp_path / "in.mkv", [portrait()] * 12, codec="ffv1")
    reage_film(Reager(checkpoint, device="cpu"), source, tmp_path / "out.mkv", settings())
    first, *others = (planes_of(frame) for frame in frames_of(tmp_path / "out.mkv"))
    assert any((one != other).any() for one, other in zip(first, planes_of(frames_of(source)[0]), strict=True))
    for planes in others:
        assert all((one == other).all() for one, other in zip(first, planes, strict=True))


def test_rendering_twice_gives_the_same_film(tmp_path, checkpoint):
    source = write_film(tmp_path / "in.mp4", 5)
    reager = Reager(checkpoint, device="cpu")
    for name in ("one.mkv", "two.mkv"):
        reage_film(reager, source, tmp_path / name, settings(), codec="ffv1")
    one, two = frames_of(tmp_path / "one.mkv"), frames_of(tmp_path / "two.mkv")
    assert all(
        (a == b).all() for x, y in zip(one, two, strict=True) for a, b in zip(planes_of(x), planes_of(y), strict=True)
    )


# ---------------------------------------------------------------- planes


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "yuv444p", "yuvj420p", "gbrp", "gray", "nv12"])
@pytest.mark.parametrize("height", [320, 720])
def test_planes_speak_the_same_colours_as_libav(pixel_format, height):
    picture = cv2.GaussianBlur(cv2.resize(portrait(), (height, height)), (0, 0), 3)
    matrix = "ITU709" if height >= 720 else "ITU601"
    frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pixel_format, dst_colorspace=matrix)
    frame = as_planar(frame)
    crop = read_crop(frame, PlaneLayout.of(frame), FaceSquare(150, 150, 200, 0).to_frame(200), 200)
    expected = picture[50:250, 50:250].astype(np.float32) / 127.5 - 1
    if pixel_format == "gray":
        expected = np.repeat(expected @ np.float32([0.2126, 0.7152, 0.0722])[:, None], 3, axis=2)
    # half a pixel between the corners' and the centres' convention of this square, and 8-bit rounding
    assert np.abs(crop - expected).mean() < 0.02


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p10le", "gbrp", "nv12"])
@pytest.mark.parametrize("turns", [0, 1, 3])
def test_frames_and_arrays_show_the_same_pictures(pixel_format, turns):
    smooth_portrait = cv2.GaussianBlur(portrait(), (0, 0), 2)
    frame = av.VideoFrame.from_ndarray(smooth_portrait, "rgb24").reformat(format=pixel_format)
    array = ArrayPicture(np.ascontiguousarray(np.rot90(smooth_portrait, turns)))
    picture = FramePicture(frame, turns)
    assert picture.shape == array.shape
    small, expected = picture.reduced(160), array.reduced(160)
    assert small.shape == expected.shape
    assert np.abs(small.astype(int) - expected).mean() < 2
    square = FaceSquare(array.shape[1] / 2 + 20, array.shape[0] / 2 - 10, 130, 0.3)
    difference = np.abs(picture.cut_out(square, 128).astype(int) - array.cut_out(square, 128))
    assert difference.mean() < 3


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p10le", "gbrp", "gray"])
def test_delta_in_planes_is_the_delta_in_rgb(pixel_format):
    frame = av.VideoFrame.from_ndarray(np.full((200, 240, 3), 120, np.uint8), "rgb24").reformat(format=pixel_format)
    layout = PlaneLayout.of(frame)
    to_frame = FaceSquare(119.5, 99.5, 128, 0.2).to_frame(128)
    before = read_crop(frame, layout, to_frame, 128)
    delta = np.float32([-0.2, -0.1, 0.15]) * border_mask(128)[..., None]
    add_delta_to_planes(frame, layout, delta, to_frame)
    after = read_crop(frame, layout, to_frame, 128)
    expected = delta
    if pixel_format == "gray":
        expected = np.repeat(delta @ np.float32([0.299, 0.587, 0.114])[:, None], 3, axis=2)
    assert np.abs(after - before - expected)[20:-20, 20:-20].max() < 0.03
    assert np.abs(after - before)[:1].max() < 0.02


def test_odd_sizes_and_frame_edges(tmp_path, reager):
    cut = [moving_portrait(index)[40:301, 101:384] for index in range(4)]
    source = write_film(tmp_path / "in.mp4", cut, pixel_format="yuv444p")
    report = lossless(reager, source, tmp_path / "out.mp4")
    assert report.changed_frames == 4
    assert frames_of(tmp_path / "out.mp4")[0].width == 283


def test_view_of_a_plane_is_writable():
    frame = av.VideoFrame.from_ndarray(np.zeros((64, 62, 3), np.uint8), "rgb24").reformat(format="yuv420p10le")
    plane = plane_array(frame, 1)
    assert plane.shape == (32, 31)
    plane[...] = 700
    assert (plane_array(frame, 1) == 700).all()


# ---------------------------------------------------------------- time


def test_smoothing_bridges_does_not_lag_and_keeps_what_is_steady():
    ramp = np.linspace(0, 50, 40)[:, None]
    assert smooth(ramp, 30) == pytest.approx(ramp, abs=1e-9)
    constant = np.full((40, 2), 1 / 3)
    assert (smooth(constant, 30) == constant).all()
    seen = np.ones(40, dtype=bool)
    seen[15:22] = False
    assert smooth(np.where(seen[:, None], ramp, 999), 30, seen) == pytest.approx(ramp, abs=1e-6)
    rng = np.random.default_rng(0)
    wave = 20 * np.sin(np.arange(200) / 15)[:, None]
    smoothed = smooth(wave + rng.normal(size=(200, 1)), 30)
    lags = [np.abs(smoothed[10 + lag : 190 + lag] - wave[10:190]).mean() for lag in range(-5, 6)]
    assert np.argmin(lags) == 5
    assert smooth(np.array([[3.0], [5.0]]), 30).tolist() == [[3.0], [5.0]]
    assert smooth(np.array([[3.0], [0.0], [5.0]]), 30, np.array([True, False, True])).tolist() == [[3.0], [4.0], [5.0]]


def test_smoothed_squares_wiggle_less_and_cross_the_half_turn():
    rng = np.random.default_rng(1)
    noisy = [
        FaceSquare(
            100 + t + rng.normal() * 0.5,
            80 + rng.normal() * 0.5,
            120 + rng.normal(),
            3.1 + 0.004 * t + rng.normal() * 0.01,
        )
        for t in range(60)
    ]
    wrapped = [FaceSquare(s.x, s.y, s.side, (s.angle + np.pi) % (2 * np.pi) - np.pi) for s in noisy]
    steady = smooth_squares(wrapped)
    assert (wiggle(steady) * 5 < wiggle(noisy)).all()
    assert np.abs(np.array([s.angle for s in steady]) - [3.1 + 0.004 * t for t in range(60)]).max() < 0.03


def test_quarter_turns_lead_back_to_the_stored_picture():
    stored = np.arange(5 * 7).reshape(5, 7)
    for turns in range(4):
        upright = np.rot90(stored, turns)
        x, y = quarter_turn_matrix(turns, 5, 7) @ (2, 3, 1)
        assert upright[3, 2] == stored[round(y), round(x)]


def test_gaps_are_bridged_and_flickers_forgotten():
    tracker = Tracker()
    picture = ArrayPicture(portrait())
    faces = tracker.detect(picture)
    for index in range(20):
        tracker.add_faces(picture, [] if 8 <= index < 12 else faces)
    (track,) = tracker.finish()
    assert (track.start, track.stop, track.bridged) == (0, 20, 4)
    assert track.squares[10].x == pytest.approx(track.squares[5].x)
    assert 20 < track.source_age < 45

    tracker = Tracker()
    for index in range(10):
        tracker.add_faces(picture, faces if index == 4 else [])
    assert tracker.finish() == []


def test_cuts_end_tracks_and_the_same_person_is_known_again():
    tracker = Tracker()
    other_scene = cv2.resize(255 - np.roll(portrait()[::-1], 60, axis=1), (384, 320))
    close = cv2.resize(portrait()[20:240, 60:324], (384, 320), interpolation=cv2.INTER_CUBIC)
    for picture in [portrait()] * 4 + [other_scene] * 4 + [close] * 4:
        tracker.add(picture)
    assert tracker.cuts == [4, 8]
    first, last = tracker.finish()
    assert (first.start, first.stop, last.start, last.stop) == (0, 4, 8, 12)
    assert first.person == last.person == 0
    assert first.source_age == last.source_age


def two_people(index: int) -> np.ndarray:
    scene = np.full((340, 800, 3), 90, dtype=np.uint8)
    scene[10:330, 10:394] = moving_portrait(index)
    # bent out of shape, so that it is somebody else
    rows, columns = np.indices((320, 384), dtype=np.float32)
    bend = 9 * np.sin((columns - 100) / 130 * 2 * np.pi) * np.exp(-(((rows - 120) / 90) ** 2))
    other = cv2.remap(portrait(), columns - bend, rows + bend, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    scene[60:316, 460:767] = cv2.resize(other, (307, 256), interpolation=cv2.INTER_AREA)
    return scene


def test_two_people_get_two_ages(tmp_path):
    source = write_film(tmp_path / "in.mp4", [two_people(index) for index in range(5)], pixel_format="yuv444p")
    reager = Reager(AgeDifference(), device="cpu", precision="float32", trained_size=128)
    ages = {"targets": parse_targets("0:50,1:20"), "source_ages": parse_source_ages("0:30,1:40"), "mask": "face"}
    report = lossless(reager, source, tmp_path / "out.mp4", **ages)
    assert [person.target for person in report.persons] == ["50", "20"]
    change = planes_of(frames_of(tmp_path / "out.mp4")[2])[0].astype(int) - planes_of(frames_of(source)[2])[0]
    assert np.median(change[:, :400][change[:, :400] > 5]) == pytest.approx(0.2 * 127.5 * 219 / 255, abs=3)
    assert np.median(change[:, 400:][change[:, 400:] < -5]) == pytest.approx(-0.2 * 127.5 * 219 / 255, abs=3)

    largest = lossless(reager, source, tmp_path / "out.mp4", targets=parse_targets("50"))
    assert [bool(person.target) for person in largest.persons] == [True, False]
    at_point = lossless(reager, source, tmp_path / "out.mp4", faces=(600.0, 150.0))
    assert [bool(person.target) for person in at_point.persons] == [False, True]
    everyone = lossless(reager, source, tmp_path / "out.mp4", faces="all")
    assert all(person.target for person in everyone.persons)
    with pytest.raises(UserError, match="no face 7"):
        lossless(reager, source, tmp_path / "out.mp4", faces=7)


def test_keyframes_move_the_age_over_the_shot(tmp_path):
    source = write_film(tmp_path / "in.mp4", [portrait()] * 9, pixel_format="yuv444p")
    reager = Reager(AgeDifference(), device="cpu", precision="float32", trained_size=128)
    lossless(reager, source, tmp_path / "out.mp4", targets=parse_targets("1:30,9:70"), mask="face")
    pairs = zip(frames_of(tmp_path / "out.mp4"), frames_of(source), strict=True)
    steps = [int(planes_of(after)[0][135, 150]) - int(planes_of(before)[0][135, 150]) for after, before in pairs]
    assert steps == pytest.approx([0.05 * index * 127.5 * 219 / 255 for index in range(9)], abs=1.5)


def test_preview_shows_before_and_after(tmp_path, reager):
    source = write_film(tmp_path / "in.mp4", 4)
    for kind, width in (("side", 768), ("wipe", 384)):
        reage_film(reager, source, tmp_path / "out.mp4", settings(), preview=kind)
        preview = frames_of(tmp_path / "out_preview.mp4")
        assert (len(preview), preview[0].width) == (4, width)
        assert times_of(tmp_path / "out_preview.mp4") == times_of(source)


class Interrupted(Darken):
    """Stops the job at its ``at``-th pass, as Ctrl-C would."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.passes, self.at = 0, at

    def forward(self, x):
        self.passes += 1
        if self.passes == self.at:
            raise KeyboardInterrupt
        return super().forward(x)


@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_an_interrupted_film_goes_on_where_it_stopped(tmp_path, monkeypatch, codec):
    monkeypatch.setattr("fran_lightning.reaging.parts.PART_FRAMES", 4)
    suffix = ".mp4" if codec == "libx264" else ".mkv"
    source = write_film(tmp_path / f"in{suffix}", 15, sound=True)
    options = {"codec": codec, "quality": 0}
    expected = tmp_path / f"straight{suffix}"
    reager = Reager(Darken(), device="cpu", trained_size=512)
    reage_film(reager, source, expected, settings(), **options)

    output = tmp_path / f"out{suffix}"
    stopping = Reager(Interrupted(4), device="cpu", trained_size=512)
    with pytest.raises(KeyboardInterrupt):
        reage_film(stopping, source, output, settings(), resume=True, **options)
    assert not output.exists()
    assert len(list((tmp_path / f".out{suffix}.parts").glob(f"0*{suffix}"))) >= 1

    report = reage_film(reager, source, output, settings(), resume=True, **options)
    assert report.frames_resumed in (4, 8, 12)
    assert report.frames == 15 - report.frames_resumed
    assert not (tmp_path / f".out{suffix}.parts").exists()
    assert times_of(output) == times_of(expected)
    assert packets_of(output, "audio") == packets_of(source, "audio")
    for one, other in zip(frames_of(output), frames_of(expected), strict=True):
        assert all((a == b).all() for a, b in zip(planes_of(one), planes_of(other), strict=True))


def test_parts_of_another_job_are_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr("fran_lightning.reaging.parts.PART_FRAMES", 4)
    source = write_film(tmp_path / "in.mp4", 15)
    stopping = Reager(Interrupted(4), device="cpu", trained_size=512)
    with pytest.raises(KeyboardInterrupt):
        reage_film(stopping, source, tmp_path / "out.mp4", settings(), resume=True)
    reager = Reager(Darken(), device="cpu", trained_size=512)
    report = reage_film(reager, source, tmp_path / "out.mp4", settings(strength=0.5), resume=True)
    assert (report.frames_resumed, report.frames) == (0, 15)


# ---------------------------------------------------------------- what users write


def test_target_forms():
    assert parse_targets("65").for_person(3).at(7, 30) == 65
    assert parse_targets("+20").for_person(0).at(1, 30) == 50
    assert parse_targets("-50").for_person(0).at(1, 30) == 0
    keyed = parse_targets("1:35,121:70").for_person(0)
    assert [keyed.at(frame, 30) for frame in (1, 61, 121, 500)] == [35, 52.5, 70, 70]
    assert parse_targets("1:+0,11:+30").for_person(0).at(6, 40) == 55
    persons = parse_targets("0:65,1:30")
    assert persons.for_person(1).at(1, 50) == 30
    assert persons.for_person(2) is None
    mixed = parse_targets("0=65; 2=1:30,11:50")
    assert mixed.for_person(2).at(6, 0) == 40
    for wrong in ("", "old", "130", "1:35,120", "120:35,1:70", "x:3", "0=", "nan"):
        with pytest.raises(UserError):
            parse_targets(wrong)


def test_regions_get_their_own_ages():
    from fran_lightning.perception.landmarks import mean_landmarks

    points = mean_landmarks()
    ages = parse_regions("skin=65, eyes=40, neck=70")
    years = regional_targets(ages, points, 256, 50)
    left_eye = points[36:42].mean(axis=0).astype(int)
    cheek = points[[3, 31]].mean(axis=0).astype(int)
    assert years[left_eye[1], left_eye[0]] == pytest.approx(40, abs=3)
    assert years[cheek[1], cheek[0]] == pytest.approx(65, abs=3)
    assert years[254, 128] == pytest.approx(70, abs=6)
    assert regional_targets({"nose": 20.0}, points, 256, 50)[cheek[1], cheek[0]] == pytest.approx(50, abs=4)
    for name in ("forehead", "nose", "cheeks", "mouth", "chin"):
        mask = region_mask(name, points, 256)
        assert 0.005 < mask.mean() < 0.3
        assert mask.max() <= 1


def test_painted_ages_reach_the_film(tmp_path):
    source = write_film(tmp_path / "in.mp4", [portrait()] * 3, pixel_format="yuv444p")
    ages = np.full(portrait().shape[:2], round(30 / 100 * 255), dtype=np.uint8)
    ages[:, 164:] = round(70 / 100 * 255)
    Image.fromarray(ages).save(tmp_path / "ages.png")
    reager = Reager(AgeDifference(), device="cpu", precision="float32", trained_size=128)
    lossless(reager, source, tmp_path / "out.mp4", age_map=FrameImages(tmp_path / "ages.png", "age map"), mask="face")
    change = planes_of(frames_of(tmp_path / "out.mp4")[1])[0].astype(int) - planes_of(frames_of(source)[1])[0]
    assert abs(change[135, 140]) <= 1
    assert change[135, 190] == pytest.approx(0.4 * 127.5 * 219 / 255, abs=3)


def test_sequences_are_found_in_the_order_of_their_numbers(tmp_path):
    for number in (9, 10, 11):
        Image.fromarray(np.full((4, 6), number * 10, np.uint8)).save(tmp_path / f"m.{number}.png")
    for text in (str(tmp_path), str(tmp_path / "m.#.png"), str(tmp_path / "m.%d.png"), str(tmp_path / "*.png")):
        assert [path.name for path in find_sequence(text)] == ["m.9.png", "m.10.png", "m.11.png"]
    images = FrameImages(tmp_path, "mask")
    assert images.at(1, 4, 6)[0, 0] == pytest.approx(100 / 255)
    assert images.at(2, 8, 12).shape == (8, 12)
    with pytest.raises(UserError, match="3 images for 4 frames"):
        images.check_length(4)
    with pytest.raises(UserError, match="shape of the picture"):
        images.at(0, 8, 8)


def test_tasks_of_a_command_line(tmp_path):
    for name in ("a.png", "b.mp4", "c.gif", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    tasks, batch = find_tasks([str(tmp_path)], str(tmp_path / "out"), "65")
    assert batch
    assert [task.output.name for task in tasks] == ["a.png", "b.mp4", "c.mp4"]
    assert [task.is_film for task in tasks] == [False, True, True]
    (task,), batch = find_tasks([str(tmp_path / "b.mp4")], None, "+20")
    assert not batch
    assert task.output == tmp_path / "b_+20.mp4"
    with pytest.raises(UserError, match="give -o a folder"):
        find_tasks([str(tmp_path / "*.png"), str(tmp_path / "b.mp4")], "out.mp4", "65")
    with pytest.raises(UserError, match="is an input itself"):
        find_tasks([str(tmp_path / "a.png")], str(tmp_path / "a.png"), "65")


# ---------------------------------------------------------------- stages


def test_threads_sleep_where_they_wait_before_torch_is_loaded():
    script = """
import os, sys
from fran_lightning.reaging import pipeline
let_sleep, seen = pipeline.let_waiting_threads_sleep, []
pipeline.let_waiting_threads_sleep = lambda: (seen.append("torch" in sys.modules), let_sleep())
from fran_lightning.cli import main
status = main(["reage", "nowhere.png", "--checkpoint", "nowhere"])
print(status, seen, os.environ["OMP_WAIT_POLICY"])
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    for chosen, policy in ({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"):
        call = [sys.executable, "-c", script]
        done = subprocess.run(call, env=environment | chosen, capture_output=True, text=True, check=True)
        assert done.stdout == f"2 [False] {policy}\n"


def test_stages_keep_order_pass_errors_on_and_stop_early():
    assert list(ahead(iter(range(50)), 3)) == list(range(50))

    def broken():
        yield 1
        raise ValueError("broken")

    items = ahead(broken(), 3)
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)

    closed = []

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.append(True)

    items = ahead(endless(), 2)
    next(items)
    items.close()
    assert closed == [True]

    done: list[int] = []
    with Behind(done.append, 2) as behind:
        for number in range(20):
            behind.put(number)
    assert done == list(range(20))

    def fail(_: int) -> None:
        raise OSError("disk")

    def feed() -> None:
        with Behind(fail, 2) as behind:
            for number in range(20):
                behind.put(number)

    with pytest.raises(OSError, match="disk"):
        feed()


# ---------------------------------------------------------------- bad input


def test_frames_without_a_face_pass_unchanged_and_are_counted(tmp_path, reager):
    empty = np.full(portrait().shape, 100, dtype=np.uint8)
    source = write_film(tmp_path / "in.mp4", [portrait()] * 5 + [empty] * 20)
    report = lossless(reager, source, tmp_path / "out.mp4")
    assert (report.frames, report.changed_frames, report.cuts) == (25, 5, 1)
    for before, after in list(zip(frames_of(source), frames_of(tmp_path / "out.mp4"), strict=True))[5:]:
        assert all((a == b).all() for a, b in zip(planes_of(before), planes_of(after), strict=True))


def test_a_film_of_one_frame(tmp_path, reager):
    source = write_film(tmp_path / "in.mp4", 1)
    report = reage_film(reager, source, tmp_path / "out.mp4", settings())
    assert (report.frames, report.changed_frames) == (1, 1)
    assert len(frames_of(tmp_path / "out.mp4")) == 1


def test_a_corrupt_frame_in_the_middle_is_counted_and_the_rest_is_kept(tmp_path, reager):
    # every frame on its own, so that one can be broken
    source = write_film(tmp_path / "in.mov", 12, codec="png", pixel_format="rgb24")
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux() if packet.size]
        position, size = packets[6].pos, packets[6].size
    data = bytearray(source.read_bytes())
    start = data.find(bytes(packets[6])[:64], position)
    data[start : start + size // 2] = bytes(size // 2)
    source.write_bytes(bytes(data))
    report = reage_film(reager, source, tmp_path / "out.mov", settings())
    assert report.decoding.broken_packets >= 1
    assert report.frames == 11
    assert times_of(tmp_path / "out.mov") == times_of_good(source)


def times_of_good(path: Path) -> list[Fraction]:
    times = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            try:
                times += [frame.pts * frame.time_base for frame in packet.decode()]
            except av.FFmpegError:
                continue
    return times


def test_a_film_that_breaks_off_keeps_what_was_there(tmp_path, reager):
    source = write_film(tmp_path / "in.mkv", 20)
    source.write_bytes(source.read_bytes()[: int(source.stat().st_size * 0.6)])
    report = reage_film(reager, source, tmp_path / "out.mkv", settings())
    assert 3 < report.frames < 20
    assert len(frames_of(tmp_path / "out.mkv")) == report.frames


def test_a_film_without_duration(tmp_path, reager):
    with av.open(str(tmp_path / "raw.h264"), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = portrait().shape[:2]
        for index in range(6):
            frame = av.VideoFrame.from_ndarray(moving_portrait(index), "rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    # a transport stream of unknown length: the raw stream under a name that is taken for a film
    (tmp_path / "raw.h264").rename(tmp_path / "in.ts")
    report = reage_film(reager, tmp_path / "in.ts", tmp_path / "out.mkv", settings())
    assert report.changed_frames == report.frames == 6
    assert len(set(times_of(tmp_path / "out.mkv"))) == 6


def test_gif_is_read_as_a_film_and_never_written(tmp_path, reager, checkpoint, capsys):
    frames = [Image.fromarray(moving_portrait(index)) for index in range(4)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:], duration=100)
    assert main(["reage", str(tmp_path / "moving.gif"), "--checkpoint", str(checkpoint)]) == 0
    assert len(frames_of(tmp_path / "moving_65.mp4")) == 4
    capsys.readouterr()
    assert (
        main(["reage", str(tmp_path / "moving.gif"), "--checkpoint", str(checkpoint), "-o", str(tmp_path / "x.gif")])
        == 2
    )
    assert "256 colours" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["empty.mp4"], "no face found in the 6 frames"),
        (["text.mp4"], "broken or no film"),
        (["sound.mp4"], "no pictures"),
        (["film.mp4", "-o", "film.mp4"], "is an input itself"),
        (["film.mp4", "-o", "link.mp4"], "is an input itself"),
        (["film.mp4", "-o", "out.xyz"], "choose .mp4"),
        (["film.mp4", "-o", "out.webm", "--codec", "libx264"], "do not hold libx264"),
        (["film.mp4", "--codec", "nonsense"], "no encoder"),
        (["film.mp4", "--face", "4"], "no face 4"),
        (["film.mp4", "--mask", "few"], "2 images for 6 frames"),
        (["film.mp4", "--size", "7"], "--size"),
    ],
)
def test_bad_films_are_one_line_and_leave_nothing(tmp_path, monkeypatch, capsys, checkpoint, options, message):
    monkeypatch.chdir(tmp_path)
    write_film(tmp_path / "film.mp4", 6)
    (tmp_path / "link.mp4").symlink_to("film.mp4")
    write_film(tmp_path / "empty.mp4", [np.full((64, 96, 3), 100, dtype=np.uint8)] * 6)
    (tmp_path / "text.mp4").write_text("no film")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        from films import _sound_packets

        container.mux(_sound_packets(container.add_stream("aac", rate=44100), 0.5))
    (tmp_path / "few").mkdir()
    for index in range(2):
        Image.fromarray(np.zeros((320, 384), np.uint8)).save(tmp_path / "few" / f"{index}.png")
    content = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(["reage", "--checkpoint", str(checkpoint), *options]) == 2
    error = capsys.readouterr().err
    line = [line for line in error.splitlines() if line.startswith("fran: error")]
    assert message in line[0]
    assert "Traceback" not in error
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == content


def start(tmp_path: Path, checkpoint: Path, source: Path, prepare=None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fran_lightning", "reage", str(source), "--checkpoint", str(checkpoint)]
    return subprocess.Popen(
        [*command, "-o", str(tmp_path / "out.mp4")],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )


def test_interrupt_leaves_nothing_behind(tmp_path, checkpoint):
    source = write_film(tmp_path / "in.mp4", 400)
    process = start(tmp_path, checkpoint, source)
    deadline = time.monotonic() + 300
    while process.poll() is None and not list(tmp_path.glob(".out.*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert "interrupted" in error
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path, checkpoint):
    import resource

    source = write_film(tmp_path / "in.mp4", 40)

    def allow_little() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    process = start(tmp_path, checkpoint, source, allow_little)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "fran: error:" in error
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_a_folder_is_a_batch(tmp_path, checkpoint, capsys):
    (tmp_path / "in").mkdir()
    Image.fromarray(portrait()).save(tmp_path / "in" / "a.png")
    Image.fromarray(np.full((80, 80, 3), 9, np.uint8)).save(tmp_path / "in" / "b.png")
    write_film(tmp_path / "in" / "c.mp4", 3)
    out = tmp_path / "out"
    assert main(["reage", str(tmp_path / "in"), "--checkpoint", str(checkpoint), "-o", str(out)]) == 0
    names = ["a.png", "a.png.shot.yaml", "b.png", "c.mp4", "c.mp4.shot.yaml"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert (out / "b.png").read_bytes() == (tmp_path / "in" / "b.png").read_bytes()
    assert "2 re-aged, 1 without a face" in capsys.readouterr().out
    (out / "c.mp4").unlink()
    (tmp_path / "in" / "d.png").write_text("broken")
    status = main(["reage", str(tmp_path / "in"), "--checkpoint", str(checkpoint), "-o", str(out), "--resume"])
    output = capsys.readouterr()
    assert status == 2
    assert "1 re-aged, 0 without a face copied as they are, 2 there already, 1 failed" in output.out
    assert "1 of 4 files failed" in output.err
