"""Changes of grey for a batch of images, each with its own strength; on any device.

Images have the shape ``(batch, 1, rows, columns)``; a strength is a tensor of shape ``(batch,)``, or of a further
dimension where an image has several. Nothing here is random, so that one image is changed as it is in a batch.
"""

import math
from functools import cache
from typing import Final

import numpy as np
import torch
from torch import Tensor

_LANES: Final = 1 << 16
_TRUNCATED: Final = 4  # standard deviations of a blur on each side, as in MONAI


def adjust_gamma(images: Tensor, exponent: Tensor) -> Tensor:
    """Apply a gamma curve between the darkest and the brightest pixel of each image.

    Args:
        images: Images.
        exponent: Exponent of each image.

    Source: MONAI's ``AdjustContrast``.
    """
    low, high = (bound(images, dim=(2, 3), keepdim=True) for bound in (torch.amin, torch.amax))
    span = high - low
    # by exponential and logarithm, which cost half of a power; the logarithm of 0 is the smallest number
    share = ((images - low) / (span + 1e-7)).clamp_(min=torch.finfo(images.dtype).tiny)
    return share.log_().mul_(_each(exponent)).exp_().mul_(span).add_(low)


def adjust_contrast(images: Tensor, change: Tensor) -> Tensor:
    """Scale the distances of grey values from their mean.

    Args:
        images: Images.
        change: Relative change of each image.
    """
    return images + (images - images.mean(dim=(2, 3), keepdim=True)) * _each(change)


def add_noise(images: Tensor, std: Tensor, key: Tensor) -> Tensor:
    """Add Gaussian noise that is a function of a key and of the position: equal on all devices and in each batch.

    Args:
        images: Images.
        std: Standard deviation of each image.
        key: Whole number from 0 to 2**24 for each image.

    Source: the hash is the 32-bit permutation "lowbias32" of Chris Wellons' hash-prospector (public domain).
    """
    count = images[0].numel()
    # an odd step of large order separates the counters of different keys; 32-bit integers wrap around
    counters = torch.arange(-(-count // 2), dtype=torch.int32, device=images.device)
    bits = counters * -1640531527 + (key.to(torch.int32) * 668265263)[:, None]
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32), (16, 1)):
        # the shift keeps the sign of a 32-bit integer, and its copies are masked away
        bits = bits.bitwise_xor_((bits >> shift).bitwise_and_((1 << (32 - shift)) - 1)).mul_(factor)
    lanes = bits.view(torch.int16)[:, :count].int().add_(_LANES // 2)
    normal = _quantiles(images.device).index_select(0, lanes.flatten()).view(images.shape)
    return normal.mul_(_each(std)).add_(images)


@cache
def _quantiles(device: torch.device) -> Tensor:
    """Compute the standard normal quantiles of the centres of 65,536 equal shares; the largest is 4.3."""
    shares = (torch.arange(_LANES, dtype=torch.float64) + 0.5) / _LANES
    quantiles: Tensor = torch.special.ndtri(shares)
    return quantiles.float().to(device)


def blur(images: Tensor, std: Tensor, *, largest: float) -> Tensor:
    """Apply a Gaussian blur; zeros lie outside the image.

    Args:
        images: Images.
        std: Standard deviation along rows and columns in pixels, shape ``(batch, 2)``.
        largest: Largest standard deviation of any batch, which determines the size of the kernel.

    Source: MONAI's ``GaussianFilter`` with ``approx="erf"``.
    """
    tail = int(max(largest * _TRUNCATED, 0.5) + 0.5)
    place = torch.arange(-tail, tail + 1, device=images.device)
    scale = math.sqrt(0.5) / std.clamp(min=1e-3)[..., None]
    kernels = 0.5 * ((scale * (place + 0.5)).erf() - (scale * (place - 0.5)).erf())
    for axis in (0, 1):
        images = _convolve(images, kernels[:, axis], dim=2 + axis)
    return images


def _convolve(images: Tensor, kernels: Tensor, *, dim: int) -> Tensor:
    """Convolve along one axis, tap by tap: a convolution of one channel costs ten times as much on a processor."""
    tail, size = kernels.shape[1] // 2, images.shape[dim]
    result = images * _each(kernels[:, tail])
    for shift in range(1, min(tail, size - 1) + 1):
        for taken, added_to in ((shift, 0), (0, shift)):
            part = result.narrow(dim, added_to, size - shift)
            part.addcmul_(images.narrow(dim, taken, size - shift), _each(kernels[:, tail + shift]))
    return result


def blacken(images: Tensor, boxes: Tensor) -> Tensor:
    """Set rectangles to black.

    Args:
        images: Images.
        boxes: Top, left, rows and columns of each rectangle in pixels, shape ``(batch, rectangles, 4)``; one of no
            rows is none.
    """
    top, left, rows, columns = boxes.unbind(-1)
    inside_rows, inside_columns = (
        (place >= first[..., None]) & (place < (first + length)[..., None])
        for place, first, length in (
            (torch.arange(images.shape[2], device=images.device), top, rows),
            (torch.arange(images.shape[3], device=images.device), left, columns),
        )
    )
    inside = inside_rows.to(images.dtype).transpose(1, 2) @ inside_columns.to(images.dtype)
    return images.masked_fill(inside[:, None] > 0, 0)


def equalize(images: Tensor, limit: Tensor) -> Tensor:
    """Apply scikit-image's contrast-limited adaptive histogram equalization (CLAHE), on the processor.

    Args:
        images: Images.
        limit: Clip limit of each image.
    """
    # every command reads configurations, and this is slow to import
    from skimage.exposure import equalize_adapthist  # noqa: PLC0415

    host = images.clamp(0, 1).cpu().numpy()
    equalized = [
        equalize_adapthist(image[0], clip_limit=clip)
        for image, clip in zip(host, limit.tolist(), strict=True)
    ]
    return torch.from_numpy(np.stack(equalized)[:, None]).to(images)


def _each(strength: Tensor) -> Tensor:
    """Shape a strength of each image so that it multiplies images."""
    return strength.view(-1, 1, 1, 1)
