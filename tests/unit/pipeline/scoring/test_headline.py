from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit
from sklearn.metrics import jaccard_score, precision_score, recall_score, roc_auc_score

from pneumoseg.pipeline.scoring.challenge import summarise
from pneumoseg.pipeline.scoring.headline import TITLES, ScoredImages, as_numbers, compare
from pneumoseg.pipeline.scoring.paired_test import p_values
from pneumoseg.pipeline.scoring.statistics import calibration_error_of

CORNERS: dict[str, Any] = {
    "groups": ["a", "b", "c", "d"],
    "pred_px": np.array([0, 5, 0, 5]),
    "true_px": np.array([0, 0, 5, 3]),
    "shared_px": np.array([0, 0, 0, 2]),
}


def value(images: ScoredImages, name: str) -> float | None:
    return images.measure(resamples=10)[name].value


def random_images(seed: int = 0, count: int = 200) -> ScoredImages:
    random = np.random.default_rng(seed)
    true = random.integers(1, 50, count) * (random.random(count) < 0.4)
    pred = random.integers(1, 50, count) * (random.random(count) < 0.5)
    shared = (np.minimum(true, pred) * random.random(count)).astype(np.int64)
    return ScoredImages(
        groups=[f"p{number % 90}" for number in range(count)],
        pred_px=pred,
        true_px=true,
        shared_px=shared,
        probabilities=random.random(count),
    )


def test_the_four_corners_by_hand() -> None:
    table: list[tuple[str, float]] = [
        ("dice", (1 + 0 + 0 + 0.5) / 4),
        ("dice_positive", 0.25),
        ("dice_both", 0.5),
        ("iou", (1 + 0 + 0 + 2 / 6) / 4),
        ("sensitivity", 0.5),
        ("specificity", 0.5),
        ("precision", 0.5),
        ("false_positive_px", 2.5),
    ]
    for name, expected in table:
        assert value(ScoredImages(**CORNERS), name) == pytest.approx(expected)


def test_the_numbers_are_those_of_the_summary_and_of_scikit_learn() -> None:
    images = random_images()
    found, score = images.measure(resamples=10), summarise(images.pred_px, images.true_px, images.shared_px)
    for name in ("dice", "dice_positive", "dice_both", "sensitivity", "specificity", "precision"):
        assert found[name].value == pytest.approx(getattr(score, name), abs=1e-12)
    true, called = images.true_px > 0, images.pred_px > 0
    assert found["sensitivity"].value == pytest.approx(recall_score(true, called))
    assert found["specificity"].value == pytest.approx(recall_score(~true, ~called))
    assert found["precision"].value == pytest.approx(precision_score(true, called))


def test_iou_is_scikit_learns() -> None:
    pred, true = np.zeros(100, np.bool_), np.zeros(100, np.bool_)
    pred[:30], true[20:70] = True, True
    images = ScoredImages(
        groups=["a"], pred_px=np.array([30]), true_px=np.array([50]), shared_px=np.array([10])
    )
    assert value(images, "iou") == pytest.approx(jaccard_score(true, pred))


def test_masks_alone_have_no_number_that_needs_probabilities() -> None:
    assert "auc" not in ScoredImages(**CORNERS).statistics
    with_all = ScoredImages(**CORNERS, probabilities=np.array([0.1, 0.9, 0.2, 0.8])).statistics
    assert {"auc", "average_precision", "image_calibration_error"} <= with_all.keys()


def test_every_number_has_a_title_and_the_order_of_the_titles() -> None:
    names = list(random_images().statistics)
    assert names == [name for name in TITLES if name in names]


def test_a_distance_is_the_mean_over_the_images_that_have_one() -> None:
    images = ScoredImages(**CORNERS, distances={"hausdorff95_mm": np.array([np.nan, np.nan, 4.0, 8.0])})
    assert value(images, "hausdorff95_mm") == 6.0
    assert images.predicting_nothing()["hausdorff95_mm"] is None


def test_predicting_nothing_has_what_empty_masks_have() -> None:
    nothing = random_images().predicting_nothing()
    share = float(np.mean(random_images().true_px == 0))
    assert (nothing["dice"], nothing["iou"]) == pytest.approx((share, share))
    assert (nothing["sensitivity"], nothing["specificity"], nothing["auc"]) == (0.0, 1.0, 0.5)
    assert nothing["precision"] is None
    # one score for all: the share of positives
    assert nothing["average_precision"] == pytest.approx(1 - share)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("calibrated", [False, True])
def test_every_interval_holds_its_value(seed: int, calibrated: bool) -> None:
    images = random_images(seed)
    if calibrated:
        images = replace(images, probabilities=np.full(len(images), np.mean(images.true_px > 0)))
    for name, found in images.measure(resamples=300).items():
        assert found.low is not None, name
        assert found.high is not None, name
        assert found.value is not None, name
        assert found.low <= found.value <= found.high, name


