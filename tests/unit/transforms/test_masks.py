from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pneumoseg.transforms.masks import OperatingPoint, image_probability, min_area_px, to_mask

GRADED = np.array([[0.1, 0.4], [0.6, 0.9]], dtype=np.float32)


def test_pixels_above_the_threshold_are_the_mask() -> None:
    np.testing.assert_array_equal(to_mask(GRADED, OperatingPoint(threshold=0.5)), [[0, 0], [1, 1]])


def test_a_pixel_at_the_threshold_is_not_in_the_mask() -> None:
    assert to_mask(np.full((2, 2), 0.5, dtype=np.float32), OperatingPoint(threshold=0.5)).sum() == 0


def test_an_area_that_is_not_larger_than_the_least_is_nothing() -> None:
    assert to_mask(GRADED, OperatingPoint(threshold=0.5, min_area_fraction=0.5)).sum() == 0


def test_an_area_one_pixel_larger_than_the_least_is_drawn() -> None:
    assert to_mask(GRADED, OperatingPoint(threshold=0.3, min_area_fraction=0.5)).sum() == 3


def test_a_thousandth_of_the_challenges_pixels_are_1048() -> None:
    assert OperatingPoint(min_area_fraction=0.001).min_area_px((1024, 1024)) == 1048
    assert min_area_px(0.001, 1024 * 1024) == 1048


def test_a_mask_holds_zeros_and_ones_as_bytes() -> None:
    mask = to_mask(GRADED, OperatingPoint(threshold=0.5))
    assert mask.dtype == np.uint8
    assert set(mask.ravel().tolist()) == {0, 1}


def test_without_a_least_area_the_images_probability_is_that_of_its_brightest_pixel() -> None:
    assert image_probability(GRADED, OperatingPoint()) == pytest.approx(0.9)


def test_with_a_least_area_of_one_pixel_it_is_that_of_the_second_brightest() -> None:
    assert image_probability(GRADED, OperatingPoint(min_area_fraction=0.25)) == pytest.approx(0.6)


@given(
    probabilities=arrays(np.float32, (4, 5), elements=st.floats(0, 1, width=32)),
    threshold=st.one_of(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from([0.1, 0.2, 0.3, 0.7]),
    ),
    fraction=st.floats(0, 0.99),
)
@settings(deadline=None)
def test_the_images_probability_exceeds_the_threshold_exactly_when_the_mask_is_not_empty(
    probabilities: Any, threshold: float, fraction: float
) -> None:
    point = OperatingPoint(threshold=threshold, min_area_fraction=fraction)
    exceeds = image_probability(probabilities, point) > point.threshold
    assert exceeds == bool(to_mask(probabilities, point).any())


@pytest.mark.parametrize("threshold", [0.1, 0.2, 0.3, 0.6, 0.7])
def test_a_threshold_between_two_float32_numbers_decides_as_it_is(threshold: float) -> None:
    nearest = np.full((2, 2), threshold, dtype=np.float32)  # a little more or less than the threshold
    point = OperatingPoint(threshold=threshold)
    assert to_mask(nearest, point).any() == (float(nearest[0, 0]) > threshold)
    assert to_mask(nearest, point).any() == (image_probability(nearest, point) > threshold)


@pytest.mark.parametrize(
    "values",
    [{"threshold": -0.1}, {"threshold": 1.0}, {"threshold": float("nan")}, {"min_area_fraction": 1.0}],
)
def test_a_point_that_decides_nothing_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="operating point"):
        OperatingPoint(**values)
