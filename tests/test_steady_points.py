"""Points from many looks: they follow the picture, left stays left, and nothing is made up where there is no face."""

from __future__ import annotations

import numpy as np
import pytest

from fran_lightning.evaluation.steady_points import steady_points
from fran_lightning.perception.detection import FaceDetector
from fran_lightning.synthesis.parametric.generate import Settings, render_identity


@pytest.fixture(scope="module")
def detector():
    return FaceDetector(score_threshold=0.3, refine=False)


@pytest.fixture(scope="module")
def person():
    (frame,), _ = render_identity(4, 0, Settings(image_size=256, ages=(40,), max_yaw=10))
    return frame


def test_they_lie_near_the_true_points(detector, person):
    points = steady_points(detector, person.image)
    eyes = np.linalg.norm(person.landmarks[1] - person.landmarks[0])
    assert np.linalg.norm(points - person.landmarks, axis=1).max() < 0.25 * eyes
    assert points[0, 0] < points[1, 0]
    assert points[3, 0] < points[4, 0]


def test_they_follow_the_face_better_than_one_look_does(detector, person):
    eyes = np.linalg.norm(person.landmarks[1] - person.landmarks[0])
    shifts = [(0, 0), (3, 7), (11, 2), (6, 13)]
    many, one = [], []
    for shift in shifts:
        moved = np.roll(person.image, shift[::-1], axis=(0, 1))
        many.append(steady_points(detector, moved) - shift)
        one.append(detector.detect(moved)[0].points - shift)
    scatter = [np.std(points, axis=0).mean() / eyes for points in (many, one)]
    assert scatter[0] < 0.5 * scatter[1]


def test_there_are_none_without_a_face(detector):
    assert steady_points(detector, np.full((128, 128, 3), 127, np.uint8)) is None
