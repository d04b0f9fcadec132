"""Cage of ribs and diaphragm, which determines the size of all organs of the chest."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from pneumoseg.pipeline.phantom.patient import Patient, PatientPose
from pneumoseg.pipeline.phantom.projection import Array

RIGHT, LEFT = -1, 1  # the patient's sides, as signs of x

# heights in shares of the full lung height, from the apices down; widths and depths in shares of the largest
HEIGHTS = (-0.5, -0.15, 0.0, 0.025, 0.1, 0.2, 0.32, 0.5, 0.75, 1.0, 1.25, 1.6)
WIDTHS = (0.30, 0.36, 0.44, 0.54, 0.68, 0.78, 0.86, 0.93, 0.97, 1.0, 1.0, 0.98)
FLARE = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.04, -0.027, 0.0, 0.08, 0.0)
DEPTHS = (0.30, 0.44, 0.50, 0.55, 0.68, 0.79, 0.89, 0.97, 1.01, 1.02, 1.02, 1.02)

TABLE_MM = np.linspace(-300, 600, 1801)


@dataclass(frozen=True)
class Chest:
    """Chest of a patient in one exposure; lengths in mm.

    Methods take patient coordinates as arrays, x to the left and y downwards, and return arrays of the same shape.
    """

    patient: Patient
    pose: PatientPose

    @cached_property
    def height(self) -> float:
        """Apex to the top of the right hemidiaphragm."""
        return self.patient.lung_height * self.pose.inspiration

    @cached_property
    def _width_table(self) -> NDArray[np.float64]:
        shares = np.array(WIDTHS) + self.patient.flare * np.array(FLARE)
        return self.patient.half_width * self._smooth(shares)

    @cached_property
    def _depth_table(self) -> NDArray[np.float64]:
        return self.patient.half_depth * self._smooth(np.array(DEPTHS))

    def _smooth(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        heights = self.patient.lung_height * np.array(HEIGHTS)
        inside = np.clip(TABLE_MM, heights[0], heights[-1])
        return np.asarray(PchipInterpolator(heights, shares)(inside))

    def half_width(self, y: NDArray[np.floating]) -> Array:
        """Compute the inner half width of the rib cage."""
        return np.asarray(np.interp(y, TABLE_MM, self._width_table), dtype=np.float32)

    def half_depth(self, y: NDArray[np.floating]) -> Array:
        """Compute the inner half depth of the rib cage."""
        return np.asarray(np.interp(y, TABLE_MM, self._depth_table), dtype=np.float32)

    def vertebra(self, number: int) -> float:
        """Compute the height of the middle of a thoracic vertebra.

        Args:
            number: Number of the vertebra; those of the neck have numbers below 1.

        Returns: Height in mm.
        """
        share = 0.76 if number < 1 else 0.9 + 0.011 * number  # they grow from above down
        return -16 + (number - 1) * self.patient.rib_spacing * share

    def roof(self, x: Array) -> Array:
        """Compute the top of the lungs: a dome on each side whose inner slope meets the mediastinum."""
        inward = np.maximum(np.float32(0.43 * self.patient.half_width) - np.abs(x), 0)
        return np.asarray(17 * (inward / 36) ** 2)

    def floor(self, x: Array) -> Array:
        """Compute the top of the diaphragm: two domes, steep towards the ribs, the right one higher."""
        p = self.patient
        middle = np.float32(0.5 * p.half_width)
        wall = self.half_width(np.array(self.height + p.dome))
        away = (np.abs(x) - middle) / (wall - middle)
        arch = p.dome * np.where(away > 0, 1.1 * np.abs(away) ** 2.3, 0.42 * away * away)
        return np.asarray(self.height + np.where(x > 0, p.left_lower, 0.0) + arch, dtype=np.float32)

    def room(self, x: Array, y: Array) -> Array:
        """Compute the chord through the rib cage including the abdomen, rounded at the apices."""
        inside = np.maximum(1 - (np.abs(x) / self.half_width(y)) ** 2.3, 0)
        top = np.clip((y - self.roof(x)) / 22, 0, 1)
        return np.asarray(2 * self.half_depth(y) * np.sqrt(inside * top))

    def below_diaphragm(self, x: Array, y: Array) -> Array:
        """Compute the chord below the diaphragm, which is highest in the middle of the depth."""
        under = np.maximum(y - self.floor(x), 0)
        return np.asarray(2.1 * self.half_depth(y) * np.sqrt(under / 62))
