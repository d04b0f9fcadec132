"""Dictionary transform that standardises an image by the mean and standard deviation of its own pixels."""

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform

from pneumoseg.transforms.network_input import pixel_statistics, standardize


class StandardizePixelsd(MapTransform):
    """Standardise images by their own pixels, without their padding.

    Args:
        keys: Items of shape ``(channels, size, size)``.
        shape_key: Item that holds the size of the original image as ``(rows, columns)`` in pixels.
    """

    def __init__(self, keys: KeysCollection, *, shape_key: str = "shape") -> None:
        super().__init__(keys)
        self.shape_key = shape_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Standardise each of `keys` in a copy of *data*."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = standardize(sample[key], pixel_statistics(sample[key], sample[self.shape_key]))
        return sample
