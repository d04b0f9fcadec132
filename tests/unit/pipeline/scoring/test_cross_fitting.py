from collections.abc import Sequence

import numpy as np
import pytest
from tests.unit.pipeline.scoring.search_cases import (
    Drawn,
    blobs,
    brute_force_dice,
    graded,
    search_of,
)

from pneumoseg.pipeline.model.description import CrossFittedPoints
from pneumoseg.pipeline.scoring.cross_fitting import cross_fit, inner_fold_of


def cross_fit_of(cases: Sequence[Drawn], inner_folds: int = 5) -> CrossFittedPoints | None:
    return cross_fit([case.curves for case in cases], [case.group for case in cases], inner_folds)


def test_a_patient_is_in_the_same_part_always() -> None:
    parts = [inner_fold_of(f"patient{number}") for number in range(500)]
    assert parts == [inner_fold_of(f"patient{number}") for number in range(500)]
    assert all(70 < parts.count(number) < 130 for number in range(5))


def test_each_part_is_scored_by_a_point_that_was_searched_without_it() -> None:
    cases = graded()
    fitted = cross_fit_of(cases, 3)
    assert fitted is not None
    dices = []
    for number, tuned in enumerate(fitted.points):
        point = tuned.as_point()
        inside = [case for case in cases if inner_fold_of(case.group, 3) == number]
        outside = [case for case in cases if inner_fold_of(case.group, 3) != number]
        assert point == search_of(outside).steadiest().point
        dices += [brute_force_dice(case, point) for case in inside]
    assert fitted.dice == pytest.approx(np.mean(dices))


def test_one_patient_cannot_be_scored_by_the_others() -> None:
    assert cross_fit_of(blobs(2)) is None
