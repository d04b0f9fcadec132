"""Operating points: rules that turn probabilities into masks."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """The rule that turns probabilities into a mask.

    An image is predicted positive when more than `min_area_fraction` of its pixels exceed `threshold`, and its image
    probability exceeds `image_threshold`. Its mask then holds all pixels above `segmentation_threshold`. The minimum
    area is a share of the image, so that one rule serves images of all sizes: 0.001 is 1,048 of the 1024 x 1024 pixels
    of the challenge.
    """

    threshold: float = 0.5
    min_area_fraction: float = 0.0
    segmentation_threshold: float | None = None
    """At most `threshold`; None stands for the same value."""
    image_threshold: float = 0.0
    """An image whose image probability does not exceed this is negative, whatever its pixels are; 0 is no criterion."""

    def __post_init__(self) -> None:
        shares = self.threshold, self.min_area_fraction, self.image_threshold
        if not all(0 <= share < 1 for share in shares):
            raise ValueError(f"operating point {self}: thresholds and shares have to lie in [0, 1)")
        if self.segmentation_threshold is not None and not 0 <= self.segmentation_threshold <= self.threshold:
            raise ValueError(f"operating point {self}: segmentation_threshold has to lie in [0, threshold]")

    @property
    def mask_threshold(self) -> float:
        """Threshold of the mask's pixels."""
        return self.threshold if self.segmentation_threshold is None else self.segmentation_threshold


def min_area_px(fraction: float, pixels: int) -> int:
    """Convert a share of an image to whole pixels.

    Args:
        fraction: Share of the image in [0, 1).
        pixels: Number of pixels of the image.
    """
    return math.floor(fraction * pixels)


def accepts_image(image_probability: npt.ArrayLike, image_threshold: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Check which image probabilities exceed an image threshold; all satisfy a threshold of 0.

    Args:
        image_probability: Image probabilities of any shape.
        image_threshold: Image thresholds of a shape that broadcasts with the probabilities.
    """
    threshold = np.asarray(image_threshold, dtype=np.float64)
    return np.asarray((threshold == 0) | (np.asarray(image_probability, dtype=np.float64) > threshold))


def to_mask(
    probabilities: npt.NDArray[np.float32], point: OperatingPoint, image_probability: float
) -> npt.NDArray[np.uint8]:
    """Turn the probabilities of an image into its mask.

    Args:
        probabilities: Probability of each pixel, shape ``(rows, columns)``.
        point: The rule to apply.
        image_probability: Probability that the image shows a pneumothorax, before any calibration.

    Returns: Zeros and ones, shape ``(rows, columns)``; all zeros if the rule predicts no pneumothorax.
    """
    # float64, so that the threshold is not rounded to float32
    mask = probabilities > np.float64(point.threshold)
    least = min_area_px(point.min_area_fraction, mask.size)
    if np.count_nonzero(mask) <= least or not accepts_image(image_probability, point.image_threshold):
        mask[:] = False
    elif point.segmentation_threshold is not None:
        mask = probabilities > np.float64(point.segmentation_threshold)
    return mask.view(np.uint8)
