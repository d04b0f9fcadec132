"""Solids with closed-form chords of parallel rays in millimetres."""

from itertools import pairwise

import numpy as np

from pneumoseg.pipeline.phantom.projection import Array

Point = tuple[float, float]


def ellipsoid(
    x: Array, y: Array, centre: Point, half: tuple[float, float, float], turn: float = 0.0
) -> Array:
    """Compute the chord through an ellipsoid.

    Args:
        x: Patient coordinates to the left in mm.
        y: Patient coordinates downwards in mm.
        centre: Centre in mm.
        half: Half axes across, down and deep in mm.
        turn: Rotation in the image plane in radians.
    """
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    across = (cos * dx + sin * dy) / np.float32(half[0])
    down = (cos * dy - sin * dx) / np.float32(half[1])
    return np.asarray(np.float32(2 * half[2]) * np.sqrt(np.maximum(1 - across * across - down * down, 0)))


def tube(x: Array, y: Array, path: list[Point], radius: float) -> Array:
    """Compute the chord through a round tube.

    Args:
        x: Patient coordinates to the left in mm.
        y: Patient coordinates downwards in mm.
        path: Corners of its centre line in mm.
        radius: Radius in mm.
    """
    nearest = np.full(np.broadcast_shapes(x.shape, y.shape), np.inf, dtype=np.float32)
    for (x0, y0), (x1, y1) in pairwise(path):
        dx, dy = np.float32(x1 - x0), np.float32(y1 - y0)
        from_x, from_y = x - np.float32(x0), y - np.float32(y0)
        along = np.clip((from_x * dx + from_y * dy) / (dx * dx + dy * dy), 0, 1)
        nearest = np.minimum(nearest, (from_x - along * dx) ** 2 + (from_y - along * dy) ** 2)
    return np.asarray(2 * np.sqrt(np.maximum(np.float32(radius * radius) - nearest, 0)))


def merge(*chords: Array) -> Array:
    """Combine solids at the same depth smoothly.

    Args:
        chords: Chords of the solids in mm.
    """
    total = np.zeros_like(chords[0])
    for chord in chords:
        square = chord * chord
        total += square * square
    return np.asarray(np.sqrt(np.sqrt(total)))
