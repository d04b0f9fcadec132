from pathlib import Path

import pytest
from tests.unit.pipeline.model.folders import CPU, WHOLE, searched

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.inference.model import ModelOptions, load_model
from pneumoseg.pipeline.model.description import CurvePoint, read_description
from pneumoseg.pipeline.model.operating_points import expectation, select_point
from pneumoseg.transforms.masks import OperatingPoint


def test_an_objective_has_the_point_that_was_searched_for_it(folder: Path) -> None:
    searched(folder)
    assert load_model(folder, CPU).operating_point.threshold == 0.5
    assert (
        load_model(folder, CPU, ModelOptions(operating_point="screening")).operating_point == WHOLE.as_point()
    )


@pytest.mark.parametrize(
    ("name", "top", "bottom"),
    [
        ("specificity=0.85", 0.5, 0.375),
        ("specificity=1", 0.75, 0.375),
        ("sensitivity=0.9", 0.25, 0.25),
        ("sensitivity=0.5", 0.75, 0.375),
    ],
)
def test_an_aim_with_a_number_has_the_best_point_of_the_curve(
    folder: Path, name: str, top: float, bottom: float
) -> None:
    point = select_point(read_description(searched(folder)), name).point
    assert point == OperatingPoint(threshold=top, min_area_fraction=0.002, segmentation_threshold=bottom)


def test_an_aim_with_a_number_has_the_best_of_all_minimum_areas_where_these_are_known(folder: Path) -> None:
    description = read_description(searched(folder))
    assert description.operating_point_search is not None
    better = CurvePoint(
        threshold=0.625,
        min_area_fraction=0.001,
        image_threshold=0.25,
        dice=0.7,
        sensitivity=0.9,
        specificity=0.9,
    )
    decision = description.operating_point_search.model_copy(update={"frontier": (better,)})
    point = select_point(
        description.model_copy(update={"operating_point_search": decision}), "specificity=0.85"
    ).point
    assert (point.threshold, point.min_area_fraction, point.image_threshold) == (0.625, 0.001, 0.25)


@pytest.mark.parametrize(
    "name", ["", "beauty", "specificity=", "specificity=2", "precision=0.5", "specificity=nan"]
)
def test_an_unknown_operating_point_is_an_error_that_names_the_known_ones(folder: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"screening, specificity=0\.9 or sensitivity=0\.9 would fit"):
        load_model(searched(folder), CPU, ModelOptions(operating_point=name))


def test_what_to_expect_is_said_with_the_point_that_finds_more(folder: Path) -> None:
    description = read_description(searched(folder)).model_copy(
        update={"validation": {"images": 20, "sensitivity": 0.4, "specificity": 0.9}}
    )
    assert expectation(description, None) == (
        "at this operating point the model finds 40% of the positives, with false alarms on 10% of the negatives, on "
        "its 20 validation images; at the operating point screening, 100% and 50%"
    )
    assert expectation(description, "sensitivity=0.5") == (
        "at this operating point the model finds 60% of the positives, with false alarms on 0% of the negatives, on "
        "its 20 validation images; at the operating point screening, 100% and 50%"
    )
    assert "operating point screening" not in (expectation(description, "screening") or "")


def test_nothing_is_said_of_a_model_without_validation(folder: Path) -> None:
    description = read_description(searched(folder)).model_copy(update={"validation": {}})
    assert expectation(description, None) is None