def test_selected_images_are_measured_alone() -> None:
    images = random_images()
    where = images.true_px > 0
    assert value(images.select(where), "dice") == pytest.approx(value(images, "dice_positive"))
    assert len(images.select(where)) == where.sum()


def test_two_models_are_compared_on_the_same_images_only() -> None:
    with pytest.raises(ValueError, match="same images"):
        compare(random_images(0), random_images(1))


def test_a_better_model_is_above_in_what_it_is_better_in() -> None:
    worse = random_images()
    better = ScoredImages(
        groups=worse.groups,
        pred_px=worse.pred_px * (worse.true_px > 0),  # without its false alarms
        true_px=worse.true_px,
        shared_px=worse.shared_px,
        probabilities=worse.probabilities,
    )
    found = compare(better, worse)
    assert found["dice"].low is not None
    assert found["dice"].low > 0
    assert found["dice"].p_value is not None
    assert found["dice"].p_value < 0.01
    assert (found["sensitivity"].value, found["sensitivity"].p_value) == (0.0, 1.0)


def test_two_models_are_tested_by_swapping_all_images_of_a_patient() -> None:
    """Three patients, and eight swaps: only the one and its mirror image differ as much in all of them."""
    first = ScoredImages(
        groups=["a", "a", "b", "c"],
        pred_px=np.array([4, 4, 4, 0]),
        true_px=np.array([4, 4, 4, 0]),
        shared_px=np.array([4, 4, 4, 0]),
        probabilities=np.array([0.9, 0.8, 0.7, 0.1]),
        distances={"surface_dice": np.array([1.0, 1.0, 1.0, np.nan])},
    )
    second = replace(
        first,
        pred_px=np.array([4, 0, 0, 5]),
        shared_px=np.array([4, 0, 0, 0]),
        probabilities=np.array([0.2, 0.8, 0.1, 0.4]),
        distances=None,
    )
    found = compare(first, second)
    assert found.keys() == first.statistics.keys() - {"surface_dice"}
    assert (found["dice"].value, found["dice"].p_value) == (0.75, 2 / 8)
    assert (found["sensitivity"].value, found["sensitivity"].p_value) == pytest.approx((2 / 3, 4 / 8))


def test_ranks_of_image_probabilities_are_swapped_since_models_may_differ_in_calibration() -> None:
    """The expected value is that of SciPy, which swaps ranks of single images."""
    random = np.random.default_rng(0)
    first = replace(random_images(count=120), groups=[f"p{number}" for number in range(120)])
    positive = first.true_px > 0
    noise = random.normal(size=(2, 120))
    first = replace(first, probabilities=expit(noise[0] + 2 * positive).round(1))
    second = replace(first, probabilities=expit(noise[1] + 0.5 * positive))
    shifted = replace(second, probabilities=expit(noise[1] + 0.5 * positive - 6))
    expected = stats.permutation_test(
        [stats.rankdata(images.probabilities) for images in (first, second)],
        lambda one, other: roc_auc_score(positive, one) - roc_auc_score(positive, other),
        permutation_type="samples",
        n_resamples=1000,
        vectorized=False,
        rng=random,
    ).pvalue
    found, moved = compare(first, second), compare(first, shifted)
    assert found["auc"].p_value == pytest.approx(expected, abs=0.025)
    assert expected < 0.05
    for name in ("auc", "average_precision"):
        assert moved[name] == found[name]
    both = np.r_[first.probabilities, shifted.probabilities]
    raw = p_values(first.groups, {"error": calibration_error_of(both, np.r_[positive, positive])})
    assert moved["image_calibration_error"].p_value == raw["error"]


def test_numbers_are_given_as_json_takes_them() -> None:
    images = ScoredImages(groups=["a"], pred_px=np.array([0]), true_px=np.array([0]), shared_px=np.array([0]))
    numbers = as_numbers(images.measure())
    assert numbers["dice"] == {"value": 1.0, "low": None, "high": None}
    assert numbers["sensitivity"]["value"] is None


def test_all_that_is_known_is_selected_together() -> None:
    images = ScoredImages(
        **CORNERS,
        probabilities=np.array([0.1, 0.9, 0.2, 0.8]),
        pixel_gaps=np.array([[1.0, -1.0], [2.0, 0.0], [0.0, 0.0], [-3.0, 0.0]]),
        pixels=np.array([10, 10, 10, 10]),
        distances={"surface_dice": np.array([np.nan, np.nan, 0.5, 1.0])},
    )
    assert value(images, "pixel_calibration_error") == pytest.approx((0 + 1) / 40)
    some = images.select(np.array([False, True, False, True]))
    assert value(some, "pixel_calibration_error") == pytest.approx(1 / 20)
    assert (value(some, "surface_dice"), value(some, "auc")) == (1.0, 0.0)
