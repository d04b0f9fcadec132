"""Write ``predictions.csv`` and ``predictions.json`` from the receipts of all files."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.files import to_json, write_csv, written_atomically
from pneumoseg.pipeline.core.names import REPORT
from pneumoseg.pipeline.inference.model import Model
from pneumoseg.pipeline.results.planning import Planned
from pneumoseg.pipeline.results.receipts import Receipt, Row, read_receipt, receipt_path
from pneumoseg.pipeline.results.rows import COLUMNS, flat
from pneumoseg.pipeline.results.settings import Settings
from pneumoseg.transforms.measurements import METHODS

FORMAT_VERSION: Final = 1
CSV: Final = "predictions.csv"
JSON: Final = "predictions.json"


class Receipts(Iterable[Receipt]):
    """Receipts of files, in their order; each iteration reads one at a time, since together they may be large.

    Args:
        output: Folder of the results.
        planned: Files that have a receipt each.
    """

    def __init__(self, output: Path, planned: Sequence[Planned]) -> None:
        self.output = output
        self.planned = planned

    def __iter__(self) -> Iterator[Receipt]:
        """Read the receipts.

        Raises: JobError: If one is gone.
        """
        for file in self.planned:
            receipt = read_receipt(self.output, file.name)
            if receipt is None:
                raise JobError(
                    f"{receipt_path(self.output, file.name)} is gone; run the same command again to make it anew"
                )
            yield receipt


def withdraw_tables(output: Path) -> None:
    """Delete the tables and the report, before the first result changes and makes them wrong."""
    for name in (CSV, JSON, REPORT):
        (output / name).unlink(missing_ok=True)


def write_tables(
    output: Path, planned: Sequence[Planned], receipts: Iterable[Receipt], settings: Settings, model: Model
) -> None:
    """Write the tables; the same receipts give the same bytes.

    Args:
        output: Folder of the results.
        planned: The files.
        receipts: Their receipts, in the same order.
        settings: Settings of the run; ``predictions.json`` is written only if requested.
        model: Model of the run.
    """

    def rows() -> Iterator[tuple[Row, Receipt]]:
        for file, receipt in zip(planned, receipts, strict=True):
            trained_on = was_trained_on(model, receipt)
            yield {"image": file.shown, **receipt.row, "trained_on": trained_on}, receipt

    write_csv(output / CSV, (flat(row) for row, _ in rows()), COLUMNS)
    if "json" in settings.kinds:
        images = (
            {**row, "input_sha256": receipt.input_sha256, "outputs": receipt.outputs}
            for row, receipt in rows()
        )
        write_json_list(output / JSON, _head(receipts, settings, model), "images", images)


def write_json_list(path: Path, head: Mapping[str, Any], name: str, items: Iterable[Any]) -> None:
    """Write a JSON object whose last value is a list, item by item: many items need no memory.

    Args:
        path: Path of the file, which gets the bytes that `write_json` would write.
        head: The values before the list.
        name: Key of the list.
        items: Items of the list.

    Raises: ValueError: If a float is non-finite (NaN or Inf).
    """
    end = "]\n}"
    with written_atomically(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(to_json({**head, name: []}, indent=1).removesuffix(end))
        separator = ""
        for item in items:
            file.write(f"{separator}\n  " + to_json(item, indent=1).replace("\n", "\n  "))
            separator = ","
        file.write(("\n " if separator else "") + end + "\n")


def was_trained_on(model: Model, receipt: Receipt) -> bool:
    """Tell whether a file was segmented that the model was trained on."""
    return receipt.is_result and receipt.input_sha256 is not None and model.has_seen(receipt.input_sha256)


def _head(receipts: Iterable[Receipt], settings: Settings, model: Model) -> dict[str, Any]:
    """Describe settings and results of a run, without time and place, so that two runs can be compared."""
    statuses, reasons, trained_on = Counter[str](), Counter[str](), 0
    for receipt in receipts:
        statuses[receipt.row["status"]] += 1
        if not receipt.is_result:
            reasons[receipt.row["reason"]] += 1
        trained_on += was_trained_on(model, receipt)
    return {
        "format_version": FORMAT_VERSION,
        "settings": settings.as_json(),
        "settings_sha256": settings.sha256,
        "operating_point": asdict(model.operating_point),
        "methods": METHODS,
        "trained_on": trained_on,
        "statuses": statuses,
        "reasons": reasons,
    }
