"""Choosing the operating point: what each threshold and minimum area would have scored.

For each case only two curves are kept, how many pixels exceed each threshold and how many of these lie in
the label. The challenge's Dice of every operating point follows from them exactly, so that a search looks at
no probability map twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from pneumoseg.pipeline.scoring.challenge import ChallengeScore, dice_from_counts, summarise
from pneumoseg.transforms.masks import OperatingPoint, min_area_px

STEPS: Final = (
    256  # thresholds are multiples of 1/256: exact in float32, so that curve and mask agree to the pixel
)
MIN_AREA_FRACTIONS: Final = (
    0.0, 0.00005, 0.0001, 0.0002, 0.0004, 0.0006, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.016,
    0.024, 0.032, 0.048, 0.064,
)  # fmt: skip
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CaseCurves:
    """What is kept of one case.

    Args:
        index: The case's place in the manifest.
        area: For each threshold ``k / 256``, the pixels above it; shape ``(256,)``.
        overlap: The same among the pixels of the label.
        label_area: Pixels of the label.
        pixels: Of the image.
        image_probability: The probability that the model gives to the image as a whole.
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
            image_probability: The probability that the model gives to the image as a whole.
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

    def probability(self, min_area_fraction: float) -> float:
        """The image's probability, in steps of 1/256: see `masks.image_probability`."""
        enough = self.area > min_area_px(min_area_fraction, self.pixels)
        return float(np.count_nonzero(enough)) / STEPS  # area falls with the threshold


def _count_above(histogram: Counts) -> Counts:
    """For each threshold ``k / 256``, how many pixels of a histogram of levels lie above it."""
    return histogram[:0:-1].cumsum()[::-1]


@dataclass(frozen=True)
class Decisions:
    """The scores of one operating point on a set of cases."""

    point: OperatingPoint
    areas: Counts
    dices: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]
    score: ChallengeScore
    auc: float | None
    """Area under the ROC curve of the image probabilities; None where all images are of one kind."""


def decide(curves: Sequence[CaseCurves], point: OperatingPoint) -> Decisions:
    """Score *point*, whose thresholds are rounded down to multiples of 1/256, on cases.

    Curves know of no components and no holes: masks are scored as they are drawn, before they are cleaned.
    """
    top, bottom = int(point.threshold * STEPS), int(point.drawn_threshold * STEPS)
    label_area = np.array([case.label_area for case in curves])
    areas = np.array([case.area[bottom] for case in curves])
    overlap = np.array([case.overlap[bottom] for case in curves])
    least = np.array([min_area_px(point.min_area_fraction, case.pixels) for case in curves])
    called = np.array([case.area[top] for case in curves]) > least
    areas, overlap = np.where(called, areas, 0), np.where(called, overlap, 0)
    probabilities = np.array([case.probability(point.min_area_fraction) for case in curves])
    positive = label_area > 0
    return Decisions(
        point=point,
        areas=areas,
        dices=dice_from_counts(areas, label_area, overlap),
        probabilities=probabilities,
        score=summarise(areas, label_area, overlap),
        auc=float(roc_auc_score(positive, probabilities)) if positive.any() and not positive.all() else None,
    )


def search(curves: Sequence[CaseCurves]) -> OperatingPoint:
    """Find the threshold and minimum area with the highest mean Dice of the challenge.

    The score of the point that is found is too high on the cases it was found on. Among equals the
    smallest area, then the lowest threshold is taken.
    """
    best = int(np.argmax(surface(curves).dice))
    return OperatingPoint(threshold=best % STEPS / STEPS, min_area_fraction=MIN_AREA_FRACTIONS[best // STEPS])


@dataclass(frozen=True)
class Surface:
    """What every threshold and minimum area has on some cases.

    Each is of shape ``(minimum areas, 256)``: a row for each of `MIN_AREA_FRACTIONS`, a column for each ``k / 256``.

    Attributes:
        dice: The mean Dice of the challenge.
        sensitivity: Share of the positives called positive; NaN where there are none.
        specificity: Share of the negatives called negative; NaN where there are none.
    """

    dice: Floats
    sensitivity: Floats
    specificity: Floats


def surface(curves: Sequence[CaseCurves]) -> Surface:
    """Score all thresholds and minimum areas, with masks drawn at the threshold and not cleaned."""
    label_area = np.array([case.label_area for case in curves])
    area = np.stack([case.area for case in curves])
    dice = dice_from_counts(area, label_area[:, None], np.stack([case.overlap for case in curves]))
    dice_if_empty = dice_from_counts(np.zeros_like(label_area), label_area, np.zeros_like(label_area))
    positive = label_area > 0
    rows = []
    for fraction in MIN_AREA_FRACTIONS:
        least = np.array([min_area_px(fraction, case.pixels) for case in curves])
        called = area > least[:, None]
        rows.append(
            (
                np.where(called, dice, dice_if_empty[:, None]).mean(axis=0),
                _share(called[positive]),
                _share(~called[~positive]),
            )
        )
    return Surface(*(np.stack(each) for each in zip(*rows, strict=True)))


def _share(rows: npt.NDArray[np.bool_]) -> Floats:
    """The share of the rows that are true in each column; NaN where there is no row."""
    return rows.mean(axis=0) if len(rows) else np.full(rows.shape[1], np.nan)
