import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pneumoseg.transforms.masks import OperatingPoint, accepts_image, min_area_px, to_mask

GRADED = np.array([[0.1, 0.4], [0.6, 0.9]], dtype=np.float32)


def test_pixels_above_the_threshold_are_the_mask() -> None:
    np.testing.assert_array_equal(to_mask(GRADED, OperatingPoint(threshold=0.5), 0.5), [[0, 0], [1, 1]])


def test_a_pixel_at_the_threshold_is_not_in_the_mask() -> None:
    assert to_mask(np.full((2, 2), 0.5, dtype=np.float32), OperatingPoint(threshold=0.5), 0.5).sum() == 0


def test_an_area_that_is_not_larger_than_the_least_is_nothing() -> None:
    assert to_mask(GRADED, OperatingPoint(threshold=0.5, min_area_fraction=0.5), 0.5).sum() == 0


def test_an_area_one_pixel_larger_than_the_least_is_drawn() -> None:
    assert to_mask(GRADED, OperatingPoint(threshold=0.3, min_area_fraction=0.5), 0.5).sum() == 3


def test_a_thousandth_of_the_challenges_pixels_are_1048() -> None:
    assert min_area_px(0.001, 1024 * 1024) == 1048


def test_a_mask_holds_zeros_and_ones_as_bytes() -> None:
    mask = to_mask(GRADED, OperatingPoint(threshold=0.5), 0.5)
    assert mask.dtype == np.uint8
    assert set(mask.ravel().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("image_probability", "image_threshold", "pixels"),
    [(0.7, 0.6, 2), (0.6, 0.6, 0), (0.5, 0.6, 0), (0.0, 0.0, 2), (1.0, 0.999, 2)],
)
def test_an_image_is_empty_unless_its_probability_exceeds_the_image_threshold(
    image_probability: float, image_threshold: float, pixels: int
) -> None:
    """At an image threshold of 0 there is no criterion: even a probability of 0 keeps the mask."""
    point = OperatingPoint(threshold=0.5, image_threshold=image_threshold)
    assert to_mask(GRADED, point, image_probability).sum() == pixels


def test_an_image_probability_does_not_make_a_mask_of_too_few_pixels() -> None:
    point = OperatingPoint(threshold=0.5, min_area_fraction=0.5, image_threshold=0.1)
    assert to_mask(GRADED, point, 1.0).sum() == 0


def test_many_image_probabilities_are_compared_with_many_thresholds() -> None:
    found = accepts_image(np.array([0.0, 0.2, 0.5])[:, None], [0.0, 0.2])
    assert found.tolist() == [[True, False], [True, False], [True, True]]


@given(
    probabilities=arrays(np.float32, (4, 5), elements=st.floats(0, 1, width=32)),
    threshold=st.one_of(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from([0.1, 0.2, 0.3, 0.7]),
    ),
    fraction=st.floats(0, 0.99),
    image_probability=st.floats(0, 1),
    image_threshold=st.floats(0, 0.99),
)
@settings(deadline=None)
def test_a_mask_has_pixels_exactly_when_area_and_image_probability_say_so(
    probabilities: Any, threshold: float, fraction: float, image_probability: float, image_threshold: float
) -> None:
    point = OperatingPoint(threshold=threshold, min_area_fraction=fraction, image_threshold=image_threshold)
    exceeding = sum(float(value) > threshold for value in probabilities.ravel())
    expected = exceeding > math.floor(fraction * 20) and (
        image_threshold == 0 or image_probability > image_threshold
    )
    assert bool(to_mask(probabilities, point, image_probability).any()) == expected


@pytest.mark.parametrize("threshold", [0.1, 0.2, 0.3, 0.6, 0.7])
def test_a_threshold_between_two_float32_numbers_decides_as_it_is(threshold: float) -> None:
    nearest = np.full((2, 2), threshold, dtype=np.float32)  # a little more or less than the threshold
    point = OperatingPoint(threshold=threshold)
    assert to_mask(nearest, point, 0.5).any() == (float(nearest[0, 0]) > threshold)


def test_a_point_that_decides_nothing_is_refused() -> None:
    table: list[Any] = [
        {"threshold": -0.1},
        {"threshold": 1.0},
        {"threshold": float("nan")},
        {"min_area_fraction": 1.0},
        {"threshold": 0.5, "segmentation_threshold": 0.6},
        {"threshold": 0.5, "segmentation_threshold": -0.1},
        {"threshold": 0.5, "segmentation_threshold": float("nan")},
        {"image_threshold": 1.0},
    ]
    for values in table:
        with pytest.raises(ValueError, match="operating point"):
            OperatingPoint(**values)


# the segmentation threshold


def test_pixels_above_the_segmentation_threshold_are_drawn_where_enough_exceed_the_top() -> None:
    point = OperatingPoint(threshold=0.8, segmentation_threshold=0.3)
    np.testing.assert_array_equal(to_mask(GRADED, point, 0.5), [[0, 1], [1, 1]])
    assert to_mask(GRADED, OperatingPoint(threshold=0.95, segmentation_threshold=0.3), 0.5).sum() == 0


def test_a_segmentation_threshold_at_the_top_is_the_top() -> None:
    apart = OperatingPoint(threshold=0.5, segmentation_threshold=0.5, min_area_fraction=0.25)
    together = OperatingPoint(threshold=0.5, min_area_fraction=0.25)
    np.testing.assert_array_equal(to_mask(GRADED, apart, 0.5), to_mask(GRADED, together, 0.5))


@given(
    probabilities=arrays(np.float32, (6, 7), elements=st.floats(0, 1, width=32)),
    top=st.floats(0, 0.9),
    bottom=st.floats(0, 1),
)
@settings(deadline=None)
def test_a_mask_is_empty_exactly_when_the_image_is_predicted_negative(
    probabilities: Any, top: float, bottom: float
) -> None:
    point = OperatingPoint(
        threshold=top,
        segmentation_threshold=top * bottom,
        min_area_fraction=0.05,
    )
    enough = np.count_nonzero(probabilities > np.float64(top)) > 2  # 5 % of 42 pixels
    assert to_mask(probabilities, point, 0.5).any() == enough
