from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pneumoseg.transforms.cropping import RandCropd

SIDE, SIZE = 48, 32


def places() -> Tensor:
    """An image whose pixels tell where they come from."""
    return torch.arange(SIDE * SIDE).reshape(1, SIDE, SIDE).float()


def cropped(seed: int, label: Tensor | None = None) -> dict[Hashable, Any]:
    transform = RandCropd(("image", "label"), size=SIZE)
    transform.set_random_state(seed=seed)
    label = torch.zeros(1, SIDE, SIDE) if label is None else label
    return transform({"image": places(), "label": label, "positive": torch.tensor(1.0)})


def position(sample: dict[Hashable, Any]) -> tuple[int, int]:
    row, column = divmod(int(sample["image"][0, 0, 0]), SIDE)
    return row, column


def test_image_and_label_are_cropped_at_one_place() -> None:
    for seed in range(10):
        sample = cropped(seed, places() / SIDE**2)
        assert sample["image"].shape == sample["label"].shape == (1, SIZE, SIZE)
        torch.testing.assert_close(sample["image"] / SIDE**2, sample["label"])
        row, column = position(sample)
        torch.testing.assert_close(
            sample["image"], places()[:, row : row + SIZE, column : column + SIZE], rtol=0, atol=0
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
    shown = [bool((cropped(seed, label)["label"] > 0).any()) for seed in range(300)]
    assert 0.4 < np.mean(shown) < 0.6  # one half and 1.4 % of the other half; the standard error is 0.03


def test_a_crop_that_shows_no_region_is_not_positive() -> None:
    label = torch.zeros(1, SIDE, SIDE)
    label[0, 1, 46] = 0.4
    for seed in range(20):
        sample = cropped(seed, label)
        assert sample["positive"].dtype == torch.float32
        assert float(sample["positive"]) == float((sample["label"] > 0).any())


def test_the_rounding_of_a_warp_is_no_region() -> None:
    assert float(cropped(0, torch.full((1, SIDE, SIDE), 1e-5))["positive"]) == 0


def test_a_crop_as_large_as_the_image_is_the_image() -> None:
    transform = RandCropd(("image", "label"), size=SIDE)
    label = torch.zeros(1, SIDE, SIDE)
    label[0, 47, 0] = 1
    for seed in range(4):
        transform.set_random_state(seed=seed)
        sample = transform({"image": places(), "label": label, "positive": torch.tensor(1.0)})
        torch.testing.assert_close(sample["image"], places(), rtol=0, atol=0)
