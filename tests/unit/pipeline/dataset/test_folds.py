from collections import Counter

import numpy as np
import pytest

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.dataset.folds import assign_folds, size_classes


def many() -> tuple[list[int], list[str]]:
    """400 cases of 150 patients, a fifth of the cases positive."""
    generator = np.random.default_rng(0)
    areas = np.where(generator.random(400) < 0.2, generator.integers(50, 100_000, 400), 0)
    return areas.tolist(), [f"p{patient}" for patient in generator.integers(0, 150, 400)]


def test_sizes_are_classed_by_quarters_of_the_positives() -> None:
    areas = [0, 0, 10, 20, 30, 40, 50, 60, 70, 80]
    assert size_classes(areas).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_without_positives_there_is_one_class() -> None:
    assert size_classes([0, 0, 0]).tolist() == [0, 0, 0]


def test_one_positive_is_a_class_apart_from_the_negatives() -> None:
    classes = size_classes([0, 7, 0]).tolist()
    assert classes[0] == classes[2] == 0
    assert classes[1] > 0


def test_no_group_is_in_two_folds() -> None:
    areas, groups = many()
    fold = assign_folds(areas, groups, folds=5, seed=0)
    assert len(set(zip(groups, fold.tolist(), strict=True))) == len(set(groups))


def test_every_fold_has_its_share_of_cases_and_of_positives() -> None:
    areas, groups = many()
    fold = assign_folds(areas, groups, folds=5, seed=0)
    cases = np.bincount(fold, minlength=5)
    positives = np.bincount(fold[np.array(areas) > 0], minlength=5)
    assert cases.min() >= 0.8 * 400 / 5
    assert positives.min() >= 0.7 * positives.mean()


def test_large_and_small_masks_are_in_every_fold() -> None:
    areas, groups = many()
    fold, classes = assign_folds(areas, groups, folds=5, seed=0), size_classes(areas)
    for number in range(5):
        assert set(classes[fold == number].tolist()) == {0, 1, 2, 3, 4}


def test_the_same_seed_gives_the_same_folds() -> None:
    areas, groups = many()
    one, other = (assign_folds(areas, groups, folds=5, seed=3) for _ in range(2))
    assert one.tolist() == other.tolist()


def test_another_seed_gives_other_folds() -> None:
    areas, groups = many()
    one, other = (assign_folds(areas, groups, folds=5, seed=seed) for seed in (0, 1))
    assert one.tolist() != other.tolist()


def test_as_many_folds_as_patients_give_each_patient_one() -> None:
    fold = assign_folds([0, 9, 0, 8], ["a", "b", "a", "c"], folds=3, seed=0)
    assert sorted(Counter(fold.tolist()).values()) == [1, 1, 2]


def test_no_fold_is_empty_even_with_few_patients() -> None:
    for folds in [2, 3, 5]:
        for seed in range(5):
            areas = [0, 0, 0, 500, 0, 0, 30, 0]
            fold = assign_folds(areas, list("aaabbcde"), folds=folds, seed=seed)
            assert set(fold.tolist()) == set(range(folds))


@pytest.mark.parametrize("folds", [0, 1, 4])
def test_a_number_of_folds_that_does_not_fit_names_how_many_groups_there_are(folds: int) -> None:
    with pytest.raises(UsageError, match="3 groups"):
        assign_folds([0, 1, 2, 3], ["a", "b", "c", "a"], folds=folds, seed=0)


@pytest.mark.parametrize(("positives", "folds"), [(5, 5), (6, 5), (7, 5), (12, 10)])
@pytest.mark.parametrize("seed", range(5))
def test_every_fold_has_a_positive_where_there_are_enough_of_them(
    positives: int, folds: int, seed: int
) -> None:
    areas = [100 * (number + 1) for number in range(positives)] + [0] * 8 * positives
    groups = [f"p{number}" for number in range(positives)] + [
        f"n{number // 2}" for number in range(8 * positives)
    ]
    fold = assign_folds(areas, groups, folds=folds, seed=seed)
    assert set(fold[:positives].tolist()) == set(range(folds))
