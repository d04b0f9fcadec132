from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from tests.unit.pipeline.scoring.search_cases import (
    SIDE,
    Drawn,
    blobs,
    brute_force_dice,
    graded,
    is_accepted,
    make_search_case,
    search_of,
)

from pneumoseg.pipeline.scoring.case_curves import STEPS, score_point
from pneumoseg.pipeline.scoring.cross_fitting import cross_fit
from pneumoseg.pipeline.scoring.search import (
    IMAGE_THRESHOLDS,
    MIN_AREA_FRACTIONS,
    Objective,
    image_gain,
)
from pneumoseg.transforms.masks import OperatingPoint, to_mask


def point_of(top: int, area: float, bottom: int) -> OperatingPoint:
    return OperatingPoint(
        threshold=top / STEPS, min_area_fraction=area, segmentation_threshold=bottom / STEPS
    )


SOME_POINTS = [point_of(top, area, bottom) for top, bottom, area in product((30, 110), (10, 30), (0.0, 0.02))]


@pytest.mark.parametrize("seed", range(3))
def test_the_masks_of_a_point_are_those_that_were_searched(seed: int) -> None:
    for case, point in product(blobs(4, seed=seed), SOME_POINTS):
        mask = to_mask((case.levels.astype(np.float64) / 255).astype(np.float32), point, 0.5) > 0
        total = int(mask.sum()) + int(case.label.sum())
        dice = 2 * int((mask & case.label).sum()) / total if total else 1.0
        assert dice == pytest.approx(brute_force_dice(case, point))
        assert score_point([case.curves], point).dices == pytest.approx([dice])


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_best_is_that_of_brute_force_over_all_thresholds_and_areas(seed: int) -> None:
    cases = blobs(4, seed=seed, side=16)
    found = search_of(cases).best()
    best = 0.0
    for top in range(0, STEPS, 1):
        called = [(case.levels > top * 255 / 256).sum() for case in cases]
        for area in {int(fraction * 256) for fraction in MIN_AREA_FRACTIONS}:
            for bottom in range(0, top + 1, 1) if top % 8 == 7 else (top,):
                dices = []
                for case, count in zip(cases, called, strict=True):
                    mask = (case.levels > bottom * 255 / 256) & (count > area)
                    total = int(mask.sum()) + int(case.label.sum())
                    dices.append(2 * int((mask & case.label).sum()) / total if total else 1.0)
                best = max(best, sum(dices) / len(dices))
    assert found.dice >= best - 1e-12
    assert found.dice == pytest.approx(np.mean([brute_force_dice(case, found.point) for case in cases]))


def block(level: int, *, positive: bool) -> Drawn:
    """A map of one block; with a label exactly there, or without one."""
    inside = np.zeros((SIDE, SIDE), dtype=np.bool_)
    inside[5:15, 5:15] = True
    return make_search_case(np.where(inside, level, 0).astype(np.uint8), inside & positive)


def test_the_steadiest_point_is_amid_the_thresholds_that_score_alike() -> None:
    """From 100 to 200 every threshold is right; the best of equals is the lowest, which the next patient may miss."""
    search = search_of([block(100, positive=False), block(200, positive=True)] * 5)
    assert search.best().dice == search.steadiest().dice == 1.0
    assert search.best().point.threshold < 102 / 256
    assert 125 / 256 < search.steadiest().point.threshold < 175 / 256


def test_the_steadiest_point_predicts_something_where_that_scores_more_than_nothing() -> None:
    """Predicting nothing is right for nine of ten at all thresholds from 109 on, and a narrow ridge for all."""
    search = search_of([block(100, positive=False)] * 9 + [block(108, positive=True)])
    assert search.steadiest().dice == 1.0


def test_the_steadiest_point_is_the_best_where_none_is_better_than_predicting_nothing() -> None:
    search = search_of([block(100, positive=False)] * 9 + [block(90, positive=True)])
    assert search.steadiest() == search.best()


def test_what_gains_nothing_is_left_out() -> None:
    label = np.zeros((SIDE, SIDE), dtype=np.bool_)
    label[10:30, 10:30] = True
    point = search_of([make_search_case(np.where(label, 200, 10).astype(np.uint8), label)]).best().point
    assert point == OperatingPoint(threshold=11 / 256, min_area_fraction=0.0)


# the image threshold


def with_heads(cases: list[Drawn], probabilities: Sequence[float]) -> list[Drawn]:
    """The same cases with other image probabilities."""
    return [
        replace(case, curves=replace(case.curves, image_probability=probability))
        for case, probability in zip(cases, probabilities, strict=True)
    ]


