import numpy as np
import pytest
from numpy.typing import NDArray
from tests.unit.pipeline.scoring.test_case_curves import SHAPE, Maps, curves_of, maps

from pneumoseg.pipeline.scoring.case_curves import STEPS, score_point
from pneumoseg.pipeline.scoring.search import IMAGE_THRESHOLDS, MIN_AREA_FRACTIONS, Search, image_gain
from pneumoseg.transforms.masks import OperatingPoint


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
    best = score_point(curves_of(made), Search(curves_of(made)).best_thresholds()).score.dice
    assert best == pytest.approx(max(every_score(made)))


def test_the_search_is_never_worse_than_predicting_nothing() -> None:
    noise = [
        (np.random.default_rng(n).random(SHAPE, dtype=np.float32), label)
        for n, (_, label) in enumerate(maps())
    ]
    curves = curves_of(noise)
    found = score_point(curves, Search(curves).best_thresholds()).score
    assert found.dice >= found.predict_nothing


def test_a_perfect_map_is_found_a_point_that_scores_1() -> None:
    made = [(label.astype(np.float32) * 0.4 + 0.1, label) for _, label in maps()]
    point = Search(curves_of(made)).best_thresholds()
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
    point = Search(curves).best_thresholds()
    assert 0.3 <= point.image_threshold < 0.7
    assert score_point(curves, point).score.dice == 1.0


def test_where_pixels_tell_as_well_there_is_no_image_threshold() -> None:
    made = [(label.astype(np.float32) * 0.4 + 0.1, label) for _, label in maps(8)]
    assert (
        Search(curves_of(made, [0.9 if label.any() else 0.1 for _, label in made]))
        .best_thresholds()
        .image_threshold
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
    assert (Search(curves).best_thresholds().image_threshold > 0) == expected
    assert image_gain(count) == max(0.001, 1 / count)


def test_image_thresholds_begin_with_none_and_rise_within_0_and_1() -> None:
    assert IMAGE_THRESHOLDS[0] == 0
    assert list(IMAGE_THRESHOLDS) == sorted(set(IMAGE_THRESHOLDS))
    assert IMAGE_THRESHOLDS[1] < 0.02
    assert 0.95 < IMAGE_THRESHOLDS[-1] < 1


def test_images_of_several_sizes_are_searched_together() -> None:
    small, large = np.zeros((8, 8), np.uint8), np.ones((32, 32), np.uint8)
    made = [(small.astype(np.float32), small), (large.astype(np.float32), large)]
    assert score_point(curves_of(made), Search(curves_of(made)).best_thresholds()).score.dice == 1.0


# the surface


def test_every_point_of_the_surface_is_what_the_decision_has() -> None:
    curves = curves_of(maps(12))
    for image_threshold in [0.0, 0.6]:
        found = Search(curves, levels=(image_threshold,))
        for fraction in range(len(MIN_AREA_FRACTIONS)):
            for step in range(0, STEPS, 17):
                point = OperatingPoint(
                    threshold=step / STEPS,
                    min_area_fraction=MIN_AREA_FRACTIONS[fraction],
                    image_threshold=image_threshold,
                )
                score = score_point(curves, point).score
                assert found.scores()[0, fraction, step] == pytest.approx(score.dice)
                assert found.sensitivity[0, fraction, step] == pytest.approx(score.sensitivity)
                assert found.specificity[0, fraction, step] == pytest.approx(score.specificity)


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
    found = Search(curves_of(WORKED))
    place = 0, MIN_AREA_FRACTIONS.index(fraction), int(threshold * STEPS)
    assert (found.sensitivity[place], found.specificity[place]) == (sensitivity, specificity)


def test_scores_have_a_row_for_each_area_and_a_column_for_each_threshold() -> None:
    found = Search(curves_of(maps(2)))
    shapes = {each.shape for each in (found.scores(), found.sensitivity, found.specificity)}
    assert shapes == {(len(IMAGE_THRESHOLDS), len(MIN_AREA_FRACTIONS), STEPS)}


def test_without_positives_nothing_is_known_of_sensitivity() -> None:
    found = Search(curves_of([case for case in maps() if not case[1].any()]))
    assert np.isnan(found.sensitivity).all()
    assert not np.isnan(found.specificity).any()


def test_without_negatives_nothing_is_known_of_specificity() -> None:
    found = Search(curves_of([case for case in maps() if case[1].any()]))
    assert np.isnan(found.specificity).all()
    assert not np.isnan(found.sensitivity).any()


def test_images_of_several_sizes_have_each_their_own_minimum_area() -> None:
    """5 of 64 pixels are more than 6.4 %; of 1024 they are not."""
    small, large = np.zeros((8, 8), np.float32), np.zeros((32, 32), np.float32)
    for probabilities in (small, large):
        probabilities.flat[:5] = 1
    label = [np.ones_like(each, dtype=np.uint8) for each in (small, large)]
    found = Search(curves_of([(small, label[0]), (large, label[1])]))
    assert found.sensitivity[0, MIN_AREA_FRACTIONS.index(0.064), 0] == 0.5
