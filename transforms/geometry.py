"""Between the size of a radiograph and the square size that the network sees.

The longest side is scaled to the network's size and the rest is padded evenly with zeros, so that
anatomy keeps its proportions. Where an image lands follows from its shape alone: there is nothing
to remember between the way in and the way out.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor
from torch.nn import functional

__all__ = ["Placement", "ToNetworkSized", "ToOriginalSized", "to_network_size", "to_original_size"]


@dataclass(frozen=True)
class Placement:
    """Where an image of some shape lies inside the square that the network sees, in pixels."""

    top: int
    left: int
    rows: int
    columns: int

    @classmethod
    def of(cls, shape: tuple[int, int], size: int) -> "Placement":
        """Centre an image of *shape* ``(rows, columns)`` in a square of *size* pixels a side."""
        scale = size / max(shape)
        rows, columns = (max(1, round(side * scale)) for side in shape)
        return cls(top=(size - rows) // 2, left=(size - columns) // 2, rows=rows, columns=columns)

    @property
    def window(self) -> tuple[slice, slice]:
        """The part of the square that the image covers."""
        return slice(self.top, self.top + self.rows), slice(self.left, self.left + self.columns)

    def mask(self, size: int) -> Tensor:
        """Mark the image's own pixels in a square of *size* pixels a side: booleans of shape ``(1, size, size)``."""
        own = torch.zeros((1, size, size), dtype=torch.bool)
        own[(..., *self.window)] = True
        return own


def _resample(image: Tensor, shape: tuple[int, int]) -> Tensor:
    # An average over areas on the way down, plain bilinear on the way up, where antialiasing would change
    # nothing and cost double. Masks are drawn from enlarged probabilities: enlarging the mask itself is worse.
    shrinks = max(shape) < max(image.shape[-2:])
    return functional.interpolate(
        image[None].float(), size=shape, mode="bilinear", align_corners=False, antialias=shrinks
    )[0]


def to_network_size(image: Tensor, size: int) -> Tensor:
    """Scale an image into the square that the network sees.

    Args:
        image: Shape ``(channels, rows, columns)``.
        size: Side of the square in pixels.

    Returns: Float32, shape ``(channels, size, size)``; zeros where the image does not reach.
    """
    place = Placement.of((image.shape[-2], image.shape[-1]), size)
    square = image.new_zeros((image.shape[0], size, size), dtype=torch.float32)
    square[(..., *place.window)] = _resample(image, (place.rows, place.columns))
    return square


def to_original_size(prediction: Tensor, shape: tuple[int, int]) -> Tensor:
    """Take a prediction back from the network's square to the image it was made for.

    Args:
        prediction: Shape ``(channels, size, size)``: probabilities, not a mask.
        shape: ``(rows, columns)`` of the original image in pixels.

    Returns: Float32, shape ``(channels, rows, columns)``.
    """
    place = Placement.of(shape, prediction.shape[-1])
    return _resample(prediction[(..., *place.window)], shape)


class ToNetworkSized(MapTransform):
    """Scale items to the network's size, in the 256 steps that a cache of bytes can hold.

    Training reads bytes from a cache while evaluation and prediction read files: rounding here
    shows all of them the same pixels.

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


class ToOriginalSized(MapTransform):
    """Take predictions back to the size of the image that they were made for.

    Args:
        keys: Items of shape ``(channels, size, size)``.
        shape_key: Item that holds the original size as ``(rows, columns)`` in pixels.
    """

    def __init__(
        self, keys: KeysCollection, *, shape_key: str = "shape", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.shape_key = shape_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Enlarge each of `keys` in a copy of *data*."""
        sample = dict(data)
        rows, columns = (int(side) for side in sample[self.shape_key])
        for key in self.key_iterator(sample):
            sample[key] = to_original_size(sample[key], (rows, columns))
        return sample
