import json
from pathlib import Path

import pytest
from tests.conftest import write_model
from tests.unit.pipeline.model.folders import (
    CPU,
    WHOLE,
    searched,
)

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.inference.model import ModelOptions, load_model
from pneumoseg.pipeline.model.description import (
    CurvePoint,
    TunedPoint,
    read_description,
)
from pneumoseg.pipeline.model.operating_points import point_for
from pneumoseg.transforms.masks import OperatingPoint


def test_a_whole_operating_point_comes_back(tmp_path: Path, network: AttentionUNet) -> None:
    expected = OperatingPoint(
        threshold=0.75,
        min_area_fraction=0.001,
        segmentation_threshold=0.375,
        image_threshold=0.125,
    )
    assert load_model(write_model(tmp_path, network, point=WHOLE), CPU).operating_point == expected
    assert TunedPoint.of(expected) == WHOLE


def test_a_folder_of_an_earlier_release_has_the_point_that_it_had(folder: Path) -> None:
    content = json.loads((folder / "model.json").read_text())
    del content["operating_point_search"]
    content["operating_point"] = {"threshold": 0.5, "min_area_fraction": 0.125}
    (folder / "model.json").write_text(json.dumps(content))
    assert load_model(folder, CPU).operating_point == OperatingPoint(threshold=0.5, min_area_fraction=0.125)


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
    point = point_for(read_description(searched(folder)), name)
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
    point = point_for(description.model_copy(update={"operating_point_search": decision}), "specificity=0.85")
    assert (point.threshold, point.min_area_fraction, point.image_threshold) == (0.625, 0.001, 0.25)


@pytest.mark.parametrize(
    "name", ["", "beauty", "specificity=", "specificity=2", "precision=0.5", "specificity=nan"]
)
def test_an_unknown_operating_point_is_an_error_that_names_the_known_ones(folder: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"screening, specificity=0\.9 or sensitivity=0\.9 would fit"):
        load_model(searched(folder), CPU, ModelOptions(operating_point=name))


def test_a_model_without_a_search_has_no_aims(folder: Path) -> None:
    with pytest.raises(UsageError, match="no search to choose others from"):
        load_model(folder, CPU, ModelOptions(operating_point="challenge"))
