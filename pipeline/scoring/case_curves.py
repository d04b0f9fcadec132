"""Threshold curves of cases, and the scores of operating points that follow from them.

A case is reduced to its image probability and two curves: the number of pixels that exceed each threshold, and the
number of these that lie in the label. They determine the challenge's Dice of every operating point without cleaning
exactly, so that a search reads each probability map only once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit
from torch import Tensor

from pneumoseg.pipeline.scoring.challenge import ChallengeScore, dice_from_counts, summarise
from pneumoseg.pipeline.scoring.statistics import auc_of, value_of
from pneumoseg.transforms.masks import OperatingPoint, accepts_image, min_area_px

STEPS: Final = 256
"""Thresholds are multiples of 1/256, which float32 represents exactly: curve and mask agree to the pixel."""
MIN_AREA_FRACTIONS: Final = (
    0.0, 0.00005, 0.0001, 0.0002, 0.0004, 0.0006, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.016,
    0.024, 0.032, 0.048, 0.064,
)  # fmt: skip
IMAGE_THRESHOLDS: Final = (0.0, *(float(value) for value in expit(np.linspace(-4.5, 4.5, 25)).round(4)))
"""Image thresholds of the search: none, and 0.011 to 0.989 in equal steps of log-odds, since image probabilities
cluster near 0 and 1. The values are fixed, so that the candidates do not depend on the images."""
MIN_IMAGE_GAIN: Final = 0.001
"""Least gain in score of an image threshold, see `image_gain`."""
TOLERANCE: Final = 1e-9
"""Scores that differ by less count as equal, since the order of a sum changes its rounding."""
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CaseCurves:
    """Threshold curves of one case.

    Attributes:
        index: Index of the case in the manifest.
        area: For each threshold ``k / 256``, the number of pixels above it; shape ``(256,)``.
        overlap: For each threshold, the number of pixels of the label above it; shape ``(256,)``.
        label_area: Number of pixels of the label.
        pixels: Number of pixels of the image.
        image_probability: Probability that the image shows a pneumothorax, as the model outputs it.
    """

    index: int
    area: Counts
    overlap: Counts
    label_area: int
    pixels: int
    image_probability: float

    @classmethod
    def measure(
        cls, probabilities: Tensor, label: Tensor, *, index: int, image_probability: float
    ) -> "CaseCurves":
        """Count the pixels of a probability map.

        Args:
            probabilities: Shape ``(rows, columns)``, on any device.
            label: Zeros and ones of the same shape, on the same device.
            index: Index of the case in the manifest.
            image_probability: Probability that the image shows a pneumothorax, as the model outputs it.
        """
        # p > k/256 exactly when ceil(256 p) > k: the product is exact
        level = (probabilities * STEPS).ceil_().clamp_(0, STEPS).to(torch.int32)
        inside = (label > 0).to(torch.int32)
        histogram = torch.bincount((level + (STEPS + 1) * inside).flatten(), minlength=2 * (STEPS + 1))
        outside, overlap = histogram.cpu().numpy().reshape(2, STEPS + 1)
        return cls(
            index=index,
            area=_count_above(outside + overlap),
            overlap=_count_above(overlap),
            label_area=int(overlap.sum()),
            pixels=level.numel(),
            image_probability=image_probability,
        )


def _count_above(histogram: Counts) -> Counts:
    """Count the pixels of a histogram of levels above each threshold ``k / 256``."""
    return histogram[:0:-1].cumsum()[::-1]


@dataclass(frozen=True)
class OperatingPointScores:
    """Scores of one operating point on a set of cases.

    Attributes:
        point: Operating point.
        areas: Number of pixels of each mask, shape ``(cases,)``.
        dices: Dice of each case, shape ``(cases,)``.
        score: Challenge score and its parts.
        auc: Area under the ROC curve of the image probabilities, which does not depend on the operating point; None
            where all images are positive, or all negative.
    """

    point: OperatingPoint
    areas: Counts
    dices: Floats
    score: ChallengeScore
    auc: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the parts of the score and the AUC by name, for JSON."""
        return {**self.score.as_dict(), "auc": self.auc}


def score_point(curves: Sequence[CaseCurves], point: OperatingPoint) -> OperatingPointScores:
    """Score an operating point on cases.

    Curves contain neither components nor holes, so masks are scored as they are thresholded, before any cleaning.

    Args:
        curves: Threshold curves of each case.
        point: Operating point; its pixel thresholds are rounded down to multiples of 1/256.
    """
    classification, segmentation = int(point.threshold * STEPS), int(point.mask_threshold * STEPS)
    label_area = np.array([case.label_area for case in curves])
    areas = np.array([case.area[segmentation] for case in curves])
    overlap = np.array([case.overlap[segmentation] for case in curves])
    probabilities = image_probabilities(curves)
    least = np.array([min_area_px(point.min_area_fraction, case.pixels) for case in curves])
    enough = np.array([case.area[classification] for case in curves]) > least
    predicted = enough & point.accepts(probabilities)
    areas, overlap = np.where(predicted, areas, 0), np.where(predicted, overlap, 0)
    return OperatingPointScores(
        point=point,
        areas=areas,
        dices=dice_from_counts(areas, label_area, overlap),
        score=summarise(areas, label_area, overlap),
        auc=value_of(auc_of(probabilities, label_area > 0), len(curves)),
    )


