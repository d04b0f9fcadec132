"""Scores of the subgroups of a collection."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from pneumoseg.pipeline.dataset.folds import size_classes
from pneumoseg.pipeline.dataset.groups import PatientCount
from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.scoring.headline import ScoredImages

UNKNOWN: Final = "unknown"
AGES: Final = (18, 40, 60, 80)
SPACINGS_MM: Final = (0.15, 0.18)
SHOWN: Final = ("dice", "dice_positive", "sensitivity", "specificity", "auc")
COLUMNS: Final = (
    "subgroup", "value", "images", "patients", "positives", "predicted_positive",
    *(f"{name}{bound}" for name in SHOWN for bound in ("", "_low", "_high")),
)  # fmt: skip


def subgroups(cases: Sequence[Case]) -> Iterator[tuple[str, str, npt.NDArray[np.bool_]]]:
    """Divide cases into subgroups.

    Args:
        cases: Cases of the manifest.

    Returns: Name of the subgroup, its value, and whether each case has it, shape ``(cases,)``; only values that occur,
        in ascending order, the unknown one last.
    """
    shares = [case.area_px / (case.shape[0] * case.shape[1]) for case in cases]
    named = {
        "view": [case.view or UNKNOWN for case in cases],
        "sex": [case.sex or UNKNOWN for case in cases],
        "age": [_band(case.age, AGES) for case in cases],
        "spacing_mm": [_band(case.spacing_mm and case.spacing_mm[0], SPACINGS_MM) for case in cases],
        "mask_area": [f"quartile {size}" if size else "no pneumothorax" for size in size_classes(shares)],
    }
    ranges = {"age": _bands(AGES), "spacing_mm": _bands(SPACINGS_MM)}
    for name, listed in named.items():
        values = np.array(listed)
        found = ranges.get(name) or sorted({*listed} - {UNKNOWN})
        for value in [*found, UNKNOWN]:
            if (where := values == value).any():
                yield name, value, where


def subgroup_rows(cases: Sequence[Case], images: ScoredImages) -> list[dict[str, object]]:
    """Make a row for each subgroup with counts, and scores with their intervals.

    Args:
        cases: Cases of the manifest.
        images: Measurements of the cases, in the same order.
    """
    rows = []
    for name, value, where in subgroups(cases):
        part = images.select(where)
        row: dict[str, object] = {
            "subgroup": name,
            "value": value,
            "images": len(part),
            "patients": PatientCount.of(part.groups).patients or None,
            "positives": int((part.true_px > 0).sum()),
            "predicted_positive": int((part.pred_px > 0).sum()),
        }
        for number, measured in part.measure().items():
            bounds = {"": measured.value, "_low": measured.low, "_high": measured.high}
            row |= {f"{number}{bound}": each for bound, each in bounds.items() if number in SHOWN}
        rows.append(row)
    return rows


def _band(value: float | None, borders: Sequence[float]) -> str:
    """Name the half-open interval that contains a value."""
    return UNKNOWN if value is None else _bands(borders)[sum(value >= border for border in borders)]


def _bands(borders: Sequence[float]) -> list[str]:
    """Name all half-open intervals in ascending order."""
    between = [f"{low} to {high}" for low, high in pairwise(borders)]
    return [f"below {borders[0]}", *between, f"from {borders[-1]}"]
