"""``predictions.csv`` and ``predictions.json``, put together from the receipts of all files."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from pneumoseg.pipeline.files import write_csv, write_json
from pneumoseg.pipeline.inference.model_folder import Model
from pneumoseg.pipeline.prediction.planning import Planned
from pneumoseg.pipeline.prediction.receipts import Receipt, read_receipt
from pneumoseg.pipeline.prediction.rows import COLUMNS, flat
from pneumoseg.pipeline.prediction.settings import Settings
from pneumoseg.transforms.measurements import METHODS

FORMAT_VERSION: Final = 1


def collect(output: Path, planned: Sequence[Planned], settings: Settings) -> list[Receipt] | None:
    """The receipts of all files, in their order; None where one is missing, or is of other settings."""
    receipts = []
    for file in planned:
        receipt = read_receipt(output, file.name)
        if receipt is None or receipt.settings_sha256 != settings.sha256:
            return None
        receipts.append(receipt)
    return receipts


def write_tables(
    output: Path, planned: Sequence[Planned], receipts: Sequence[Receipt], settings: Settings, model: Model
) -> None:
    """Write the tables; the same receipts give the same bytes."""
    rows = [{"image": file.shown, **receipt.row} for file, receipt in zip(planned, receipts, strict=True)]
    write_csv(output / "predictions.csv", [flat(row) for row in rows], COLUMNS)
    if "json" in settings.kinds:
        write_json(output / "predictions.json", _manifest(rows, receipts, settings, model))


def _manifest(
    rows: Sequence[dict[str, Any]], receipts: Sequence[Receipt], settings: Settings, model: Model
) -> dict[str, Any]:
    """What was made, of what and how; neither clock nor place, so that two runs can be compared."""
    return {
        "format_version": FORMAT_VERSION,
        "settings": settings.as_json(),
        "settings_sha256": settings.sha256,
        "operating_point": asdict(model.operating_point),
        "methods": METHODS,
        "statuses": Counter(row["status"] for row in rows),
        "reasons": Counter(row["reason"] for row in rows if row["status"] != "segmented"),
        "images": [
            {**row, "input_sha256": receipt.input_sha256, "outputs": receipt.outputs}
            for row, receipt in zip(rows, receipts, strict=True)
        ],
    }
