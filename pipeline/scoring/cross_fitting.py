"""Cross-fitting of the operating point: every patient is scored at a point that was searched on the others."""

import hashlib
from collections.abc import Sequence
from typing import Final

from pneumoseg.pipeline.model.description import CrossFittedPoints, TunedPoint
from pneumoseg.pipeline.scoring.case_curves import CaseCurves, score_point
from pneumoseg.pipeline.scoring.search import Search

INNER_FOLDS: Final = 5


def inner_fold_of(group: str, inner_folds: int = INNER_FOLDS) -> int:
    """Assign a patient to an inner fold: to the same one in every collection that contains the patient.

    Args:
        group: Patient.
        inner_folds: Number of inner folds.

    Returns: Index of the inner fold, from 0.
    """
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8]) % inner_folds


def cross_fit(
    curves: Sequence[CaseCurves], groups: Sequence[str], inner_folds: int = INNER_FOLDS
) -> CrossFittedPoints | None:
    """Search once without each inner fold, and score that fold at the point found on the others.

    Args:
        curves: Threshold curves of each case.
        groups: Patient of each case.
        inner_folds: Number of inner folds; all cases of a patient are in one.

    Returns: None where all patients are in one inner fold.
    """
    fold_of = [inner_fold_of(group, inner_folds) for group in groups]
    if len(set(fold_of)) < 2:
        return None
    points = []
    total = 0.0
    for fold in range(inner_folds):
        others = [case for case, own in zip(curves, fold_of, strict=True) if own != fold]
        points.append(Search(others).steadiest().point)
        held_out = [case for case, own in zip(curves, fold_of, strict=True) if own == fold]
        total += float(score_point(held_out, points[-1]).dices.sum()) if held_out else 0.0
    return CrossFittedPoints(points=tuple(map(TunedPoint.of, points)), dice=total / len(curves))
