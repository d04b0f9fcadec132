"""What ``cases.csv`` says of each case that was scored."""

from collections.abc import Sequence

import numpy as np

from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.scoring.challenge import dice_from_counts, iou_from_counts
from pneumoseg.pipeline.scoring.decision import Decisions
from pneumoseg.pipeline.scoring.metrics import CaseMasks

COLUMNS = (
    "id", "group", "fold", "trained_on", "positive", "called_positive", "probability", "uncertainty", "dice", "iou",
    "label_area_px", "area_px", "overlap_px", "surface_dice", "hausdorff95_mm", "unseen_decision_dice",
    "unseen_decision_area_px", "view", "sex", "age", "spacing_row_mm", "spacing_column_mm",
)  # fmt: skip


def case_rows(
    cases: Sequence[Case], seen: Sequence[bool], found: Decisions, masks: Sequence[CaseMasks]
) -> list[dict[str, object]]:
    """A row for each case.

    Args:
        cases: Of the manifest.
        seen: Whether the weights were trained on the case.
        found: At the operating point, in the same order.
        masks: In the same order.
    """
    rows: list[dict[str, object]] = []
    for case, trained_on, mask, probability, dice in zip(
        cases, seen, masks, found.probabilities, found.dices, strict=True
    ):
        row_spacing, column_spacing = case.spacing_mm or (None, None)
        rows.append(
            {
                "id": case.id,
                "group": case.group,
                "fold": case.fold,
                "trained_on": int(trained_on),
                "positive": int(case.is_positive),
                "called_positive": int(mask.area_px > 0),
                "probability": float(probability),
                "uncertainty": mask.uncertainty,
                "dice": float(dice),
                "iou": float(iou_from_counts(mask.area_px, case.area_px, mask.overlap_px)),
                "label_area_px": case.area_px,
                "area_px": mask.area_px,
                "overlap_px": mask.overlap_px,
                "surface_dice": None if np.isnan(mask.surface_dice) else mask.surface_dice,
                "hausdorff95_mm": None if np.isnan(mask.hausdorff95_mm) else mask.hausdorff95_mm,
                "unseen_decision_dice": None
                if mask.unseen_area_px is None or mask.unseen_overlap_px is None
                else float(dice_from_counts(mask.unseen_area_px, case.area_px, mask.unseen_overlap_px)),
                "unseen_decision_area_px": mask.unseen_area_px,
                "view": case.view,
                "sex": case.sex,
                "age": case.age,
                "spacing_row_mm": row_spacing,
                "spacing_column_mm": column_spacing,
            }
        )
    return rows
