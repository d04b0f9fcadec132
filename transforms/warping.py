"""Warps of image and label by one smooth displacement field; a zero field leaves every pixel in place.

MONAI's grid and elastic distortions of strength zero shift pixels by 0.5 to 1.35 pixels, since their sampling grids are
not centred on the pixels. Its affine transform is exact, but resamples image and label separately and takes three times
as long.
"""

import math
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform, RandomizableTransform
from numpy.random import RandomState
from torch import Tensor
from torch.nn import functional

__all__ = ["RandWarpd", "sample_affine", "sample_elastic", "sample_grid", "warp"]

Floats = npt.NDArray[np.float64]
_CELLS: Final = 5  # along each axis, as in MONAI and Albumentations


def warp(image: Tensor, control: Tensor, *, border: str = "zeros") -> Tensor:
    """Sample each pixel of an image at the position given by a displacement field.

    Args:
        image: Image of shape ``(channels, rows, columns)``.
        control: Displacement in pixels along columns (x) and rows (y) at control points that are spread evenly from
            edge to edge of the image, shape ``(2, n, m)``; bicubic between them, but linear between two.
        border: Values outside the image: ``zeros``, ``border`` or ``reflection``.

    Returns: Float32, shape of *image*, bilinear; a field of zeros returns the image up to rounding.
    """
    rows, columns = image.shape[-2:]
    x, y = _weights(rows, control.shape[-2]) @ control @ _weights(columns, control.shape[-1]).T
    # positions of grid_sample: -1 and 1 are the centres of the outermost pixels, as align_corners=True has it
    x = torch.linspace(-1, 1, columns) + x * (2 / max(1, columns - 1))
    y = torch.linspace(-1, 1, rows)[:, None] + y * (2 / max(1, rows - 1))
    grid = torch.stack([x, y], dim=-1)[None]
    return functional.grid_sample(image[None], grid, padding_mode=border, align_corners=True)[0]


@cache
def _weights(size: int, points: int) -> Tensor:
    """Compute the weight of each control point at each pixel of one axis, shape ``(size, points)``.

    A product with one matrix for each axis costs a fortieth of torch's bicubic interpolation of the whole field.
    """
    unit = torch.eye(points)[None, None]
    mode = "bilinear" if points == 2 else "bicubic"
    return functional.interpolate(unit, size=(size, points), mode=mode, align_corners=True)[0, 0]


class RandWarpd(RandomizableTransform, MapTransform):
    """Warp items of equal size by one field, in one pass over their stacked channels.

    Args:
        keys: Items of shape ``(channels, rows, columns)``.
        prob: Probability of the warp.
        sample_control: Function that samples the control points of `warp`.
        border: Values outside the items: ``zeros``, ``border`` or ``reflection``.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        prob: float,
        sample_control: Callable[[RandomState], Floats],
        border: str = "zeros",
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.sample_control = sample_control
        self.border = border

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Warp each of `keys` in a copy of *data*, or none of them."""
        sample = dict(data)
        self.randomize(None)
        if self._do_transform:
            keys = list(self.key_iterator(sample))
            items = [torch.as_tensor(sample[key]) for key in keys]
            control = torch.from_numpy(self.sample_control(self.R)).float()
            warped = warp(torch.cat(items), control, border=self.border)
            sample.update(zip(keys, torch.split(warped, [len(item) for item in items]), strict=True))
        return sample


def sample_affine(random: RandomState, *, shift: float, scale: float, degrees: float, size: int) -> Floats:
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


def sample_grid(random: RandomState, *, limit: float, size: int) -> Floats:
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


def sample_elastic(random: RandomState, *, spacing: float, std: float) -> Floats:
    """Sample the control points of a smooth random warp.

    Args:
        random: Source of randomness.
        spacing: Distance between control points, as a share of the side.
        std: Largest standard deviation of a displacement in pixels; that of this warp is uniform below it.

    Returns: Displacements in pixels for `warp`, shape ``(2, n, n)``.
    """
    points = round(1 / spacing) + 1
    return random.uniform(0, std) * random.standard_normal((2, points, points))
