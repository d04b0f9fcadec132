"""Helpers for tests of `predict_folder`: run it on the CPU, and read its results."""

import csv
from pathlib import Path
from typing import Any

from tests.conftest import bright_pixel_network, job_options, write_model

from pneumoseg.pipeline.jobs.predict import PredictReport, predict_folder
from pneumoseg.pipeline.model.card import save_description
from pneumoseg.pipeline.model.description import (
    Calibration,
    ObjectivePoint,
    OperatingPointSearch,
    TunedPoint,
    read_description,
)


def predict(
    model: Path, images: Path, folder: Path, **options: Any
) -> tuple[PredictReport, list[dict[str, str]]]:
    report = predict_folder(model, images, folder / "out", **job_options(**options))
    with (folder / "out" / "predictions.csv").open(newline="") as file:
        return report, list(csv.DictReader(file))


def searched_model(folder: Path, calibration: Calibration | None = None) -> Path:
    """The model of bright blocks, with a search that knows a point which calls nothing, and a calibration."""
    model = write_model(folder, bright_pixel_network())
    blind = TunedPoint(threshold=0.5, min_area_fraction=0.9)
    search = OperatingPointSearch(
        cases=4,
        objectives={"specificity": ObjectivePoint(point=blind, dice=0.5, sensitivity=0.0, specificity=1.0)},
        curve=(),
        cross_fitted=None,
        calibration=calibration,
    )
    save_description(model, read_description(model).model_copy(update={"operating_point_search": search}))
    return model


def files(folder: Path) -> list[str]:
    """All results; not the receipts, the report and the log that are there in any case."""
    paths = [path.relative_to(folder / "out") for path in (folder / "out").rglob("*") if path.is_file()]
    return sorted(
        path.as_posix() for path in paths
        if not path.name.startswith((".", "run", "report")) and path.parts[0] not in {"receipts", ".parts"}
    )  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / "out" / name).read_bytes() for name in files(folder)}
