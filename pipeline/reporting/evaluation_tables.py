"""Tables of an evaluation's subgroups and cases."""

from collections.abc import Sequence
from typing import Final

from pneumoseg.pipeline.reporting.content import Cell, CellValue, Table
from pneumoseg.pipeline.reporting.result_files import Row, number_or_text
from pneumoseg.pipeline.scoring.case_rows import CROSS_FITTED
from pneumoseg.pipeline.scoring.cells import interval_cell, number_cell
from pneumoseg.pipeline.scoring.intervals import Measured
from pneumoseg.pipeline.scoring.subgroups import SHOWN

_FRACTIONS: Final = frozenset({"dice", "probability", "uncertainty", "hausdorff95_mm"})
HEADLINES: Final = {
    "dice": "Dice",
    "dice_positive": "Dice on positives",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "auc": "AUC",
    "average_precision": "average precision",
}
"""Scores that a page shows first, with their short names."""
SHOWN_CASES: Final = 5000
"""Most cases in a table of a page."""
OPERATING_POINTS: Final = {
    "cross-fitted": "at the cross-fitted operating points",
    "in-sample": "at the in-sample operating point",
    "fixed": "at the operating point of the model",
}
"""Phrase for each kind of operating point."""


def at_quoted_point(row: Row, kind: str) -> Row:
    """Select the mask at the quoted operating point in a row of ``cases.csv``.

    Args:
        row: Row of ``cases.csv``.
        kind: Kind of the operating point whose scores are quoted.
    """
    if kind != "cross-fitted":
        return row
    own = {
        name.removeprefix(CROSS_FITTED): value for name, value in row.items() if name.startswith(CROSS_FITTED)
    }
    return {**row, **own}


def subgroup_table(rows: Sequence[Row]) -> Table:
    """Make the table of subgroups.

    Args:
        rows: Rows of ``subgroups.csv``.
    """
    counts = {
        "images": "images", "patients": "patients", "positive": "positives", "predicted positive": "predicted_positive",
    }  # fmt: skip
    if not any(row["patients"] for row in rows):  # they are unknown
        del counts["patients"]
    table: list[list[CellValue]] = []
    for place, row in enumerate(rows):
        # values such as "below 18" and "18 to 40" are sorted as they are listed
        name = f"{row['subgroup'].replace('_', ' ')} {row['value']}"
        cells: list[CellValue] = [Cell(name, order=place, is_number=False)]
        cells += [number_or_text(row[name]) for name in counts.values()]
        for name in SHOWN:
            texts = (row[f"{name}{bound}"] for bound in ("", "_low", "_high"))
            measured = Measured(*(float(text) if text else None for text in texts))
            cells.append(score_cell(measured, digits=3))
        table.append(cells)
    return Table(["subgroup", *counts, *(HEADLINES[name] for name in SHOWN)], table, file="subgroups.csv")


def score_cell(measured: Measured, *, of: str = "", text: str | None = None, digits: int = 4) -> Cell:
    """Make the cell of a score, with its interval on a line of its own.

    Args:
        measured: Score with its interval.
        of: Name of the score, as for `number_cell`.
        text: Text of the value where it is not the formatted score.
        digits: Number of decimals of a share.
    """
    value = number_cell(measured.value, of=of, digits=digits) if text is None else text
    interval = "" if measured.value is None else interval_cell(measured, of=of, digits=digits)
    return Cell(value, note=interval, order=measured.value)


def case_table(rows: Sequence[Row]) -> Table:
    """Make the table of cases, the worst first.

    Args:
        rows: Rows of ``cases.csv``.
    """
    columns = {
        "case": "id", "outcome": "", "Dice": "dice", "image probability": "probability", "uncertainty": "uncertainty",
        "truth px": "label_area_px", "mask px": "area_px", "Hausdorff mm": "hausdorff95_mm", "view": "view",
        "sex": "sex", "age": "age", "fold": "fold",
    }  # fmt: skip
    if not any(row["uncertainty"] for row in rows):
        del columns["uncertainty"]
    ordered = sorted(rows, key=lambda row: (float(row["dice"]), -float(row["label_area_px"])))
    table = [
        [outcome(row) if head == "outcome" else _cell(row, name) for head, name in columns.items()]
        for row in ordered[:SHOWN_CASES]
    ]
    filters = [
        name
        for name in ("outcome", "view", "sex", "fold")
        if name == "outcome" or _varies(rows, columns[name])
    ]
    return Table(
        list(columns),
        table,
        filters=filters,
        left_out=max(0, len(ordered) - SHOWN_CASES),
        file="cases.csv",
    )


def outcome(row: Row) -> str:
    """Name the outcome of a case.

    Args:
        row: Row of ``cases.csv``.
    """
    return {
        ("1", "1"): "found",
        ("1", "0"): "missed",
        ("0", "1"): "false alarm",
        ("0", "0"): "rightly negative",
    }[row["positive"], row["predicted_positive"]]


def _varies(rows: Sequence[Row], name: str) -> bool:
    return len({row[name] for row in rows}) > 1


def _cell(row: Row, name: str) -> CellValue:
    value = row[name] if name == "id" else number_or_text(row[name])
    # a fraction that is 0 or 1 is written without decimals
    return float(value) if name in _FRACTIONS and isinstance(value, int) else value
