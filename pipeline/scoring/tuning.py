"""Tuning of the operating point on cases that the networks were not trained on."""

from collections.abc import Sequence
from typing import Final

from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.model.description import (
    CurvePoint,
    ObjectivePoint,
    OperatingPointSearch,
    TunedPoint,
    image_digest,
)
from pneumoseg.pipeline.scoring.case_curves import CaseCurves, image_probabilities
from pneumoseg.pipeline.scoring.cross_fitting import cross_fit
from pneumoseg.pipeline.scoring.platt import fit_calibration
from pneumoseg.pipeline.scoring.search import Objective, ScoredPoint, Search

OBJECTIVES: Final[tuple[Objective, ...]] = ("challenge", "specificity", "screening")


def tune(curves: Sequence[CaseCurves], cases: Sequence[Case]) -> OperatingPointSearch:
    """Search the operating points of all objectives on out-of-fold predictions; the one of a model is ``challenge``.

    Args:
        curves: Curves and image probabilities, of networks that were not trained on the cases.
        cases: All cases of the manifest.
    """
    search = Search(curves)
    best = search.steadiest()
    return OperatingPointSearch(
        cases=len(curves),
        objectives={
            objective: _objective_point(best if objective == "challenge" else search.best(objective))
            for objective in OBJECTIVES
        },
        curve=tuple(map(_curve_point, search.curve(best.point))),
        frontier=tuple(map(_curve_point, search.frontier(best.point))),
        cross_fitted=cross_fit(curves, [cases[each.index].group for each in curves]),
        calibration=fit_calibration(image_probabilities(curves), [each.label_area > 0 for each in curves]),
        image_digests=tuple(sorted(image_digest(cases[each.index].sha256) for each in curves)),
    )


def _objective_point(found: ScoredPoint) -> ObjectivePoint:
    return ObjectivePoint(
        point=TunedPoint.of(found.point),
        dice=found.dice,
        sensitivity=found.sensitivity,
        specificity=found.specificity,
    )


def _curve_point(found: ScoredPoint) -> CurvePoint:
    return CurvePoint(
        threshold=found.point.threshold,
        min_area_fraction=found.point.min_area_fraction,
        image_threshold=found.point.image_threshold,
        dice=found.dice,
        sensitivity=found.sensitivity,
        specificity=found.specificity,
    )
