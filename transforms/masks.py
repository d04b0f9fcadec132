"""Probabilities to a decision: is there a pneumothorax, and if so, where?"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["OperatingPoint", "image_probability", "to_mask"]


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """The rule that turns probabilities into a mask.

    An image is called positive when more than `min_area_fraction` of its pixels exceed `threshold`;
    then all of these pixels are its mask. The area is a share of the image, so that one rule serves
    images of all sizes: 0.001 is 1,048 of the 1024 x 1024 pixels of the challenge.
    """

    threshold: float = 0.5
    min_area_fraction: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1 or not 0 <= self.min_area_fraction < 1:
            raise ValueError(f"operating point {self}: threshold and min_area_fraction have to lie in [0, 1)")

    def min_area_px(self, shape: tuple[int, int]) -> int:
        """The largest area in pixels that still counts as nothing, for an image of *shape*."""
        return min_area_px(self.min_area_fraction, shape[0] * shape[1])


def min_area_px(fraction: float, pixels: int) -> int:
    """*fraction* of an image of *pixels* pixels, in whole pixels."""
    return math.floor(fraction * pixels)


def image_probability(probabilities: npt.NDArray[np.float32], point: OperatingPoint) -> float:
    """The probability that an image as a whole is given.

    It is the highest threshold at which the image would still be called positive: its value exceeds
    ``point.threshold`` exactly when the mask is not empty, so score and decision never disagree.

    Args:
        probabilities: Shape ``(rows, columns)``.
        point: Its minimum area says how many pixels have to agree.
    """
    rank = point.min_area_px((probabilities.shape[0], probabilities.shape[1])) + 1
    flat = probabilities.ravel()
    return float(np.partition(flat, flat.size - rank)[flat.size - rank])


def to_mask(probabilities: npt.NDArray[np.float32], point: OperatingPoint) -> npt.NDArray[np.uint8]:
    """Draw the mask of an image.

    Args:
        probabilities: Shape ``(rows, columns)``.
        point: The rule to apply.

    Returns: Zeros and ones, shape ``(rows, columns)``; all zeros where the rule says "no pneumothorax".
    """
    # as float64: the threshold itself decides, and not the float32 next to it, as in `image_probability`
    mask = probabilities > np.float64(point.threshold)
    if np.count_nonzero(mask) <= point.min_area_px((mask.shape[0], mask.shape[1])):
        mask[:] = False
    return mask.view(np.uint8)
