"""The quality gate: what its eyes measure on real pictures, and what it decides."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from faces import portrait
from skimage.data import lfw_subset
from torch import Tensor, nn

from fran_lightning.data.folder import DatasetInfo
from fran_lightning.errors import UserError
from fran_lightning.perception.detection import FaceDetector
from fran_lightning.perception.landmarks import landmarks
from fran_lightning.synthesis.sam import predictor
from fran_lightning.synthesis.sam.faces import Face
from fran_lightning.synthesis.sam.gate import (
    GateThresholds,
    QualityGate,
    ageing_problems,
    background_difference,
    rank_correlation,
    source_problems,
)
from fran_lightning.synthesis.sam.photo_alignment import align_photo
from fran_lightning.synthesis.sam.predictor import IdentitySynthesis
from fran_lightning.synthesis.sam.rendering import RenderSettings
from fran_lightning.synthesis.writer import DatasetWriter

GOOD_SOURCE = {"faces": 1, "estimated_age": {"dlib": 31.0, "dex": 28.0}}
GOOD_AGES = {
    "faces": [1, 1, 1],
    "rank_correlation": {"dlib": 0.98, "dex": 1.0},
    "age_error": {"dlib": 6.0, "dex": 3.0},
    "identity_distance": 0.55,
    "background_difference": 5.0,
}


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """A real face in SAM's alignment."""
    picture = portrait()
    found = FaceDetector().detect(picture)[0]
    return align_photo(picture, landmarks(picture, found, 68))


@pytest.fixture(scope="module")
def gate() -> QualityGate:
    return QualityGate(GateThresholds())


# --- decisions -------------------------------------------------------------------------------------------------


def test_good_candidates_pass():
    assert source_problems(GOOD_SOURCE, GateThresholds()) == []
    assert ageing_problems(GOOD_AGES, GateThresholds()) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"faces": 0}, "no face"),
        ({"faces": 2}, "several faces"),
        ({"estimated_age": {"dlib": 17.9}}, "too young"),
        # one estimator is enough
        ({"estimated_age": {"dlib": 30.0, "dex": 12.0}}, "too young"),
        ({"estimated_age": {"dlib": math.nan}}, "too young"),
    ],
)
def test_source_is_rejected_for(change, reason):
    assert source_problems(GOOD_SOURCE | change, GateThresholds()) == [reason]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"faces": [1, 0, 1]}, "no face"),
        ({"faces": [1, 1, 3]}, "several faces"),
        ({"rank_correlation": {"dlib": 0.98, "dex": 0.5}}, "age order"),
        ({"age_error": {"dlib": 12.5, "dex": 3.0}}, "age error"),
        ({"identity_distance": 0.8}, "identity"),
        ({"arcface_similarity": 0.2}, "identity"),
        ({"background_difference": 30.0}, "background"),
        ({"background_difference": math.nan}, "background"),
    ],
)
def test_ages_are_rejected_for(change, reason):
    assert ageing_problems(GOOD_AGES | change, GateThresholds()) == [reason]


def test_thresholds_decide():
    strict = GateThresholds(
        minimum_age=35,
        minimum_rank_correlation=0.99,
        maximum_age_error=2,
        maximum_identity_distance=0.3,
        maximum_background_difference=1,
    )
    assert source_problems(GOOD_SOURCE, strict) == ["too young"]
    assert ageing_problems(GOOD_AGES, strict) == ["age order", "age error", "identity", "background"]


def test_rank_correlation():
    assert rank_correlation([20, 40, 60, 80], [25, 30, 31, 70]) == 1.0
    assert rank_correlation([20, 40, 60, 80], [70, 31, 30, 25]) == -1.0
    assert rank_correlation([20, 40, 60], [30, 30, 30]) == 0.0


# --- measurements ----------------------------------------------------------------------------------------------


def test_background_difference_sees_the_upper_corners_only(face):
    changed_face, changed_corner = face.copy(), face.copy()
    changed_face[100:, 60:200] = 0
    changed_corner[:40, :20] = 255 - changed_corner[:40, :20]
    assert background_difference([face, face, changed_face]) == 0.0
    assert background_difference([face, face, changed_corner]) > 5


def test_source_with_one_face_is_measured(face, gate):
    measured = gate.measure_source(face)
    assert measured["faces"] == 1
    # she was 42 when the picture was taken
    assert 25 < measured["estimated_age"]["dlib"] < 55
    assert source_problems(measured, gate.thresholds) == []


