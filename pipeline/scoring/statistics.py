"""Statistics of a set of images as functions of the weights of the images.

The same formula gives the value itself, with weights of 1, and its value in every bootstrap resample. A statistic
without any image of positive weight is NaN.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Statistic:
    """Statistic of a set of images.

    Attributes:
        compute: Function of weights of shape ``(resamples, images)`` that returns values of shape ``(resamples,)``.
        counted: Images that count for it, shape ``(images,)``; one array for each kind of image that it needs, such as
            positives and negatives.
        limits: Smallest and largest value of one image, or of one pair of images, whose mean the statistic is; None
            where it is no such mean, or its values have no limits.
        is_share: Whether it is a mean of zeros and ones, which is the share of ones among the images.
    """

    compute: Callable[[Floats], Floats]
    counted: Sequence[Flags]
    limits: tuple[float, float] | None = None
    is_share: bool = False


def value_of(statistic: Statistic, images: int) -> float | None:
    """Compute a statistic with equal weights.

    Args:
        statistic: Statistic of the images.
        images: Number of images.

    Returns: Value; None where it is undefined.
    """
    value = float(statistic.compute(np.ones((1, images)))[0])
    return None if np.isnan(value) else value


def mean_of(
    values: npt.ArrayLike,
    where: npt.ArrayLike | None = None,
    *,
    limits: tuple[float, float] | None = (0.0, 1.0),
) -> Statistic:
    """Make the weighted mean of some images.

    Args:
        values: Value of each image, shape ``(images,)``.
        where: Whether to include each image, shape ``(images,)``; None includes all.
        limits: Smallest and largest possible value of an image; None where there are none.
    """
    numbers = np.asarray(values, dtype=np.float64)
    included = np.ones(numbers.shape, dtype=np.bool_) if where is None else np.asarray(where, dtype=np.bool_)
    is_share = bool(np.isin(numbers[included], (0, 1)).all())
    numbers, counts = np.where(included, numbers, 0), included.astype(np.float64)
    return Statistic(
        lambda weights: _divide(weights @ numbers, weights @ counts), [included], limits, is_share
    )


def difference_of(first: Statistic, second: Statistic) -> Statistic:
    """Make the difference of two statistics of the same images.

    Args:
        first: Minuend.
        second: Subtrahend.
    """
    limits = None
    if first.limits and second.limits:
        limits = first.limits[0] - second.limits[1], first.limits[1] - second.limits[0]
    return Statistic(
        lambda weights: first.compute(weights) - second.compute(weights),
        [*first.counted, *second.counted],
        limits,
    )


def auc_of(scores: npt.ArrayLike, positive: npt.ArrayLike) -> Statistic:
    """Make the area under the ROC curve: the share of pairs whose positive has the higher score; ties count half.

    Args:
        scores: Score of each image, shape ``(images,)``.
        positive: Whether each image is positive, shape ``(images,)``.
    """
    levels = _Levels(scores, positive)

    def statistic(weights: Floats) -> Floats:
        positives, negatives = levels.count(weights)
        below = negatives.cumsum(axis=1) - negatives
        wins = (positives * (below + negatives / 2)).sum(axis=1)
        return _divide(wins, positives.sum(axis=1) * negatives.sum(axis=1))

    return Statistic(statistic, levels.kinds, (0.0, 1.0))


def average_precision_of(scores: npt.ArrayLike, positive: npt.ArrayLike) -> Statistic:
    """Make the average precision without interpolation, as defined by scikit-learn.

    Args:
        scores: Score of each image, shape ``(images,)``.
        positive: Whether each image is positive, shape ``(images,)``.
    """
    levels = _Levels(scores, positive)

    def statistic(weights: Floats) -> Floats:
        positives, negatives = levels.count(weights)
        positives, negatives = positives[:, ::-1], negatives[:, ::-1]  # the highest scores first
        found = positives.cumsum(axis=1)
        precision = np.nan_to_num(_divide(found, found + negatives.cumsum(axis=1)))
        return _divide((positives * precision).sum(axis=1), positives.sum(axis=1))

    return Statistic(statistic, levels.kinds)  # the precision of an image depends on all others: no mean


def calibration_error_of(
    probabilities: npt.ArrayLike, positive: npt.ArrayLike, *, bins: int = 10
) -> Statistic:
    """Make the expected calibration error: the mean distance of the share of positives from the mean probability.

    Args:
        probabilities: Image probabilities, shape ``(images,)``.
        positive: Whether each image is positive, shape ``(images,)``.
        bins: Number of bins of equal width; a value on a border is in the lower bin.

    Source: Naeini, Cooper and Hauskrecht, AAAI 2015.
    """
    numbers = np.asarray(probabilities, dtype=np.float64)
    gaps = numbers - np.asarray(positive, dtype=np.float64)
    bin_of = np.clip(np.ceil(numbers * bins) - 1, 0, bins - 1)
    return gap_of(gaps[:, None] * (bin_of[:, None] == np.arange(bins)), np.ones(numbers.shape))


def gap_of(gaps: Floats, sizes: npt.ArrayLike) -> Statistic:
    """Make the mean absolute gap over bins; gaps of opposite sign within a bin cancel.

    Args:
        gaps: Contribution of each image to each bin, shape ``(images, bins)``.
        sizes: Number of values behind the gaps of each image, shape ``(images,)``.
    """
    counts = np.asarray(sizes, dtype=np.float64)
    return Statistic(
        lambda weights: _divide(np.abs(weights @ gaps).sum(axis=1), weights @ counts), [counts > 0]
    )


class _Levels:
    """Images grouped by equal scores."""

    def __init__(self, scores: npt.ArrayLike, positive: npt.ArrayLike) -> None:
        numbers = np.asarray(scores, dtype=np.float64)
        self.order = np.argsort(numbers, kind="stable")
        self.starts = np.flatnonzero(np.diff(numbers[self.order], prepend=np.nan) != 0)
        labels = np.asarray(positive, dtype=np.bool_)
        self.kinds = [labels, ~labels]
        self.positive = labels[self.order]

    def count(self, weights: Floats) -> tuple[Floats, Floats]:
        """Sum the weights of positives and negatives of each score, the lowest score first."""
        ordered = weights[:, self.order]
        positives = np.add.reduceat(ordered * self.positive, self.starts, axis=1)
        return positives, np.add.reduceat(ordered * ~self.positive, self.starts, axis=1)


def _divide(numerator: Any, denominator: Any) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(numerator / denominator, dtype=np.float64)
