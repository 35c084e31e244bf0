"""Proportions of the parametric heads, and hair that turns grey."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest

from fran_lightning.synthesis.parametric.generate import Settings, render_identity
from fran_lightning.synthesis.parametric.head_model import load_head_model
from fran_lightning.synthesis.parametric.proportions import sample_proportions
from fran_lightning.synthesis.parametric.scene import sample_identity
from fran_lightning.synthesis.parametric.shape import REFERENCE_AGE, Body
from fran_lightning.synthesis.parametric.skin import WHITE_HAIR, greyed, hair_colour


def proportions_of(body: Body) -> np.ndarray:
    """The head's measures at rest, from its landmarks and in the order of Proportions without the chin."""
    face = body.landmarks(body.neutral(REFERENCE_AGE))
    eyes, mouth = (face.left_eye + face.right_eye) / 2, (face.left_mouth + face.right_mouth) / 2
    across = [np.linalg.norm(face.left_eye - face.right_eye), np.linalg.norm(face.left_mouth - face.right_mouth)]
    return np.array([across[0], (eyes - face.nose)[1], (eyes - mouth)[1], across[1]])


def test_heads_get_the_proportions_that_were_drawn_for_them():
    model = load_head_model()
    misses = []
    for number in range(12):
        identity = replace(sample_identity(3, number), expression={})
        eye_distance, nose, mouth, _, mouth_width = astuple(identity.proportions)
        misses.append(proportions_of(Body(model, identity)) - [eye_distance, nose, mouth, mouth_width])
    assert np.median(np.abs(misses)) < 0.3
    assert np.abs(misses).mean(0).max() < 1.5


def test_proportions_are_those_of_women_and_men():
    random = np.random.default_rng(0)
    women, men = (np.array([astuple(sample_proportions(random, sex)) for _ in range(300)]) for sex in (0.0, 1.0))
    # interpupillary distance of adults: 62.3 and 64.7 mm
    assert abs(women[:, 0].mean() - 62.3) < 0.8
    assert abs(men[:, 0].mean() - 64.7) < 0.8
    assert (men.mean(0) > women.mean(0)).all()
    assert (women.std(0) > 2).all()
    assert (women.std(0) < 6).all()
    # large faces are large in everything
    correlation = np.corrcoef(women.T)
    assert (correlation[np.triu_indices(5, 1)] > 0.2).all()


@pytest.mark.parametrize("melanin", [0.1, 0.9])
def test_hairs_turn_white_one_after_the_other(melanin):
    colour, order = hair_colour(melanin, 0.2), np.linspace(0, 1, 101)
    assert np.allclose(greyed(colour, 0.0, order), colour)
    assert np.allclose(greyed(colour, 1.0, order), WHITE_HAIR)
    half = greyed(colour, 0.5, order)
    assert np.allclose(half[0], WHITE_HAIR)
    assert np.allclose(half[-1], colour)
    share = [np.abs(greyed(colour, grey, order) - colour).mean() for grey in np.linspace(0, 1, 11)]
    assert (np.diff(share) > 0).all()


def test_hair_turns_grey_only_where_it_is_asked_for():
    settings = Settings(image_size=96, ages=(20, 80))
    kept, turning = (render_identity(7331, 38, replace(settings, grey_hair=grey))[0] for grey in (False, True))
    hair = (kept[0].label == 17) & (kept[1].label == 17)
    assert hair.mean() > 0.1
    assert np.array_equal(kept[0].image[hair], kept[1].image[hair])
    assert np.array_equal(kept[0].image, turning[0].image)
    assert turning[1].image[hair].mean() > kept[1].image[hair].mean() + 25
    assert np.array_equal(kept[1].label, turning[1].label)
    skin = kept[1].label == 1
    assert np.abs(kept[1].image[skin].astype(int) - turning[1].image[skin]).mean() < 2
    background = (kept[1].label == 0) & (kept[0].label == 0)
    changed = np.abs(turning[0].image.astype(int) - turning[1].image)[background].max(1) > 0
    assert changed.mean() < 0.5, "only beside the hair, where the lens mixes it in"
