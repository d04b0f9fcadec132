import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.conftest import make_case

from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.scoring.case_rows import COLUMNS, case_rows
from pneumoseg.pipeline.scoring.challenge import summarise
from pneumoseg.pipeline.scoring.decision import Decisions
from pneumoseg.pipeline.scoring.metrics import CaseMasks
from pneumoseg.transforms.masks import OperatingPoint

MASK = CaseMasks(index=0, area_px=60, overlap_px=40, surface_dice=0.5, hausdorff95_mm=2.5)


def row_of(
    case: Case, mask: CaseMasks = MASK, *, seen: bool = False, probability: float = 0.75
) -> dict[str, object]:
    counts = np.array([mask.area_px]), np.array([case.area_px]), np.array([mask.overlap_px])
    found = Decisions(
        point=OperatingPoint(),
        areas=counts[0],
        dices=np.array([0.8]),
        probabilities=np.array([probability]),
        score=summarise(*counts),
        auc=None,
    )
    (row,) = case_rows([case], [seen], found, [mask])
    return row


def positive(**values: Any) -> Case:
    return make_case(3, label=("0 40",), area_px=40, **values)


def test_a_row_has_every_column() -> None:
    assert set(row_of(positive())) == set(COLUMNS)


def test_a_case_is_told_by_its_name_patient_and_fold() -> None:
    row = row_of(positive(fold=1))
    assert (row["id"], row["group"], row["fold"]) == ("case3", "group3", 1)


def test_areas_and_dice_are_those_of_the_mask_as_it_was_drawn() -> None:
    row = row_of(positive())
    assert (row["label_area_px"], row["area_px"], row["overlap_px"], row["dice"]) == (40, 60, 40, 0.8)
    assert row["probability"] == 0.75


def test_iou_is_the_intersection_over_the_union() -> None:
    assert row_of(positive())["iou"] == pytest.approx(40 / 60)  # the label lies within the mask


@pytest.mark.parametrize(("area", "called"), [(60, 1), (0, 0)])
def test_called_positive_is_who_has_a_mask(area: int, called: int) -> None:
    row = row_of(positive(), replace(MASK, area_px=area, overlap_px=0))
    assert (row["positive"], row["called_positive"]) == (1, called)


@pytest.mark.parametrize("seen", [True, False])
def test_a_case_that_was_trained_on_is_marked(seen: bool) -> None:
    assert row_of(positive(), seen=seen)["trained_on"] == int(seen)


def test_a_distance_that_there_is_not_is_no_number() -> None:
    row = row_of(positive(), replace(MASK, surface_dice=math.nan, hausdorff95_mm=math.nan))
    assert (row["surface_dice"], row["hausdorff95_mm"]) == (None, None)


def test_distances_are_given_where_they_are_known() -> None:
    row = row_of(positive())
    assert (row["surface_dice"], row["hausdorff95_mm"]) == (0.5, 2.5)


def test_a_decision_that_has_not_seen_the_patient_has_its_own_dice() -> None:
    row = row_of(positive(), replace(MASK, unseen_area_px=20, unseen_overlap_px=15))
    assert row["unseen_decision_dice"] == pytest.approx(2 * 15 / (20 + 40))
    assert row["unseen_decision_area_px"] == 20


def test_a_decision_that_there_is_not_has_none() -> None:
    row = row_of(positive())
    assert (row["unseen_decision_dice"], row["unseen_decision_area_px"]) == (None, None)


def test_what_is_not_known_of_a_case_is_none() -> None:
    row = row_of(make_case())
    unknown = ("uncertainty", "view", "sex", "age", "spacing_row_mm", "spacing_column_mm")
    assert {row[name] for name in unknown} == {None}


def test_what_is_known_of_a_case_is_given() -> None:
    case = positive(view="AP", sex="F", age=58, spacing_mm=(0.5, 0.25))
    row = row_of(case, replace(MASK, uncertainty=0.125))
    names = ("view", "sex", "age", "spacing_row_mm", "spacing_column_mm", "uncertainty")
    assert [row[name] for name in names] == ["AP", "F", 58, 0.5, 0.25, 0.125]
