"""Calibration of the probabilities of images, and of pixels by the threshold curves of each case."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from pneumoseg.pipeline.model.description import Calibration
from pneumoseg.pipeline.scoring.case_curves import STEPS, CaseCurves
from pneumoseg.pipeline.scoring.statistics import Floats

BINS: Final = 10
_MIDDLES: Final = np.r_[0, (np.arange(STEPS) + 0.5) / STEPS]
"""Probability that represents each level: 0, or the middle of a step of 1/256."""
_EDGE: Final = 1e-6


@dataclass(frozen=True)
class ReliabilityPoint:
    """One bin of a reliability curve.

    Attributes:
        confidence: Mean probability in the bin.
        share: Share of the bin that is positive.
        count: Number of images, or of pixels.
    """

    confidence: float
    share: float
    count: int


def levels_of(curves: CaseCurves) -> npt.NDArray[np.int64]:
    """Count the pixels of each level.

    Args:
        curves: Threshold curves of a case.

    Returns: Numbers of pixels outside of the label and inside, shape ``(2, 257)``.
    """
    inside = -np.diff(curves.overlap, prepend=curves.label_area, append=0)
    everywhere = -np.diff(curves.area, prepend=curves.pixels, append=0)
    return np.stack([everywhere - inside, inside])


def pixel_gaps(cases: Sequence[CaseCurves]) -> Floats:
    """Sum the differences between the probabilities of the pixels and their labels in each bin.

    Args:
        cases: Threshold curves of each case.

    Returns: Sums, shape ``(cases, bins)``.
    """
    gaps = np.zeros((len(cases), BINS))
    for row, curves in zip(gaps, cases, strict=True):
        outside, inside = levels_of(curves)
        np.add.at(row, _bin_of(_MIDDLES), (outside + inside) * _MIDDLES - inside)
    return gaps


def pixel_reliability(cases: Sequence[CaseCurves]) -> list[ReliabilityPoint]:
    """Compute the reliability curve of all pixels in bins of equal width.

    Args:
        cases: Threshold curves of each case.
    """
    outside, inside = np.sum([levels_of(curves) for curves in cases], axis=0)
    return _curve(_MIDDLES, inside, outside + inside)


def finite_logit(probabilities: npt.ArrayLike) -> Floats:
    """Compute logits, with 0 and 1 moved inwards by a millionth, since theirs would not be finite.

    Args:
        probabilities: Probabilities of any shape.
    """
    found: Floats = logit(np.clip(np.asarray(probabilities, dtype=np.float64), _EDGE, 1 - _EDGE))
    return found


def calibrate(probabilities: npt.ArrayLike, calibration: Calibration | None) -> Floats:
    """Calibrate image probabilities; their order stays.

    Args:
        probabilities: Probabilities of any shape.
        calibration: Slope and intercept for the logits; None changes nothing.
    """
    numbers = np.asarray(probabilities, dtype=np.float64)
    if calibration is None:
        return numbers
    found: Floats = expit(calibration.slope * finite_logit(numbers) + calibration.intercept)
    return found


def image_reliability(probabilities: Floats, positive: npt.NDArray[np.bool_]) -> list[ReliabilityPoint]:
    """Compute the reliability curve of images in bins of equal width; a value on a border is in the lower bin.

    Args:
        probabilities: Image probabilities, shape ``(images,)``.
        positive: Whether each image is positive, shape ``(images,)``.
    """
    return _curve(probabilities, positive.astype(np.int64), np.ones(len(positive), np.int64))


def _bin_of(confidence: Floats) -> npt.NDArray[np.int64]:
    bin_of: npt.NDArray[np.int64] = np.clip(np.ceil(confidence * BINS) - 1, 0, BINS - 1).astype(np.int64)
    return bin_of


def _curve(
    confidence: Floats, positive: npt.NDArray[np.int64], count: npt.NDArray[np.int64]
) -> list[ReliabilityPoint]:
    bin_of = _bin_of(confidence)
    totals, positives = (np.bincount(bin_of, each, minlength=BINS) for each in (count, positive))
    sums = np.bincount(bin_of, confidence * count, minlength=BINS)
    return [
        ReliabilityPoint(
            confidence=float(sums[each] / totals[each]),
            share=float(positives[each] / totals[each]),
            count=int(totals[each]),
        )
        for each in np.flatnonzero(totals)
    ]
