"""Standardise an image with the mean and standard deviation of its own pixels.

The square that the network sees holds the image and, around one that is not square, black padding. Padding must not
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

_FLAT_STD: Final = 1e-6
"""Below the standard deviation that one byte step of one pixel gives an image of 2048 x 2048 pixels."""


class PixelStatistics(NamedTuple):
    """Statistics of an image's own pixels, each a tensor without dimensions.

    Attributes:
        mean: Mean.
        std: Population standard deviation; 1 for an image of one grey level.
    """

    mean: Tensor
    std: Tensor


def pixel_statistics(image: Tensor, shape: tuple[int, int]) -> PixelStatistics:
    """Measure mean and standard deviation of an image inside its padding.

    Args:
        image: Square that the network sees, shape ``(channels, size, size)``.
        shape: ``(rows, columns)`` of the original image in pixels, which says where it lies in the square.
    """
    window = Placement.of(shape, image.shape[-1]).window
    std, mean = torch.std_mean(image[(..., *window)], correction=0)
    return PixelStatistics(mean, torch.where(std > _FLAT_STD, std, 1.0))


def standardize(image: Tensor, statistics: PixelStatistics) -> Tensor:
    """Subtract the mean and divide by the standard deviation.

    Padding becomes ``-mean / std``, as do the black corners that a rotation brings in.
    """
    return (image - statistics.mean) / statistics.std


class MeasurePixelsd(MapTransform):
    """Put the statistics of images beside them, and which of their pixels are not padding.

    A chain begins with it, so that augmentation of contrast and brightness changes what the network sees: statistics
    of the augmented image would undo it.

    Args:
        keys: Items of shape ``(channels, size, size)``; KEY gets a neighbour ``KEY_statistics``.
        shape_key: Item that holds the size of the original image as ``(rows, columns)`` in pixels.
        content_key: Item that is written: which pixels are not padding, booleans of shape ``(1, size, size)``.
    """

    def __init__(
        self, keys: KeysCollection, *, shape_key: str = "shape", content_key: str = "content"
    ) -> None:
        super().__init__(keys)
        self.shape_key = shape_key
        self.content_key = content_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Measure each of `keys` in a copy of *data*."""
        sample = dict(data)
        shape = sample[self.shape_key]
        for key in self.key_iterator(sample):
            sample[f"{key}_statistics"] = pixel_statistics(sample[key], shape)
            size = sample[key].shape[-1]
            sample[self.content_key] = Placement.of(shape, size).mask(size)
        return sample


class StandardizePixelsd(MapTransform):
    """Standardise images with the statistics that `MeasurePixelsd` has put beside them."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Standardise each of `keys` in a copy of *data*."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = standardize(sample[key], sample[f"{key}_statistics"])
        return sample
