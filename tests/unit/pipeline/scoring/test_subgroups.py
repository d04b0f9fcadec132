import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import make_case

from pneumoseg.pipeline.core.files import write_csv
from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.scoring.headline import ScoredImages
from pneumoseg.pipeline.scoring.subgroups import COLUMNS, subgroup_rows, subgroups


def members(name: str, *values: Any) -> dict[str, list[int]]:
    """Which of the cases are in which value of a subgroup."""
    cases = [make_case(number, **each) for number, each in enumerate(values)]
    return {value: np.flatnonzero(where).tolist() for each, value, where in subgroups(cases) if each == name}


def test_views_and_sexes_and_those_without() -> None:
    assert members("view", {"view": "AP"}, {"view": "PA"}, {}, {"view": "AP"}) == {
        "AP": [0, 3],
        "PA": [1],
        "unknown": [2],
    }
    assert members("sex", {"sex": "F"}, {}) == {"F": [0], "unknown": [1]}


def test_ages_are_in_half_open_bands() -> None:
    ages: list[dict[str, object]] = [{"age": age} for age in (0, 17, 18, 39, 40, 79, 80, 101)]
    assert members("age", *ages, {}) == {
        "below 18": [0, 1],
        "18 to 40": [2, 3],
        "40 to 60": [4],
        "60 to 80": [5],
        "from 80": [6, 7],
        "unknown": [8],
    }


@pytest.mark.parametrize("reverse", [False, True])
def test_values_are_listed_in_ascending_order_and_unknown_comes_last(reverse: bool) -> None:
    cases: list[dict[str, Any]] = [{}, {"age": 17}, {"age": 20}, {"age": 90}, {"spacing_mm": (0.1, 0.1)}]
    cases.append({"label": ("0 1",), "area_px": 9, "spacing_mm": (0.2, 0.2), "sex": "F"})
    ordered = cases[::-1] if reverse else cases
    assert list(members("age", *ordered)) == ["below 18", "18 to 40", "from 80", "unknown"]
    assert list(members("spacing_mm", *ordered)) == ["below 0.15", "from 0.18", "unknown"]
    assert list(members("mask_area", *ordered)) == ["no pneumothorax", "quartile 1"]


def test_spacings_are_in_bands() -> None:
    found = members(
        "spacing_mm", *({"spacing_mm": (each, each)} for each in (0.139, 0.15, 0.168, 0.1943)), {}
    )
    assert found == {"below 0.15": [0], "0.15 to 0.18": [1, 2], "from 0.18": [3], "unknown": [4]}


def test_quartiles_are_of_the_positives_by_their_share_of_the_image() -> None:
    values: list[dict[str, object]] = [
        {"label": ("0 1",), "area_px": area} for area in (10, 20, 30, 40, 50, 60, 70)
    ]
    values.append({"label": ("0 1",), "area_px": 80, "shape": (480, 320)})  # of a hundred times the pixels
    assert members("mask_area", *values, {}) == {
        "quartile 1": [0, 7],
        "quartile 2": [1, 2],
        "quartile 3": [3, 4],
        "quartile 4": [5, 6],
        "no pneumothorax": [8],
    }


def collection() -> tuple[list[Case], ScoredImages]:
    cases = [
        make_case(
            number, view="AP" if number < 4 else "PA", group=f"g{number // 2}", label=("0 9",), area_px=9
        )
        if number % 2
        else make_case(number, view="AP" if number < 4 else "PA", group=f"g{number // 2}")
        for number in range(8)
    ]
    true = np.array([case.area_px for case in cases])
    pred = np.where(np.arange(8) < 4, true, 0)  # all found on AP, nothing on PA
    images = ScoredImages(
        groups=[case.group for case in cases],
        pred_px=pred,
        true_px=true,
        shared_px=np.minimum(pred, true),
        probabilities=pred / 9,
    )
    return cases, images


def test_each_subgroup_has_its_counts_and_numbers_with_intervals() -> None:
    rows = {(row["subgroup"], row["value"]): row for row in subgroup_rows(*collection())}
    ap, pa = rows["view", "AP"], rows["view", "PA"]
    assert (ap["images"], ap["patients"], ap["positives"], ap["predicted_positive"]) == (4, 2, 2, 2)
    assert (ap["dice"], ap["dice_low"], ap["sensitivity"], ap["auc"]) == (1.0, None, 1.0, 1.0)  # two patients
    assert (pa["dice"], pa["sensitivity"], pa["specificity"], pa["auc"]) == (0.5, 0.0, 1.0, 0.5)
    assert rows["mask_area", "no pneumothorax"]["sensitivity"] is None


def test_the_table_has_a_column_for_all_of_it(tmp_path: Path) -> None:
    rows = subgroup_rows(*collection())
    assert all(set(row) <= set(COLUMNS) for row in rows)
    write_csv(tmp_path / "subgroups.csv", rows, COLUMNS)
    with (tmp_path / "subgroups.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["value"] for row in read if row["subgroup"] == "view"] == ["AP", "PA"]


@pytest.mark.parametrize("kind", [0, 1])
def test_cases_of_one_kind_have_subgroups_too(kind: int) -> None:
    cases, images = collection()
    where = np.arange(8) % 2 == kind
    rows = subgroup_rows(
        [case for case, wanted in zip(cases, where, strict=True) if wanted], images.select(where)
    )
    assert {row["positives"] for row in rows} == ({0} if kind == 0 else {2, 4})