def image_probabilities(curves: Sequence[CaseCurves]) -> Floats:
    """Collect the image probabilities.

    Args:
        curves: Threshold curves of each case.

    Returns: Probabilities, shape ``(cases,)``.
    """
    return np.array([case.image_probability for case in curves], dtype=np.float64)


def image_gain(images: int) -> float:
    """Compute the gain in a mean over images that an image threshold must exceed to be used.

    An image threshold is one more parameter that is tuned on the same images. A gain of one image, or of less than
    0.001, is chance: with random image probabilities, a search on 400 images without the limit of one image used an
    image threshold in some inner folds, and lost Dice by it.

    Args:
        images: Number of images in the mean.
    """
    return max(MIN_IMAGE_GAIN, 1 / max(images, 1))


def search_thresholds(curves: Sequence[CaseCurves]) -> OperatingPoint:
    """Find the threshold, minimum area and image threshold with the highest mean Dice of the challenge.

    The score of the result on the same cases is an in-sample score and too high. Among equals the search prefers the
    point without image threshold, then with the smallest area, then with the lowest threshold.

    Args:
        curves: Threshold curves of each case.
    """
    # one matrix product: with an image threshold, each accepted case adds its Dice minus that of an empty mask
    dice, empty, area, pixels = _dices(curves)
    accepted = accepts_image(image_probabilities(curves)[:, None], IMAGE_THRESHOLDS).astype(np.float64)
    gains = [
        np.where(area > _least(fraction, pixels), dice - empty, 0).T @ accepted
        for fraction in MIN_AREA_FRACTIONS
    ]
    scores = np.moveaxis(np.stack(gains), -1, 0) / len(curves)  # (image thresholds, areas, thresholds)
    scores[1:] -= image_gain(len(curves))
    best = int(np.argmax(scores >= scores.max() - TOLERANCE))  # the first of all equals
    level, fraction, step = np.unravel_index(best, scores.shape)
    return OperatingPoint(
        threshold=int(step) / STEPS,
        min_area_fraction=MIN_AREA_FRACTIONS[fraction],
        image_threshold=IMAGE_THRESHOLDS[level],
    )


@dataclass(frozen=True)
class Surface:
    """Scores of all thresholds and minimum areas on some cases.

    Each array has the shape ``(minimum areas, 256)``: a row for each of `MIN_AREA_FRACTIONS`, a column for each
    threshold ``k / 256``.

    Attributes:
        dice: Mean Dice of the challenge.
        sensitivity: Share of the positives that are predicted positive; NaN where there are none.
        specificity: Share of the negatives that are predicted negative; NaN where there are none.
    """

    dice: Floats
    sensitivity: Floats
    specificity: Floats


def surface(curves: Sequence[CaseCurves], *, image_threshold: float = 0.0) -> Surface:
    """Score all thresholds and minimum areas without cleaning.

    Args:
        curves: Threshold curves of each case.
        image_threshold: Image threshold of all points; 0 is no image criterion.
    """
    dice, empty, area, pixels = _dices(curves)
    accepted = accepts_image(image_probabilities(curves), image_threshold)[:, None]
    positive = np.array([case.label_area > 0 for case in curves])
    rows = []
    for fraction in MIN_AREA_FRACTIONS:
        predicted = (area > _least(fraction, pixels)) & accepted
        rows.append(
            (
                np.where(predicted, dice, empty).mean(axis=0),
                _share(predicted[positive]),
                _share(~predicted[~positive]),
            )
        )
    return Surface(*(np.stack(each) for each in zip(*rows, strict=True)))


def _dices(curves: Sequence[CaseCurves]) -> tuple[Floats, Floats, Counts, Sequence[int]]:
    """Compute Dice at each threshold, shape ``(cases, 256)``, and of an empty mask; areas; pixels of each image."""
    label_area = np.array([case.label_area for case in curves])[:, None]
    area = np.stack([case.area for case in curves])
    dice = dice_from_counts(area, label_area, np.stack([case.overlap for case in curves]))
    empty = dice_from_counts(np.zeros_like(label_area), label_area, np.zeros_like(label_area))
    return dice, empty, area, [case.pixels for case in curves]


def _least(fraction: float, pixels: Sequence[int]) -> Counts:
    """Compute the largest area that counts as empty for each image, shape ``(images, 1)``."""
    return np.array([min_area_px(fraction, each) for each in pixels])[:, None]


def _share(rows: npt.NDArray[np.bool_]) -> Floats:
    """Compute the share of true rows in each column; NaN without rows."""
    return rows.mean(axis=0) if len(rows) else np.full(rows.shape[1], np.nan)
