"""Metric of the SIIM-ACR challenge from pixel counts: Dice, its rule for empty masks, and its parts.

Most radiographs show no pneumothorax, and each of them scores 1 when nothing is predicted. Empty masks for all images
therefore score the share of the negatives, and every score is reported beside that value and its parts.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pneumoseg.pipeline.scoring.statistics import mean_of, value_of


def dice_from_counts(pred_px: ArrayLike, true_px: ArrayLike, shared_px: ArrayLike) -> NDArray[np.float64]:
    """Compute Dice, ``2 |X and Y| / (|X| + |Y|)``: **1 if both masks are empty, 0 if exactly one is**.

    Args:
        pred_px: Number of pixels of each predicted mask.
        true_px: Number of pixels of each true mask.
        shared_px: Number of pixels that are in both.

    Returns: Values in [0, 1], of the common shape of the arguments.

    Source: Evaluation page of the SIIM-ACR Pneumothorax Segmentation challenge, 2019.
    """
    total = np.add(pred_px, true_px, dtype=np.float64)
    both_empty = total == 0
    return np.where(both_empty, 1.0, 2.0 * np.asarray(shared_px) / np.where(both_empty, 1.0, total))


def challenge_dice(pred: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """Compute the challenge's Dice of masks: 1 if both are empty, 0 if exactly one is.

    Args:
        pred: Predicted masks, shape ``(..., rows, columns)``; True, or any number except 0, is inside. Floats must be 0
            or one other value, so that probabilities are not mistaken for masks.
        truth: True masks of the same shape.

    Returns: One value in [0, 1] for each image, shape ``(...)``.
    Raises: ValueError: If the shapes differ, or floats are not masks.
    Source: Evaluation page of the SIIM-ACR Pneumothorax Segmentation challenge, 2019.
    """
    predicted, true = _inside(np.asarray(pred)), _inside(np.asarray(truth))
    if predicted.shape != true.shape:
        raise ValueError(f"masks of shapes {predicted.shape} and {true.shape}; both need one shape")
    counts = (np.count_nonzero(mask, axis=(-2, -1)) for mask in (predicted, true, predicted & true))
    return dice_from_counts(*counts)


def _inside(masks: NDArray[Any]) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = masks != 0
    values = masks[inside] if masks.dtype.kind == "f" else masks[:0]
    if values.size and values.min() != values.max():  # or NaN
        found = f"values from {values.min():g} to {values.max():g}"
        raise ValueError(f"masks with {found}; probabilities need a threshold first")
    return inside


def iou_from_counts(pred_px: ArrayLike, true_px: ArrayLike, shared_px: ArrayLike) -> NDArray[np.float64]:
    """Compute the intersection over union, with the rule of `dice_from_counts` for empty masks.

    Args:
        pred_px: Number of pixels of each predicted mask.
        true_px: Number of pixels of each true mask.
        shared_px: Number of pixels that are in both.

    Returns: Values in [0, 1], of the common shape of the arguments.
    """
    dice = dice_from_counts(pred_px, true_px, shared_px)
    return dice / (2 - dice)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeScore:
    """Challenge score of a set of images, and its parts; a part without any image is None."""

    dice: float
    """Challenge score: mean Dice over the images."""
    predict_nothing: float
    """Score of empty masks for all images."""
    dice_positive: float | None
    """Mean Dice of the positives; a missed one scores 0."""
    dice_both: float | None
    """Mean Dice of the images whose true and predicted masks both contain pixels."""
    sensitivity: float | None
    """Share of the positives that are predicted positive: their predicted mask contains a pixel."""
    specificity: float | None
    """Share of the negatives that are predicted negative."""
    precision: float | None
    """Share of the images predicted positive that are positive."""
    images: int
    positives: int
    predicted_positive: int
    found: int
    """Number of positives that are predicted positive."""

    def as_dict(self) -> dict[str, Any]:
        """Return all values by name, ready for JSON."""
        return asdict(self)


def summarise(pred_px: ArrayLike, true_px: ArrayLike, shared_px: ArrayLike) -> ChallengeScore:
    """Score images from their pixel counts.

    Args:
        pred_px: Number of pixels of each predicted mask, shape ``(images,)``.
        true_px: Number of pixels of each true mask, shape ``(images,)``.
        shared_px: Number of pixels that are in both, shape ``(images,)``.

    Raises: ValueError: If there is no image.
    """
    dice = dice_from_counts(pred_px, true_px, shared_px)

    def mean(values: ArrayLike, where: ArrayLike | None = None) -> float | None:
        return value_of(mean_of(values, where), dice.size)  # to the bit as beside its interval

    if (score := mean(dice)) is None:
        raise ValueError("no image to score; do the ids of prediction and truth agree?")
    is_predicted, is_positive = np.asarray(pred_px) > 0, np.asarray(true_px) > 0
    return ChallengeScore(
        dice=score,
        predict_nothing=float(np.mean(~is_positive)),
        dice_positive=mean(dice, is_positive),
        dice_both=mean(dice, is_positive & is_predicted),
        sensitivity=mean(is_predicted, is_positive),
        specificity=mean(~is_predicted, ~is_positive),
        precision=mean(is_positive, is_predicted),
        images=dice.size,
        positives=int(is_positive.sum()),
        predicted_positive=int(is_predicted.sum()),
        found=int((is_positive & is_predicted).sum()),
    )
