"""Conversion between the size of a radiograph and the square input of the network.

The longest side is scaled to the size of the network's input and the rest is padded evenly with zeros, so that the
anatomy keeps its proportions. The placement follows from the shape of the image alone, so that nothing has to be stored
for the inverse.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor
from torch.nn import functional

from pneumoseg.transforms.reader.record import Orientation, read_directions

__all__ = [
    "MarkContentd",
    "Placement",
    "ToNetworkSized",
    "ToOriginalSized",
    "to_network_size",
    "to_original_size",
]

_UPRIGHT = Orientation()


@dataclass(frozen=True)
class Placement:
    """Placement of an image inside the square input of the network, in pixels."""

    top: int
    left: int
    rows: int
    columns: int

    @classmethod
    def of(cls, shape: tuple[int, int], size: int) -> "Placement":
        """Centre an image in a square.

        Args:
            shape: ``(rows, columns)`` of the image in pixels.
            size: Side of the square in pixels.
        """
        scale = size / max(shape)
        rows, columns = (max(1, round(side * scale)) for side in shape)
        return cls(top=(size - rows) // 2, left=(size - columns) // 2, rows=rows, columns=columns)

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the square that the image covers."""
        return slice(self.top, self.top + self.rows), slice(self.left, self.left + self.columns)

    def mask(self, size: int) -> Tensor:
        """Mark the pixels that are not padding.

        Args:
            size: Side of the square in pixels.

        Returns: Booleans, shape ``(1, size, size)``.
        """
        own = torch.zeros((1, size, size), dtype=torch.bool)
        own[(..., *self.window)] = True
        return own


def _resample(image: Tensor, shape: tuple[int, int]) -> Tensor:
    # Antialiasing when shrinking; plain bilinear interpolation when enlarging, where antialiasing would change
    # nothing at twice the cost. Masks are thresholded after enlarging, which is better than enlarging a mask.
    shrinks = max(shape) < max(image.shape[-2:])
    return functional.interpolate(
        image[None].float(), size=shape, mode="bilinear", align_corners=False, antialias=shrinks
    )[0]


def to_network_size(image: Tensor, size: int) -> Tensor:
    """Scale an image into the square input of the network.

    Args:
        image: Image of shape ``(channels, rows, columns)``.
        size: Side of the square in pixels.

    Returns: Float32, shape ``(channels, size, size)``, padded with zeros.
    """
    place = Placement.of((image.shape[-2], image.shape[-1]), size)
    square = image.new_zeros((image.shape[0], size, size), dtype=torch.float32)
    square[(..., *place.window)] = _resample(image, (place.rows, place.columns))
    return square


def to_original_size(
    prediction: Tensor, shape: tuple[int, int], orientation: Orientation = _UPRIGHT
) -> Tensor:
    """Resize a prediction from the square of the network to the size of the original image.

    Args:
        prediction: Probabilities, not a mask, shape ``(channels, size, size)``, upright.
        shape: ``(rows, columns)`` of the stored pixels.
        orientation: Orientation of the stored pixels.

    Returns: Float32 in the order of the stored pixels, shape ``(channels, rows, columns)``.
    """
    upright = orientation.swap(shape)
    place = Placement.of(upright, prediction.shape[-1])
    return orientation.invert(_resample(prediction[(..., *place.window)], upright)).contiguous()


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
