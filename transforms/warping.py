"""Warps of images and labels by smooth displacement fields; a zero field leaves every pixel in place.

MONAI's grid and elastic distortions of strength zero shift pixels by 0.5 to 1.35 pixels, since their sampling grids are
not centred on the pixels. Its affine transform is exact, but resamples image and label separately and takes three times
as long.
"""

import math
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional

Floats = npt.NDArray[np.float64]
_CELLS: Final = 5  # along each axis, as in MONAI and Albumentations


def warp(images: Tensor, control: Tensor, *, border: str = "zeros") -> Tensor:
    """Sample each pixel of a batch of images at the position given by the displacement field of its image.

    Args:
        images: Images of shape ``(batch, channels, rows, columns)``.
        control: Displacement in pixels along columns (x) and rows (y) at control points that are spread evenly from
            edge to edge of the image, shape ``(batch, 2, n, m)``; bicubic between them, but linear between two.
        border: Values outside the image: ``zeros``, ``border`` or ``reflection``.

    Returns: Float32, shape of *images*, bilinear; a field of zeros returns the images up to rounding.
    """
    rows, columns = images.shape[-2:]
    device = images.device
    # positions of grid_sample: -1 and 1 are the centres of the outermost pixels, as align_corners=True has it
    field = (
        _weights(rows, control.shape[-2], device) @ control @ _weights(columns, control.shape[-1], device).T
    )
    field[:, 0].mul_(2 / max(1, columns - 1)).add_(torch.linspace(-1, 1, columns, device=device))
    field[:, 1].mul_(2 / max(1, rows - 1)).add_(torch.linspace(-1, 1, rows, device=device)[:, None])
    # interleaving the coordinates would cost as much as the sampling, which does not need it
    return functional.grid_sample(images, field.permute(0, 2, 3, 1), padding_mode=border, align_corners=True)


@cache
def _weights(size: int, points: int, device: torch.device) -> Tensor:
    """Compute the weight of each control point at each pixel of one axis, shape ``(size, points)``.

    A product with one matrix for each axis costs a fortieth of torch's bicubic interpolation of the whole field.
    """
    unit = torch.eye(points)[None, None]
    mode = "bilinear" if points == 2 else "bicubic"
    return functional.interpolate(unit, size=(size, points), mode=mode, align_corners=True)[0, 0].to(device)


def sample_affine(random: Generator, *, shift: float, scale: float, degrees: float, size: int) -> Floats:
    """Sample the control points of a shift, a change of size along each axis, and a rotation about the middle.

    Args:
        random: Source of randomness.
        shift: Largest displacement along each axis in pixels.
        scale: Largest relative change of size.
        degrees: Largest angle of rotation.
        size: Side of the image in pixels.

    Returns: Displacements in pixels of the four corners for `warp`, shape ``(2, 2, 2)``.
    """
    angle = math.radians(random.uniform(-degrees, degrees))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = turn * random.uniform(1 - scale, 1 + scale, 2) - np.eye(2)
    end = (size - 1) / 2
    corners = np.stack(np.meshgrid([-end, end], [-end, end]))
    return np.tensordot(matrix, corners, axes=1) + random.uniform(-shift, shift, (2, 1, 1))


def sample_grid(random: Generator, *, limit: float, size: int) -> Floats:
    """Sample the control points of a grid of 5 x 5 cells whose columns and rows change their size; its middle stays.

    Args:
        random: Source of randomness.
        limit: Largest relative change of the width of a column, or of the height of a row.
        size: Side of the image in pixels.

    Returns: Displacements in pixels for `warp`, shape ``(2, 6, 6)``.
    """
    changes = random.uniform(-limit, limit, (2, _CELLS)) * (size - 1) / _CELLS
    moved = np.cumsum(np.pad(changes, ((0, 0), (1, 0))), axis=1)
    x, y = moved - moved.mean(axis=1, keepdims=True)
    return np.stack(np.meshgrid(x, y))


def sample_elastic(random: Generator, *, spacing: float, std: float) -> Floats:
    """Sample the control points of a smooth random warp.

    Args:
        random: Source of randomness.
        spacing: Distance between control points, as a share of the side.
        std: Largest standard deviation of a displacement in pixels; that of this warp is uniform below it.

    Returns: Displacements in pixels for `warp`, shape ``(2, n, n)``.
    """
    points = round(1 / spacing) + 1
    return random.uniform(0, std) * random.standard_normal((2, points, points))
