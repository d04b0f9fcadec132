"""Distances of outlines in millimetres, where both masks contain pixels and the pixel spacing is known."""

import warnings
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

TOLERANCE_MM: Final = 2.0
"""Tolerance of the surface Dice, about the distance between the outlines of two readers."""


def outline_distances(
    pred: npt.NDArray[np.uint8], true: npt.NDArray[np.uint8], spacing_mm: tuple[float, float] | None
) -> tuple[float, float]:
    """Compare two masks by their outlines.

    Args:
        pred: Predicted mask of zeros and ones, shape ``(rows, columns)``.
        true: True mask of the same shape.
        spacing_mm: Distance between rows and between columns in mm; None where it is unknown.

    Returns:
        Surface Dice, the share of both outlines that lies within `TOLERANCE_MM` of the other; and the 95 % Hausdorff
        distance in mm. Both are NaN where a mask is empty or the spacing is unknown.
    """
    if spacing_mm is None or not pred.any() or not true.any():
        return np.nan, np.nan
    filled = [np.flatnonzero((pred | true).any(axis=axis)) for axis in (1, 0)]
    # the rest is empty, and takes time
    box = tuple(slice(max(0, each[0] - 1), each[-1] + 2) for each in filled)
    one, other = (torch.from_numpy(mask[box] > 0)[None, None] for mask in (pred, true))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI warns about masks of a single pixel
        dice = compute_surface_dice(
            one, other, class_thresholds=[TOLERANCE_MM], include_background=True, spacing=spacing_mm
        )
        distance = compute_hausdorff_distance(
            one, other, include_background=True, percentile=95, spacing=spacing_mm
        )
    return float(dice), float(distance)
