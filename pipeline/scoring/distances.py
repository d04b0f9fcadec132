"""How far outlines are apart, in millimetres; only where both masks hold pixels and the spacing is known."""

import warnings
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

TOLERANCE_MM: Final = 2.0
"""Outlines that are no further apart than this count as one: about what readers differ by among themselves."""


def outline_distances(
    pred: npt.NDArray[np.uint8], true: npt.NDArray[np.uint8], spacing_mm: tuple[float, float] | None
) -> tuple[float, float]:
    """Compare two masks by their outlines.

    Args:
        pred: Shape ``(rows, columns)``.
        true: Of the same shape.
        spacing_mm: Between rows, between columns; None where it is not known.

    Returns:
        Surface Dice, the share of both outlines that lies within `TOLERANCE_MM` of the other; and the 95 % Hausdorff
        distance in mm. NaN where there is none.
    """
    if spacing_mm is None or not pred.any() or not true.any():
        return np.nan, np.nan
    filled = [np.flatnonzero((pred | true).any(axis=axis)) for axis in (1, 0)]
    box = tuple(
        slice(max(0, each[0] - 1), each[-1] + 2) for each in filled
    )  # the rest is empty, and takes time
    one, other = (torch.from_numpy(mask[box] > 0)[None, None] for mask in (pred, true))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on masks of a single pixel MONAI warns of what is as it should be
        dice = compute_surface_dice(
            one, other, class_thresholds=[TOLERANCE_MM], include_background=True, spacing=spacing_mm
        )
        distance = compute_hausdorff_distance(
            one, other, include_background=True, percentile=95, spacing=spacing_mm
        )
    return float(dice), float(distance)