def blind_to_images(count: int = 40) -> list[Drawn]:
    """Maps with a block where the label would be, whether there is one or not, and an image probability that tells."""
    cases = []
    for number in range(count):
        label, levels = np.zeros((8, 8), dtype=np.bool_), np.full((8, 8), 10, dtype=np.uint8)
        label[2:5, 2:5] = number % 4 == 0
        levels[2:5, 2:5] = 200
        probability = 0.8 if number % 4 == 0 else 0.2
        cases.append(make_search_case(levels, label, f"p{number}", image_probability=probability))
    return cases


@pytest.mark.parametrize("objective", ["challenge", "specificity", "screening"])
def test_where_pixels_do_not_tell_and_the_head_does_the_head_decides(objective: Objective) -> None:
    found = search_of(blind_to_images()).best(objective)
    assert 0.2 <= found.point.image_threshold < 0.8
    assert (found.dice, found.sensitivity, found.specificity) == (1.0, 1.0, 1.0)


def test_a_head_that_decides_also_decides_for_patients_that_were_not_searched_on() -> None:
    cases = blind_to_images()
    fitted = cross_fit([case.curves for case in cases], [case.group for case in cases])
    assert fitted is not None
    assert fitted.dice == 1.0
    assert all(0.2 <= point.image_threshold < 0.8 for point in fitted.points)


@pytest.mark.parametrize("objective", ["challenge", "specificity", "screening"])
def test_a_head_that_tells_no_more_than_the_pixels_is_left_out(objective: Objective) -> None:
    cases = graded()
    found = search_of(cases).best(objective)
    brightest = search_of(with_heads(cases, [case.levels.max() / 255 for case in cases])).best(objective)
    assert brightest.point == found.point
    assert found.point.image_threshold == 0


@pytest.mark.parametrize("seed", range(3))
def test_the_best_with_an_image_threshold_is_that_of_brute_force(seed: int) -> None:
    """But for what the image threshold has to add, on a grid of segmentation thresholds that the search looks at."""
    random = np.random.default_rng(seed)
    cases = with_heads(
        blobs(12, seed=seed, side=16), [0.4 * (number % 2) + 0.6 * random.random() for number in range(12)]
    )
    found = search_of(cases).best()
    best = max(
        float(np.mean([brute_force_dice(case, point) for case in cases]))
        for top, bottom, area, level in product(
            range(0, STEPS, 32), range(0, STEPS, 32), (0.0, 0.032), IMAGE_THRESHOLDS
        )
        if bottom <= top
        for point in [replace(point_of(top, area, bottom), image_threshold=level)]
    )
    assert found.dice >= best - image_gain(12) - 1e-12
    assert found.dice == pytest.approx(np.mean([brute_force_dice(case, found.point) for case in cases]))
    assert score_point([case.curves for case in cases], found.point).score.dice == pytest.approx(found.dice)


def test_an_image_threshold_has_to_gain_more_than_one_image() -> None:
    """A bright negative that the head alone knows: one gains as much as one image, two gain twice as much."""
    label = np.zeros((8, 8), dtype=np.bool_)
    label[2:5, 2:5] = True
    bright, dark = np.where(label, 200, 10).astype(np.uint8), np.full((8, 8), 10, dtype=np.uint8)
    for count, expected in ((1, False), (2, True)):
        cases = [make_search_case(bright, label, image_probability=0.8)] * 10
        cases += [make_search_case(bright, np.zeros_like(label), image_probability=0.2)] * count
        cases += [make_search_case(dark, np.zeros_like(label), image_probability=0.2)] * (10 - count)
        assert (search_of(cases).best().point.image_threshold > 0) == expected


def test_the_curve_keeps_the_image_threshold_of_the_point() -> None:
    cases = blind_to_images()
    search = search_of(cases)
    point = search.best().point
    for row in search.curve(point)[::9]:
        assert row.point.image_threshold == point.image_threshold
        assert (row.sensitivity, row.specificity) == pytest.approx(calls(cases, row.point))
        assert row.dice == pytest.approx(np.mean([brute_force_dice(case, row.point) for case in cases]))


def test_the_frontier_reaches_what_only_the_head_tells() -> None:
    cases = blind_to_images()
    search = search_of(cases)
    [row] = [row for row in search.frontier(search.best().point) if row.specificity == 1]
    assert row.sensitivity == 1
    assert calls(cases, row.point) == (1, 1)


