"""Scores of operating points, and the one that scores best.

For each case only its image probability and two curves are kept: how many pixels exceed each threshold, and how many
of these lie in the label. The challenge's Dice of every operating point follows from them exactly, so that a search
reads no probability map twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit
from sklearn.metrics import roc_auc_score
from torch import Tensor

from pneumoseg.pipeline.scoring.challenge import ChallengeScore, dice_from_counts, summarise
from pneumoseg.transforms.masks import OperatingPoint, accepts_image, min_area_px

STEPS: Final = (
    256  # thresholds are multiples of 1/256: exact in float32, so that curve and mask agree to the pixel
)
MIN_AREA_FRACTIONS: Final = (
    0.0, 0.00005, 0.0001, 0.0002, 0.0004, 0.0006, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.016,
    0.024, 0.032, 0.048, 0.064,
)  # fmt: skip
IMAGE_THRESHOLDS: Final = (0.0, *(float(value) for value in expit(np.linspace(-4.5, 4.5, 25)).round(4)))
"""Image thresholds to choose from: none, and 0.011 to 0.989 in equal steps of log-odds, as probabilities of an image
crowd near 0 and 1. The values are fixed, so that a search does not depend on images that it was not made on."""
MIN_IMAGE_GAIN: Final = 0.001
"""See `image_gain`."""
TOLERANCE: Final = 1e-9
"""Scores that differ by less are equal; sums in another order differ by rounding."""
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CaseCurves:
    """What is kept of one case.

    Attributes:
        index: The case's place in the manifest.
        area: For each threshold ``k / 256``, the number of pixels above it; shape ``(256,)``.
        overlap: The same among the pixels of the label.
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
            index: The case's place in the manifest.
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
    """For each threshold ``k / 256``, how many pixels of a histogram of levels lie above it."""
    return histogram[:0:-1].cumsum()[::-1]


@dataclass(frozen=True)
class OperatingPointScores:
    """The scores of one operating point on a set of cases.

    Attributes:
        point: The operating point.
        areas: Pixels of each mask, shape ``(cases,)``.
        dices: Dice of each case.
        score: The challenge's score and its parts.
        auc: Area under the ROC curve of the image probabilities, which does not depend on the operating point; None
            where all images are of one kind.
    """

    point: OperatingPoint
    areas: Counts
    dices: Floats
    score: ChallengeScore
    auc: float | None


def score_point(curves: Sequence[CaseCurves], point: OperatingPoint) -> OperatingPointScores:
    """Score *point*, whose pixel thresholds are rounded down to multiples of 1/256, on cases.

    Curves know neither components nor holes: masks are scored as they are thresholded, before they are cleaned.
    """
    top, bottom = int(point.threshold * STEPS), int(point.mask_threshold * STEPS)
    label_area = np.array([case.label_area for case in curves])
    areas = np.array([case.area[bottom] for case in curves])
    overlap = np.array([case.overlap[bottom] for case in curves])
    probabilities = image_probabilities(curves)
    least = np.array([min_area_px(point.min_area_fraction, case.pixels) for case in curves])
    called = (np.array([case.area[top] for case in curves]) > least) & point.accepts(probabilities)
    areas, overlap = np.where(called, areas, 0), np.where(called, overlap, 0)
    positive = label_area > 0
    return OperatingPointScores(
        point=point,
        areas=areas,
        dices=dice_from_counts(areas, label_area, overlap),
        score=summarise(areas, label_area, overlap),
        auc=float(roc_auc_score(positive, probabilities)) if positive.any() and not positive.all() else None,
    )


def image_probabilities(curves: Sequence[CaseCurves]) -> Floats:
    """The image probability of each case, shape ``(cases,)``."""
    return np.array([case.image_probability for case in curves], dtype=np.float64)


def image_gain(images: int) -> float:
    """Tell what an image threshold has to add to a mean over images to be taken.

    It is one more number that is tuned on the same images. What it gains by one image, or by less than 0.001, is
    chance: on maps whose image probabilities were random numbers, 400 images took it in some inner folds without the
    first of these limits, and lost by it.
    """
    return max(MIN_IMAGE_GAIN, 1 / max(images, 1))


def search_thresholds(curves: Sequence[CaseCurves]) -> OperatingPoint:
    """Find the threshold, minimum area and image threshold with the highest mean Dice of the challenge.

    The score of the point that is found is too high on the cases it was found on. Among equals the point without
    image threshold, then with the smallest area, then with the lowest threshold is taken.
    """
    # with an image threshold, each accepted case adds its Dice less what an empty mask has: one matrix product
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
    """The scores of all thresholds and minimum areas on some cases.

    Each is of shape ``(minimum areas, 256)``: a row for each of `MIN_AREA_FRACTIONS`, a column for each ``k / 256``.

    Attributes:
        dice: The mean Dice of the challenge.
        sensitivity: Share of the positives that are predicted positive; NaN where there are none.
        specificity: Share of the negatives that are predicted negative; NaN where there are none.
    """

    dice: Floats
    sensitivity: Floats
    specificity: Floats


def surface(curves: Sequence[CaseCurves], *, image_threshold: float = 0.0) -> Surface:
    """Score all thresholds and minimum areas, with masks thresholded there and not cleaned.

    Args:
        curves: The cases.
        image_threshold: Of all points; 0 is no image criterion.
    """
    dice, empty, area, pixels = _dices(curves)
    accepted = accepts_image(image_probabilities(curves), image_threshold)[:, None]
    positive = np.array([case.label_area > 0 for case in curves])
    rows = []
    for fraction in MIN_AREA_FRACTIONS:
        called = (area > _least(fraction, pixels)) & accepted
        rows.append(
            (
                np.where(called, dice, empty).mean(axis=0),
                _share(called[positive]),
                _share(~called[~positive]),
            )
        )
    return Surface(*(np.stack(each) for each in zip(*rows, strict=True)))


def _dices(curves: Sequence[CaseCurves]) -> tuple[Floats, Floats, Counts, Sequence[int]]:
    """Dice at each threshold, shape ``(cases, 256)``, and of an empty mask; areas; pixels of each image."""
    label_area = np.array([case.label_area for case in curves])[:, None]
    area = np.stack([case.area for case in curves])
    dice = dice_from_counts(area, label_area, np.stack([case.overlap for case in curves]))
    empty = dice_from_counts(np.zeros_like(label_area), label_area, np.zeros_like(label_area))
    return dice, empty, area, [case.pixels for case in curves]


def _least(fraction: float, pixels: Sequence[int]) -> Counts:
    """The largest area that still counts as empty, of each image; shape ``(images, 1)``."""
    return np.array([min_area_px(fraction, each) for each in pixels])[:, None]


def _share(rows: npt.NDArray[np.bool_]) -> Floats:
    """The share of the rows that are true in each column; NaN where there is no row."""
    return rows.mean(axis=0) if len(rows) else np.full(rows.shape[1], np.nan)
