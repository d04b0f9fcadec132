"""Statistics of a set of images as functions of how often each image counts.

One formula then gives the number itself, where each image counts once, and its value in every resample of a
bootstrap. Where no image counts for a statistic, it is NaN.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Statistic: TypeAlias = Callable[[Floats], Floats]
"""Weights of shape ``(resamples, images)`` to values of shape ``(resamples,)``."""


def value_of(statistic: Statistic, images: int) -> float | None:
    """The statistic itself, where each of *images* counts once; None where none counts for it."""
    value = float(statistic(np.ones((1, images)))[0])
    return None if np.isnan(value) else value


def mean_of(values: npt.ArrayLike, where: npt.ArrayLike | None = None) -> Statistic:
    """The mean of *values*, shape ``(images,)``, over the images for which *where* is true."""
    numbers = np.asarray(values, dtype=np.float64)
    counts = np.ones(numbers.shape) if where is None else np.asarray(where, dtype=np.float64)
    numbers = np.where(counts > 0, numbers, 0)

    def statistic(weights: Floats) -> Floats:
        return _divide(weights @ numbers, weights @ counts)

    return statistic


def difference_of(first: Statistic, second: Statistic) -> Statistic:
    """How much the first is above the second, on the same images."""

    def statistic(weights: Floats) -> Floats:
        return first(weights) - second(weights)

    return statistic


def auc_of(scores: npt.ArrayLike, positive: npt.ArrayLike) -> Statistic:
    """The area under the ROC curve: how often a positive has the higher score than a negative, ties half.

    Args:
        scores: Shape ``(images,)``.
        positive: Which images are, shape ``(images,)``.
    """
    levels = _Levels(scores, positive)

    def statistic(weights: Floats) -> Floats:
        positives, negatives = levels.count(weights)
        below = negatives.cumsum(axis=1) - negatives
        wins = (positives * (below + negatives / 2)).sum(axis=1)
        return _divide(wins, positives.sum(axis=1) * negatives.sum(axis=1))

    return statistic


def average_precision_of(scores: npt.ArrayLike, positive: npt.ArrayLike) -> Statistic:
    """The mean precision over the recall that each score adds, as scikit-learn has it: without interpolation."""
    levels = _Levels(scores, positive)

    def statistic(weights: Floats) -> Floats:
        positives, negatives = levels.count(weights)
        positives, negatives = positives[:, ::-1], negatives[:, ::-1]  # the highest scores first
        found = positives.cumsum(axis=1)
        precision = np.nan_to_num(_divide(found, found + negatives.cumsum(axis=1)))
        return _divide((positives * precision).sum(axis=1), positives.sum(axis=1))

    return statistic


def calibration_error_of(
    probabilities: npt.ArrayLike, positive: npt.ArrayLike, *, bins: int = 10
) -> Statistic:
    """The expected calibration error: how far the share of positives is from the mean probability, bin by bin.

    Args:
        probabilities: Shape ``(images,)``.
        positive: Which images are, shape ``(images,)``.
        bins: Of equal width; a value on a border is in the bin below.

    Source: Naeini, Cooper and Hauskrecht, AAAI 2015.
    """
    numbers = np.asarray(probabilities, dtype=np.float64)
    gaps = numbers - np.asarray(positive, dtype=np.float64)
    bin_of = np.clip(np.ceil(numbers * bins) - 1, 0, bins - 1)
    return gap_of(gaps[:, None] * (bin_of[:, None] == np.arange(bins)), np.ones(numbers.shape))


def gap_of(gaps: Floats, sizes: npt.ArrayLike) -> Statistic:
    """The mean gap over bins, where what lies above in one image makes up for what lies below in another.

    Args:
        gaps: What each image adds to each bin, shape ``(images, bins)``.
        sizes: Of each image: how many values its gaps are of, shape ``(images,)``.
    """
    counts = np.asarray(sizes, dtype=np.float64)

    def statistic(weights: Floats) -> Floats:
        return _divide(np.abs(weights @ gaps).sum(axis=1), weights @ counts)

    return statistic


class _Levels:
    """Images by their score, those of one score together."""

    def __init__(self, scores: npt.ArrayLike, positive: npt.ArrayLike) -> None:
        numbers = np.asarray(scores, dtype=np.float64)
        self.order = np.argsort(numbers, kind="stable")
        self.starts = np.flatnonzero(np.diff(numbers[self.order], prepend=np.nan) != 0)
        self.positive = np.asarray(positive, dtype=np.bool_)[self.order]

    def count(self, weights: Floats) -> tuple[Floats, Floats]:
        """How many positives and negatives have each score, the lowest score first."""
        ordered = weights[:, self.order]
        positives = np.add.reduceat(ordered * self.positive, self.starts, axis=1)
        return positives, np.add.reduceat(ordered * ~self.positive, self.starts, axis=1)


def _divide(numerator: Any, denominator: Any) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(numerator / denominator, dtype=np.float64)
