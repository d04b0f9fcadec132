"""Lung vessels: a tree on each side that branches from the hilum and thins towards the edge."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pneumoseg.pipeline.phantom.chest import LEFT, RIGHT, Chest

Points = NDArray[np.float64]

SMALLEST_MM = 0.28  # radius at which a branch is no longer followed


@dataclass(frozen=True)
class Branches:
    """Straight pieces of vessels in the image plane in mm: both ends ``(n, 2)``, and radii ``(n,)`` at both ends."""

    start: Points
    end: Points
    radius: NDArray[np.float64]
    radius_end: NDArray[np.float64]

    def samples(self, spacing: float) -> tuple[Points, NDArray[np.float64]]:
        """Sample points over the branches.

        Args:
            spacing: Approximate distance of the points in mm.

        Returns: Points in mm, shape ``(m, 2)``, and the volume in mm3 that each represents.
        """
        parts = []
        for least, most in pairwise((0.0, 0.5, 1.2, 2.5, np.inf)):  # thick ones need more points across
            chosen = (self.radius > least) & (self.radius <= most)
            if chosen.any():
                columns = (self.start, self.end, self.radius, self.radius_end)
                parts.append(Branches(*(column[chosen] for column in columns))._equal_samples(spacing))
        points, volumes = zip(*parts, strict=True)
        return np.concatenate(points), np.concatenate(volumes)

    def _equal_samples(self, spacing: float) -> tuple[Points, NDArray[np.float64]]:
        """Sample the same number of points on each branch."""
        way = self.end - self.start
        length = np.linalg.norm(way, axis=1)
        along = int(np.ceil(np.quantile(length, 0.9) / spacing))
        across = max(round(2 * self.radius.max() / spacing), 1)
        s = (np.arange(along) + 0.5) / along
        t = (np.arange(across) + 0.5) * 2 / across - 1
        normal = np.stack([-way[:, 1], way[:, 0]], axis=1) / length[:, None]
        radius = self.radius[:, None] + s * (self.radius_end - self.radius)[:, None]
        axis = self.start[:, None] + s[:, None] * way[:, None]
        points = axis[:, :, None] + (radius[..., None] * t)[..., None] * normal[:, None, None]
        profile = np.sqrt(1 - t**2) / np.sqrt(1 - t**2).sum()
        volume = np.pi * radius[..., None] ** 2 * profile * (length / along)[:, None, None]
        return points.reshape(-1, 2), volume.reshape(-1)


def hilum(chest: Chest, side: int) -> tuple[float, float]:
    """Locate the hilum of a lung; the left one is slightly higher.

    Args:
        chest: Chest of the patient.
        side: Side of the patient: 1 or -1.
    """
    x = side * (0.255 if side == RIGHT else 0.28) * chest.patient.half_width
    return x, (0.50 if side == RIGHT else 0.46) * chest.height


def _grow_tree(chest: Chest, side: int, rng: np.random.Generator) -> Branches:
    """Grow arteries and veins of one lung; a branch divides into a main and a side branch of smaller sections."""
    x0, y0 = hilum(chest, side)
    scale = chest.height / 200
    # angle from straight up, positive towards the side of the lung; the lower lobe vessels are the largest
    heading = np.radians(np.array([-12, 14, 38, 62, 84, 108, 130, 150, 168, 182]) + rng.normal(0, 6, 10))
    radius = 1.35 * np.array([2.4, 2.9, 2.5, 2.2, 2.3, 2.7, 3.4, 4.4, 3.9, 2.6]) * rng.uniform(0.85, 1.15, 10)
    start = np.array([x0, y0]) + rng.normal(0, 5, (10, 2)) * np.array([0.6, 1.4])
    pieces: list[Branches] = []
    while heading.size:
        length = scale * (6.0 + 4.2 * radius) * rng.uniform(0.6, 1.25, heading.size)
        end = start + length[:, None] * np.stack([side * np.sin(heading), -np.cos(heading)], axis=1)
        pieces.append(Branches(start, end, radius, radius * 0.9))
        aside = rng.choice([-1.0, 1.0], heading.size) * rng.uniform(0.35, 0.95, heading.size)
        main = (
            heading - 0.12 * aside + rng.normal(0, 0.1, heading.size),
            radius * rng.uniform(0.77, 0.9, heading.size),
        )
        twig = (heading + aside, radius * rng.uniform(0.45, 0.75, heading.size))
        start = np.concatenate([end, end])
        heading = np.concatenate([main[0], twig[0]])
        radius = np.concatenate([main[1], twig[1]])
        alive = radius > SMALLEST_MM
        outside = np.abs(start[:, 0]) > chest.half_width(start[:, 1])
        alive &= (
            ~outside
            & (start[:, 0] * side > 12)
            & (start[:, 1] > 0)
            & (start[:, 1] < chest.patient.lung_height + 40)
        )
        start, heading, radius = start[alive], heading[alive], radius[alive]
    return Branches(
        *(
            np.concatenate([getattr(piece, name) for piece in pieces])
            for name in ("start", "end", "radius", "radius_end")
        )
    )


def grow_trees(chest: Chest) -> dict[int, Branches]:
    """Grow the trees of both lungs, which are the same in every image of a patient.

    Args:
        chest: Chest of the patient.
    """
    rng = np.random.default_rng(chest.patient.vessel_seed)
    return {side: _grow_tree(chest, side, rng) for side in (RIGHT, LEFT)}
