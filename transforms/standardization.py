"""Standardisation of an image by the mean and standard deviation of its own pixels.

The square input of the network contains the image and, unless the image is square, black padding. Padding must not
change the statistics: training images are square, radiographs of other hospitals are not, and the same anatomy has to
reach the network with the same values.
"""

from collections.abc import Hashable, Mapping
from typing import Any, Final, NamedTuple

import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform
from torch import Tensor

from pneumoseg.transforms.geometry import Placement

__all__ = ["MeasurePixelsd", "PixelStatistics", "StandardizePixelsd", "pixel_statistics", "standardize"]

FLAT_STD: Final = 1e-6
"""Smaller than the standard deviation of an image of 2048 x 2048 pixels that differ in one step of one pixel."""


class PixelStatistics(NamedTuple):
    """Statistics of an image's own pixels, as tensors without dimensions.

    Attributes:
        mean: Mean of the pixels.
        std: Population standard deviation; 1 for an image of one grey level.
    """

    mean: Tensor
    std: Tensor


def pixel_statistics(image: Tensor, shape: tuple[int, int]) -> PixelStatistics:
    """Compute mean and standard deviation of an image without its padding.

    Args:
        image: Square input of the network, shape ``(channels, size, size)``.
        shape: ``(rows, columns)`` of the original image in pixels, which determines its placement in the square.
    """
    window = Placement.of(shape, image.shape[-1]).window
    std, mean = torch.std_mean(image[(..., *window)], correction=0)
    return PixelStatistics(mean, torch.where(std > FLAT_STD, std, 1.0))


def standardize(image: Tensor, statistics: PixelStatistics) -> Tensor:
    """Subtract the mean and divide by the standard deviation.

    Padding becomes ``-mean / std``, like the black corners of a rotated image.

    Args:
        image: Image of any shape.
        statistics: Statistics of the image.
    """
    return (image - statistics.mean) / statistics.std


class MeasurePixelsd(MapTransform):
    """Add the statistics of images.

    The transform precedes augmentations of contrast and brightness, since statistics of the augmented image would undo
    them.

    Args:
        keys: Items of shape ``(channels, size, size)``; the statistics of KEY are added as ``KEY_statistics``.
        shape_key: Item that holds the size of the original image as ``(rows, columns)`` in pixels.
    """

    def __init__(self, keys: KeysCollection, *, shape_key: str = "shape") -> None:
        super().__init__(keys)
        self.shape_key = shape_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Measure each of `keys` in a copy of *data*."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[f"{key}_statistics"] = pixel_statistics(sample[key], sample[self.shape_key])
        return sample


class StandardizePixelsd(MapTransform):
    """Standardise images by the statistics that `MeasurePixelsd` added.

    Args:
        keys: Items of shape ``(channels, size, size)``.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Standardise each of `keys` in a copy of *data*."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = standardize(sample[key], sample[f"{key}_statistics"])
        return sample
