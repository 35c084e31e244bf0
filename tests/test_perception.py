"""Detection, alignment, landmarks, age and identity on NASA's portrait that scikit-image carries."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest
import torch
from skimage.data import astronaut

from fran_lightning.errors import UserError
from fran_lightning.perception.age import AgeEstimator
from fran_lightning.perception.alignment import FaceSquare, crop, template_points, transform_points
from fran_lightning.perception.bundled import bundled_file
from fran_lightning.perception.chips import face_crops
from fran_lightning.perception.detection import FaceDetector, detect_hog
from fran_lightning.perception.identity import SAME_PERSON_DISTANCE, IdentityEmbedder, identity_distance
from fran_lightning.perception.landmarks import crop_landmarks, landmarks

#: the astronaut's eyes as seen by eye: image left, image right
EYES = np.array([(203.0, 105.0), (245.0, 107.0)])


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return astronaut()


def test_bundled_file_is_found_without_importing_the_package():
    path = bundled_file(
        "face_recognition_models", "face-recognition-models", "models", "shape_predictor_5_face_landmarks.dat"
    )
    assert path.stat().st_size > 1_000_000
    assert "face_recognition_models" not in sys.modules
    with pytest.raises(UserError, match="pip install no-such-thing"):
        bundled_file("no_such_package", "no-such-thing", "x.dat")


def test_detector_finds_the_astronaut(detector, portrait):
    (face,) = detector.detect(portrait)
    left, top, right, bottom = face.box
    assert left < EYES[0, 0] < EYES[1, 0] < right
    assert top < 105 < bottom
    assert np.abs(face.points[:2] - EYES).max() < 5
    assert 0.8 < face.score <= 1


@pytest.mark.parametrize("scale", [0.3, 0.7, 2.0, 5.0])
def test_detection_is_reported_in_the_coordinates_of_the_picture(detector, portrait, scale):
    (reference,) = detector.detect(portrait)
    size = round(512 * scale)
    resized = cv2.resize(portrait, (size, size), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    (face,) = detector.detect(resized)
    back = (face.points + 0.5) / scale - 0.5
    assert np.abs(back - reference.points).max() < 0.05 * reference.interocular


def test_a_face_that_fills_the_picture_is_found(detector, portrait):
    (reference,) = detector.detect(portrait)
    close = portrait[70:175, 180:270]
    (face,) = detector.detect(cv2.resize(close, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC))
    back = (face.points + 0.5) / 8 - 0.5 + (180, 70)
    assert np.abs(back - reference.points).max() < 0.15 * reference.interocular


def test_several_faces_come_largest_first(detector, portrait):
    scene = np.full((600, 1000, 3), 90, dtype=np.uint8)
    scene[20:276, 20:276] = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)
    scene[50:562, 450:962] = portrait
    large, small = detector.detect(scene)
    assert large.points[:, 0].min() > 450 > small.points[:, 0].max()


def test_nothing_is_found_where_there_is_no_face(detector):
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    assert detector.detect(noise) == []
    assert detector.detect(np.zeros((1, 1, 3), dtype=np.uint8)) == []


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_a_picture_of_a_few_pixels_holds_no_face(portrait, size):
    # the detector's answer overflows there, with a score of 1
    tiny = cv2.resize(portrait[:320, 60:444], (size, size), interpolation=cv2.INTER_AREA)
    assert FaceDetector(refine=False).detect(tiny) == []


def test_detector_refuses_other_types(detector):
    with pytest.raises(UserError, match="uint8"):
        detector.detect(np.zeros((8, 8, 3), dtype=np.float32))


def test_hog_detector_agrees(portrait):
    (box,) = detect_hog(portrait)
    assert box[0] < EYES[0, 0] < EYES[1, 0] < box[2]


def test_square_of_the_template_is_the_crop_itself():
    square = FaceSquare.from_points(template_points(512))
    assert (square.x, square.y, square.side, square.angle) == pytest.approx((255.5, 255.5, 512, 0), abs=1e-9)


def test_square_recovers_a_similarity_and_both_matrices_are_inverse():
    square = FaceSquare(x=321.25, y=140.5, side=300.0, angle=0.4)
    points = transform_points(square.to_frame(256), template_points(256))
    found = FaceSquare.from_points(points)
    assert (found.x, found.y, found.side, found.angle) == pytest.approx((321.25, 140.5, 300.0, 0.4), abs=1e-9)
    there_and_back = transform_points(square.to_crop(256), transform_points(square.to_frame(256), points))
    assert np.abs(there_and_back - points).max() < 1e-9
    # an angle above zero turns the eyes' line downwards to the right
    assert points[1, 1] > points[0, 1]
    assert np.allclose(square.corners()[2], transform_points(square.to_frame(256), np.array([[255.5, 255.5]])))


def test_crop_puts_the_face_on_the_template(detector, portrait):
    turned = cv2.warpAffine(portrait, cv2.getRotationMatrix2D((224, 120), 20, 1.0), (512, 512))
    (face,) = detector.detect(turned)
    aligned = crop(turned, FaceSquare.from_points(face.points), 256)
    assert aligned.shape == (256, 256, 3)
    (again,) = detector.detect(aligned)
    assert np.abs(again.points - template_points(256)).max() < 10


def test_crop_and_way_back_reproduce_the_picture(portrait):
    smooth = cv2.GaussianBlur(portrait, (0, 0), 2).astype(np.float32)
    square = FaceSquare(224, 110, 160, 0.3)
    aligned = crop(smooth, square, 160)
    inverse = cv2.warpAffine(aligned, square.to_frame(160), (512, 512), flags=cv2.INTER_CUBIC)
    middle = (slice(80, 140), slice(190, 260))
    assert np.abs(inverse[middle] - smooth[middle]).mean() < 1.0


def test_crop_does_not_alias_when_it_shrinks():
    board = (np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)
    shrunk = crop(board, FaceSquare(255.5, 255.5, 400, 0.1), 64)
    assert shrunk.std() < 12
    assert abs(shrunk.mean() - 127.5) < 3


def test_crop_mirrors_beyond_the_frame():
    ramp = np.tile(np.arange(100, dtype=np.float32), (100, 1))
    aligned = crop(ramp, FaceSquare(0, 50, 40, 0.0), 40)
    assert aligned.min() >= -1
    assert np.allclose(aligned[20, 0:15], aligned[20, 39:24:-1], atol=1.5)


def test_landmarks_lie_where_the_face_is(detector, portrait):
    (face,) = detector.detect(portrait)
    points = landmarks(portrait, face)
    assert points.shape == (68, 2)
    assert np.abs(points[36:42].mean(axis=0) - EYES[0]).max() < 4
    assert np.abs(points[42:48].mean(axis=0) - EYES[1]).max() < 4
    assert points[8, 1] == pytest.approx(177, abs=6)  # chin


def test_landmarks_follow_a_rolled_head(detector, portrait):
    matrix = cv2.getRotationMatrix2D((224, 120), 30, 1.0)
    turned = cv2.warpAffine(portrait, matrix, (512, 512))
    (face,) = detector.detect(turned)
    expected = transform_points(matrix, landmarks(portrait, detector.detect(portrait)[0]))
    assert np.abs(landmarks(turned, face) - expected).mean() < 3


def test_age_is_sane_and_smooth(detector, portrait):
    estimator = AgeEstimator()
    faces = detector.detect(portrait)
    (years,) = estimator.estimate(portrait, faces)
    assert 22 < years < 45
    aligned = face_crops(portrait, faces)
    tensor = torch.from_numpy(aligned).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert estimator.estimate_aligned(tensor) == pytest.approx([years], abs=1e-4)
    assert estimator.estimate_aligned(np.repeat(aligned, 2, axis=0)) == pytest.approx([years, years], abs=1e-3)
    assert years != round(years)
    assert len(estimator.estimate(portrait, [])) == 0


def test_identity_tells_the_same_face_from_another(detector, portrait):
    embedder = IdentityEmbedder()
    faces = detector.detect(portrait)
    original = embedder.embed(portrait, faces)
    darker = (portrait * 0.6).astype(np.uint8)
    same = identity_distance(original, embedder.embed(darker, detector.detect(darker)))
    assert original.shape == (1, 128)
    assert same[0] < 0.25 < SAME_PERSON_DISTANCE
    # another head: the same portrait with its features moved apart
    aligned = face_crops(portrait, faces)[0]
    rows, columns = np.indices((256, 256), dtype=np.float32)
    bulge = 26 * np.sin(columns / 256 * 2 * np.pi) * np.sin(rows / 256 * np.pi)
    other = cv2.remap(aligned, columns - bulge, rows + 0.7 * bulge, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    assert identity_distance(embedder.embed_aligned(aligned), embedder.embed_aligned(other))[0] > 0.3
    assert embedder.embed(portrait, []).shape == (0, 128)


def test_judges_refuse_what_is_no_face_batch():
    with pytest.raises(UserError, match="square"):
        AgeEstimator().estimate_aligned(np.zeros((1, 8, 9, 3), dtype=np.uint8))
    with pytest.raises(UserError, match="tensor"):
        IdentityEmbedder().embed_aligned(torch.zeros(3, 8, 8))


def test_crop_landmarks_need_uint8():
    with pytest.raises(UserError, match="uint8"):
        crop_landmarks(np.zeros((64, 64, 3), dtype=np.float32))
