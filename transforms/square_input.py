"""Dictionary transforms to the square input of the network."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform, Transform

from pneumoseg.transforms.network_input import Placement, pixel_statistics, standardize, to_network_size


class ToNetworkSized(MapTransform):
    """Scale items to the network's size, and round them to multiples of 1/255.

    Training reads bytes from a cache, whereas evaluation and prediction read files. Rounding gives all of them the
    same pixels.

    Args:
        keys: Items of shape ``(channels, rows, columns)`` with values in [0, 1].
        size: Side of the square in pixels.

    Raises: ValueError: If values do not lie in [0, 1], when the transform is called.
    """

    def __init__(self, keys: KeysCollection, *, size: int, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.size = size

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale each of `keys` in a copy of *data*."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            levels = to_network_size(torch.as_tensor(sample[key]).float(), self.size).mul_(255).round_()
            low, high = (float(level) / 255 for level in levels.aminmax())
            if not 0 <= low <= high <= 1:  # nor with NaN
                raise ValueError(
                    f"{key}: values from {low:g} to {high:g}; greys or a mask in [0, 1] would fit"
                )
            sample[key] = levels.div_(255)
        return sample


class StandardizeImage(Transform):
    """Standardise ``image`` by its own pixels, the last step before the network, and add ``content``.

    The exposure of a radiograph is arbitrary, and a network without normalization learns several times faster from
    centred images.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Standardise the image in a copy of *data*.

        Args:
            data: ``image``, shape ``(1, size, size)``, and ``shape``, the original ``(rows, columns)``; the result also
                has ``content``, booleans of the image's shape that are False for padding.
        """
        image, shape = data["image"], data["shape"]
        size = image.shape[-1]
        return {
            **data,
            "image": standardize(image, pixel_statistics(image, shape)),
            "content": Placement.of(shape, size).mask(size),
        }
