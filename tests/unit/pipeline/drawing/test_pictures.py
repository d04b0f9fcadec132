from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pneumoseg.pipeline.drawing.pictures import FILL_OPACITY, OUTLINE, heat, overlay, save_png

GREY = np.full((40, 30), 0.5, dtype=np.float32)


def square(top: int = 10, left: int = 5, side: int = 9) -> NDArray[np.uint8]:
    mask = np.zeros((40, 30), dtype=np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def test_without_a_mask_the_picture_is_the_radiograph_in_grey() -> None:
    image = np.linspace(0, 1, 1200, dtype=np.float32).reshape(40, 30)
    picture = overlay(image, np.zeros((40, 30), dtype=np.uint8))
    assert picture.shape == (40, 30, 3)
    assert picture.dtype == np.uint8
    for channel in range(3):
        np.testing.assert_array_equal(picture[..., channel], np.round(image * 255))


def test_the_outline_runs_around_the_mask_and_covers_none_of_it() -> None:
    picture, mask = overlay(GREY, square()), square().astype(bool)
    drawn = (picture == OUTLINE).all(axis=2)
    assert not (drawn & mask).any()
    assert drawn[9, 5:14].all()
    assert drawn[19, 5:14].all()
    assert drawn[10:19, 4].all()
    assert drawn[10:19, 14].all()


def test_the_inside_is_tinted_by_the_share_that_is_said() -> None:
    inside = overlay(GREY, square())[14, 9]
    expected = [127.5 + FILL_OPACITY * (channel - 127.5) for channel in OUTLINE]
    np.testing.assert_allclose(inside, expected, atol=0.51)


def test_the_rest_is_left_as_it_is() -> None:
    assert (overlay(GREY, square())[30:, 20:] == 128).all()


def test_the_outline_of_a_large_image_is_wider() -> None:
    mask = np.zeros((2048, 64), dtype=np.uint8)
    mask[1000:1040, 20:40] = 1
    drawn = (overlay(np.zeros(mask.shape, np.float32), mask) == OUTLINE).all(axis=2)
    assert drawn[900:1000, 30].sum() == 4


def test_the_image_and_the_mask_are_not_changed() -> None:
    image, mask = GREY.copy(), square()
    overlay(image, mask)
    np.testing.assert_array_equal(image, GREY)
    np.testing.assert_array_equal(mask, square())


def test_a_mask_of_the_whole_image_is_drawn() -> None:
    picture = overlay(GREY, np.ones((40, 30), np.uint8))
    assert not (picture == 128).all(axis=2).any()


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_a_png_comes_back_as_it_was(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    save_png(tmp_path / "a" / "b.png", pixels)
    with Image.open(tmp_path / "a" / "b.png") as picture:
        assert picture.format == "PNG"
        np.testing.assert_array_equal(np.asarray(picture), pixels)


def test_heat_goes_from_dark_to_yellow_and_keeps_the_size() -> None:
    image = np.zeros((10, 20), dtype=np.float32)
    map_ = np.tile(np.linspace(0, 1, 20, dtype=np.float32), (10, 1))
    picture = heat(image, map_)
    assert picture.shape == (10, 20, 3)
    red, green, blue = (picture[0, :, channel].astype(int) for channel in range(3))
    assert red[-1] > blue[-1]  # yellow is red and green
    assert green[-1] > blue[-1]
    assert picture[0, 0].sum() < 10
    assert picture[0, -1].sum() > picture[0, 10].sum() > picture[0, 0].sum()


def test_a_map_of_one_value_is_drawn_too() -> None:
    picture = heat(np.full((4, 4), 0.5, dtype=np.float32), np.full((4, 4), 0.3, dtype=np.float32))
    assert (picture == picture[0, 0]).all()


def test_sixteen_bits_of_grey_are_kept(tmp_path: Path) -> None:
    pixels = np.arange(256 * 256, dtype=np.uint16).reshape(256, 256)
    save_png(tmp_path / "a.png", pixels)
    with Image.open(tmp_path / "a.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), pixels)
