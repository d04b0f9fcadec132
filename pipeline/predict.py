"""Segment every radiograph under a folder: a row and the files that were asked for, for each."""

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pneumoseg.pipeline.console import tracked
from pneumoseg.pipeline.devices import resolve_device, resolve_precision
from pneumoseg.pipeline.errors import UsageError
from pneumoseg.pipeline.files import claim_folder, write_csv
from pneumoseg.pipeline.inference.model_folder import load_model
from pneumoseg.pipeline.inference.segment import NotRead, Segmented, segment_files
from pneumoseg.pipeline.names import safe_name
from pneumoseg.pipeline.output.nifti import save_nifti
from pneumoseg.pipeline.output.pictures import overlay, save_png
from pneumoseg.pipeline.reading.folders import find_radiographs
from pneumoseg.transforms.gates import Gates
from pneumoseg.transforms.reasons import Outcome

KINDS: Final = ("csv", "png", "nifti", "overlay")
COLUMNS: Final = (
    "image", "status", "decision", "probability", "area_px", "area_mm2", "rows", "columns", "spacing_row_mm",
    "spacing_column_mm", "sop_instance_uid", "name", "reason", "detail",
)  # fmt: skip
Row = dict[str, object]


@dataclass(frozen=True)
class PredictReport:
    """What became of the files of a folder."""

    segmented: int
    called_positive: int
    reasons: Counter[str]
    """Files without a result, by reason."""
    refused: int
    """Those among them that should have been radiographs; the others are skipped, as they are none."""
    other_files: int

    @property
    def exit_code(self) -> int:
        """0, or 3 where a file was refused."""
        return 3 if self.refused else 0


def predict_folder(
    model_folder: Path,
    folder: Path,
    output: Path,
    *,
    kinds: Collection[str] = KINDS,
    device: str = "auto",
    batch_size: int = 4,
    gates: Gates | None = None,
    workers: int = 1,
    overwrite: bool = False,
) -> PredictReport:
    """Segment every radiograph under a folder.

    Args:
        model_folder: From `train_model`; its operating point decides.
        folder: Searched with its subfolders.
        output: Gets ``predictions.csv``, ``masks/``, ``nifti/`` and ``overlays/``.
        kinds: Of ``csv``, ``png``, ``nifti`` and ``overlay``; the table is always written.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        batch_size: Images at a time.
        gates: Which files count as frontal chest radiographs, and whether text in one is harmless: without that
            it has no overlay, for the text may be a name.
        workers: Processes that decode; none decodes in this one, without protection from damaged files.
        overwrite: Delete an earlier result in *output*.

    Raises:
        UsageError: If an argument does not fit.
        JobError: If the model cannot be used, or the folder holds no radiograph.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UsageError(f"--type {unknown[0]}: {', '.join(KINDS)} would fit")
    gates = gates or Gates()
    precision = resolve_precision("auto", resolve_device(device))
    model = load_model(model_folder, precision.device)
    found = find_radiographs(folder, leave_out=[output])
    claim_folder(output, overwrite=overwrite, command="predict", inputs=[model_folder, folder])

    rows: list[Row] = []
    taken: set[str] = set()
    with tracked("segment", total=len(found.images)) as advance:
        for result in segment_files(
            model, found.images, precision=precision, gates=gates, batch_size=batch_size, workers=workers
        ):
            where = os.path.relpath(result.path, folder if folder.is_dir() else folder.parent)
            if isinstance(result, NotRead):
                rows.append(_row_without_result(where, result))
            else:
                name = _free_name(result, taken)
                _write_files(output, name, result, kinds, gates)
                rows.append(_row(where, name, result))
            advance()
    write_csv(output / "predictions.csv", rows, COLUMNS)
    return PredictReport(
        segmented=sum(row["status"] == "segmented" for row in rows),
        called_positive=sum(row.get("decision") == "positive" for row in rows),
        reasons=Counter(str(row["reason"]) for row in rows if row["status"] != "segmented"),
        refused=sum(row["status"] == Outcome.REFUSED for row in rows),
        other_files=found.others,
    )


def _free_name(result: Segmented, taken: set[str]) -> str:
    """A file name for the results of an image: its UID if it has one, else its own name; never one twice."""
    base = safe_name(result.radiograph.sop_instance_uid or result.path.stem)
    name, number = base, 1
    while name.casefold() in taken:  # file systems that fold case would write one over the other
        number += 1
        name = f"{base}-{number}"
    taken.add(name.casefold())
    return name


def _write_files(output: Path, name: str, result: Segmented, kinds: Collection[str], gates: Gates) -> None:
    if "png" in kinds:
        save_png(output / "masks" / f"{name}.png", result.mask * 255)
    if "nifti" in kinds:
        save_nifti(output / "nifti" / f"{name}.nii.gz", result.mask, result.radiograph.spacing_mm)
    if "overlay" in kinds and (gates.allow_burned_in or not result.radiograph.burned_in):
        save_png(output / "overlays" / f"{name}.png", overlay(result.radiograph.image, result.mask))


def _row(where: str, name: str, result: Segmented) -> Row:
    radiograph = result.radiograph
    rows, columns = radiograph.shape
    row_spacing, column_spacing = radiograph.spacing_mm or (None, None)
    return {
        "image": where,
        "status": "segmented",
        "decision": "positive" if result.mask.any() else "negative",
        "probability": result.probability,
        "area_px": result.area_px,
        "area_mm2": result.area_mm2,
        "rows": rows,
        "columns": columns,
        "spacing_row_mm": row_spacing,
        "spacing_column_mm": column_spacing,
        "sop_instance_uid": radiograph.sop_instance_uid,
        "name": name,
        "reason": " ".join(dict.fromkeys(reason for reason, _ in radiograph.warnings)),
        "detail": "; ".join(detail for _, detail in radiograph.warnings),
    }


def _row_without_result(where: str, result: NotRead) -> Row:
    error = result.error
    return {"image": where, "status": error.reason.outcome, "reason": error.reason, "detail": error.detail}
