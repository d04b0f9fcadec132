from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import remove_small_objects
from tests.conftest import make_case

from pneumoseg.pipeline.scoring.case_curves import (
    IMAGE_THRESHOLDS,
    MIN_AREA_FRACTIONS,
    STEPS,
    CaseCurves,
    image_gain,
)
from pneumoseg.pipeline.scoring.measured_cases import (
    CLEANINGS,
    MaskRule,
    SearchCase,
    inner_fold_of,
    search_cases,
)
from pneumoseg.pipeline.scoring.out_of_fold import OutOfFold
from pneumoseg.pipeline.scoring.search import Objective, Search
from pneumoseg.transforms.labels.rle import encode_rle
from pneumoseg.transforms.masks import OperatingPoint, to_mask

SIDE = 40


def make_search_case(
    levels: NDArray[np.uint8], label: NDArray[np.bool_], group: str = "p", *, image_probability: float = 0.5
) -> SearchCase:
    probabilities = torch.from_numpy(levels.astype(np.float64) / 255)
    curves = CaseCurves.measure(
        probabilities, torch.from_numpy(label), index=0, image_probability=image_probability
    )
    return SearchCase(curves, levels, label, group)


def blobs(count: int = 8, seed: int = 0, side: int = SIDE) -> list[SearchCase]:
    """Maps with a blob about the label, with holes in it and specks beside it; every other one has no label."""
    random = np.random.default_rng(seed)
    cases = []
    for number in range(count):
        label = np.zeros((side, side), dtype=np.bool_)
        if number % 2:
            top, left = random.integers(2, side // 2, size=2)
            label[top : top + side // 3, left : left + side // 4] = True
        smooth = ndimage.gaussian_filter(label.astype(np.float64), side / 20) * random.uniform(0.4, 1)
        noise = random.random((side, side))
        smooth[noise < 0.02] += 0.4  # specks
        smooth[noise > 0.97] *= 0.2  # holes
        levels = (255 * np.clip(smooth + 0.1 * random.random((side, side)), 0, 1)).round().astype(np.uint8)
        cases.append(make_search_case(levels, label, f"patient{number // 2}"))
    return cases


def is_accepted(case: SearchCase, point: OperatingPoint) -> bool:
    return point.image_threshold == 0 or case.curves.image_probability > point.image_threshold


def brute_force_dice(case: SearchCase, point: OperatingPoint) -> float:
    """By scikit-image and scipy, on the map itself."""
    probabilities = case.levels.astype(np.float64) / 255
    mask = probabilities > point.threshold
    if mask.sum() > int(point.min_area_fraction * mask.size) and is_accepted(case, point):
        mask = probabilities > point.mask_threshold
        kept = remove_small_objects(
            mask, max_size=int(point.min_component_fraction * mask.size), connectivity=2
        )
        if not kept.any():
            components, _ = ndimage.label(mask, np.ones((3, 3)))
            areas = np.bincount(components[components > 0])
            kept = np.isin(components, np.flatnonzero(areas == areas.max()))
        mask = ndimage.binary_fill_holes(kept) if point.fill_holes else kept
    else:
        mask[:] = False
    total = int(mask.sum()) + int(case.label.sum())
    return 2 * int((mask & case.label).sum()) / total if total else 1.0


def point_of(top: int, area: float, rule: MaskRule) -> OperatingPoint:
    return OperatingPoint(
        threshold=top / STEPS,
        min_area_fraction=area,
        segmentation_threshold=rule.segmentation / STEPS,
        **rule.cleaning._asdict(),
    )


SOME_POINTS = [
    point_of(top, area, MaskRule(bottom, cleaning))
    for top, bottom, area, cleaning in product((30, 110), (10, 30), (0.0, 0.02), CLEANINGS)
]


@pytest.mark.parametrize("seed", range(3))
def test_each_combination_scores_as_the_masks_themselves_do(seed: int) -> None:
    cases = blobs(seed=seed)
    search = Search(cases)
    for point in SOME_POINTS:
        expected = [brute_force_dice(case, point) for case in cases]
        np.testing.assert_allclose(search.dices(point), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_masks_of_a_point_are_those_that_were_searched(seed: int) -> None:
    for case, point in product(blobs(4, seed=seed), SOME_POINTS):
        mask = to_mask((case.levels.astype(np.float64) / 255).astype(np.float32), point, 0.5) > 0
        total = int(mask.sum()) + int(case.label.sum())
        dice = 2 * int((mask & case.label).sum()) / total if total else 1.0
        assert dice == pytest.approx(brute_force_dice(case, point))


@pytest.mark.parametrize("seed", range(2))
def test_the_best_is_that_of_brute_force_over_all_thresholds_and_areas(seed: int) -> None:
    cases = blobs(4, seed=seed, side=16)
    found = Search(cases, cleaning_gain=2).best()  # no cleaning is worth that
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
    assert not found.point.cleans
    assert found.dice >= best - 1e-12
    assert found.dice == pytest.approx(np.mean([brute_force_dice(case, found.point) for case in cases]))


@pytest.mark.parametrize("seed", range(4))
def test_the_best_with_cleaning_is_that_of_brute_force(seed: int) -> None:
    """Over a grid that holds all bottom thresholds which the search looks at first."""
    cases = blobs(6, seed=seed)
    search = Search(cases, cleaning_gain=0)
    found = search.best()
    best = max(
        float(
            np.mean(
                [brute_force_dice(case, point_of(top, area, MaskRule(bottom, cleaning))) for case in cases]
            )
        )
        for top, bottom in product(range(0, STEPS, 32), repeat=2)
        if bottom <= top
        for area in (0.0, 0.004, 0.032)
        for cleaning in CLEANINGS
    )
    assert found.dice >= best - 1e-12
    assert found.dice == pytest.approx(np.mean([brute_force_dice(case, found.point) for case in cases]))


def test_specks_and_holes_are_cleaned_away_where_that_is_worth_it() -> None:
    label = np.zeros((SIDE, SIDE), dtype=np.bool_)
    label[10:30, 10:30] = True
    levels = np.where(label, 200, 10).astype(np.uint8)
    levels[15:18, 15:18] = 10
    levels[2:38:4, 2] = 220
    found = Search([make_search_case(levels, label)]).best()
    assert (found.point.fill_holes, found.point.min_component_fraction > 0, found.dice) == (True, True, 1.0)


def test_what_gains_nothing_is_left_out() -> None:
    label = np.zeros((SIDE, SIDE), dtype=np.bool_)
    label[10:30, 10:30] = True
    point = Search([make_search_case(np.where(label, 200, 10).astype(np.uint8), label)]).best().point
    assert point == OperatingPoint(threshold=11 / 256, min_area_fraction=0.0)


# the image threshold


def with_heads(cases: list[SearchCase], probabilities: Sequence[float]) -> list[SearchCase]:
    """The same cases with other image probabilities."""
    return [
        replace(case, curves=replace(case.curves, image_probability=probability))
        for case, probability in zip(cases, probabilities, strict=True)
    ]


def blind_to_images(count: int = 40) -> list[SearchCase]:
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
    found = Search(blind_to_images()).best(objective)
    assert 0.2 <= found.point.image_threshold < 0.8
    assert (found.dice, found.sensitivity, found.specificity) == (1.0, 1.0, 1.0)


def test_a_head_that_decides_also_decides_for_patients_that_were_not_searched_on() -> None:
    fitted = Search(blind_to_images()).cross_fit()
    assert fitted is not None
    assert fitted.dice == 1.0
    assert all(0.2 <= point.image_threshold < 0.8 for point in fitted.points)


@pytest.mark.parametrize("objective", ["challenge", "specificity", "screening"])
def test_a_head_that_tells_no_more_than_the_pixels_is_left_out(objective: Objective) -> None:
    cases = graded()
    found = Search(cases).best(objective)
    brightest = Search(with_heads(cases, [case.levels.max() / 255 for case in cases])).best(objective)
    assert brightest.point == found.point
    assert found.point.image_threshold == 0


@pytest.mark.parametrize("seed", range(3))
def test_the_best_with_an_image_threshold_is_that_of_brute_force(seed: int) -> None:
    """But for what the image threshold has to add, on a grid of segmentation thresholds that the search looks at."""
    random = np.random.default_rng(seed)
    cases = with_heads(
        blobs(12, seed=seed, side=16), [0.4 * (number % 2) + 0.6 * random.random() for number in range(12)]
    )
    found = Search(cases, cleaning_gain=2).best()
    best = max(
        float(np.mean([brute_force_dice(case, point) for case in cases]))
        for top, bottom, area, level in product(
            range(0, STEPS, 32), range(0, STEPS, 32), (0.0, 0.032), IMAGE_THRESHOLDS
        )
        if bottom <= top
        for point in [replace(point_of(top, area, MaskRule(bottom)), image_threshold=level)]
    )
    assert found.dice >= best - image_gain(12) - 1e-12
    assert found.dice == pytest.approx(np.mean([brute_force_dice(case, found.point) for case in cases]))
    assert Search(cases).dices(found.point).mean() == pytest.approx(found.dice)


def test_an_image_threshold_has_to_gain_more_than_one_image() -> None:
    """A bright negative that the head alone knows: one gains as much as one image, two gain twice as much."""
    label = np.zeros((8, 8), dtype=np.bool_)
    label[2:5, 2:5] = True
    bright, dark = np.where(label, 200, 10).astype(np.uint8), np.full((8, 8), 10, dtype=np.uint8)
    for count, expected in ((1, False), (2, True)):
        cases = [make_search_case(bright, label, image_probability=0.8)] * 10
        cases += [make_search_case(bright, np.zeros_like(label), image_probability=0.2)] * count
        cases += [make_search_case(dark, np.zeros_like(label), image_probability=0.2)] * (10 - count)
        assert (Search(cases).best().point.image_threshold > 0) == expected


def test_the_curve_keeps_the_image_threshold_of_the_point() -> None:
    cases = blind_to_images()
    search = Search(cases)
    point = search.best().point
    for row in search.curve(point)[::9]:
        assert row.point.image_threshold == point.image_threshold
        assert (row.sensitivity, row.specificity) == pytest.approx(calls(cases, row.point))
        assert row.dice == pytest.approx(np.mean([brute_force_dice(case, row.point) for case in cases]))


def test_the_frontier_reaches_what_only_the_head_tells() -> None:
    cases = blind_to_images()
    search = Search(cases)
    [row] = [row for row in search.frontier(search.best().point) if row.specificity == 1]
    assert row.sensitivity == 1
    assert calls(cases, row.point) == (1, 1)


def test_a_negative_that_is_called_scores_nothing_however_it_is_drawn() -> None:
    cases = blobs(6)
    point = OperatingPoint(threshold=0.0)
    assert Search(cases).dices(point)[::2].tolist() == [0.0, 0.0, 0.0]


# objectives


def calls(cases: list[SearchCase], point: OperatingPoint) -> tuple[float, float]:
    """Sensitivity and specificity by hand."""
    called = np.array([brute_force_called(case, point) for case in cases])
    positive = np.array([case.label.any() for case in cases])
    return float(called[positive].mean()), float((~called)[~positive].mean())


def brute_force_called(case: SearchCase, point: OperatingPoint) -> bool:
    enough = (case.levels / 255 > point.threshold).sum() > int(point.min_area_fraction * case.levels.size)
    return bool(enough) and is_accepted(case, point)


def graded(seed: int = 0, count: int = 60) -> list[SearchCase]:
    """Maps of one block, brighter on most positives."""
    random = np.random.default_rng(seed)
    cases = []
    for number in range(count):
        label, levels = np.zeros((8, 8), dtype=np.bool_), np.zeros((8, 8), dtype=np.uint8)
        label[2:5, 2:5] = number % 3 == 0
        levels[2:5, 2:6] = random.integers(20, 180) + 60 * (number % 3 == 0)
        cases.append(make_search_case(levels, label, f"p{number}"))
    return cases


def test_the_best_sensitivity_at_a_specificity() -> None:
    cases = graded()
    found = Search(cases).best("specificity")
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
    found = Search(cases).best("screening")
    all_points = [OperatingPoint(threshold=top / STEPS) for top in range(STEPS)]
    expected = max(
        specificity
        for sensitivity, specificity in (calls(cases, each) for each in all_points)
        if sensitivity >= 0.95
    )
    assert found.sensitivity is not None
    assert found.sensitivity >= 0.95
    assert found.specificity == pytest.approx(expected)


@pytest.mark.parametrize("kind", [0, 1])
def test_cases_of_one_kind_give_a_point_for_every_aim(kind: int) -> None:
    search = Search([case for case in blobs() if case.label.any() == kind])
    found = [search.best(objective) for objective in ("challenge", "specificity", "screening")]
    assert all((each.sensitivity is None) == (kind == 0) for each in found)
    assert all((each.specificity is None) == (kind == 1) for each in found)


# cross-fitting


def test_a_patient_is_in_the_same_part_always() -> None:
    parts = [inner_fold_of(f"patient{number}") for number in range(500)]
    assert parts == [inner_fold_of(f"patient{number}") for number in range(500)]
    assert all(70 < parts.count(number) < 130 for number in range(5))


def test_each_part_is_scored_by_a_point_that_was_searched_without_it() -> None:
    cases = graded()
    search = Search(cases)
    fitted = search.cross_fit(3)
    assert fitted is not None
    dices = []
    for number, point in enumerate(fitted.points):
        inside = [case for case in cases if inner_fold_of(case.group, 3) == number]
        outside = [case for case in cases if inner_fold_of(case.group, 3) != number]
        assert point == Search(outside).best().point
        dices += [brute_force_dice(case, point) for case in inside]
    assert fitted.dice == pytest.approx(np.mean(dices))


def test_a_score_on_noise_is_higher_where_the_search_has_seen_it() -> None:
    random = np.random.default_rng(0)
    gaps = []
    for seed in range(3):
        cases = [
            make_search_case(random.integers(0, 255, (8, 8)).astype(np.uint8), case.label, case.group)
            for case in graded(seed)
        ]
        fitted = Search(cases).cross_fit()
        assert fitted is not None
        gaps.append(Search(cases).best().dice - fitted.dice)
    assert min(gaps) >= 0
    assert max(gaps) > 0


def test_one_patient_cannot_be_scored_by_the_others() -> None:
    assert Search(blobs(2)).cross_fit() is None


# curve


def test_the_curve_has_what_each_classification_threshold_would_have() -> None:
    cases = graded()
    search = Search(cases)
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
    search = Search(cases)
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
    search = Search([case for case in blobs() if case.label.any() == kind])
    assert search.frontier(search.best().point) == []


# cases from a run


@pytest.mark.parametrize("shape", [(64, 48), (48, 64), (64, 64)])
def test_a_stored_map_is_brought_to_its_label_without_its_padding(shape: tuple[int, int]) -> None:
    mask = np.zeros(shape, dtype=np.uint8)
    mask[16:40, 8:24] = 1
    case = make_case(1, shape=shape, label=(encode_rle(mask),), area_px=int(mask.sum()))
    top, left = (64 - shape[0]) // 2, (64 - shape[1]) // 2
    square = np.zeros((64, 64), dtype=np.uint8)
    square[top : top + shape[0], left : left + shape[1]] = mask * 200
    half = square.reshape(32, 2, 32, 2).max(axis=(1, 3))
    curves = CaseCurves.measure(
        torch.from_numpy(mask * 0.8), torch.from_numpy(mask), index=1, image_probability=0.5
    )
    [found] = search_cases(OutOfFold([curves], {1: half}), [make_case(0), case])
    assert found.levels.shape == (shape[0] // 2, shape[1] // 2)
    np.testing.assert_array_equal(found.label, found.levels > 0)
    assert found.group == "group1"


def test_many_thousand_combinations_are_searched() -> None:
    assert len(MIN_AREA_FRACTIONS) * STEPS * STEPS / 2 + len(CLEANINGS) * 8 > 2_000
