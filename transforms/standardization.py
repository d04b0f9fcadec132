"""Dictionary transforms that standardise an image by the mean and standard deviation of its own pixels."""

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform

from pneumoseg.transforms.network_input import pixel_statistics, standardize

__all__ = ["MeasurePixelsd", "StandardizePixelsd"]


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
