"""Temperature scaling: calibration of probabilities by one divisor of the logits."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import logit

from pneumoseg.pipeline.scoring.calibration import levels_of
from pneumoseg.pipeline.scoring.case_curves import STEPS, CaseCurves

LIMIT: Final = 20.0
"""Upper limit of the temperature and of its inverse."""


def fit_temperature(cases: Sequence[CaseCurves]) -> float | None:
    """Fit the temperature that maximises the likelihood of the pixels' labels.

    Probabilities within one step of 1/256 are represented by the middle of the step.

    Args:
        cases: Threshold curves of cases that the network was not trained on.

    Returns: Temperature; None where all pixels with a logit are positive, or all negative.

    Source: Guo et al. 2017, arXiv:1706.04599.
    """
    if not cases:
        return None
    outside, inside = np.sum([levels_of(curves) for curves in cases], axis=0)[:, 1:].astype(np.float64)
    if not outside.any() or not inside.any():
        return None
    logits = logit((np.arange(STEPS) + 0.5) / STEPS)

    def cost(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(inside @ np.logaddexp(0, -scaled) + outside @ np.logaddexp(0, scaled))

    found = minimize_scalar(
        cost, bounds=(-np.log(LIMIT), np.log(LIMIT)), method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(found.x))


def cross_fitted_temperatures(cases: Sequence[CaseCurves], inner_folds: npt.ArrayLike) -> list[float]:
    """Fit the temperature of each case without its inner fold.

    Args:
        cases: Threshold curves of cases that the network was not trained on.
        inner_folds: Inner fold of each case, shape ``(cases,)``; the cases of one patient are in one inner fold.

    Returns: Temperature of each case; 1, which changes nothing, where none can be fitted.
    """
    of_case = np.asarray(inner_folds)
    fitted = {
        fold: fit_temperature([curves for curves, other in zip(cases, of_case, strict=True) if other != fold])
        for fold in np.unique(of_case).tolist()
    }
    return [fitted[fold] or 1.0 for fold in of_case.tolist()]
