"""Dictionary transforms that standardise an image by the mean and standard deviation of its own pixels."""

<<<<<<< HEAD
from collections.abc import Hashable, Mapping
from typing import Any
=======
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final, NamedTuple
>>>>>>> fa86115 (Augmentation of whole batches on the device of the network, with numbers sampled from each image's seed)

from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform

from pneumoseg.transforms.network_input import pixel_statistics, standardize

<<<<<<< HEAD
__all__ = ["MeasurePixelsd", "StandardizePixelsd"]
=======
__all__ = ["PixelStatistics", "StandardizePixelsd", "pixel_statistics", "standardize", "window_of"]

FLAT_STD: Final = 1e-6
"""Smaller than the standard deviation of an image of 2048 x 2048 pixels that differ in one step of one pixel."""


class PixelStatistics(NamedTuple):
    """Statistics of each image's own pixels.

    Attributes:
        mean: Mean of the pixels, shape ``(batch, 1, 1, 1)``.
        std: Population standard deviation; 1 for an image of one grey level.
    """

    mean: Tensor
    std: Tensor


def window_of(shape: tuple[int, int], size: int) -> tuple[int, int, int, int]:
    """Find the part of a square input that is not padding.

    Args:
        shape: ``(rows, columns)`` of the original image in pixels, which determines its placement in the square.
        size: Side of the square in pixels.

    Returns: First row, end of the rows, first column and end of the columns.
    """
    rows, columns = Placement.of(shape, size).window
    return rows.start, rows.stop, columns.start, columns.stop


def pixel_statistics(images: Tensor, windows: Sequence[Sequence[int]]) -> PixelStatistics:
    """Compute mean and standard deviation of images without their padding.

    Args:
        images: Square inputs of the network, shape ``(batch, 1, size, size)``.
        windows: What `window_of` returns for each image.
    """
    if len({tuple(window) for window in windows}) > 1:
        each = [pixel_statistics(images[at : at + 1], windows[at : at + 1]) for at in range(len(images))]
        return PixelStatistics(*(torch.cat(values) for values in zip(*each, strict=True)))
    top, bottom, left, right = windows[0]
    own = images[:, :, top:bottom, left:right]
    mean = own.mean(dim=(1, 2, 3), keepdim=True)
    # in two passes, which are vectorized; torch's `std_mean` takes one that is fifteen times as slow
    std = (own - mean).square_().mean(dim=(1, 2, 3), keepdim=True).sqrt_()
    return PixelStatistics(mean, torch.where(std > FLAT_STD, std, 1.0))


def standardize(images: Tensor, statistics: PixelStatistics) -> Tensor:
    """Subtract the mean and divide by the standard deviation, in place.

    Padding becomes ``-mean / std``, like the black corners of a rotated image.

    Args:
        images: Images, shape ``(batch, 1, rows, columns)``.
        statistics: Statistics of the images.
    """
    return images.sub_(statistics.mean).div_(statistics.std)
>>>>>>> fa86115 (Augmentation of whole batches on the device of the network, with numbers sampled from each image's seed)


class StandardizePixelsd(MapTransform):
    """Standardise images by their own statistics.

    Args:
        keys: Items of shape ``(1, size, size)``.
        shape_key: Item that holds the size of the original image as ``(rows, columns)`` in pixels.
    """

    def __init__(self, keys: KeysCollection, *, shape_key: str = "shape") -> None:
        super().__init__(keys)
        self.shape_key = shape_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Standardise each of `keys` in a copy of *data*."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            image = sample[key].clone()[None]
            window = window_of(sample[self.shape_key], image.shape[-1])
            sample[key] = standardize(image, pixel_statistics(image, [window]))[0]
        return sample
