"""Re-ageing photos: kinds of input, what stays untouched, files, and bad input."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from faces import AgeDifference, Darken, portrait, save_random_generator
from PIL import Image

from fran_lightning.cli import main
from fran_lightning.errors import UserError
from fran_lightning.perception.alignment import FaceSquare
from fran_lightning.perception.detection import FaceDetector
from fran_lightning.reaging.masks import border_mask, face_mask, skin_mask
from fran_lightning.reaging.network import DeltaNetwork, face_deltas, run_in_tiles
from fran_lightning.reaging.paste import Patch, add_delta, spread
from fran_lightning.reaging.photo import Photo, read_photo, split_channels, turn_upright, write_photo
from fran_lightning.reaging.plan import FacePlan
from fran_lightning.reaging.reager import Reager, choose_faces
from fran_lightning.reaging.resolution import choose_size
from fran_lightning.reaging.settings import ReageSettings

EYE = (105, 143)  # row and column of the eye at image left
CHEEK = (135, 150)
CORNER = (10, 10)
FROM_30 = ReageSettings(source_ages={-1: 30.0})


@pytest.fixture(scope="module")
def reager() -> Reager:
    return Reager(Darken(), device="cpu", trained_size=128)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_random_generator(tmp_path_factory.mktemp("run") / "generator.safetensors")


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    difference = before.astype(np.int64) != after.astype(np.int64)
    return difference.any(axis=-1) if difference.ndim == 3 else difference


# ---------------------------------------------------------------- kinds of input


def test_array_is_darkened_in_the_face_and_nowhere_else(reager):
    result = reager.reage(portrait(), target_age=65, source_age=30, mask="face")
    difference = portrait().astype(int) - result
    assert result.dtype == np.uint8
    assert result.shape == portrait().shape
    assert (abs(difference[CHEEK] - 32) <= 1).all()
    (face,) = FaceDetector().detect(portrait())
    corners = FaceSquare.from_points(face.points).corners().round().astype(int)
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    outside = np.ones(portrait().shape[:2], dtype=bool)
    outside[top:bottom, left:right] = False
    assert not changed(portrait(), result)[outside].any()
    assert 0.03 < changed(portrait(), result).mean() < 0.2


def test_skin_mask_leaves_the_eyes_alone(reager):
    result = reager.reage(portrait(), 65, 30, mask="skin")
    change = np.abs(portrait().astype(int) - result).max(axis=-1)
    (face,) = FaceDetector().detect(portrait())
    for column, row in face.points[:2].round().astype(int):
        assert change[row, column] <= 8
    assert change[CHEEK] >= 30


def test_every_kind_of_input_gives_the_same_result(reager, tmp_path):
    expected = reager.reage(portrait(), 65, 30)
    as_pil = reager.reage(Image.fromarray(portrait()), 65, 30)
    assert isinstance(as_pil, Image.Image)
    assert (np.asarray(as_pil) == expected).all()

    Image.fromarray(portrait()).save(tmp_path / "photo.png")
    assert (np.asarray(reager.reage(tmp_path / "photo.png", 65, 30)) == expected).all()

    tensor = torch.from_numpy(portrait().copy()).permute(2, 0, 1).float() / 127.5 - 1
    as_tensor = reager.reage(tensor, 65, 30)
    assert as_tensor.shape == tensor.shape
    assert as_tensor.dtype == tensor.dtype
    back = ((as_tensor + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    assert np.abs(back.astype(int) - expected).max() <= 1
    assert torch.equal(as_tensor[:, :20], tensor[:, :20])
    assert torch.equal(as_tensor[:, :, 300:], tensor[:, :, 300:])
    batch = reager.reage(tensor[None].repeat(2, 1, 1, 1), 65, 30)
    assert torch.equal(batch[0], batch[1])
    assert torch.equal(batch[0], as_tensor)


def test_16_bit_alpha_and_grey_arrays_keep_their_kind(reager):
    sixteen = portrait().astype(np.uint16) * 257 + 3
    result = reager.reage(sixteen, 65, 30)
    assert result.dtype == np.uint16
    assert abs(int(sixteen[CHEEK][0]) - int(result[CHEEK][0]) - 8192) < 300
    assert (result[CORNER] == sixteen[CORNER]).all()

    alpha = np.random.default_rng(0).integers(0, 256, (*portrait().shape[:2], 1), dtype=np.uint8)
    result = reager.reage(np.concatenate([portrait(), alpha], axis=2), 65, 30)
    assert (result[..., 3:] == alpha).all()
    assert (result[..., :3] == reager.reage(portrait(), 65, 30)).all()

    grey = cv2.cvtColor(portrait(), cv2.COLOR_RGB2GRAY)
    result = reager.reage(grey, 65, 30)
    assert result.shape == grey.shape
    assert int(grey[CHEEK]) - int(result[CHEEK]) == pytest.approx(32, abs=1)
    assert (result[:20] == grey[:20]).all()


def test_reager_does_not_change_its_input_and_is_deterministic(checkpoint):
    reager = Reager(checkpoint, device="cpu")
    original = portrait().copy()
    first, second = reager.reage(original, 70), reager.reage(original, 70)
    assert (original == portrait()).all()
    assert (first == second).all()
    assert changed(original, first).any()
    assert reager.trained_size == 128


def test_strength_scales_the_change(reager):
    assert (reager.reage(portrait(), 65, 30, strength=0) == portrait()).all()
    half = portrait().astype(int) - reager.reage(portrait(), 65, 30, strength=0.5)
    assert half[CHEEK] == pytest.approx(np.full(3, 16), abs=1)


def test_ages_reach_the_network_and_target_is_input_age_outside_the_mask():
    reager = Reager(AgeDifference(), device="cpu", precision="float32", trained_size=128)
    older = reager.reage(portrait(), 80, 40, mask="face").astype(int) - portrait()
    younger = reager.reage(portrait(), 20, 40, mask="face").astype(int) - portrait()
    assert older[CHEEK][2] == pytest.approx(0.4 * 127.5, abs=2)
    assert younger[CHEEK][2] == pytest.approx(-0.2 * 127.5, abs=2)


def test_delta_is_zero_outside_the_mask(reager):
    mask = np.zeros((32, 32), dtype=np.float32)
    mask[8:24, 8:24] = 0.5
    plan = FacePlan(np.zeros((32, 32, 3), np.float32), 40, np.full((32, 32), 0.8, np.float32), mask)
    small = FacePlan(np.zeros((16, 16, 3), np.float32), 40, np.full((16, 16), 0.8, np.float32), mask[:16, :16])
    first, second, third = face_deltas(reager.network, [replace(one, strength=0.5) for one in (plan, small, plan)])
    assert first[16, 16] == pytest.approx(np.full(3, -0.25 * 0.5 * 0.5), abs=1e-3)
    assert (first[:8] == 0).all()
    assert second.shape == (16, 16, 3)
    assert (first == third).all()


def test_estimated_source_age_is_reported(reager):
    _, (report,) = reager.reage_photo(split_channels(portrait()), ReageSettings())
    assert report.source_estimated
    assert 20 < report.source_age < 45


# ---------------------------------------------------------------- several faces, small faces


def two_faces() -> np.ndarray:
    scene = np.full((420, 900, 3), 90, dtype=np.uint8)
    scene[20:340, 20:404] = portrait()
    scene[60:220, 600:792] = cv2.resize(portrait(), (192, 160), interpolation=cv2.INTER_AREA)
    return scene


def test_faces_are_chosen_by_size_index_and_point(reager):
    scene = two_faces()

    def sides(**options):
        touched = changed(scene, reager.reage(scene, 65, 30, **options))
        return bool(touched[:, :500].any()), bool(touched[:, 500:].any())

    assert sides() == (True, False)
    assert sides(face="all") == (True, True)
    assert sides(face=1) == (False, True)
    assert sides(face=(690.0, 120.0)) == (False, True)
    with pytest.raises(UserError, match="no face 2"):
        reager.reage(scene, 65, 30, face=2)
    faces = sorted(FaceDetector().detect(scene), key=lambda face: face.points[:, 0].mean())
    assert choose_faces(faces, "largest") == [0]


def test_size_rules():
    assert choose_size(40, 512) is None
    assert choose_size(500, 512).size == 512
    assert choose_size(500, 512).note == ""
    assert choose_size(2000, 512).size == 512
    assert choose_size(2000, 512, "full").size == 2000
    assert choose_size(700, 1024).size == 704
    assert choose_size(100, 512).size == 208
    assert "enlarged" in choose_size(100, 512).note
    assert choose_size(700, 512, 300).size == 304


def test_a_face_too_small_is_a_clear_error(reager):
    tiny = cv2.resize(portrait(), None, fx=0.28, fy=0.28, interpolation=cv2.INTER_AREA)
    with pytest.raises(UserError, match="too small"):
        reager.reage(tiny, 65, 30)


# ---------------------------------------------------------------- pieces


def test_masks_are_soft_bounded_and_zero_at_the_border():
    from fran_lightning.perception.chips import face_crops
    from fran_lightning.perception.landmarks import crop_landmarks

    aligned = face_crops(portrait(), FaceDetector().detect(portrait()))[0]
    points = crop_landmarks(aligned)
    unit = aligned.astype(np.float32) / 127.5 - 1
    for mask in (face_mask(points, 256), skin_mask(unit, points), border_mask(256)):
        assert mask.shape == (256, 256)
        assert mask.dtype == np.float32
        assert mask.min() == 0
        assert mask.max() <= 1
        assert mask[150, 128] > 0.9
        assert max(mask[:2].max(), mask[-2:].max(), mask[:, :2].max(), mask[:, -2:].max()) == 0
    skin = skin_mask(unit, points)
    assert skin[20, 128] < 0.2  # hair
    assert skin[points[36:42].mean(axis=0).astype(int)[1], points[36:42].mean(axis=0).astype(int)[0]] < 0.1


@pytest.mark.parametrize(("side", "size"), [(100.0, 100), (60.0, 240), (180.0, 64)])
def test_spread_puts_values_where_they_belong(side, size):
    square = FaceSquare(x=150.3, y=90.6, side=side, angle=0.35)
    rows, columns = np.indices((size, size), dtype=np.float32) / (size - 1) - 0.5
    blob = np.exp(-(rows**2 + (columns - 0.1) ** 2) / 0.02) * border_mask(size)
    patch = spread(blob, square.to_frame(blob.shape[0]), 200, 300)
    frame = np.zeros((200, 300), dtype=np.float32)
    frame[patch.window()] = patch.values
    row, column = np.unravel_index(frame.argmax(), frame.shape)
    expected = np.array([150.3, 90.6]) + 0.1 * side * np.array([np.cos(0.35), np.sin(0.35)])
    assert (column, row) == pytest.approx(tuple(expected), abs=1.5)
    assert frame.max() == pytest.approx(1, abs=0.05)
    assert frame.sum() == pytest.approx(blob.sum() * (side / size) ** 2, rel=0.03)


def test_spread_at_and_beyond_the_frame_edge():
    values = np.ones((64, 64, 3), dtype=np.float32) * border_mask(64)[..., None]
    half_out = spread(values, FaceSquare(0, 50, 64, 0).to_frame(values.shape[0]), 100, 100)
    assert half_out.left == 0
    assert half_out.values.shape[1] in (32, 33)
    assert spread(values, FaceSquare(-200, 50, 64, 0).to_frame(values.shape[0]), 100, 100).values.size == 0


def test_add_delta_rounds_clips_and_leaves_zero_alone():
    image = np.array([[[0, 100, 255]]], dtype=np.uint8)
    add_delta(image, Patch(0, 0, np.float32([[[-1, 0.02, 1]]])))
    assert image.tolist() == [[[0, 103, 255]]]
    bright = np.array([[[3.0, -1.5, 0.5]]], dtype=np.float32)
    unchanged = bright.copy()
    add_delta(bright, Patch(0, 0, np.zeros((1, 1, 3), dtype=np.float32)))
    assert (bright == unchanged).all()
    add_delta(bright, Patch(0, 0, np.float32([[[1, -1, 1]]])))
    assert bright.tolist() == [[[3.0, -1.5, 1.0]]]


def test_tiles_agree_with_one_pass_away_from_the_seams():
    torch.manual_seed(0)
    generator = torch.nn.Conv2d(5, 3, 5, padding=2)
    x = torch.randn(1, 5, 600, 520)
    with torch.inference_mode():
        whole, tiled = generator(x), run_in_tiles(generator, x)
    assert (whole - tiled).abs().max() < 1e-4


def test_bfloat16_is_close_to_float32(checkpoint):
    from fran_lightning.networks.weights import load_generator

    generator, _ = load_generator(checkpoint)
    torch.manual_seed(0)
    crops, target = torch.rand(1, 3, 64, 64) * 2 - 1, torch.full((1, 1, 64, 64), 0.65)
    exact = DeltaNetwork(generator, torch.device("cpu"), "float32")(crops, [30], target)
    half = DeltaNetwork(generator, torch.device("cpu"), "bfloat16")(crops, [30], target)
    assert (exact - half).abs().mean() < 0.03 * exact.abs().mean()
    assert next(generator.parameters()).dtype == torch.float32


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turn_upright_agrees_with_pil(orientation):
    from PIL import ImageOps

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8))
    image.getexif()[0x0112] = orientation
    assert (turn_upright(np.asarray(image), orientation) == np.asarray(ImageOps.exif_transpose(image))).all()


# ---------------------------------------------------------------- files


def photo_like(kind: str) -> Photo:
    pixels = portrait()
    if kind == "16 bit":
        return Photo(pixels.astype(np.uint16) * 257 + 5)
    if kind == "alpha":
        return Photo(pixels, alpha=np.ascontiguousarray(pixels[..., 1]))
    if kind == "grey":
        return Photo(np.repeat(pixels[..., :1], 3, axis=2), grey=True)
    return Photo(pixels)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".bmp", ".jpg"])
@pytest.mark.parametrize("kind", ["plain", "16 bit", "alpha", "grey"])
def test_files_keep_what_their_format_can_hold(tmp_path, kind, suffix):
    photo = photo_like(kind)
    notes = write_photo(tmp_path / f"photo{suffix}", photo)
    back = read_photo(tmp_path / f"photo{suffix}")
    loses_bits = kind == "16 bit" and suffix not in (".png", ".tif")
    loses_alpha = kind == "alpha" and suffix in (".jpg", ".bmp")
    assert bool(notes) == (loses_bits or loses_alpha)
    if suffix != ".jpg" and not loses_bits:
        assert (back.pixels == photo.pixels).all()
        assert back.pixels.dtype == photo.pixels.dtype
    if kind == "alpha" and not loses_alpha:
        assert (back.alpha == photo.alpha).all()
    if kind == "grey":
        assert back.grey or suffix == ".webp"  # WebP has no grey


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
@pytest.mark.parametrize("bits", [8, 16])
def test_icc_profile_is_kept(tmp_path, suffix, bits):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = portrait() if bits == 8 else portrait().astype(np.uint16) * 257
    write_photo(tmp_path / f"photo{suffix}", Photo(pixels, icc_profile=profile))
    assert read_photo(tmp_path / f"photo{suffix}").icc_profile == profile


def test_exif_rotation_gives_an_upright_result_with_the_other_tags(tmp_path, reager):
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(portrait())))
    exif = turned.getexif()
    exif[0x0112], exif[0x010F] = 6, "A camera"
    turned.save(tmp_path / "turned.png", exif=exif)
    photo, _ = reager.reage_photo(read_photo(tmp_path / "turned.png"), FROM_30)
    assert (photo.pixels == reager.reage(portrait(), 65, 30)).all()
    write_photo(tmp_path / "out.png", photo)
    with Image.open(tmp_path / "out.png") as written:
        assert written.getexif()[0x0112] == 1
        assert written.getexif()[0x010F] == "A camera"


def test_cmyk_becomes_rgb_and_says_so(tmp_path, reager):
    Image.fromarray(portrait()).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    photo = read_photo(tmp_path / "print.jpg")
    assert photo.notes == ("CMYK was converted to RGB",)
    assert np.abs(photo.pixels.astype(int) - portrait()).mean() < 6
    reager.reage_photo(photo, FROM_30)


def test_palette_and_one_bit_files_are_read(tmp_path):
    Image.fromarray(portrait()).quantize(64).save(tmp_path / "palette.png")
    assert read_photo(tmp_path / "palette.png").pixels.shape == portrait().shape
    Image.fromarray(portrait()).convert("1").save(tmp_path / "bits.png")
    assert read_photo(tmp_path / "bits.png").grey


# ---------------------------------------------------------------- the command


def write(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def test_command_writes_the_photo(tmp_path, checkpoint, capsys):
    source = write(tmp_path / "photo.png", portrait())
    assert main(["reage", str(source), "--checkpoint", str(checkpoint), "--target-age", "70"]) == 0
    result = np.asarray(Image.open(tmp_path / "photo_70.png"))
    assert 0.03 < changed(portrait(), result).mean() < 0.3
    assert "(estimated) -> 70 years" in capsys.readouterr().out
    assert (np.asarray(Image.open(source)) == portrait()).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["noise.png"], "no face found"),
        (["missing.png"], "does not exist"),
        (["truncated.png"], "broken"),
        (["text.png"], "no image"),
        (["text.txt"], "no photo or film"),
        (["*.xyz"], "finds no photo"),
        (["empty"], "holds no photo"),
        (["photo.png", "-o", "photo.png"], "is an input itself"),
        (["photo.png", "-o", "out.xyz"], "choose one of"),
        (["photo.png", "--target-age", "130"], "not an age"),
        (["photo.png", "--source-age", "-3"], "must be one age"),
        (["photo.png", "--target-age", "old"], "no age"),
        (["photo.png", "--regions", "knee=3"], "--regions"),
        (["photo.png", "--regions", "eyes"], "NAME=AGE"),
        (["photo.png", "--age-map", "noise.png"], "colour image"),
        (["photo.png", "--mask", "wide.png"], "shape of the picture"),
        (["photo.png", "--preview", "split"], "--preview"),
        (["photo.png", "--mask", "chin"], "no file, folder, glob"),
        (["photo.png", "--face", "left"], "--face"),
        (["photo.png", "--face", "3"], "no face 3"),
        (["photo.png", "--size", "12"], "--size"),
        (["photo.png", "--strength", "-1"], "--strength"),
        (["photo.png", "--device", "cuda:99"], "device"),
        (["photo.png", "--checkpoint", "nowhere"], "checkpoint"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, checkpoint, options, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "photo.png", portrait())
    write(tmp_path / "noise.png", np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8))
    (tmp_path / "truncated.png").write_bytes((tmp_path / "photo.png").read_bytes()[:20000])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "text.txt").write_text("no picture")
    (tmp_path / "empty").mkdir()
    write(tmp_path / "wide.png", np.zeros((10, 100), dtype=np.uint8))
    before = sorted(tmp_path.iterdir())
    assert main(["reage", "--checkpoint", str(checkpoint), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
    assert (np.asarray(Image.open(tmp_path / "photo.png")) == portrait()).all()


def test_animated_gif_is_not_taken_for_a_photo(tmp_path):
    frames = [Image.fromarray(portrait()), Image.fromarray(portrait()[:, ::-1].copy())]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match="animation of 2 frames"):
        read_photo(tmp_path / "moving.gif")


def test_other_objects_are_refused(reager):
    with pytest.raises(UserError, match="cannot re-age a BytesIO"):
        reager.reage(io.BytesIO())
    with pytest.raises(UserError, match="uint8 or uint16"):
        reager.reage(np.zeros((10, 10, 3)))
    with pytest.raises(UserError, match="image tensor"):
        reager.reage(torch.zeros(4, 10, 10))
