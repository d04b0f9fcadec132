"""Rows of ``cases.csv``, one for each case that was scored."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.scoring.challenge import dice_from_counts, iou_from_counts

if TYPE_CHECKING:  # importing MONAI takes seconds, and reports need the names of the columns alone
    from pneumoseg.pipeline.scoring.metrics import CaseMasks, MaskScores

CROSS_FITTED: Final = "cross_fitted_"
"""Prefix of the columns of the mask at the cross-fitted operating point."""
_MASK_COLUMNS: Final = (
    "predicted_positive",
    "dice",
    "iou",
    "area_px",
    "overlap_px",
    "surface_dice",
    "hausdorff95_mm",
)
COLUMNS = (
    "id", "group", "fold", "trained_on", "positive", "probability", "calibrated_probability", "uncertainty",
    "label_area_px", *_MASK_COLUMNS, *(f"{CROSS_FITTED}{name}" for name in _MASK_COLUMNS), "view", "sex", "age",
    "spacing_row_mm", "spacing_column_mm",
)  # fmt: skip


def case_rows(
    cases: Sequence[Case],
    seen: Sequence[bool],
    masks: "Sequence[CaseMasks]",
    probabilities: npt.NDArray[np.float64],
    calibrated: npt.NDArray[np.float64] | None = None,
) -> list[dict[str, object]]:
    """Make a row for each case; all arguments are in the same order.

    Args:
        cases: Cases of the manifest.
        seen: Whether the weights were trained on each case.
        masks: Scores of the masks at the model's operating point and, where there is one, at the cross-fitted one.
        probabilities: Image probabilities as the model outputs them, shape ``(cases,)``.
        calibrated: Calibrated image probabilities, shape ``(cases,)``; None leaves the cells empty.
    """
    rows: list[dict[str, object]] = []
    for index, (case, trained_on, mask) in enumerate(zip(cases, seen, masks, strict=True)):
        row_spacing, column_spacing = case.spacing_mm or (None, None)
        rows.append(
            {
                "id": case.id,
                "group": case.group,
                "fold": case.fold,
                "trained_on": int(trained_on),
                "positive": int(case.is_positive),
                "probability": float(probabilities[index]),
                "calibrated_probability": None if calibrated is None else float(calibrated[index]),
                "uncertainty": mask.uncertainty,
                "label_area_px": case.area_px,
                **_mask_cells(mask.own, case),
                **{
                    f"{CROSS_FITTED}{name}": cell
                    for name, cell in _mask_cells(mask.cross_fitted, case).items()
                },
                "view": case.view,
                "sex": case.sex,
                "age": case.age,
                "spacing_row_mm": row_spacing,
                "spacing_column_mm": column_spacing,
            }
        )
    return rows


def _mask_cells(mask: "MaskScores | None", case: Case) -> dict[str, object]:
    if mask is None:
        return dict.fromkeys(_MASK_COLUMNS)
    counts = mask.area_px, case.area_px, mask.overlap_px
    return {
        "predicted_positive": int(mask.area_px > 0),
        "dice": float(dice_from_counts(*counts)),
        "iou": float(iou_from_counts(*counts)),
        "area_px": mask.area_px,
        "overlap_px": mask.overlap_px,
        "surface_dice": None if np.isnan(mask.surface_dice) else mask.surface_dice,
        "hausdorff95_mm": None if np.isnan(mask.hausdorff95_mm) else mask.hausdorff95_mm,
    }
