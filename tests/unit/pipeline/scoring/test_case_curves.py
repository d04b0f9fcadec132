from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import DiceMetric
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from pneumoseg.pipeline.scoring.case_curves import (
    IMAGE_THRESHOLDS,
    MIN_AREA_FRACTIONS,
    STEPS,
    CaseCurves,
    image_gain,
    image_probabilities,
    score_point,
    search_thresholds,
    surface,
)
from pneumoseg.transforms.masks import OperatingPoint, to_mask

SHAPE = (24, 20)
Maps = list[tuple[NDArray[np.float32], NDArray[np.uint8]]]


def maps(count: int = 8, seed: int = 0) -> Maps:
    """Probability maps and labels; every other label is empty, every third map has no high value."""
    generator = np.random.default_rng(seed)
    made = []
    for number in range(count):
        label = np.zeros(SHAPE, dtype=np.uint8)
        if number % 2:
            label[5:15, 4 : 6 + number] = 1
        probabilities = generator.random(SHAPE, dtype=np.float32) ** 2 * (0.3 if number % 3 == 0 else 0.8)
        probabilities += 0.2 * label * (number % 4 == 1)
        made.append((probabilities, label))
    return made


def curves_of(made: Maps, image_probabilities: Sequence[float] | None = None) -> list[CaseCurves]:
    """Curves of maps whose image probability, unless it is given, is that of the brightest pixel."""
    given = image_probabilities or brightest(made)
    return [
        CaseCurves.measure(
            torch.from_numpy(probabilities),
            torch.from_numpy(label),
            index=index,
            image_probability=given[index],
        )
        for index, (probabilities, label) in enumerate(made)
    ]


def brightest(made: Maps) -> list[float]:
    return [float(probabilities.max()) for probabilities, _ in made]


def masks_of(made: Maps, point: OperatingPoint) -> list[NDArray[np.uint8]]:
    return [to_mask(probabilities, point, float(probabilities.max())) for probabilities, _ in made]


def brute_force_dice(made: Maps, point: OperatingPoint) -> list[float]:
    """By MONAI, on the masks themselves, whose own rule is 1 where both are empty with ignore_empty=False."""
    metric = DiceMetric(include_background=True, ignore_empty=False, reduction="none")
    pred = torch.stack([torch.from_numpy(mask) for mask in masks_of(made, point)])
    label = torch.stack([torch.from_numpy(label) for _, label in made])
    dices = torch.as_tensor(metric(pred[:, None].float(), label[:, None].float()))
    return [float(value) for value in dices.flatten()]


@given(
    probabilities=arrays(
        np.float32,
        SHAPE,
        elements=st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.5, 0.25, 1.0, 0.0])),
    )
)
@settings(deadline=None, max_examples=30)
def test_the_curves_are_those_of_thresholding_the_map_to_the_pixel(probabilities: Any) -> None:
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[3:9, 7:19] = 1
    curves = CaseCurves.measure(
        torch.from_numpy(probabilities), torch.from_numpy(label), index=0, image_probability=0.5
    )
    for step in range(STEPS):
        mask = to_mask(probabilities, OperatingPoint(threshold=step / STEPS), 0.5)
        assert curves.area[step] == np.count_nonzero(mask)
        assert curves.overlap[step] == np.count_nonzero(mask & label)


def test_a_probability_at_a_threshold_does_not_exceed_it() -> None:
    curves = CaseCurves.measure(torch.full((2, 2), 0.5), torch.ones(2, 2), index=0, image_probability=0.5)
    assert (curves.area[127], curves.area[128]) == (4, 0)


def test_a_case_keeps_its_place_its_label_and_its_size() -> None:
    label = torch.zeros(SHAPE)
    label[:2, :3] = 1
    curves = CaseCurves.measure(torch.rand(SHAPE), label, index=17, image_probability=0.5)
    assert (curves.index, curves.label_area, curves.pixels) == (17, 6, 24 * 20)
    assert curves.image_probability == 0.5


