import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from pneumoseg.pipeline.scoring.challenge import challenge_dice, dice_from_counts, summarise


@pytest.mark.parametrize(
    ("pred_px", "true_px", "shared_px", "dice"),
    [
        (0, 0, 0, 1.0),  # both empty
        (5, 0, 0, 0.0),  # a false alarm
        (0, 5, 0, 0.0),  # a miss
        (5, 3, 2, 0.5),  # 2 * 2 / (5 + 3)
        (5, 3, 0, 0.0),  # beside each other
        (5, 5, 5, 1.0),
    ],
)
def test_dice_at_the_four_corners_of_empty_and_not(
    pred_px: int, true_px: int, shared_px: int, dice: float
) -> None:
    assert dice_from_counts(pred_px, true_px, shared_px) == dice


def test_dice_is_computed_for_whole_tables_of_counts() -> None:
    pred, true, shared = np.array([[0, 5], [4, 4]]), np.array([[0], [4]]), np.array([[0, 0], [4, 2]])
    assert dice_from_counts(pred, true, shared).tolist() == [[1.0, 0.0], [1.0, 0.5]]


def test_small_integer_types_do_not_overflow() -> None:
    counts = np.array([200], dtype=np.uint8)
    assert dice_from_counts(counts, counts, counts).tolist() == [1.0]


def test_the_parts_of_a_score_worked_by_hand() -> None:
    # two negatives, one called positive; three positives: Dice 0.5, Dice 1.0, missed
    score = summarise([0, 7, 5, 4, 0], [0, 0, 3, 4, 9], [0, 0, 2, 4, 0])
    assert score.dice == pytest.approx((1 + 0 + 0.5 + 1 + 0) / 5)
    assert score.predict_nothing == pytest.approx(2 / 5)
    assert score.dice_positive == pytest.approx(1.5 / 3)
    assert score.dice_both == pytest.approx(1.5 / 2)
    assert score.sensitivity == pytest.approx(2 / 3)
    assert score.specificity == pytest.approx(1 / 2)
    assert score.precision == pytest.approx(2 / 3)
    assert (score.images, score.positives, score.predicted_positive, score.found) == (5, 3, 3, 2)


def test_parts_that_no_image_counts_for_are_none() -> None:
    negatives, positives = summarise([0, 0], [0, 0], [0, 0]), summarise([0], [3], [0])
    assert (negatives.dice_positive, negatives.sensitivity, negatives.precision) == (None, None, None)
    assert (positives.specificity, positives.dice_both) == (None, None)


def test_predicting_nothing_scores_the_share_of_negatives() -> None:
    true = [0] * 751 + [9] * 219
    score = summarise([0] * 970, true, [0] * 970)
    assert score.dice == score.predict_nothing == pytest.approx(751 / 970)


def test_a_score_goes_into_json_by_name() -> None:
    score = summarise([0], [0], [0])
    assert json.loads(json.dumps(score.as_dict(), allow_nan=False)) == dataclasses.asdict(score)


def test_no_image_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="no image to score"):
        summarise([], [], [])


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(arrays(np.bool_, 12), arrays(np.bool_, 12))
def test_dice_is_scikit_learns_f1_of_the_pixels(pred: NDArray[np.bool_], true: NDArray[np.bool_]) -> None:
    expected = f1_score(true, pred, zero_division=1.0)  # its value where both are empty
    assert dice_from_counts(pred.sum(), true.sum(), (pred & true).sum()) == pytest.approx(expected, abs=1e-12)


def test_the_dice_of_masks_has_the_challenges_rule_for_empty_ones() -> None:
    empty, half, full = np.zeros((2, 2)), np.array([[1, 1], [0, 0]]), np.ones((2, 2))
    pred, truth = np.stack([empty, empty, half, half]), np.stack([empty, half, half, full])
    np.testing.assert_allclose(challenge_dice(pred, truth), [1, 0, 1, 2 * 2 / (2 + 4)])
    assert challenge_dice(half.astype(bool), full).shape == ()


def test_masks_of_different_shapes_have_no_dice() -> None:
    with pytest.raises(ValueError, match="need one shape"):
        challenge_dice(np.zeros((2, 2)), np.zeros((2, 3)))


@pytest.mark.parametrize("wrong", [[[0.2, 0.9]], [[1.0, np.nan]]])
def test_probabilities_are_not_mistaken_for_masks(wrong: list[list[float]]) -> None:
    mask = np.ones((1, 2))
    for pair in ((wrong, mask), (mask, wrong)):
        with pytest.raises(ValueError, match="probabilities need a threshold first"):
            challenge_dice(*pair)
    assert challenge_dice(np.array([[0.0, 255.0]]), mask) == pytest.approx(2 / 3)  # 2 * 1 / (1 + 2)
