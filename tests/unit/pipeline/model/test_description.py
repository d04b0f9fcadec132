import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TINY, write_model
from tests.unit.pipeline.model.folders import CPU, WHOLE, alter, the_error

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.inference.model import ModelOptions, load_model
from pneumoseg.pipeline.model.description import (
    ModelDescription,
    TunedPoint,
    read_description,
)
from pneumoseg.transforms.masks import OperatingPoint


def test_the_folder_holds_weights_description_and_card(folder: Path) -> None:
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == ["LICENSE.md", "MODEL_CARD.md", "model.json", "weights/fold0.safetensors"]


def test_a_description_is_read_without_the_weights(folder: Path) -> None:
    shutil.rmtree(folder / "weights")
    assert read_description(folder).network == TINY


def test_a_folder_without_description_is_an_error(tmp_path: Path) -> None:
    assert "holds no model.json" in the_error(tmp_path)


def test_a_run_given_for_its_model_is_told_where_the_model_is(folder: Path) -> None:
    assert f"did you mean {folder}?" in the_error(folder.parent)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 10**5, b"\xff\xfe", b'{"format_version": 99}'])
def test_a_description_that_cannot_be_read_is_an_error(folder: Path, content: bytes) -> None:
    (folder / "model.json").write_bytes(content)
    assert "model.json" in the_error(folder)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"architecture": "ResNet"}, "architecture"),
        ({"members": []}, "members"),
        ({"operating_point": {"threshold": 1.5, "min_area_fraction": 0}}, "operating_point.threshold"),
        (
            {"operating_point": {"threshold": float("nan"), "min_area_fraction": 0}},
            "operating_point.threshold",
        ),
        ({"network": {"features": [1, 2, 3, 4, 5]}}, "network.features"),
        ({"network": {"features": [10**9] * 5}}, "network.features"),
        ({"network": {"in_channels": 10**9}}, "network.in_channels"),
        ({"preprocessing": {"image_size": 2**40}}, "preprocessing.image_size"),
        ({"validation": {"dice": float("inf")}}, "validation"),
        ({"validation": {"images": 10**4000}}, "validation"),
        ({"validation": {"x" * 5000: 1}}, "validation"),
        ({"versions": {"torch": "2\0"}}, "versions"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_value_that_does_not_fit_is_named_by_its_place(
    folder: Path, change: dict[str, Any], where: str
) -> None:
    alter(folder, **change)
    assert where in the_error(folder)


def test_an_image_size_that_the_network_cannot_take_is_an_error(folder: Path) -> None:
    alter(folder, preprocessing={"image_size": 40})
    assert "preprocessing.image_size = 40: the network needs a multiple of 16" in the_error(folder)


def test_a_segmentation_threshold_above_the_classification_threshold_is_an_error(folder: Path) -> None:
    alter(folder, operating_point={"threshold": 0.25, "min_area_fraction": 0, "segmentation_threshold": 0.5})
    assert "segmentation_threshold has to lie in [0, threshold]" in the_error(folder)


@pytest.mark.parametrize("weights", ["weights/\0.safetensors", "w" * 5000, "a//b", "", "weights/a\nb"])
def test_the_name_of_a_weights_file_is_bounded(folder: Path, weights: str) -> None:
    member = json.loads((folder / "model.json").read_text())["members"][0]
    alter(folder, members=[{**member, "weights": weights}])
    told = the_error(folder)
    assert "members.0.weights" in told
    assert len(told) < 500


@pytest.mark.parametrize(
    ("key", "value"), [("cases", 10**12), ("positive", -1), ("manifest", "x" * 5000), ("manifest", "\0")]
)
def test_what_the_training_is_described_by_is_bounded(folder: Path, key: str, value: object) -> None:
    training = json.loads((folder / "model.json").read_text())["trained_on"]
    alter(folder, trained_on={**training, key: value})
    assert f"trained_on.{key}" in the_error(folder)


def test_every_number_and_every_text_of_a_description_has_bounds() -> None:
    schema = ModelDescription.model_json_schema()

    def unbounded(node: Any, where: str) -> Iterator[str]:
        if isinstance(node, dict):
            kind = node.get("type")
            fixed = "const" in node or "enum" in node
            if (
                kind in {"integer", "number"}
                and not fixed
                and not (
                    {"minimum", "exclusiveMinimum"} & node.keys()
                    and {"maximum", "exclusiveMaximum"} & node.keys()
                )
            ):
                yield where
            if kind == "string" and not fixed and "maxLength" not in node:
                yield where
            for key, inner in node.items():
                yield from unbounded(inner, f"{where}/{key}")
        elif isinstance(node, list):
            for index, inner in enumerate(node):
                yield from unbounded(inner, f"{where}/{index}")

    assert list(unbounded(schema, "")) == []


# --- operating points by name


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


def test_a_model_without_a_search_has_no_aims(folder: Path) -> None:
    with pytest.raises(UsageError, match="no search to choose others from"):
        load_model(folder, CPU, ModelOptions(operating_point="challenge"))
