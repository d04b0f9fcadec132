"""Conversion of a radiograph to the square input of the network, and of a prediction back to the stored pixels.

The longest side is scaled to the size of the network's input and the rest is padded evenly with zeros, so that the
anatomy keeps its proportions. The placement follows from the shape of the image alone, so that nothing has to be stored
for the inverse. The image is then standardised by the mean and standard deviation of its own pixels. Padding must not
change these: training images are square, radiographs of other hospitals are not, and the same anatomy has to reach the
network with the same values.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pneumoseg.transforms.reader.record import Orientation, Radiograph

FLAT_STD: Final = 1e-6
"""Smaller than the standard deviation of an image of 2048 x 2048 pixels that differ in one step of one pixel."""
_UPRIGHT: Final = Orientation()


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


class PixelStatistics(NamedTuple):
    """Statistics of an image's own pixels, as tensors without dimensions.

    Attributes:
        mean: Mean of the pixels.
        std: Population standard deviation; 1 for an image of one grey level.
    """

    mean: Tensor
    std: Tensor


def network_input(radiograph: Radiograph, size: int) -> tuple[Tensor, Tensor]:
    """Prepare a radiograph for the network.

    Args:
        radiograph: Radiograph, which is brought upright.
        size: Side of the network's input in pixels.

    Returns: The standardised image, float32, and a mask of booleans that is False for padding, each of shape
        ``(1, size, size)``.
    """
    shape = radiograph.orientation.swap(radiograph.shape)
    centred, statistics = _centred(network_image(radiograph, size), shape)
    return centred.div_(statistics.std), Placement.of(shape, size).mask(size)


def network_image(radiograph: Radiograph, size: int) -> Tensor:
    """Scale a radiograph to the network's size, on integers, which takes a fraction of the time of floats.

    Args:
        radiograph: Radiograph, which is brought upright.
        size: Side of the network's input in pixels.

    Returns: Multiples of 1/255 in [0, 1], float32, shape ``(1, size, size)``, padded with zeros. Training reads these
        bytes from a cache, whereas evaluation and prediction read files: all of them have the same pixels.
    """
    levels = radiograph.orientation.apply(radiograph.grey.levels(radiograph.stored))
    image = torch.from_numpy(np.ascontiguousarray(levels))[None]
    return to_network_size(image, size).to(torch.float32).div_(255)


def to_network_size(image: Tensor, size: int) -> Tensor:
    """Scale an image into the square input of the network.

    Args:
        image: Image of shape ``(channels, rows, columns)``, floats or bytes.
        size: Side of the square in pixels.

    Returns: Image of the same type, shape ``(channels, size, size)``, padded with zeros.
    """
    place = Placement.of((image.shape[-2], image.shape[-1]), size)
    if place.rows == place.columns:  # there is nothing to pad
        return _resample(image, (size, size))
    square = image.new_zeros((image.shape[0], size, size))
    square[(..., *place.window)] = _resample(image, (place.rows, place.columns))
    return square


def pixel_statistics(image: Tensor, shape: tuple[int, int]) -> PixelStatistics:
    """Compute mean and standard deviation of an image without its padding.

    Args:
        image: Square input of the network, shape ``(channels, size, size)``.
        shape: ``(rows, columns)`` of the original image in pixels, which determines its placement in the square.
    """
    return _centred(image, shape)[1]


def _centred(image: Tensor, shape: tuple[int, int]) -> tuple[Tensor, PixelStatistics]:
    """Subtract the mean from an image, and compute its statistics without its padding."""
    window = (..., *Placement.of(shape, image.shape[-1]).window)
    mean = image[window].flatten().mean()
    centred = image - mean
    own = centred[window].flatten()
    std = (torch.dot(own, own) / own.numel()).sqrt()  # a tenth of the time of `torch.std_mean`
    return centred, PixelStatistics(mean, torch.where(std > FLAT_STD, std, 1.0))


def standardize(image: Tensor, statistics: PixelStatistics) -> Tensor:
    """Subtract the mean and divide by the standard deviation.

    Padding becomes ``-mean / std``, like the black corners of a rotated image.

    Args:
        image: Image of any shape.
        statistics: Statistics of the image.
    """
    return (image - statistics.mean).div_(statistics.std)


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


def _resample(image: Tensor, shape: tuple[int, int]) -> Tensor:
    # Antialiasing when shrinking; plain bilinear interpolation when enlarging, where antialiasing would change
    # nothing at twice the cost. Masks are thresholded after enlarging, which is better than enlarging a mask.
    shrinks = max(shape) < max(image.shape[-2:])
    rows, columns = image.shape[-2:]
    if not (shrinks and image.dtype == torch.uint8 and rows % 4 == shape[1] % 4 == 0):
        return _interpolate(image[None], shape, antialias=shrinks)[0]
    # The same bytes in half the time: PyTorch computes four channels of bytes as fast as one. Rows are scaled in
    # quarters of the image as channels, and then columns in groups of four.
    scaled = _interpolate(image.reshape(1, 4, rows // 4, columns), (rows // 4, shape[1]), antialias=True)
    groups = scaled.reshape(1, rows, shape[1] // 4, 4).permute(0, 3, 1, 2)
    both = _interpolate(groups, (shape[0], shape[1] // 4), antialias=True)
    return both.permute(0, 2, 3, 1).reshape(1, *shape)


def _interpolate(images: Tensor, shape: tuple[int, int], *, antialias: bool) -> Tensor:
    return functional.interpolate(
        images, size=shape, mode="bilinear", align_corners=False, antialias=antialias
    )
