"""Platt scaling: calibration of the image probability by a slope and an intercept of its logit."""

from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from pneumoseg.pipeline.model.description import Calibration
from pneumoseg.pipeline.scoring.calibration import calibrate, finite_logit
from pneumoseg.pipeline.scoring.statistics import Floats

_WEAK: Final = 1e4
"""Inverse strength of the penalty, which keeps the fit finite where the classes do not overlap."""


def fit_calibration(probabilities: npt.ArrayLike, positive: npt.ArrayLike) -> Calibration | None:
    """Fit slope and intercept that maximise the likelihood of the images' labels.

    Args:
        probabilities: Image probabilities of networks that were not trained on the images, shape ``(images,)``.
        positive: Whether each image is positive, shape ``(images,)``.

    Returns: The calibration; None where all images are of one class, or a positive image has on average no higher
        logit than a negative one, so that calibration would turn the order round.

    Source: Platt, Probabilistic outputs for support vector machines, 1999; without its smoothed targets.
    """
    labels = np.asarray(positive, dtype=np.bool_)
    if not labels.any() or labels.all():
        return None
    fitted = LogisticRegression(C=_WEAK, tol=1e-8, max_iter=1000).fit(
        finite_logit(probabilities).reshape(-1, 1), labels
    )
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return Calibration(slope=slope, intercept=intercept) if slope > 0 else None


def cross_fitted_probabilities(
    probabilities: Floats, positive: npt.NDArray[np.bool_], inner_folds: npt.ArrayLike
) -> Floats:
    """Calibrate each image by what was fitted without its inner fold.

    Args:
        probabilities: Image probabilities of networks that were not trained on the images, shape ``(images,)``.
        positive: Whether each image is positive, shape ``(images,)``.
        inner_folds: Inner fold of each image, shape ``(images,)``; the images of one patient are in one inner fold.

    Returns: Calibrated probabilities, shape ``(images,)``; unchanged where nothing can be fitted.
    """
    folds = np.asarray(inner_folds)
    calibrated = probabilities.copy()
    for fold in np.unique(folds):
        inside = folds == fold
        found = fit_calibration(probabilities[~inside], positive[~inside])
        calibrated[inside] = calibrate(probabilities[inside], found)
    return calibrated
