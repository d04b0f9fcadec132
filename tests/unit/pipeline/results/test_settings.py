from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.inference.model import Model, load_model
from pneumoseg.pipeline.model.description import Calibration, TunedPoint
from pneumoseg.pipeline.results.settings import FOLDERS, KINDS, check_kinds, make_settings, model_sha256
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Model:
    return load_model(model_folder, torch.device("cpu"))


def settings(model: Model, **changes: Any) -> str:
    options: dict[str, Any] = {
        "acceptance": AcceptanceFilters(),
        "research": False,
        "batch_size": 4,
    }
    kinds = changes.pop("kinds", ["png", "csv"])
    return make_settings(kinds, model=model, **{**options, **changes}).sha256


def changed(model: Model, **values: Any) -> Model:
    return replace(model, description=model.description.model_copy(update=values))


def test_whatever_decides_a_result_changes_the_settings(model: Model) -> None:
    point = TunedPoint(threshold=0.25, min_area_fraction=0)
    member = model.description.members[0].model_copy(update={"sha256": "f" * 64})
    found = [
        settings(model),
        settings(model, kinds=["png"]),
        settings(model, acceptance=AcceptanceFilters(any_view=True)),
        settings(model, research=True),
        settings(model, batch_size=2),
        settings(replace(model, precision=Precision(torch.device("cpu"), torch.bfloat16))),
        settings(replace(model, requested_runtime="onnx")),
        settings(changed(model, operating_point=point)),
        settings(changed(model, members=(member,))),
        settings(replace(model, tta=("flip",))),
        settings(replace(model, objective="sensitive")),
        settings(replace(model, calibration=Calibration(slope=0.5, intercept=0.0))),
        settings(replace(model, dropout_passes=2)),
        settings(model, uid_root="1.2.3"),
    ]
    assert len(set(found)) == len(found)


def test_the_order_of_kinds_and_the_scores_of_a_model_decide_nothing(model: Model) -> None:
    assert settings(model, kinds=["csv", "png"]) == settings(model)
    other = changed(model, validation={"dice": 0.1}, versions={"torch": "3"})
    assert model_sha256(other) == model_sha256(model)


def test_each_kind_but_the_tables_has_a_folder_of_its_own() -> None:
    assert {*FOLDERS, "csv", "json"} == set(KINDS)
    assert len(set(FOLDERS.values())) == len(FOLDERS)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="--type dicom: csv, json"):
        check_kinds(["csv", "dicom"])


def test_uncertainty_is_refused_without_dropout() -> None:
    with pytest.raises(UsageError, match="--type uncertainty needs --dropout-passes"):
        check_kinds(["uncertainty"])
    check_kinds(["uncertainty"], dropout_passes=2)