def test_source_without_and_with_two_faces(face, gate):
    assert gate.measure_source(np.full_like(face, 128))["faces"] == 0
    two = np.full((512, 512, 3), 128, dtype=np.uint8)
    two[128:384, :256] = two[128:384, 256:] = face
    assert gate.measure_source(two)["faces"] == 2


def test_the_same_picture_at_every_age_fails_for_its_ages_alone(face, gate):
    measured = gate.measure_ages([face, face, face], [20, 42, 80])
    assert measured["identity_distance"] == measured["neighbour_distance"] == 0.0
    assert measured["background_difference"] == 0.0
    assert measured["faces"] == [1, 1, 1]
    assert ageing_problems(measured, gate.thresholds) == ["age order", "age error"]


def test_another_person_among_the_ages_is_another_identity(face, gate):
    stranger = cv2.resize(lfw_subset()[0], face.shape[:2])
    stranger = (stranger[..., None] * 255).astype(np.uint8).repeat(3, axis=2)
    measured = gate.measure_ages([face, face, stranger], [20, 42, 80])
    assert measured["identity_distance"] == measured["neighbour_distance"] > 0.75
    assert "identity" in ageing_problems(measured, gate.thresholds)


def test_optional_judges_are_asked_too(face):
    from sam_recipe import fill

    from fran_lightning.synthesis.sam.dex import DEX
    from fran_lightning.synthesis.sam.encoder import IRSE50

    with torch.device("meta"):
        dex, arcface = DEX(), IRSE50()
    gate = QualityGate(GateThresholds(), fill(dex), fill(arcface))
    darker = (face * 0.5).astype(np.uint8)
    measured = gate.measure_ages([face, darker], [20, 80])
    assert measured["estimated_ages"].keys() == measured["age_error"].keys() == {"dlib", "dex"}
    assert -1 <= measured["arcface_similarity"] < 0.9999
    assert set(gate.measure_source(face)["estimated_age"]) == {"dlib", "dex"}


# --- replacement -----------------------------------------------------------------------------------------------


class Repaint(nn.Module):
    """In SAM's place: gives back the face it was shown, a little darker with age."""

    def identity_codes(self, faces: Tensor) -> Tensor:
        return faces

    def aged_codes(self, faces: Tensor, years: tuple[int, ...], identity_codes: Tensor) -> Tensor:
        return torch.cat([identity_codes - age / 1000 for age in years])

    def render(self, codes: Tensor, dtype: torch.dtype) -> Tensor:
        return codes


class Candidates:
    """Faces in a given order, one per attempt."""

    def __init__(self, faces: list[np.ndarray], replaceable: bool = True) -> None:
        self.faces = faces
        self.replaceable = replaceable

    def face(self, identity: int, attempt: int) -> Face:
        return Face(self.faces[attempt % len(self.faces)], {"attempt": attempt})


def synthesis(tmp_path, source: Candidates, thresholds: GateThresholds) -> IdentitySynthesis:
    ages = (30, 60)
    writer = DatasetWriter(tmp_path / "set", DatasetInfo("sam", 256, ages, 1))
    return IdentitySynthesis(Repaint(), source, writer, RenderSettings(ages, 256), QualityGate(thresholds))


#: ages apart: Repaint does not age anybody
LENIENT = GateThresholds(minimum_rank_correlation=-1, maximum_age_error=100)


def test_rejected_candidates_are_replaced_and_recorded(tmp_path, face):
    blank = np.full_like(face, 128)
    module = synthesis(tmp_path, Candidates([blank, blank, face]), LENIENT)
    images, record = module.make_identity(0)
    assert record["source"] == {"attempt": 2}
    assert record["rejected"] == [{"attempt": attempt, "reasons": ["no face"]} for attempt in (0, 1)]
    assert record["gate"] == {"passed": True, "problems": []}
    assert record["measured"]["faces"] == [1, 1]
    assert images.shape == (2, 256, 256, 3)
    assert images[0].mean() > images[1].mean()


def test_photos_are_kept_and_their_problems_recorded(tmp_path, face):
    module = synthesis(tmp_path, Candidates([face], replaceable=False), GateThresholds(minimum_age=90))
    _, record = module.make_identity(0)
    assert not record["gate"]["passed"]
    assert {"too young", "age error"} <= set(record["gate"]["problems"])
    assert record["rejected"] == []


def test_hopeless_settings_end_with_the_reasons(tmp_path, face, monkeypatch):
    monkeypatch.setattr(predictor, "MAXIMUM_ATTEMPTS", 3)
    module = synthesis(tmp_path, Candidates([face]), GateThresholds(minimum_age=90))
    with pytest.raises(UserError, match=r"3 faces in a row were rejected \(too young\)"):
        module.make_identity(0)
