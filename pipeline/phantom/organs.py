"""Organs of the chest as chords of rays.

Each function takes a chest and the patient coordinates of the rays, x to the left and y downwards in mm, which are
arrays of one shape. It returns the length of the chord through an organ in mm, of the same shape, so that a thickness
image takes a few operations on whole arrays. Lung is the content of the rib cage minus the mediastinum and minus the
organs below the diaphragm.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from pneumoseg.pipeline.phantom.chest import LEFT, RIGHT, TABLE_MM, Chest
from pneumoseg.pipeline.phantom.projection import Array
from pneumoseg.pipeline.phantom.solids import ellipsoid, merge, tube


def body(chest: Chest, x: Array, y: Array) -> Array:
    """Compute the chord from skin to skin: neck, shoulders, trunk, arms and breasts."""
    p, s = chest.patient, chest.pose.shoulders
    half = np.interp(y, TABLE_MM, _outline(chest)).astype(np.float32)
    padding = 0.85 * p.wall + 8 - 6 * np.exp(-((y / 55) ** 2)) + 14 * np.exp(-(((y + 70) / 30) ** 2))
    inside = np.maximum(1 - (np.abs(x) / half) ** 2.4, 0)
    solids = [2 * (chest.half_depth(y) + padding) * inside**0.55]
    shoulder = p.half_width + p.wall + 2
    for side in (RIGHT, LEFT):
        elbow, wrist = (side * (shoulder + 26 + 45 * s), 150.0), (side * (shoulder + 32 + 80 * s), 320.0)
        solids.append(tube(x, y, [(side * shoulder, 34.0), elbow, wrist], 40.0))
    return np.asarray(np.sqrt(sum(chord * chord for chord in solids)) + _breasts(chest, x, y))


def _outline(chest: Chest) -> NDArray[np.float64]:
    """Compute the half width of neck, shoulders and trunk over ``TABLE_MM``; relaxed shoulders are lower."""
    trunk = chest.patient.half_width + chest.patient.wall
    sink = 16 * (1 - chest.pose.shoulders)
    points = [
        (-300, 58), (-95, 56), (-62, 62), (-42, 82), (sink / 2 - 27, 120), (sink - 8, trunk + 8),
        (sink + 22, trunk + 34), (60, trunk + 32), (105, trunk + 13), (150, trunk + 4), (220, trunk), (600, trunk + 6),
    ]  # fmt: skip
    return np.asarray(PchipInterpolator(*np.array(points, dtype=float).T)(TABLE_MM))


def _breasts(chest: Chest, x: Array, y: Array) -> Array:
    """Compute breast tissue, which fades upwards and ends in a sharp fold below."""
    p = chest.patient
    total = np.zeros_like(x)
    if not p.breast:
        return total
    down = y - np.float32(0.74 * p.lung_height + (8 if chest.pose.view == "PA" else -8))
    below = np.where(down < 0, 1.35, 0.82).astype(np.float32) * p.breast
    for side in (RIGHT, LEFT):
        across = (x - np.float32(side * 0.66 * p.half_width)) / p.breast
        total += 0.7 * p.breast * np.maximum(1 - across**2 - (down / below) ** 2, 0)
    return total


def heart(chest: Chest, x: Array, y: Array) -> Array:
    """Compute heart and great vessels, without the soft tissue along the spine."""
    p, pose = chest.patient, chest.pose
    tall = p.heart * p.half_width / 133 * (1.0 if pose.view == "PA" else 1.1)  # AP magnifies it
    wide = tall * (1 + 0.35 * (1 - pose.inspiration))  # a high diaphragm lays it on its side
    base = chest.height + 0.4 * p.left_lower + 5
    arch = 0.3 * chest.height
    x = x - np.float32(35 * np.sin(pose.yaw))  # it lies before the axis that the patient turns about
    return merge(
        # left ventricle, its apex, right atrium, pulmonary trunk, aortic knob, superior vena cava
        ellipsoid(x, y, (26 * wide, base - 32 * tall), (61 * wide, 44 * tall, 62 * tall), 0.56),
        ellipsoid(x, y, (47 * wide, base - 14 * tall), (36 * wide, 34 * tall, 50 * tall), 0.5),
        ellipsoid(x, y, (-14 * wide, base - 32 * tall), (32 * wide, 52 * tall, 52 * tall), -0.12),
        ellipsoid(x, y, (22 * tall, base - 86 * tall), (22 * tall, 38 * tall, 30 * tall), -0.2),
        ellipsoid(x, y, (17 + 6 * p.aorta, arch), (20 * p.aorta, 21 * p.aorta, 26 * p.aorta)),
        ellipsoid(x, y, (-17, arch + 25), (17 * tall, 85, 28)),
    )


def mediastinum(chest: Chest, x: Array, y: Array) -> Array:
    """Compute the mediastinum: heart and vessels, prevertebral tissue, and descending aorta."""
    aorta, arch = chest.patient.aorta, 0.3 * chest.height
    half = 31 + 12 * np.exp(-(((y - 5) / 50) ** 2))
    column = 1.85 * chest.half_depth(y) * np.maximum(1 - (x / half) ** 2, 0)
    away = (x - 12 - 8 * np.clip(1 - y / chest.height, 0, 1)) / np.float32(12.5 * aorta)
    descending = 30 * aorta * np.sqrt(np.maximum(1 - away * away, 0)) * np.clip((y - arch) / 30, 0, 1)
    return np.asarray(merge(column, heart(chest, x, y)) + descending)


def lung(chest: Chest, x: Array, y: Array) -> Array:
    """Compute the lung along each ray, including the parts before and behind heart and diaphragm."""
    room = chest.room(x, y)
    between = np.minimum(mediastinum(chest, x, y), 0.97 * room)
    return np.asarray(np.maximum(room - merge(between, chest.below_diaphragm(x, y)), 0))


def lung_field(chest: Chest, x: Array, y: Array) -> NDArray[np.bool_]:
    """Outline the lungs as a reader does, by booleans: within ribs, mediastinal border and diaphragm."""
    inside = (np.abs(x) < chest.half_width(y)) & (y > chest.roof(x)) & (y < chest.floor(x))
    return np.asarray(inside & (mediastinum(chest, x, y) <= 1.0))


def airways(chest: Chest, x: Array, y: Array) -> Array:
    """Compute the gas in trachea and main bronchi."""
    bend = 3 * float(np.sin(10 * chest.pose.yaw))
    fork = (bend - 3, 0.42 * chest.height)
    trachea = tube(x, y, [(0.0, -140.0), (bend / 2, 0.0), fork], 9.2)
    right = tube(x, y, [fork, (-20.0, fork[1] + 24), (-27.0, fork[1] + 48)], 6.2)
    left = tube(x, y, [fork, (22.0, fork[1] + 19), (36.0, fork[1] + 27)], 5.4)
    return np.maximum(trachea, 0.7 * np.maximum(right, left))


def stomach_bubble(chest: Chest, x: Array, y: Array) -> Array:
    """Compute the air below the left diaphragm; in an upright patient it ends at a level of fluid."""
    p = chest.patient
    if not p.bubble:
        return np.zeros_like(x)
    wide, tall, top = 30 * p.bubble, 22 * p.bubble, chest.height + p.left_lower + 7
    gas = ellipsoid(x, y, (0.5 * p.half_width, top + tall), (wide, tall, wide), 0.12)
    level = top + 1.2 * tall if chest.pose.view == "PA" else np.inf
    return np.asarray(gas * np.clip((level - y) / 2 + 0.5, 0, 1), dtype=np.float32)
