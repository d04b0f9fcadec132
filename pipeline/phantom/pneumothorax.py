"""Pneumothorax: gas between the chest wall and a lung that has collapsed towards its hilum.

For each direction from the hilum, the rim of the lung field is at distance R, and the edge of the collapsed lung is
nearer. The mask lies between the two, and the pleural line follows the edge.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pneumoseg.pipeline.phantom.chest import Chest
from pneumoseg.pipeline.phantom.organs import lung_field
from pneumoseg.pipeline.phantom.projection import Array
from pneumoseg.pipeline.phantom.vessels import hilum

Table = NDArray[np.float64]

FIRST, LAST = np.radians(-20.0), np.radians(160.0)  # the directions that a chest wall lies in
ANGLES: Table = np.linspace(FIRST, LAST, 401)  # from straight up (0) through the side (90 degrees)
SMALLEST = 0.25  # a lung cannot shrink further

AREA_QUANTILES = ((0.0, 0.05, 0.5, 0.95, 1.0), (55, 1_362, 8_630, 45_772, 161_421))
"""Mask areas of the SIIM-ACR challenge in pixels at 1024 x 1024."""


@dataclass(frozen=True)
class PneumothoraxPlan:
    """Parameters of a pneumothorax.

    Attributes:
        area_px: Area of the mask in pixels of an image of 1024 x 1024.
        rows: Rows of the label: the ``whole`` region, one for ``each-side``, or two ``overlapping`` ones.
    """

    area_px: float
    rows: Literal["whole", "each-side", "overlapping"] = "whole"


def area_at(quantile: float) -> float:
    """Interpolate the challenge's mask area log-linearly between the published quantiles.

    Args:
        quantile: Quantile in [0, 1].

    Returns: Area in pixels at 1024 x 1024.
    """
    quantiles, areas = AREA_QUANTILES
    return float(np.exp(np.interp(quantile, quantiles, np.log(areas))))


@dataclass(frozen=True)
class Collapse:
    """Collapsed lung: distances of chest wall and lung edge from its hilum in mm over ``ANGLES``."""

    side: int
    hilum: tuple[float, float]
    rim: Table
    edge: Table
    clarity: float  # share of the lung along the rays that gas has replaced

    def polar(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Convert to direction and distance from the hilum.

        Args:
            x: Patient coordinates to the left in mm.
            y: Patient coordinates downwards in mm, of the same shape.

        Returns: Angles in radians, and distances in mm.
        """
        across, up = self.side * (x - np.float32(self.hilum[0])), np.float32(self.hilum[1]) - y
        return np.arctan2(across, up), np.hypot(across, up)

    def region(self, x: Array, y: Array) -> NDArray[np.bool_]:
        """Determine the region of the gas.

        Args:
            x: Patient coordinates to the left in mm.
            y: Patient coordinates downwards in mm, of the same shape.

        Returns: Booleans of the same shape.
        """
        angle, distance = self.polar(x, y)
        rim, edge = np.interp(angle, ANGLES, self.rim), np.interp(angle, ANGLES, self.edge)
        return np.asarray((angle > FIRST) & (angle < LAST) & (distance > edge) & (distance < rim))

    def retract(self, points: Table) -> Table:
        """Map points of the full lung to the collapsed lung.

        Args:
            points: Points in mm, shape ``(n, 2)``.

        Returns: Points in mm, shape ``(n, 2)``.
        """
        centre = np.array(self.hilum)
        angle = np.arctan2(self.side * (points[:, 0] - centre[0]), centre[1] - points[:, 1])
        shares = np.where(self.rim > 0, self.edge / np.maximum(self.rim, 1e-6), 1.0)
        share = np.interp(angle, ANGLES, shares, left=1.0, right=1.0)
        return np.asarray(centre + (points - centre) * share[:, None])

    def pleura(self) -> tuple[Table, Table]:
        """Points of the pleural line, shape ``(n, 2)``, and the width of the gap at each in mm."""
        x = self.hilum[0] + self.side * self.edge * np.sin(ANGLES)
        y = self.hilum[1] - self.edge * np.cos(ANGLES)
        return np.stack([x, y], axis=1), self.rim - self.edge


