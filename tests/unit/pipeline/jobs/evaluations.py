"""Helpers for tests of `evaluate_model`: run it on the CPU, and read its results."""

import csv
import json
from pathlib import Path
from typing import Any

from tests.conftest import Collection, job_options

from pneumoseg.pipeline.jobs.evaluate import EvaluateReport, evaluate_model


def evaluate(
    model: Path, collection: Collection, folder: Path, **options: Any
) -> tuple[EvaluateReport, list[dict[str, str]]]:
    options = job_options(**{"examples": 0, **options})  # pictures take their time
    report = evaluate_model(model, collection.manifest_path, folder / "out", **options)
    with (folder / "out" / "cases.csv").open(newline="") as file:
        return report, list(csv.DictReader(file))


def gallery(folder: Path) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads((folder / "gallery" / "gallery.json").read_text())
    return listed
