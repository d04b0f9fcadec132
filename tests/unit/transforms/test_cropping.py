from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from pneumoseg.transforms.cropping import crop

SIDE, SIZE = 48, 32


def places() -> Tensor:
    """An image whose pixels tell where they come from."""
    return torch.arange(SIDE * SIDE).reshape(1, SIDE, SIDE).float()


class Cropped(NamedTuple):
    image: Tensor
    label: Tensor
    positive: Tensor


def cropped(seed: int, label: Tensor | None = None, *, size: int = SIZE) -> Cropped:
    uniform = torch.from_numpy(np.random.default_rng(seed).random((1, 4), dtype=np.float32))
    label = torch.zeros(1, SIDE, SIDE) if label is None else label
    result = crop(places()[None], label[None], torch.ones(1), uniform, size=size)
    return Cropped(*(each[0] for each in result))


def position(sample: Cropped) -> tuple[int, int]:
    row, column = divmod(int(sample.image[0, 0, 0]), SIDE)
    return row, column


def test_image_and_label_are_cropped_at_one_place() -> None:
    for seed in range(10):
        sample = cropped(seed, places() / SIDE**2)
        assert sample.image.shape == sample.label.shape == (1, SIZE, SIZE)
        torch.testing.assert_close(sample.image / SIDE**2, sample.label)
        row, column = position(sample)
        torch.testing.assert_close(
            sample.image, places()[:, row : row + SIZE, column : column + SIZE], rtol=0, atol=0
        )


def test_the_place_is_a_function_of_the_seed() -> None:
    found = [position(cropped(seed)) for seed in (1, 2, 1)]
    assert found[0] == found[2] != found[1]


def test_crops_reach_all_four_sides() -> None:
    rows, columns = zip(*(position(cropped(seed)) for seed in range(300)), strict=True)
    assert (min(rows), max(rows)) == (min(columns), max(columns)) == (0, SIDE - SIZE)
    assert np.mean(rows) == pytest.approx((SIDE - SIZE) / 2, abs=1)  # 5 standard errors


def test_at_least_half_of_the_crops_show_a_small_region_in_a_corner() -> None:
    label = torch.zeros(1, SIDE, SIDE)
    label[0, 1, 46] = 0.4  # uniform positions show it in 2 x 2 of 17 x 17 crops
    shown = [bool((cropped(seed, label).label > 0).any()) for seed in range(300)]
    assert 0.4 < np.mean(shown) < 0.6  # one half and 1.4 % of the other half; the standard error is 0.03


def test_a_crop_that_shows_no_region_is_not_positive() -> None:
    label = torch.zeros(1, SIDE, SIDE)
    label[0, 1, 46] = 0.4
    for seed in range(20):
        sample = cropped(seed, label)
        assert sample.positive.dtype == torch.float32
        assert float(sample.positive) == float((sample.label > 0).any())


def test_the_rounding_of_a_warp_is_no_region() -> None:
    assert float(cropped(0, torch.full((1, SIDE, SIDE), 1e-5)).positive) == 0


def test_a_crop_as_large_as_the_image_is_the_image() -> None:
    label = torch.zeros(1, SIDE, SIDE)
    label[0, 47, 0] = 1
    for seed in range(4):
        assert torch.equal(cropped(seed, label, size=SIDE).image, places())


def test_crops_near_a_region_are_uniform_among_those_that_contain_the_chosen_pixel() -> None:
    label = torch.zeros(1, SIDE, SIDE)
    label[0, 20, 9] = label[0, 40, 30] = 1
    found = np.array([position(cropped(seed, label)) for seed in range(2000)])
    # half uniform over 0 to 16; a quarter for the first pixel: rows 0 to 16, columns 0 to 9; a quarter for the second:
    # rows 9 to 16, columns 0 to 16. The standard error of both means is 0.11
    assert found.mean(axis=0) == pytest.approx([8 / 2 + 8 / 4 + 12.5 / 4, 8 / 2 + 4.5 / 4 + 8 / 4], abs=0.5)
    assert found.min() == 0
    assert found.max() == SIDE - SIZE


def test_each_image_of_a_batch_has_a_crop_of_its_own() -> None:
    uniform = torch.from_numpy(np.random.default_rng(0).random((5, 4), dtype=np.float32))
    labels = (places() > 2000).float().expand(5, 1, SIDE, SIDE) * torch.tensor([1, 0, 1, 1, 0]).view(
        5, 1, 1, 1
    )
    images = places().expand(5, 1, SIDE, SIDE)
    together = crop(images, labels, torch.ones(5), uniform, size=SIZE)
    for at in range(5):
        one = slice(at, at + 1)
        alone = crop(images[one], labels[one], torch.ones(1), uniform[one], size=SIZE)
        assert all(torch.equal(whole[one], single) for whole, single in zip(together, alone, strict=True))
