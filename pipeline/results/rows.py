"""Rows of the result tables: one for each file."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from pneumoseg.pipeline.core.names import REVIEW, SEGMENTED
from pneumoseg.pipeline.inference.segment import NotRead
from pneumoseg.pipeline.inference.segmentation import Segmentation
from pneumoseg.pipeline.results.receipts import Row
from pneumoseg.transforms.labels.rle import encode_rle
from pneumoseg.transforms.measurements import Measurements

COLUMNS: Final = (
    "image", "status", "decision", "probability", "uncertainty", "area_px", "area_mm2", "side", "width_mm", "height_mm",
    "components", "rows", "columns", "spacing_row_mm", "spacing_column_mm", "spacing_basis", "sop_instance_uid", "name",
    "reason", "detail", "left_out", "header", "trained_on", "sentence", "rle",
)  # fmt: skip
"""Columns of ``predictions.csv``."""


def row_of(
    result: Segmentation,
    name: str,
    measurements: Measurements,
    left_out: Mapping[str, str],
    *,
    research: bool,
    header_changes: Collection[str] = (),
) -> Row:
    """Make the row of a segmented radiograph.

    Args:
        result: Segmentation of the radiograph.
        name: Name of its result files, without suffix.
        measurements: Measurements of its mask.
        left_out: For each requested kind of result without a file, the reason.
        research: Whether to leave out details, which may quote the file.
        header_changes: What was cut, dropped or replaced in the header of DICOM results.

    Returns: Values by column; the column of the file's name is added by the table.
    """
    radiograph = result.radiograph
    rows, columns = radiograph.shape
    row_spacing, column_spacing = radiograph.spacing_mm or (None, None)
    warnings = radiograph.warnings
    return {
        "status": REVIEW if result.review else SEGMENTED,
        "decision": result.decision,
        "probability": result.probability,
        "uncertainty": result.image_std,
        **measurements.as_json(),
        "rows": rows,
        "columns": columns,
        "spacing_row_mm": row_spacing,
        "spacing_column_mm": column_spacing,
        "sop_instance_uid": radiograph.sop_instance_uid,
        "name": name,
        "reason": " ".join(dict.fromkeys(reason for reason, _ in warnings)),
        "detail": "" if research else "; ".join(detail for _, detail in warnings),
        "left_out": "; ".join(f"{kind}: {why}" for kind, why in left_out.items()),
        "header": "; ".join(header_changes),
        "rle": encode_rle(result.mask),
    }


def row_without_result(result: NotRead, *, research: bool) -> Row:
    """Make the row of a file without a result.

    Args:
        result: The file and the reason.
        research: Whether to leave out details, which may quote the file.
    """
    error = result.error
    return {
        "status": error.outcome.value,
        "reason": error.reason.value,
        "detail": "" if research else error.detail,
    }


def flat(row: Row) -> Row:
    """Replace the list of components in a row by their number, and flags by 0 and 1, for a table."""
    components: list[Any] | None = row.get("components")
    trained_on = int(row["trained_on"]) if row.get("name") else None  # a file without a result was not run
    return {
        **row,
        "components": None if components is None else len(components),
        "trained_on": trained_on,
    }
