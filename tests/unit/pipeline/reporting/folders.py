"""Folders as jobs leave them, written by hand: what a report is made of, without a network."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pneumoseg.pipeline.core.files import write_csv
from pneumoseg.pipeline.reporting.content import Picture, Shown
from pneumoseg.pipeline.reporting.gallery import save_gallery
from pneumoseg.pipeline.results.rows import COLUMNS as PREDICTION_COLUMNS
from pneumoseg.pipeline.scoring.case_rows import COLUMNS as CASE_COLUMNS
from pneumoseg.pipeline.scoring.headline import TITLES
from pneumoseg.pipeline.scoring.subgroups import COLUMNS as SUBGROUP_COLUMNS
from pneumoseg.pipeline.training.history import COLUMNS as EPOCH_COLUMNS

CASE: Mapping[str, Any] = {
    "id": "case", "group": "p0", "fold": 0, "trained_on": 0, "positive": 0, "predicted_positive": 0,
    "probability": 0.1, "dice": 1.0, "iou": 1.0, "label_area_px": 0, "area_px": 0, "overlap_px": 0,
    "view": "PA", "sex": "F", "age": 58, "spacing_row_mm": 0.5, "spacing_column_mm": 0.25,
}  # fmt: skip
FOUND = {
    "positive": 1,
    "predicted_positive": 1,
    "probability": 0.9,
    "dice": 0.8,
    "label_area_px": 100,
    "area_px": 120,
}
MISSED = {"positive": 1, "probability": 0.2, "dice": 0.0, "label_area_px": 300}
FALSE_ALARM = {"predicted_positive": 1, "probability": 0.7, "dice": 0.0, "area_px": 50}
CASES: Sequence[Mapping[str, Any]] = (
    {"id": "found", **FOUND},
    {"id": "missed", **MISSED, "view": "AP"},
    {"id": "alarm", **FALSE_ALARM, "sex": "M"},
    {"id": "quiet", "age": None},
)
THRESHOLDS, MIN_AREAS = (0.0, 0.25, 0.5, 0.75), (0.0, 0.001)
SURFACE: Mapping[str, Any] = {
    "thresholds": THRESHOLDS,
    "min_area_fractions": MIN_AREAS,
    "dice": [[0.2, 0.4, 0.6, 0.5], [0.2, 0.5, 0.7, 0.5]],
    "sensitivity": [[1.0, 1.0, 0.5, 0.0], [1.0, 0.5, 0.5, 0.0]],
    "specificity": [[0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0]],
}
SCORES: Mapping[str, Any] = {
    "manifest": "made up", "manifest_sha256": "0" * 64, "model_weights_sha256": ["1" * 64],
    "grouped_by": "groups file", "fold": 0, "operating_point": "fixed", "trained_on": 0,
    "images": 4, "patients": 3, "unknown_patients": 0, "leakage_unchecked": 0,
    "positives": 2, "threshold": 0.5, "min_area_fraction": 0.001,
    "segmentation_threshold": None, "scores": {name: {"value": 0.75, "low": 0.5, "high": 0.875} for name in TITLES},
    "in_sample": None, "predict_nothing": dict.fromkeys(TITLES, 0.25),
    "reliability": {
        "images": [{"confidence": 0.125, "share": 0.0, "count": 2}, {"confidence": 0.875, "share": 0.5, "count": 2}],
        "pixels": [{"confidence": 0.25, "share": 0.125, "count": 800}],
    },
}  # fmt: skip
SUBGROUP: Mapping[str, Any] = {
    "subgroup": "mask_area", "value": "quartile 1", "images": 2, "patients": 1, "positives": 2, "predicted_positive": 1,
    "dice": 0.123456, "dice_low": 0.1, "dice_high": 0.2,
}  # fmt: skip


def picture(kind: str = "JPEG") -> bytes:
    """A small picture."""
    data = io.BytesIO()
    Image.fromarray(np.full((8, 6, 3), 99, np.uint8)).save(data, kind)
    return data.getvalue()


def write_evaluation(
    folder: Path,
    cases: Sequence[Mapping[str, Any]] = CASES,
    *,
    surface: Mapping[str, Any] | None = SURFACE,
    exhibits: Sequence[Shown] = (),
    **scores: Any,
) -> Path:
    """Write what `evaluate` leaves, less the report."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.json").write_text(json.dumps({**SCORES, **scores}))
    write_csv(folder / "cases.csv", [{**CASE, **case} for case in cases], CASE_COLUMNS)
    write_csv(folder / "subgroups.csv", [SUBGROUP], SUBGROUP_COLUMNS)
    if surface is not None:
        (folder / "score_surface.json").write_text(json.dumps(surface))
    if exhibits:
        save_gallery(folder, exhibits)
    return folder


def exhibit(name: str = "found") -> Shown:
    """A case with two pictures."""
    panels = [Picture("radiograph", picture()), Picture("truth", picture())]
    return Shown("best", name, {"Dice": "0.800"}, panels)


def image(name: str, probability: float, *, threshold: float = 0.5, **values: Any) -> dict[str, Any]:
    """A row of an image that was segmented."""
    return {
        "image": f"{name}.dcm", "status": "segmented", "name": name, "probability": probability,
        "decision": "positive" if probability > threshold else "negative", "sentence": f"What {name} shows.",
        "trained_on": 0,
        **values,
    }  # fmt: skip


def refused(name: str, reason: str = "TRUNCATED", status: str = "refused") -> dict[str, Any]:
    """A row of a file without a result."""
    return {"image": name, "status": status, "reason": reason, "detail": "half of it"}


def write_prediction(folder: Path, *rows: Mapping[str, Any], pictures: Sequence[str] = ()) -> Path:
    """Write what `predict` leaves, less the report; overlays for the images of these names."""
    (folder / "overlays").mkdir(parents=True, exist_ok=True)
    write_csv(folder / "predictions.csv", rows, PREDICTION_COLUMNS)
    for name in pictures:
        (folder / "overlays" / f"{name}.png").write_bytes(picture("PNG"))
    return folder


def write_run(folder: Path, *, epochs: int = 3, ended: bool = True, evaluated: bool = True) -> Path:
    """Write what `train` leaves of a run, less model, checkpoints and report."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("optimization:\n  epochs: 3\n")
    rows = [
        {"epoch": epoch, "loss": 1 / epoch, "learning_rate": 0.001, "seconds": 60.0, "dice": 0.25 * epoch,
         "predict_nothing": 0.5, "auc": None if epoch == 1 else 0.75}
        for epoch in range(1, epochs + 1)
    ]  # fmt: skip
    write_csv(folder / "metrics.csv", rows, EPOCH_COLUMNS)
    if ended:
        summary = {"best_epoch": 2, "averaged": False, "steps": 30, "skipped_steps": 1, "device": "cpu",
                   "precision": "float32"}  # fmt: skip
        (folder / "summary.json").write_text(json.dumps(summary))
    if evaluated:
        write_evaluation(folder / "evaluation", exhibits=[exhibit()])
    return folder