def _find_rim(chest: Chest, side: int) -> tuple[Table, Table]:
    """Measure the distances from the hilum to the mediastinal border, and to chest wall or diaphragm, in mm."""
    x0, y0 = hilum(chest, side)
    distance = np.arange(20.0, 260.0, 0.25)
    x = (x0 + side * np.sin(ANGLES)[:, None] * distance).astype(np.float32)
    y = (y0 - np.cos(ANGLES)[:, None] * distance).astype(np.float32)
    inside = lung_field(chest, x, y) & (x * side > 0)
    seen = inside.any(axis=1)
    near = np.where(seen, distance[np.argmax(inside, axis=1)], 0.0)
    rim = np.where(seen, distance[inside.shape[1] - 1 - np.argmax(inside[:, ::-1], axis=1)], 0.0)
    smooth = ndimage.gaussian_filter1d(np.stack([near, rim]), 2.0, mode="nearest")
    return smooth[0], smooth[1]


def collapse_lung(chest: Chest, side: int, area_mm2: float, rng: np.random.Generator) -> Collapse:
    """Shrink the lung of one side until the gas beside it has the given area.

    Args:
        chest: Chest of the patient.
        side: Side of the patient: 1 or -1.
        area_mm2: Area of the gas in mm2.
        rng: Random generator of the form.
    """
    near, rim = _find_rim(chest, side)
    anchor, window = _sample_shape(chest, rim, area_mm2, rng)
    small, large = SMALLEST, 1.0
    for _ in range(30):
        scale = (small + large) / 2
        edge = _shrink(near, rim, anchor, scale, window)
        area = 0.5 * np.sum((rim**2 - edge**2)[:-1] * np.diff(ANGLES))
        small, large = (scale, large) if area > area_mm2 else (small, scale)
    edge = _shrink(near, rim, anchor, large, window)
    return Collapse(side, hilum(chest, side), rim, edge, rng.uniform(0.6, 0.95))


def _shrink(near: Table, rim: Table, anchor: tuple[float, float], scale: float, window: Table) -> Table:
    """Compute the edge of a lung that shrinks towards an anchor and keeps its form within the window."""
    wall = window > 0
    across = anchor[0] + scale * (rim * np.sin(ANGLES) - anchor[0])[wall]
    up = anchor[1] + scale * (rim * np.cos(ANGLES) - anchor[1])[wall]
    angle, distance = np.arctan2(across, up), np.hypot(across, up)
    order = np.argsort(angle)
    shrunk = ndimage.gaussian_filter1d(np.interp(ANGLES, angle[order], distance[order]), 3.0, mode="nearest")
    gap = np.maximum(rim - shrunk, 0) * window
    return np.asarray(np.maximum(rim - gap, np.minimum(near, rim)))


def _sample_shape(
    chest: Chest, rim: Table, area_mm2: float, rng: np.random.Generator
) -> tuple[tuple[float, float], Table]:
    """Sample the point towards which a lung shrinks, relative to its hilum, and the directions that leave the wall.

    The gas collects at the apex, at the side, or occasionally above the diaphragm; a large amount surrounds the lung.
    """
    wide, tall = chest.patient.half_width, chest.height
    kind = str(rng.choice(["apical", "lateral", "basal"], p=[0.55, 0.38, 0.07]))
    centre, half, across, up = {
        "apical": (rng.uniform(5, 25), rng.uniform(50, 75), 0.3 * wide, -0.5 * tall),
        "lateral": (rng.uniform(45, 80), rng.uniform(60, 85), 0.1 * wide, -0.25 * tall),
        "basal": (rng.uniform(112, 126), rng.uniform(25, 35), 0.3 * wide, 0.4 * tall),
    }[kind]
    half = min(half, 2.3 * float(np.sqrt(area_mm2)))  # a small one is short before it is thin
    much = float(np.clip((area_mm2 - 800) / 5000, 0, 1))
    centre, half = (1 - much) * centre + much * 62, (1 - much) * half + much * 120
    anchor = ((1 - much) * across, (1 - much) * up - much * 0.1 * tall)

    away = np.clip((np.degrees(ANGLES) - centre) / half, -1, 1)
    apex = ANGLES[np.argmax(rim > 0.93 * rim[:120].max())]  # inwards of it the rim is mediastinum
    ends = (
        (apex <= ANGLES) * np.clip(0.5 + (ANGLES - apex) / 0.5, 0, 1) * np.clip((LAST - ANGLES) / 0.2, 0, 1)
    )
    slow, quick = rng.uniform(0, 2 * np.pi, 2)
    wave = 1 + 0.06 * np.sin(3 * ANGLES + slow) + 0.03 * np.sin(7 * ANGLES + quick)
    bump = np.maximum(np.cos(away * np.pi / 2) ** 0.7 - 0.1, 0)
    return anchor, np.asarray(bump * ends * wave * (rim > 0))
