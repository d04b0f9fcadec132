import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.conftest import make_case

from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.scoring.case_rows import COLUMNS, case_rows
from pneumoseg.pipeline.scoring.metrics import CaseMasks, MaskScores

OWN = MaskScores(area_px=60, overlap_px=40, surface_dice=0.5, hausdorff95_mm=2.5)
MASK = CaseMasks(index=0, own=OWN)


def row_of(case: Case, mask: CaseMasks = MASK, *, seen: bool = False, **values: Any) -> dict[str, object]:
    (row,) = case_rows([case], [seen], [mask], **{"probabilities": np.array([0.75]), **values})
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


def test_the_probability_is_given_as_the_model_outputs_it_and_beside_it_the_calibrated_one() -> None:
    row = row_of(positive())
    assert (row["probability"], row["calibrated_probability"]) == (0.75, None)
    row = row_of(positive(), calibrated=np.array([0.6]))
    assert (row["probability"], row["calibrated_probability"]) == (0.75, 0.6)


def test_iou_is_the_intersection_over_the_union() -> None:
    assert row_of(positive())["iou"] == pytest.approx(40 / 60)  # the label lies within the mask


@pytest.mark.parametrize(("area", "called"), [(60, 1), (0, 0)])
def test_predicted_positive_is_who_has_a_mask(area: int, called: int) -> None:
    row = row_of(positive(), CaseMasks(index=0, own=replace(OWN, area_px=area, overlap_px=0)))
    assert (row["positive"], row["predicted_positive"]) == (1, called)


@pytest.mark.parametrize("seen", [True, False])
def test_a_case_that_was_trained_on_is_marked(seen: bool) -> None:
    assert row_of(positive(), seen=seen)["trained_on"] == int(seen)


def test_a_distance_that_there_is_not_is_no_number() -> None:
    row = row_of(
        positive(), CaseMasks(index=0, own=replace(OWN, surface_dice=math.nan, hausdorff95_mm=math.nan))
    )
    assert (row["surface_dice"], row["hausdorff95_mm"]) == (None, None)


def test_distances_are_given_where_they_are_known() -> None:
    row = row_of(positive())
    assert (row["surface_dice"], row["hausdorff95_mm"]) == (0.5, 2.5)


def test_the_mask_at_the_cross_fitted_operating_point_has_columns_of_its_own() -> None:
    other = MaskScores(area_px=20, overlap_px=15, surface_dice=0.75, hausdorff95_mm=1.5)
    row = row_of(positive(), replace(MASK, cross_fitted=other))
    assert row["cross_fitted_dice"] == pytest.approx(2 * 15 / (20 + 40))
    assert row["cross_fitted_iou"] == pytest.approx(15 / 45)
    assert (row["cross_fitted_area_px"], row["cross_fitted_predicted_positive"]) == (20, 1)
    assert (row["cross_fitted_surface_dice"], row["cross_fitted_hausdorff95_mm"]) == (0.75, 1.5)
    assert row["area_px"] == 60


def test_without_a_cross_fitted_operating_point_its_columns_are_empty() -> None:
    row = row_of(positive())
    assert {value for name, value in row.items() if name.startswith("cross_fitted_")} == {None}


def test_what_is_not_known_of_a_case_is_none() -> None:
    row = row_of(make_case())
    unknown = ("uncertainty", "view", "sex", "age", "spacing_row_mm", "spacing_column_mm")
    assert {row[name] for name in unknown} == {None}


def test_what_is_known_of_a_case_is_given() -> None:
    case = positive(view="AP", sex="F", age=58, spacing_mm=(0.5, 0.25))
    row = row_of(case, replace(MASK, uncertainty=0.125))
    names = ("view", "sex", "age", "spacing_row_mm", "spacing_column_mm", "uncertainty")
    assert [row[name] for name in names] == ["AP", "F", 58, 0.5, 0.25, 0.125]