def test_a_negative_that_is_predicted_positive_scores_nothing_whatever_its_mask() -> None:
    cases = blobs(6)
    point = OperatingPoint(threshold=0.0)
    assert score_point([case.curves for case in cases], point).dices[::2].tolist() == [0.0, 0.0, 0.0]


# objectives


def calls(cases: list[Drawn], point: OperatingPoint) -> tuple[float, float]:
    """Sensitivity and specificity by hand."""
    called = np.array([brute_force_called(case, point) for case in cases])
    positive = np.array([case.label.any() for case in cases])
    return float(called[positive].mean()), float((~called)[~positive].mean())


def brute_force_called(case: Drawn, point: OperatingPoint) -> bool:
    enough = (case.levels / 255 > point.threshold).sum() > int(point.min_area_fraction * case.levels.size)
    return bool(enough) and is_accepted(case, point)


def test_the_best_sensitivity_at_a_specificity() -> None:
    cases = graded()
    found = search_of(cases).best("specificity")
    all_points = [OperatingPoint(threshold=top / STEPS) for top in range(STEPS)]
    expected = max(
        sensitivity
        for sensitivity, specificity in (calls(cases, each) for each in all_points)
        if specificity >= 0.95
    )
    assert calls(cases, found.point) == pytest.approx((found.sensitivity, found.specificity))
    assert found.specificity is not None
    assert found.specificity >= 0.95
    assert found.sensitivity == pytest.approx(expected)


def test_the_best_specificity_at_a_sensitivity_for_screening() -> None:
    cases = graded()
    found = search_of(cases).best("screening")
    all_points = [OperatingPoint(threshold=top / STEPS) for top in range(STEPS)]
    expected = max(
        specificity
        for sensitivity, specificity in (calls(cases, each) for each in all_points)
        if sensitivity >= 0.9
    )
    assert found.sensitivity is not None
    assert found.sensitivity >= 0.9
    assert found.specificity == pytest.approx(expected)


@pytest.mark.parametrize("kind", [0, 1])
def test_cases_of_one_kind_give_a_point_for_every_objective(kind: int) -> None:
    search = search_of([case for case in blobs() if case.label.any() == kind])
    found = [search.best(objective) for objective in ("challenge", "specificity", "screening")]
    assert all((each.sensitivity is None) == (kind == 0) for each in found)
    assert all((each.specificity is None) == (kind == 1) for each in found)


# curve


def test_the_curve_has_what_each_classification_threshold_would_have() -> None:
    cases = graded()
    search = search_of(cases)
    curve = search.curve(search.best().point)
    assert [row.point.threshold for row in curve] == [top / STEPS for top in range(0, STEPS, 4)]
    for row in curve[::9]:
        assert row.dice == pytest.approx(np.mean([brute_force_dice(case, row.point) for case in cases]))
        assert (row.sensitivity, row.specificity) == pytest.approx(calls(cases, row.point))


def test_the_frontier_has_the_best_sensitivity_at_every_specificity() -> None:
    random = np.random.default_rng(2)
    cases = [
        make_search_case(
            np.clip(case.levels + random.integers(0, 120, (8, 8)), 0, 255).astype(np.uint8),
            case.label,
            case.group,
        )
        for case in graded(count=30)
    ]
    search = search_of(cases)
    found = search.frontier(search.best().point)
    every = [
        calls(cases, OperatingPoint(threshold=top / STEPS, min_area_fraction=area))
        for top in range(STEPS)
        for area in MIN_AREA_FRACTIONS
    ]
    for least in {specificity for _, specificity in every}:
        expected = max(sensitivity for sensitivity, specificity in every if specificity >= least)
        rows = [row.sensitivity or 0 for row in found if (row.specificity or 0) >= least]
        assert max(rows) == pytest.approx(expected)
    for row in found[::3]:
        assert (row.sensitivity, row.specificity) == pytest.approx(calls(cases, row.point))
        assert row.dice == pytest.approx(np.mean([brute_force_dice(case, row.point) for case in cases]))
    assert len({(row.sensitivity, row.specificity) for row in found}) == len(found) > 3
    assert len({row.point.min_area_fraction for row in found}) > 1


@pytest.mark.parametrize("kind", [0, 1])
def test_cases_of_one_kind_have_no_frontier(kind: int) -> None:
    search = search_of([case for case in blobs() if case.label.any() == kind])
    assert search.frontier(search.best().point) == []