def test_a_rounding_error_above_1_is_the_highest_level() -> None:
    curves = CaseCurves.measure(
        torch.full((2, 2), 1.0000001), torch.ones(2, 2), index=0, image_probability=0.5
    )
    assert curves.area.tolist() == [4] * STEPS


def test_every_score_is_that_of_the_masks_by_monai() -> None:
    for fraction in [0.0, 0.002, 0.05]:
        for threshold in [0.0, 0.25, 0.5, 0.75, 255 / 256]:
            point, made = OperatingPoint(threshold=threshold, min_area_fraction=fraction), maps()
            found = score_point(curves_of(made), point)
            assert found.dices.tolist() == pytest.approx(brute_force_dice(made, point))
            assert found.score.dice == pytest.approx(np.mean(brute_force_dice(made, point)))
            assert found.areas.tolist() == [int(mask.sum()) for mask in masks_of(made, point)]


@pytest.mark.parametrize("bottom", [0.0, 0.25, 0.5])
def test_every_score_with_a_segmentation_threshold_is_that_of_the_masks_by_monai(bottom: float) -> None:
    point, made = (
        OperatingPoint(threshold=0.625, min_area_fraction=0.05, segmentation_threshold=bottom),
        maps(),
    )
    found = score_point(curves_of(made), point)
    assert found.dices.tolist() == pytest.approx(brute_force_dice(made, point))
    assert found.areas.tolist() == [int(mask.sum()) for mask in masks_of(made, point)]


@pytest.mark.parametrize("image_threshold", [0.0, 0.25, 0.6, 0.999])
def test_every_score_with_an_image_threshold_is_that_of_the_masks_by_monai(image_threshold: float) -> None:
    point, made = OperatingPoint(threshold=0.1875, image_threshold=image_threshold), maps(12)
    found = score_point(curves_of(made), point)
    assert found.dices.tolist() == pytest.approx(brute_force_dice(made, point))
    assert found.score.predicted_positive == sum(bool(mask.any()) for mask in masks_of(made, point))


def test_the_area_under_the_curve_is_scikit_learns_on_the_image_probabilities() -> None:
    made = maps(20)
    given = np.random.default_rng(1).random(20).tolist()
    found = score_point(curves_of(made, given), OperatingPoint())
    assert found.auc == pytest.approx(roc_auc_score([label.any() for _, label in made], given))
    assert image_probabilities(curves_of(made, given)).tolist() == given


def test_the_area_under_the_curve_does_not_depend_on_the_operating_point() -> None:
    curves = curves_of(maps(20))
    points = [
        OperatingPoint(),
        OperatingPoint(threshold=0.1, min_area_fraction=0.05),
        OperatingPoint(threshold=0.3, image_threshold=0.5),
    ]
    assert len({score_point(curves, point).auc for point in points}) == 1


@pytest.mark.parametrize("kind", [0, 1])
def test_images_of_one_kind_have_no_area_under_the_curve(kind: int) -> None:
    assert (
        score_point(curves_of([case for case in maps(8) if case[1].any() == kind]), OperatingPoint()).auc
        is None
    )


@pytest.mark.parametrize(("pred", "truth", "expected"), [(0, 0, 1.0), (0, 1, 0.0), (1, 0, 0.0), (1, 1, 1.0)])
def test_dice_at_the_four_corners(pred: int, truth: int, expected: float) -> None:
    curves = CaseCurves.measure(
        torch.full((4, 4), float(pred)), torch.full((4, 4), truth), index=0, image_probability=0.5
    )
    assert score_point([curves], OperatingPoint()).dices.tolist() == [expected]


