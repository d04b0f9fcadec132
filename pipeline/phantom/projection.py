"""Projection from patient to detector: cone-beam magnification, and accumulation of tissue along rays."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pneumoseg.pipeline.phantom.patient import PatientPose

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Projection:
    """Square detector of one exposure, ``size`` pixels wide."""

    pose: PatientPose
    size: int

    @property
    def pixel_mm(self) -> float:
        """Size of a pixel in the mid-plane of the patient in mm."""
        return self.pose.field / self.size

    @cached_property
    def grid(self) -> tuple[Array, Array]:
        """Patient x and y in mm where the ray of each pixel crosses the mid-plane, each ``(rows, columns)``."""
        axis = (np.arange(self.size, dtype=np.float32) + 0.5) * self.pixel_mm - self.pose.field / 2
        across, down = axis[None, :], axis[:, None]
        cos, sin = np.float32(np.cos(self.pose.roll)), np.float32(np.sin(self.pose.roll))
        x = cos * across + sin * down + np.float32(self.pose.centre[0])
        y = -sin * across + cos * down + np.float32(self.pose.centre[1])
        return x, y

    def magnification(self, z: NDArray[np.floating]) -> NDArray[np.floating]:
        """Compute the magnification relative to the mid-plane.

        Args:
            z: Depth in mm.
        """
        return self.pose.source / (self.pose.source + z)

    def flatten(self, points: NDArray[np.floating]) -> NDArray[np.floating]:
        """Project points to the mid-plane along their rays.

        Args:
            points: Patient coordinates in mm, shape ``(..., 3)``.

        Returns: Patient x and y in mm, shape ``(..., 2)``.
        """
        x, y, z = np.moveaxis(points, -1, 0)
        x, z = x * np.cos(self.pose.yaw) + z * np.sin(self.pose.yaw), z - x * np.sin(self.pose.yaw)
        y = y + z * np.sin(self.pose.tilt)
        scale = self.magnification(z)
        centre_x, centre_y = self.pose.centre
        return np.stack([centre_x + scale * (x - centre_x), centre_y + scale * (y - centre_y)], axis=-1)

    def to_pixels(self, flat: NDArray[np.floating]) -> NDArray[np.floating]:
        """Convert points in the mid-plane to pixel coordinates between pixel centres.

        Args:
            flat: Patient x and y in mm, shape ``(..., 2)``.

        Returns: Row and column, shape ``(..., 2)``.
        """
        x, y = flat[..., 0] - self.pose.centre[0], flat[..., 1] - self.pose.centre[1]
        cos, sin = np.cos(self.pose.roll), np.sin(self.pose.roll)
        across, down = cos * x - sin * y, sin * x + cos * y
        half = self.pose.field / 2
        return np.stack([down + half, across + half], axis=-1) / self.pixel_mm - 0.5

    def deposit(self, flat: NDArray[np.floating], volume: NDArray[np.floating]) -> Array:
        """Accumulate small volumes where their rays meet the detector.

        Args:
            flat: Patient x and y in the mid-plane in mm, shape ``(n, 2)``.
            volume: Volume of each in mm3.

        Returns: Thickness in mm, shape ``(rows, columns)``.
        """
        row, column = np.moveaxis(self.to_pixels(flat).reshape(-1, 2), -1, 0)
        weight = np.broadcast_to(volume, flat.shape[:-1]).reshape(-1) / self.pixel_mm**2
        inside = (row > -1) & (row < self.size) & (column > -1) & (column < self.size) & (weight > 0)
        row, column, weight = row[inside] + 1, column[inside] + 1, weight[inside]
        top, left = row.astype(np.intp), column.astype(np.intp)
        down, right = row - top, column - left
        wide = self.size + 2  # a rim of one pixel takes what falls over the edge
        total = np.zeros(wide * wide)
        first = top * wide + left
        for step, share in (
            (0, (1 - down) * (1 - right)),
            (1, (1 - down) * right),
            (wide, down * (1 - right)),
            (wide + 1, down * right),
        ):
            total += np.bincount(first + step, weights=weight * share, minlength=wide * wide)
        return total.reshape(wide, wide)[1:-1, 1:-1].astype(np.float32)


def blur(picture: Array, sigma_px: float) -> Array:
    """Blur an image by a Gaussian; a wide one is computed at a coarser resolution, without visible difference.

    Args:
        picture: Image, shape ``(rows, columns)``.
        sigma_px: Standard deviation in pixels.
    """
    factor = 1
    while sigma_px / factor > 3 and min(picture.shape) // factor > 32:
        factor *= 2
    if factor == 1:
        return np.asarray(ndimage.gaussian_filter(picture, sigma_px, mode="nearest", truncate=3))
    coarse = shrink(picture, factor)
    return enlarge(ndimage.gaussian_filter(coarse, sigma_px / factor, mode="nearest", truncate=3), factor)


def shrink(picture: Array, factor: int) -> Array:
    """Average squares of pixels.

    Args:
        picture: Image, shape ``(rows, columns)``.
        factor: Side of the squares in pixels.
    """
    rows, columns = picture.shape
    squares = picture.reshape(rows // factor, factor, columns // factor, factor)
    return np.asarray(squares.mean(axis=(1, 3), dtype=np.float32))


def enlarge(picture: Array, factor: int) -> Array:
    """Enlarge an image by bicubic interpolation.

    Args:
        picture: Image, shape ``(rows, columns)``.
        factor: Integer factor.
    """
    if factor == 1:
        return picture
    rows, columns = picture.shape
    image = Image.fromarray(picture).resize((columns * factor, rows * factor), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float32)
