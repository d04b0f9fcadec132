"""The cases of a search, and what is measured on them once for all operating points."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.scoring.case_curves import MIN_AREA_FRACTIONS, STEPS, CaseCurves, image_probabilities
from pneumoseg.pipeline.scoring.challenge import dice_from_counts
from pneumoseg.pipeline.scoring.cleaning import count_cleaned
from pneumoseg.pipeline.scoring.out_of_fold import OutOfFold
from pneumoseg.transforms.geometry import Placement, to_network_size
from pneumoseg.transforms.labels.rle import decode_rle
from pneumoseg.transforms.masks import OperatingPoint, min_area_px

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
MIN_COMPONENT_FRACTIONS: Final = (0.0, 0.0002, 0.0005, 0.001, 0.002, 0.004)
INNER_FOLDS: Final = 5
_AT_ONCE: Final = 32
"""Number of masks that are cleaned together: large enough to amortise the call, small enough for a CPU cache."""
_LEVEL_OF: Final = np.arange(STEPS) * 255 // STEPS
"""For each threshold ``k / 256`` the highest multiple of 1/255 that does not exceed it."""


@dataclass(frozen=True)
class SearchCase:
    """One case of a search.

    Attributes:
        curves: Threshold curves at the original size.
        levels: Probability map in steps of 1/255 without padding, shape ``(rows, columns)``.
        label: True mask of the same shape.
        group: Patient of the case.
    """

    curves: CaseCurves
    levels: npt.NDArray[np.uint8]
    label: Bools
    group: str


class Cleaning(NamedTuple):
    """Postprocessing of a thresholded mask."""

    min_component_fraction: float
    fill_holes: bool


NO_CLEANING: Final = Cleaning(0.0, False)
CLEANINGS: Final = tuple(
    Cleaning(fraction, fill) for fraction in MIN_COMPONENT_FRACTIONS for fill in (False, True)
)


class MaskRule(NamedTuple):
    """Rule that makes the mask of an image that is predicted positive."""

    segmentation: int
    """Segmentation threshold in steps of 1/256."""
    cleaning: Cleaning = NO_CLEANING

    @classmethod
    def of(cls, point: OperatingPoint) -> "MaskRule":
        """Extract the rule of an operating point.

        Args:
            point: Operating point whose threshold is rounded down to a multiple of 1/256.
        """
        segmentation = int(point.mask_threshold * STEPS)
        return cls(segmentation, Cleaning(point.min_component_fraction, point.fill_holes))

    @classmethod
    def at(cls, point: OperatingPoint, classification: int) -> "MaskRule":
        """Adapt the rule of an operating point to another classification threshold.

        Args:
            point: Operating point.
            classification: Classification threshold in steps of 1/256.
        """
        own = cls.of(point)
        lower = min(classification, own.segmentation)
        segmentation = classification if point.segmentation_threshold is None else lower
        # cleaning was searched at the point's own segmentation threshold only
        return own if segmentation == own.segmentation else cls(segmentation)


def inner_fold_of(group: str, inner_folds: int = INNER_FOLDS) -> int:
    """Assign a patient to an inner fold: to the same one in every collection that contains the patient.

    Args:
        group: Patient.
        inner_folds: Number of inner folds.

    Returns: Index of the inner fold, from 0.
    """
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8]) % inner_folds


def search_cases(found: OutOfFold, cases: Sequence[Case]) -> list[SearchCase]:
    """Combine the stored maps with the labels of their cases.

    Args:
        found: Out-of-fold predictions.
        cases: All cases of the manifest.
    """
    made = []
    for curves in found.curves:
        case, square = cases[curves.index], found.maps[curves.index]
        window = Placement.of(case.orientation.swap(case.shape), square.shape[0]).window
        label = np.zeros(square.shape, dtype=np.bool_)
        if case.is_positive:
            whole = case.orientation.apply(torch.from_numpy(decode_rle(case.label, case.shape)))[None]
            label = (to_network_size(whole, square.shape[0])[0] > 0.5).numpy()
        made.append(SearchCase(curves, square[window], label[window], case.group))
    return made


class MeasuredCases:
    """Cases with the measurements that all searches on them share.

    Args:
        cases: Cases whose probability maps come from networks that were not trained on them.
    """

    def __init__(self, cases: Sequence[SearchCase]) -> None:
        self.cases = cases
        self.image_probabilities = image_probabilities([case.curves for case in cases])
        self.positive = np.array([case.curves.label_area > 0 for case in cases])
        self._positives = [case for case in cases if case.curves.label_area > 0]
        self._cleaned: dict[int, Floats] = {}

    @cached_property
    def called(self) -> Bools:
        """Whether enough pixels of each case exceed each threshold, shape ``(areas, 256, cases)``."""
        if not self.cases:
            return np.empty((len(MIN_AREA_FRACTIONS), STEPS, 0), dtype=np.bool_)
        areas = np.stack([case.curves.area for case in self.cases], axis=1)
        least = [
            [min_area_px(fraction, case.curves.pixels) for case in self.cases]
            for fraction in MIN_AREA_FRACTIONS
        ]
        return areas > np.array(least)[:, None]

    @cached_property
    def uncleaned(self) -> Floats:
        """Dice of each positive at each segmentation threshold without cleaning, shape ``(positives, 256)``."""
        if not self._positives:
            return np.empty((0, STEPS))
        counts = np.array([_counts_above(case) for case in self._positives])
        labels = np.array([np.count_nonzero(case.label) for case in self._positives])
        return _dice(counts[:, 0], labels[:, None], counts[:, 1])

    def cleaned(self, segmentation: int) -> Floats:
        """Compute the Dice of each positive for each of `CLEANINGS`.

        Args:
            segmentation: Segmentation threshold in steps of 1/256.

        Returns: Values in [0, 1], shape ``(positives, cleanings)``.
        """
        if segmentation not in self._cleaned:
            parts = [
                self._positives[first : first + _AT_ONCE]
                for first in range(0, len(self._positives), _AT_ONCE)
            ]
            dices = [_cleaned_dices(part, segmentation) for part in parts]
            self._cleaned[segmentation] = np.concatenate([np.empty((0, len(CLEANINGS))), *dices])
        return self._cleaned[segmentation]

    def mask_dices(self, rule: MaskRule) -> Floats:
        """Compute the Dice of each positive that is predicted positive.

        Args:
            rule: Rule that makes the masks.

        Returns: Values in [0, 1], shape ``(positives,)``.
        """
        if rule.cleaning == NO_CLEANING:
            dices: Floats = self.uncleaned[:, rule.segmentation]
        else:
            dices = self.cleaned(rule.segmentation)[:, CLEANINGS.index(rule.cleaning)]
        return dices

    def dices(self, point: OperatingPoint) -> Floats:
        """Compute the Dice of each case: it is classified at the original size, its mask is made on the stored map.

        Args:
            point: Operating point.

        Returns: Values in [0, 1], shape ``(cases,)``.
        """
        least = [min_area_px(point.min_area_fraction, case.curves.pixels) for case in self.cases]
        areas = [case.curves.area[int(point.threshold * STEPS)] for case in self.cases]
        predicted = np.greater(areas, least) & point.accepts(self.image_probabilities)
        dices: Floats = (~predicted & ~self.positive).astype(np.float64)
        dices[self.positive] = np.where(predicted[self.positive], self.mask_dices(MaskRule.of(point)), 0)
        return dices


def _counts_above(case: SearchCase) -> npt.NDArray[np.int64]:
    """Count the pixels of a map above each threshold, and those of them in the label; shape ``(2, 256)``."""
    histograms = [
        np.bincount(levels.ravel(), minlength=256) for levels in (case.levels, case.levels[case.label])
    ]
    above = np.cumsum([each[::-1] for each in histograms], axis=1)[:, ::-1]  # and at
    return np.pad(above, ((0, 0), (0, 1)))[:, _LEVEL_OF + 1]


def _cleaned_dices(cases: Sequence[SearchCase], segmentation: int) -> Floats:
    """Compute the Dice of positives for each of `CLEANINGS`; shape ``(positives, cleanings)``."""
    counts = count_cleaned(
        [case.levels > _LEVEL_OF[segmentation] for case in cases],
        [case.label for case in cases],
        [[min_area_px(fraction, case.levels.size) for fraction in MIN_COMPONENT_FRACTIONS] for case in cases],
    ).reshape(len(cases), len(CLEANINGS), 2)
    labels = np.array([np.count_nonzero(case.label) for case in cases])
    return _dice(counts[..., 0], labels[:, None], counts[..., 1])


def _dice(area: npt.ArrayLike, label: npt.ArrayLike, overlap: npt.ArrayLike) -> Floats:
    """Compute the Dice of positives; it is 0 where label and mask both vanish at the size of the map."""
    return np.where(np.add(area, label) > 0, dice_from_counts(area, label, overlap), 0.0)
