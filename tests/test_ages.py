"""Ages in years, their maps, and what is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from fran_lightning.ages import (
    DEFAULT_AGES,
    even_ages,
    painted_age_map,
    parse_ages,
    regional_age_map,
    uniform_age_map,
    validate_age_map,
    validate_years,
)
from fran_lightning.errors import UserError


def test_the_default_is_the_papers_fourteen_ages():
    assert DEFAULT_AGES == (18, 23, 28, 33, 39, 44, 49, 54, 59, 64, 70, 75, 80, 85)
    assert even_ages(3, 20, 60) == (20, 40, 60)


def test_parse_ages_sorts_text_and_numbers():
    assert parse_ages("85, 18 23") == (18, 23, 85)
    assert parse_ages([60, 20]) == (20, 60)


@pytest.mark.parametrize(
    ("ages", "message"),
    [
        ("18", "at least two"),
        ("18,18", "different"),
        ("18,old", "whole numbers"),
        ("18,101", "101 is not an age"),
        ("-3,20", "-3 is not an age"),
    ],
)
def test_parse_ages_refuses(ages, message):
    with pytest.raises(UserError, match=message):
        parse_ages(ages)


@pytest.mark.parametrize("years", [float("nan"), float("inf"), -1, 100.5, [20, 130]])
def test_what_is_no_age_is_refused_with_its_value(years):
    with pytest.raises(UserError, match=r"(nan|inf|-1|100\.5|130) is not an age.*0 to 100"):
        validate_years(years)


def test_both_ends_of_the_range_are_ages():
    assert validate_years([0, 100]).tolist() == [0, 100]


def test_uniform_maps_hold_hundredths():
    maps = uniform_age_map(torch.tensor([20.0, 65.0]), 3, 5)
    assert maps.shape == (2, 1, 3, 5)
    assert torch.equal(maps[0], torch.full((1, 3, 5), 0.2))
    assert torch.equal(maps[1], torch.full((1, 3, 5), 0.65))
    assert uniform_age_map(30, 2, 2).shape == (1, 1, 2, 2)
    with pytest.raises(UserError, match="shape"):
        uniform_age_map(torch.zeros(2, 2), 4, 4)


def test_regional_maps_go_from_the_input_age_to_the_target_age_with_the_mask():
    mask = torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3).repeat(2, 1, 2, 1)
    maps = regional_age_map(torch.tensor([20.0, 70.0]), 60, mask)
    torch.testing.assert_close(maps[0, 0, 0], torch.tensor([0.2, 0.4, 0.6]))
    torch.testing.assert_close(maps[1, 0, 1], torch.tensor([0.7, 0.65, 0.6]))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(1, 3, 4, 4), "shape"),
        (torch.zeros(4, 4), "shape"),
        (torch.full((1, 1, 4, 4), float("nan")), "NaN"),
        (torch.full((1, 1, 4, 4), 1.2), "0 to 1"),
        (torch.full((1, 1, 4, 4), -0.1), "0 to 1"),
    ],
)
def test_regional_maps_refuse_masks(mask, message):
    with pytest.raises(UserError, match=message):
        regional_age_map(20, 60, mask)


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_a_painted_map_is_black_at_0_and_white_at_100_years(tmp_path, dtype, white):
    plane = np.array([[0, white], [white * 0.4, white]]).astype(dtype)
    cv2.imwrite(str(tmp_path / "map.png"), plane)
    painted = painted_age_map(tmp_path / "map.png")
    torch.testing.assert_close(painted, torch.tensor([[[[0, 1], [0.4, 1]]]]), atol=0.003, rtol=0)
    assert painted_age_map(tmp_path / "map.png", 6, 8).shape == (1, 1, 6, 8)


def test_a_grey_painted_map_may_have_three_channels_but_no_colour(tmp_path):
    grey = np.full((4, 4, 3), 51, np.uint8)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    assert painted_age_map(tmp_path / "grey.png").unique().item() == pytest.approx(0.2)
    grey[0, 0, 0] = 200
    cv2.imwrite(str(tmp_path / "colour.png"), grey)
    with pytest.raises(UserError, match="colour image"):
        painted_age_map(tmp_path / "colour.png")


def test_a_painted_map_that_is_missing_or_no_image_is_refused(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    for name in ("text.png", "missing.png"):
        with pytest.raises(UserError, match=f"{name} is missing or no image"):
            painted_age_map(tmp_path / name)


def test_validate_age_map_checks_shape_range_and_nan():
    assert validate_age_map(torch.full((2, 1, 4, 6), 0.3), 4, 6).shape == (2, 1, 4, 6)
    for shape in [(1, 3, 4, 6), (1, 1, 6, 4), (4, 6)]:
        with pytest.raises(UserError, match=r"must have the shape \(B, 1, 4, 6\)"):
            validate_age_map(torch.zeros(shape), 4, 6)
    with pytest.raises(UserError, match="must not be empty"):
        validate_age_map(torch.zeros(0, 1, 4, 6), 4, 6)
    for value in (float("nan"), 1.1, -0.2):
        with pytest.raises(UserError, match="age map value"):
            validate_age_map(torch.full((1, 1, 4, 6), value), 4, 6)