def every_score(made: Maps) -> list[float]:
    """Mean Dice of all points that a search can find, from the maps themselves."""
    scores = []
    for step in range(STEPS):
        counts = [
            (
                np.count_nonzero(mask := p > step / STEPS),
                np.count_nonzero(label),
                np.count_nonzero(mask & label),
            )
            for p, label in made
        ]
        for fraction in MIN_AREA_FRACTIONS:
            dices = []
            for area, truth, shared in counts:
                called, both = (area, shared) if area > int(fraction * 24 * 20) else (0, 0)
                dices.append(2 * both / (called + truth) if called + truth else 1.0)
            scores.append(sum(dices) / len(dices))
    return scores


@pytest.mark.parametrize("seed", range(4))
def test_the_search_finds_the_best_of_all_points(seed: int) -> None:
    made = maps(6, seed)
    best = score_point(curves_of(made), search_thresholds(curves_of(made))).score.dice
    assert best == pytest.approx(max(every_score(made)))


def test_the_search_is_never_worse_than_predicting_nothing() -> None:
    noise = [
        (np.random.default_rng(n).random(SHAPE, dtype=np.float32), label)
        for n, (_, label) in enumerate(maps())
    ]
    curves = curves_of(noise)
    found = score_point(curves, search_thresholds(curves)).score
    assert found.dice >= found.predict_nothing


def test_a_perfect_map_is_found_a_point_that_scores_1() -> None:
    made = [(label.astype(np.float32) * 0.4 + 0.1, label) for _, label in maps()]
    point = search_thresholds(curves_of(made))
    assert 0.1 <= point.threshold < 0.5
    assert score_point(curves_of(made), point).score.dice == 1.0


def bright_everywhere(positive: bool) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A map that looks the same whether there is a label in it or not."""
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[5:15, 4:12] = positive
    probabilities = np.full(SHAPE, 0.1, dtype=np.float32)
    probabilities[5:15, 4:12] = 0.9
    return probabilities, label


def test_pixels_that_do_not_tell_and_image_probabilities_that_do_give_an_image_threshold() -> None:
    made = [bright_everywhere(positive=number % 3 == 0) for number in range(30)]
    curves = curves_of(made, [0.7 if label.any() else 0.3 for _, label in made])
    point = search_thresholds(curves)
    assert 0.3 <= point.image_threshold < 0.7
    assert score_point(curves, point).score.dice == 1.0


def test_where_pixels_tell_as_well_there_is_no_image_threshold() -> None:
    made = [(label.astype(np.float32) * 0.4 + 0.1, label) for _, label in maps(8)]
    assert (
        search_thresholds(curves_of(made, [0.9 if label.any() else 0.1 for _, label in made])).image_threshold
        == 0
    )


@pytest.mark.parametrize(("count", "wrong", "expected"), [(2000, 1, False), (200, 1, False), (200, 2, True)])
def test_an_image_threshold_that_gains_one_image_or_less_than_a_thousandth_is_left_out(
    count: int, wrong: int, expected: bool
) -> None:
    """It makes a few images right that look like positives."""
    labels = [number % 2 == 0 for number in range(count)]
    made = [flat(0.75 if positive else 0.0, pixels=100, positive=positive) for positive in labels]
    for number in range(wrong):
        made[2 * number + 1] = flat(0.75, pixels=100, positive=False)
    curves = curves_of(made, [0.9 if positive else 0.1 for positive in labels])
    assert (search_thresholds(curves).image_threshold > 0) == expected
    assert image_gain(count) == max(0.001, 1 / count)


def test_image_thresholds_begin_with_none_and_rise_within_0_and_1() -> None:
    assert IMAGE_THRESHOLDS[0] == 0
    assert list(IMAGE_THRESHOLDS) == sorted(set(IMAGE_THRESHOLDS))
    assert IMAGE_THRESHOLDS[1] < 0.02
    assert 0.95 < IMAGE_THRESHOLDS[-1] < 1


def test_images_of_several_sizes_are_searched_together() -> None:
    small, large = np.zeros((8, 8), np.uint8), np.ones((32, 32), np.uint8)
    made = [(small.astype(np.float32), small), (large.astype(np.float32), large)]
    assert score_point(curves_of(made), search_thresholds(curves_of(made))).score.dice == 1.0


# the surface


def test_every_point_of_the_surface_is_what_the_decision_has() -> None:
    curves = curves_of(maps(12))
    for image_threshold in [0.0, 0.6]:
        found = surface(curves, image_threshold=image_threshold)
        for fraction in range(len(MIN_AREA_FRACTIONS)):
            for step in range(0, STEPS, 17):
                point = OperatingPoint(
                    threshold=step / STEPS,
                    min_area_fraction=MIN_AREA_FRACTIONS[fraction],
                    image_threshold=image_threshold,
                )
                score = score_point(curves, point).score
                assert found.dice[fraction, step] == pytest.approx(score.dice)
                assert found.sensitivity[fraction, step] == pytest.approx(score.sensitivity)
                assert found.specificity[fraction, step] == pytest.approx(score.specificity)


def flat(value: float, *, pixels: int, positive: bool) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A map of 480 pixels, of which the first hold *value* and are the label of a positive."""
    probabilities = np.zeros(SHAPE, dtype=np.float32)
    probabilities.flat[:pixels] = value
    label = np.zeros(SHAPE, dtype=np.uint8)
    label.flat[:pixels] = positive
    return probabilities, label


