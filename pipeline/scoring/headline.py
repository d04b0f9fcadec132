"""Headline scores of a set of images, beside those of empty masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from pneumoseg.pipeline.scoring.challenge import dice_from_counts, iou_from_counts
from pneumoseg.pipeline.scoring.intervals import RESAMPLES, Difference, Measured, PatientBootstrap
from pneumoseg.pipeline.scoring.paired_test import p_values
from pneumoseg.pipeline.scoring.statistics import (
    Floats,
    Statistic,
    auc_of,
    average_precision_of,
    calibration_error_of,
    gap_of,
    mean_of,
    value_of,
)

TITLES: Final = {
    "dice": "Dice (the challenge's score)",
    "dice_positive": "Dice on positives",
    "dice_both": "Dice where both contain pixels",
    "iou": "IoU",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "auc": "AUC of the image probability",
    "average_precision": "average precision",
    "surface_dice": "surface Dice",
    "hausdorff95_mm": "95 % Hausdorff distance, mm",
    "false_positive_px": "false-positive pixels on negatives",
    "image_calibration_error": "calibration error, images",
    "pixel_calibration_error": "calibration error, pixels",
}
OperatingPointKind: TypeAlias = Literal["cross-fitted", "in-sample", "fixed"]
MEANINGS: Final[dict[OperatingPointKind, str]] = {
    "cross-fitted": "Each image is scored at the cross-fitted operating point, which was tuned without the {unit}: "
    "quote these scores. The in-sample scores beside them use the operating point of the model, which was tuned on all "
    "of these images, and are somewhat too high.",
    "in-sample": "The operating point was tuned on these same images, or on some of them: these in-sample scores are "
    "somewhat too high.",
    "fixed": "According to manifest and model, the operating point was not tuned on these images.",
}
"""Explanation of each kind of operating point; ``{unit}`` stands for what is never divided, patient or image."""
TOO_HIGH: Final = frozenset({"image_calibration_error", "pixel_calibration_error"})
"""Scores that chance makes too high, since gaps in either direction add to them."""
_PER_IMAGE: Final = (
    "pred_px", "true_px", "shared_px", "probabilities", "calibrated", "pixel_gaps", "pixels",
)  # fmt: skip
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoredImages:
    """Measurements of each image; arrays have the shape ``(images,)``.

    Attributes:
        groups: Patient of each image.
        pred_px: Number of pixels of the predicted mask.
        true_px: Number of pixels of the true mask.
        shared_px: Number of pixels that are in both.
        probabilities: Image probabilities as the model outputs them, for AUC and average precision, which do not
            depend on the operating point. None where only masks are known.
        calibrated: Calibrated image probabilities, for the calibration error; None stands for `probabilities`.
        pixel_gaps: Calibration gaps computed by `calibration.pixel_gaps`, shape ``(images, bins)``.
        pixels: Number of pixels of each whole image; required with `pixel_gaps`.
        distances: Further measurements by name, NaN where an image has none; their means are reported.
    """

    groups: Sequence[str]
    pred_px: Counts
    true_px: Counts
    shared_px: Counts
    probabilities: Floats | None = None
    calibrated: Floats | None = None
    pixel_gaps: Floats | None = None
    pixels: Counts | None = None
    distances: Mapping[str, Floats] | None = None

    def __len__(self) -> int:
        return len(self.true_px)

    @cached_property
    def statistics(self) -> dict[str, Statistic]:
        """Statistics of `TITLES` that the available measurements allow."""
        counts = self.pred_px, self.true_px, self.shared_px
        dice = dice_from_counts(*counts)
        predicted, positive = self.pred_px > 0, self.true_px > 0
        found = {
            "dice": mean_of(dice),
            "dice_positive": mean_of(dice, positive),
            "dice_both": mean_of(dice, positive & predicted),
            "iou": mean_of(iou_from_counts(*counts)),
            "sensitivity": mean_of(predicted, positive),
            "specificity": mean_of(~predicted, ~positive),
            "precision": mean_of(positive, predicted),
            "false_positive_px": mean_of(self.pred_px, ~positive, limits=None),
        }
        if self.probabilities is not None:
            found["auc"] = auc_of(self.probabilities, positive)
            found["average_precision"] = average_precision_of(self.probabilities, positive)
            calibrated = self.probabilities if self.calibrated is None else self.calibrated
            found["image_calibration_error"] = calibration_error_of(calibrated, positive)
        if self.pixel_gaps is not None and self.pixels is not None:
            found["pixel_calibration_error"] = gap_of(self.pixel_gaps, self.pixels)
        for name, values in (self.distances or {}).items():
            found[name] = mean_of(values, ~np.isnan(values), limits=None)
        return {name: found[name] for name in TITLES if name in found}

    def select(self, where: npt.NDArray[np.bool_]) -> "ScoredImages":
        """Select images.

        Args:
            where: Whether to keep each image, shape ``(images,)``.
        """
        kept: dict[str, Any] = {
            name: None if (values := getattr(self, name)) is None else values[where] for name in _PER_IMAGE
        }
        return replace(
            self,
            groups=[group for group, wanted in zip(self.groups, where, strict=True) if wanted],
            **kept,
            distances={name: values[where] for name, values in (self.distances or {}).items()},
        )

    def followed_by(self, other: "ScoredImages") -> "ScoredImages":
        """Append other images, and keep the measurements that are available for both.

        Args:
            other: Images to append.
        """

        def joined(name: str) -> Any:
            mine, theirs = getattr(self, name), getattr(other, name)
            return None if mine is None or theirs is None else np.concatenate([mine, theirs])

        mine, theirs = self.distances or {}, other.distances or {}
        return ScoredImages(
            groups=[*self.groups, *other.groups],
            distances={name: np.concatenate([mine[name], theirs[name]]) for name in mine if name in theirs},
            **{name: joined(name) for name in _PER_IMAGE},
        )

    def measure(self, *, resamples: int = RESAMPLES) -> dict[str, Measured]:
        """Compute each score with its confidence interval.

        Args:
            resamples: Number of bootstrap resamples.
        """
        return PatientBootstrap(self.groups, resamples=resamples).measure(self.statistics, too_high=TOO_HIGH)

    def emptied(self) -> "ScoredImages":
        """Return the same images with empty masks and image probabilities of 0."""
        none = np.zeros_like(self.true_px)
        return replace(
            self,
            pred_px=none,
            shared_px=none,
            probabilities=None if self.probabilities is None else np.zeros(len(self)),
            calibrated=None,
            pixel_gaps=None,
            distances=None,
        )

    def predicting_nothing(self) -> dict[str, float | None]:
        """Compute the same scores for empty masks on all images."""
        found: dict[str, float | None] = dict.fromkeys(self.statistics)
        nothing = self.emptied().statistics
        return found | {name: value_of(each, len(self)) for name, each in nothing.items()}


def compare(first: ScoredImages, second: ScoredImages) -> dict[str, Difference]:
    """Compute the difference first minus second of each score on the same images, tested by patient.

    Args:
        first: Images as predicted by the first model.
        second: The same images in the same order, as predicted by the second model.

    Raises: ValueError: If the images differ.
    """
    same = list(first.groups) == list(second.groups) and np.array_equal(first.true_px, second.true_px)
    if not same:
        raise ValueError("two models can be compared on the same images only, in the same order")
    found = PatientBootstrap(first.groups).compare(first.statistics, second.statistics)
    tested = p_values(first.groups, _ranked(first).followed_by(_ranked(second)).statistics)
    return {name: replace(each, p_value=tested[name]) for name, each in found.items()}


def _ranked(images: ScoredImages) -> ScoredImages:
    """Replace image probabilities by their ranks, for AUC and average precision; calibration keeps the probabilities.

    Two models may spread the same ranking over different probabilities. If these were swapped, patients of one model
    would move above all those of the other, and the test would hardly ever find a difference.

    Source: Bandos, Rockette and Gur, Statistics in Medicine 2005.
    """
    if images.probabilities is None:
        return images
    _, level, counts = np.unique(images.probabilities, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[level]
    calibrated = images.probabilities if images.calibrated is None else images.calibrated
    return replace(images, probabilities=ranks, calibrated=calibrated)


def as_numbers(measured: Mapping[str, Measured]) -> dict[str, Any]:
    """Convert scores to JSON objects.

    Args:
        measured: Scores with their intervals, by name.
    """
    return {
        name: {"value": each.value, "low": each.low, "high": each.high} for name, each in measured.items()
    }
