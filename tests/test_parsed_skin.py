"""Skin masks from a parser's answers: whose skin, how far believed, and how they pass through a film."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from faces import portrait
from torch import Tensor

from fran_lightning.perception.alignment import FaceSquare, crop
from fran_lightning.perception.detection import FaceDetector
from fran_lightning.perception.landmarks import CROP_SIZE, crop_landmarks
from fran_lightning.reaging.jobs import FrameWork
from fran_lightning.reaging.parsed_skin import REACH, face_middle, parse_skin, skin_cover, steady_skin, with_parsed_skin
from fran_lightning.reaging.plan import FaceInFrame, FacePlan, plan_face
from fran_lightning.reaging.settings import ReageSettings


class Answers:
    """A parser whose masks are given: called once per frame, they come in order, the last one again and again."""

    def __init__(self, *masks: np.ndarray | float) -> None:
        self.masks = list(masks)

    def skin(self, crops: Tensor) -> Tensor:
        mask = self.masks.pop(0) if len(self.masks) > 1 else self.masks[0]
        return torch.from_numpy(np.broadcast_to(np.float32(mask), (len(crops), 1, CROP_SIZE, CROP_SIZE)).copy())


@pytest.fixture(scope="module")
def plan() -> FacePlan:
    square = FaceSquare.from_points(FaceDetector().detect(portrait())[0].points)
    pixels = crop(portrait(), square, CROP_SIZE)
    return plan_face(pixels.astype(np.float32) / 127.5 - 1, crop_landmarks(pixels), 30, 70, ReageSettings())


def film(plan: FacePlan, frames: int) -> list[FrameWork]:
    return [FrameWork([FaceInFrame(0, np.eye(2, 3), plan, track=1)]) for _ in range(frames)]


def test_an_answer_is_kept_to_its_own_face_and_off_the_border(plan):
    (answer,) = parse_skin(Answers(1.0), [plan.skin_request])
    assert answer.trust == 1
    used = answer.over(plan.skin_request.floor)
    edge = np.ones((CROP_SIZE, CROP_SIZE), bool)
    edge[2:-2, 2:-2] = False
    assert used[edge].max() == 0
    # hair, shoulders and whatever stands beside the head
    assert used[:30, :30].max() < 0.02
    assert used[-40:, :20].max() < 0.02
    middle = used[face_middle(plan.skin_request.landmarks, CROP_SIZE)]
    assert (middle > 0.99).mean() > 0.85
    assert middle.mean() > 0.95
    # what lies between the lids and between the lips is no skin, whatever a parser says
    for part in (slice(36, 42), slice(42, 48)):
        column, row = plan.skin_request.landmarks[part].mean(axis=0).round().astype(int)
        assert used[row, column] < 0.3


def test_an_answer_without_a_face_is_not_believed(plan):
    (answer,) = parse_skin(Answers(0.0), [plan.skin_request])
    assert answer.trust == 0
    assert np.array_equal(answer.over(plan.skin_request.floor), plan.skin_request.floor)
    landmarks = plan.skin_request.landmarks
    half = np.zeros((CROP_SIZE, CROP_SIZE), np.float32)
    half[:, : CROP_SIZE // 2] = 1
    assert 0.3 < skin_cover(half, landmarks) < 0.7
    (answer,) = parse_skin(Answers(half), [plan.skin_request])
    assert answer.trust < 0.8


def test_a_photo_gets_the_parsers_mask_and_ages_inside_it(plan):
    (masked,) = with_parsed_skin(Answers(1.0), [plan])
    assert masked.skin_request is None
    inside = masked.mask > 0.999
    assert inside.mean() > 0.2
    assert np.allclose(masked.target_map[inside], 0.70, atol=1e-3)
    assert np.allclose(masked.target_map[masked.mask == 0], 0.30, atol=1e-6)
    (left,) = with_parsed_skin(None, [plan])
    assert left is plan


def test_a_constant_mask_stays_what_it_is(plan):
    (expected,) = with_parsed_skin(Answers(0.9), [plan])
    for item in steady_skin(Answers(0.9), iter(film(plan, 7))):
        np.testing.assert_allclose(item.faces[0].plan.mask, expected.mask, atol=1e-5)


def test_equal_answers_give_equal_masks_to_the_bit(plan):
    masks = [item.faces[0].plan.mask for item in steady_skin(Answers(0.7), iter(film(plan, 7)))]
    assert all((mask == masks[0]).all() for mask in masks)


def test_a_single_wrong_frame_does_not_pop_and_does_not_lag(plan):
    masks = [1.0] * 4 + [0.0] + [1.0] * 4
    results = [item.faces[0].plan.mask for item in steady_skin(Answers(*masks), iter(film(plan, 9)))]
    point = tuple(np.argwhere(face_middle(plan.skin_request.landmarks, CROP_SIZE))[2000])
    floor = plan.skin_request.floor[point]
    values = [result[point] for result in results]
    assert values[1] == pytest.approx(values[0], abs=1e-5)
    assert abs(values[4] - values[0]) < 0.5 * abs(floor - 0) + 0.5
    assert values[3] == pytest.approx(values[5], abs=1e-5)
    assert values[2] == pytest.approx(values[6], abs=1e-5)
    changes = np.abs(np.diff(values))
    assert changes.max() < 0.4


def test_everything_passes_in_order_and_little_waits(plan):
    taken = 0

    def source():
        nonlocal taken
        for number in range(60):
            taken += 1
            if number % 3 == 1:
                yield FrameWork(is_frame=False)
            elif 20 < number < 40:
                yield FrameWork()
            else:
                yield film(plan, 1)[0]

    held = 0
    kinds = []
    for passed, item in enumerate(steady_skin(Answers(1.0), source()), start=1):
        held = max(held, taken - passed)
        kinds.append((item.is_frame, bool(item.faces)))
    assert kinds == [(n % 3 != 1, n % 3 != 1 and not 20 < n < 40) for n in range(60)]
    assert held <= 2 * REACH + 2


def test_leading_frames_lend_their_masks_and_are_dropped(plan):
    masks = [0.2, 0.4, 0.9, 1.0, 0.3, 1.0]
    whole = [item.faces[0].plan.mask for item in steady_skin(Answers(*masks), iter(film(plan, 6)))]
    again = film(plan, 5)
    for item in again[:REACH]:
        item.leading = True
    continued = [item.faces[0].plan.mask for item in steady_skin(Answers(*masks[1:]), iter(again))]
    assert len(continued) == 3
    for expected, actual in zip(whole[3:], continued, strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_two_faces_of_a_frame_keep_their_own_masks(plan):
    items = film(plan, 5)
    for item in items[2:]:
        item.faces.append(FaceInFrame(0, np.eye(2, 3), plan, track=2))

    class PerFace(Answers):
        def skin(self, crops: Tensor) -> Tensor:
            levels = torch.tensor([1.0, 0.9][: len(crops)]).view(-1, 1, 1, 1)
            return levels.expand(-1, 1, CROP_SIZE, CROP_SIZE)

    results = list(steady_skin(PerFace(0.0), iter(items)))
    point = tuple(np.argwhere(face_middle(plan.skin_request.landmarks, CROP_SIZE))[2000])
    assert [len(item.faces) for item in results] == [1, 1, 2, 2, 2]
    for item in results[2:]:
        first, second = (face.plan.mask[point] for face in item.faces)
        assert second == pytest.approx(0.9 * first, abs=0.01)


def test_other_kinds_of_mask_ask_no_parser(plan):
    request = plan.skin_request
    face = plan_face(request.crop, request.landmarks, 30, 70, ReageSettings(mask="face"))
    assert face.skin_request is None

    class Unasked(Answers):
        def skin(self, crops: Tensor) -> Tensor:
            raise AssertionError("nobody asked for skin")

    (same,) = with_parsed_skin(Unasked(0.0), [face])
    assert same is face
    (item,) = steady_skin(Unasked(0.0), iter(film(face, 1)))
    assert item.faces[0].plan is face