WORKED = [
    flat(0.75, pixels=100, positive=True),
    flat(0.25, pixels=10, positive=True),
    flat(0.5, pixels=20, positive=False),
    flat(0.125, pixels=1, positive=False),
]


@pytest.mark.parametrize(
    ("threshold", "fraction", "sensitivity", "specificity"),
    [
        (0.0, 0.0, 1.0, 0.0),  # any pixel above 0 calls
        (0.125, 0.0, 1.0, 0.5),  # 0.125 does not exceed itself
        (0.25, 0.0, 0.5, 0.5),
        (0.5, 0.0, 0.5, 1.0),
        (0.75, 0.0, 0.0, 1.0),
        (0.0, 0.024, 0.5, 0.5),  # more than 11 pixels: those with 100 and with 20
        (0.0, 0.048, 0.5, 1.0),  # more than 23 pixels
    ],
)
def test_sensitivity_and_specificity_are_those_worked_by_hand(
    threshold: float, fraction: float, sensitivity: float, specificity: float
) -> None:
    found = surface(curves_of(WORKED))
    place = MIN_AREA_FRACTIONS.index(fraction), int(threshold * STEPS)
    assert (found.sensitivity[place], found.specificity[place]) == (sensitivity, specificity)


def test_the_surface_has_a_row_for_each_area_and_a_column_for_each_threshold() -> None:
    found = surface(curves_of(maps(2)))
    shapes = {each.shape for each in (found.dice, found.sensitivity, found.specificity)}
    assert shapes == {(len(MIN_AREA_FRACTIONS), STEPS)}


def test_without_positives_nothing_is_known_of_sensitivity() -> None:
    found = surface(curves_of([case for case in maps() if not case[1].any()]))
    assert np.isnan(found.sensitivity).all()
    assert not np.isnan(found.specificity).any()


def test_without_negatives_nothing_is_known_of_specificity() -> None:
    found = surface(curves_of([case for case in maps() if case[1].any()]))
    assert np.isnan(found.specificity).all()
    assert not np.isnan(found.sensitivity).any()


def test_images_of_several_sizes_have_each_their_own_minimum_area() -> None:
    """5 of 64 pixels are more than 6.4 %; of 1024 they are not."""
    small, large = np.zeros((8, 8), np.float32), np.zeros((32, 32), np.float32)
    for probabilities in (small, large):
        probabilities.flat[:5] = 1
    label = [np.ones_like(each, dtype=np.uint8) for each in (small, large)]
    found = surface(curves_of([(small, label[0]), (large, label[1])]))
    assert found.sensitivity[MIN_AREA_FRACTIONS.index(0.064), 0] == 0.5
