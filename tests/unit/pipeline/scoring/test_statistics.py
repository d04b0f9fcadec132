from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, roc_auc_score

from pneumoseg.pipeline.scoring.statistics import (
    auc_of,
    average_precision_of,
    calibration_error_of,
    difference_of,
    mean_of,
    value_of,
)

COUNT = 40
POSITIVE = np.arange(COUNT) % 3 == 0
TIED = st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0])  # many of the same value
some_scores = arrays(np.float64, COUNT, elements=st.one_of(TIED, st.floats(0, 1)))
some_weights = arrays(np.int64, (3, COUNT), elements=st.integers(0, 4))


@given(scores=some_scores)
@settings(deadline=None)
def test_the_area_under_the_curve_is_scikit_learns_with_ties(scores: Any) -> None:
    assert value_of(auc_of(scores, POSITIVE), COUNT) == pytest.approx(
        roc_auc_score(POSITIVE, scores), abs=1e-12
    )


@given(scores=some_scores)
@settings(deadline=None)
def test_average_precision_is_scikit_learns_with_ties(scores: Any) -> None:
    expected = average_precision_score(POSITIVE, scores)
    assert value_of(average_precision_of(scores, POSITIVE), COUNT) == pytest.approx(expected, abs=1e-12)


@given(scores=some_scores, weights=some_weights)
@settings(deadline=None, max_examples=50)
def test_a_weight_is_as_good_as_a_repetition(scores: Any, weights: Any) -> None:
    weights[:, [0, 1]] += 1  # of both kinds
    for make, expected in ((auc_of, roc_auc_score), (average_precision_of, average_precision_score)):
        found = make(scores, POSITIVE).compute(weights.astype(np.float64))
        repeated = [expected(np.repeat(POSITIVE, row), np.repeat(scores, row)) for row in weights]
        np.testing.assert_allclose(found, repeated, rtol=0, atol=1e-12)


def test_the_mean_is_over_the_images_that_count_for_it() -> None:
    statistic = mean_of([1.0, 2.0, 6.0], [True, False, True])
    assert statistic.compute(np.array([[1.0, 5.0, 1.0], [3.0, 0.0, 1.0]])).tolist() == [3.5, 2.25]


def test_where_no_image_counts_there_is_no_value() -> None:
    assert value_of(mean_of([1.0, 2.0], [False, False]), 2) is None
    assert value_of(auc_of([0.1, 0.2], [True, True]), 2) is None
    assert value_of(average_precision_of([0.1, 0.2], [False, False]), 2) is None


def test_an_image_without_a_number_is_no_harm_where_it_does_not_count() -> None:
    assert value_of(mean_of([1.0, np.nan], [True, False]), 2) == 1.0


@pytest.mark.parametrize("bins", [5, 10])
def test_the_calibration_error_is_that_of_scikit_learns_bins(bins: int) -> None:
    probabilities = np.random.default_rng(0).random(500)
    positive = np.random.default_rng(1).random(500) < probabilities**2
    share, confidence = calibration_curve(positive, probabilities, n_bins=bins)
    sizes = np.histogram(probabilities, bins=bins, range=(0, 1))[0]
    expected = float(np.abs(share - confidence) @ sizes[sizes > 0] / 500)
    found = value_of(calibration_error_of(probabilities, positive, bins=bins), 500)
    assert found == pytest.approx(expected, abs=1e-12)


def test_the_calibration_error_by_hand() -> None:
    # bin (0.2, 0.3]: mean 0.25, no positive; bin (0.8, 0.9]: mean 0.9, half are positive
    assert value_of(calibration_error_of([0.25, 0.25, 0.9, 0.9], [0, 0, 0, 1]), 4) == pytest.approx(
        (2 * 0.25 + 2 * 0.4) / 4
    )


def test_a_difference_is_of_the_same_images() -> None:
    statistic = difference_of(mean_of([1.0, 0.0]), mean_of([0.0, 1.0]))
    assert statistic.compute(np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 1.0]])).tolist() == [0.0, 1.0, -1.0]
