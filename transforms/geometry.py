"""Dictionary transforms between the size of a radiograph and the square input of the network."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform

from pneumoseg.transforms.network_input import Placement, to_network_size, to_original_size
from pneumoseg.transforms.reader.record import Orientation, read_directions


class ToNetworkSized(MapTransform):
    """Scale items to the network's size, and round them to multiples of 1/255.

    Training reads bytes from a cache, whereas evaluation and prediction read files. Rounding gives all of them the
    same pixels.

    Args:
        keys: Items of shape ``(channels, rows, columns)`` with values in [0, 1].
        size: Side of the square in pixels.
    """

    def __init__(self, keys: KeysCollection, *, size: int, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.size = size

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale each of `keys` in a copy of *data*."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            square = to_network_size(torch.as_tensor(sample[key]), self.size)
            sample[key] = square.mul_(255).round_().clamp_(0, 255).div_(255)
        return sample


class MarkContentd(MapTransform):
    """Add a mask of the pixels that are not padding.

    Args:
        keys: Items of shape ``(channels, size, size)``.
        shape_key: Item that holds the size of the original image as ``(rows, columns)`` in pixels.
        content_key: Item for the mask: booleans of shape ``(1, size, size)``, False for padding.
    """

    def __init__(
        self, keys: KeysCollection, *, shape_key: str = "shape", content_key: str = "content"
    ) -> None:
        super().__init__(keys)
        self.shape_key = shape_key
        self.content_key = content_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the mask to a copy of *data*."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            size = sample[key].shape[-1]
            sample[self.content_key] = Placement.of(sample[self.shape_key], size).mask(size)
        return sample


class ToOriginalSized(MapTransform):
    """Resize predictions to the size of the original image, in the order of its stored pixels.

    Args:
        keys: Items of shape ``(channels, size, size)``.
        shape_key: Item that holds the size of the upright image as ``(rows, columns)`` in pixels.
        orientation_key: Item that holds the PatientOrientation of the stored pixels; without it they are assumed to be
            upright.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        shape_key: str = "shape",
        orientation_key: str = "orientation",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.shape_key = shape_key
        self.orientation_key = orientation_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resize each of `keys` in a copy of *data*."""
        sample = dict(data)
        rows, columns = (int(side) for side in sample[self.shape_key])
        orientation = Orientation.of(read_directions(sample.get(self.orientation_key, "")))
        for key in self.key_iterator(sample):
            sample[key] = to_original_size(sample[key], orientation.swap((rows, columns)), orientation)
        return sample
