"""Threshold curves of cases, and the scores of operating points that follow from them.

A case is reduced to its image probability and two curves: the number of pixels that exceed each threshold, and the
number of these that lie in the label. They determine the challenge's Dice of every operating point exactly, so that a
search reads each probability map only once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pneumoseg.pipeline.scoring.challenge import ChallengeScore, dice_from_counts, summarise
from pneumoseg.pipeline.scoring.statistics import auc_of, value_of
from pneumoseg.transforms.masks import OperatingPoint, accepts_image, min_area_px

STEPS: Final = 256
"""Thresholds are multiples of 1/256, which float32 represents exactly: curve and mask agree to the pixel."""
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
    def from_levels(cls, levels: npt.NDArray[Any], *, index: int, image_probability: float) -> "CaseCurves":
        """Make the curves of a case from counts of its pixels.

        Args:
            levels: What `count_levels` returned, on the host.
            index: Index of the case in the manifest.
            image_probability: Probability that the image shows a pneumothorax, as the model outputs it.
        """
        outside, overlap = levels.astype(np.int64)
        return cls(
            index=index,
            area=_count_above(outside + overlap),
            overlap=_count_above(overlap),
            label_area=int(overlap.sum()),
            pixels=int(levels.sum()),
            image_probability=image_probability,
        )


def count_levels(probabilities: Tensor, label: Tensor) -> Tensor:
    """Count the pixels between two thresholds, without waiting for a GPU.

    Args:
        probabilities: Shape ``(rows, columns)``, on any device.
        label: Zeros and ones of the same shape, on the same device.

    Returns: Numbers of pixels outside and inside of the label, int32 of shape ``(2, 257)``: the first is for
        probabilities of 0, the next ones for those above ``k / 256`` and not above the next threshold.
    """
    # p > k/256 exactly when ceil(256 p) > k: the product is exact; NaN, which is refused later, is some integer,
    # and is clamped as one
    level = (probabilities * STEPS).ceil_().to(torch.int32).clamp_(0, STEPS)
    places = (level + (STEPS + 1) * (label > 0).to(torch.int32)).flatten()
    counts = torch.zeros(2 * (STEPS + 1), dtype=torch.int32, device=places.device)
    # `bincount` reads the largest number on the host
    return counts.index_add_(0, places, torch.ones_like(counts[:1]).expand(len(places))).view(2, STEPS + 1)


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
    predicted = enough & accepts_image(probabilities, point.image_threshold)
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
