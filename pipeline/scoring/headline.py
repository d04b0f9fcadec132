"""The numbers that a set of images is judged by, and what predicting nothing has beside them."""

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
    "dice_both": "Dice where both hold pixels",
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
    "cross-fitted": "Each image is scored at the cross-fitted operating point, which was tuned without its patient: "
    "these are the numbers to quote. The in-sample numbers beside them, at the operating point of the model, which "
    "was tuned on all of these images, are somewhat too high.",
    "in-sample": "The operating point was tuned on these same images: these in-sample numbers are somewhat too high.",
    "fixed": "The operating point of the model was not tuned on these images, as far as the manifest tells.",
}
"""Where the operating points come from that numbers are at."""
AT_ANY_POINT: Final = frozenset(
    {"auc", "average_precision", "image_calibration_error", "pixel_calibration_error"}
)
"""Numbers of probabilities, which do not depend on the operating point."""
TOO_HIGH: Final = frozenset({"image_calibration_error", "pixel_calibration_error"})
"""Gaps by chance, in either direction, add to these."""
_PER_IMAGE: Final = (
    "pred_px", "true_px", "shared_px", "probabilities", "calibrated", "pixel_gaps", "pixels",
)  # fmt: skip
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoredImages:
    """What is known of each image, each of shape ``(images,)``.

    Attributes:
        groups: The patient.
        pred_px: Pixels of the predicted mask.
        true_px: Pixels of the true mask.
        shared_px: Pixels that are in both.
        probabilities: Image probabilities as the model outputs them: AUC and average precision are of these, and do
            not depend on the operating point. None where only masks are known.
        calibrated: Image probabilities at a temperature, for the calibration error; None stands for `probabilities`.
        pixel_gaps: See `pixel_gaps`, shape ``(images, bins)``.
        pixels: Number of pixels of each whole image; known where `pixel_gaps` are.
        distances: Further numbers, NaN for an image that has none; their means are reported.
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
        """Each number of `TITLES` that can be had from what is known."""
        counts = self.pred_px, self.true_px, self.shared_px
        dice = dice_from_counts(*counts)
        called, positive = self.pred_px > 0, self.true_px > 0
        found = {
            "dice": mean_of(dice),
            "dice_positive": mean_of(dice, positive),
            "dice_both": mean_of(dice, positive & called),
            "iou": mean_of(iou_from_counts(*counts)),
            "sensitivity": mean_of(called, positive),
            "specificity": mean_of(~called, ~positive),
            "precision": mean_of(positive, called),
            "false_positive_px": mean_of(self.pred_px, ~positive),
        }
        if self.probabilities is not None:
            found["auc"] = auc_of(self.probabilities, positive)
            found["average_precision"] = average_precision_of(self.probabilities, positive)
            calibrated = self.probabilities if self.calibrated is None else self.calibrated
            found["image_calibration_error"] = calibration_error_of(calibrated, positive)
        if self.pixel_gaps is not None and self.pixels is not None:
            found["pixel_calibration_error"] = gap_of(self.pixel_gaps, self.pixels)
        for name, values in (self.distances or {}).items():
            found[name] = mean_of(values, ~np.isnan(values))
        return {name: found[name] for name in TITLES if name in found}

    def select(self, where: npt.NDArray[np.bool_]) -> "ScoredImages":
        """Those of the images for which *where* is true."""
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
        """These images and then others, with what is known of both."""

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
        """Each number with its interval."""
        return PatientBootstrap(self.groups, resamples=resamples).measure(self.statistics, too_high=TOO_HIGH)

    def predicting_nothing(self) -> dict[str, float | None]:
        """The same numbers for an empty mask on each of these images."""
        none = np.zeros_like(self.true_px)
        probabilities = None if self.probabilities is None else np.zeros(len(self))
        nothing = replace(
            self,
            pred_px=none,
            shared_px=none,
            probabilities=probabilities,
            calibrated=None,
            pixel_gaps=None,
            distances=None,
        )
        found: dict[str, float | None] = dict.fromkeys(self.statistics)
        return found | {name: value_of(each, len(self)) for name, each in nothing.statistics.items()}


def compare(
    first: ScoredImages, second: ScoredImages, *, resamples: int = RESAMPLES
) -> dict[str, Difference]:
    """How much the first is above the second on the same images, in each number, tested by patient.

    Raises: ValueError: If they are not of the same images.
    """
    same = list(first.groups) == list(second.groups) and np.array_equal(first.true_px, second.true_px)
    if not same:
        raise ValueError("two models can be compared on the same images only, in the same order")
    found = PatientBootstrap(first.groups, resamples=resamples).compare(first.statistics, second.statistics)
    both = first.followed_by(second).statistics
    tested = p_values(first.groups, both, resamples=resamples)
    return {name: replace(each, p_value=tested[name]) for name, each in found.items()}


def as_numbers(measured: Mapping[str, Measured]) -> dict[str, Any]:
    """Values and intervals as JSON takes them."""
    return {
        name: {"value": each.value, "low": each.low, "high": each.high} for name, each in measured.items()
    }
