"""Attenuation of a scene: tissue, gas and bone along each ray, times their coefficients."""

import numpy as np

from pneumoseg.pipeline.phantom.bones import skeleton
from pneumoseg.pipeline.phantom.chest import LEFT, RIGHT
from pneumoseg.pipeline.phantom.organs import airways, body, lung, stomach_bubble
from pneumoseg.pipeline.phantom.projection import Array, Projection, blur
from pneumoseg.pipeline.phantom.scene import Scene
from pneumoseg.pipeline.phantom.vessels import grow_trees

MU_SOFT = 0.0185  # per mm of water at about 65 keV (NIST XCOM: 0.193 per cm at 65 keV)
MU_BONE = 0.052  # per mm of compact bone


def attenuation(scene: Scene, view: Projection, rng: np.random.Generator, *, bone: float) -> Array:
    """Compute the line integrals of everything except thin structures.

    Args:
        scene: Scene that is imaged.
        view: Projection of the exposure.
        rng: Random generator of the fine structure of the lungs.
        bone: Contrast of bone relative to that at 65 keV.

    Returns: Line integrals without unit, shape ``(rows, columns)``.
    """
    chest, (x, y) = scene.chest, view.grid
    gas_filled = blur(lung(chest, x, y), 0.0015 * view.size)  # heart and diaphragm do not stand still
    soft = body(chest, x, y) - gas_filled - 0.85 * airways(chest, x, y) - stomach_bubble(chest, x, y)
    soft += lung_tissue(scene, view, gas_filled, rng)
    return (MU_SOFT * np.maximum(soft, 0) + MU_BONE * bone * skeleton(chest, view)).astype(np.float32)


def lung_tissue(scene: Scene, view: Projection, gas_filled: Array, rng: np.random.Generator) -> Array:
    """Compute the tissue within the lungs: parenchyma and vessels, none where gas has replaced them.

    Args:
        scene: Scene that is imaged.
        view: Projection of the exposure.
        gas_filled: Thickness of the lungs, full of gas, in mm, shape ``(rows, columns)``.
        rng: Random generator of the fine structure.

    Returns: Thickness in mm, shape ``(rows, columns)``.
    """
    x, y = view.grid
    base = np.clip(y / scene.chest.height - 0.3, 0, 1)  # lower parts hold more blood
    share = scene.patient.lung_density * (1 + 0.25 * base) * (1 + _mottle(view.size, rng))
    share += _haze(scene, view, rng)
    vessels = _vessels(scene, view) * np.clip(gas_filled / 25, 0, 1)
    for collapse in scene.collapses:
        left_over = np.mean((collapse.edge / np.maximum(collapse.rim, 1)) ** 2)
        share = np.where(x * collapse.side > 0, share * min(left_over**-0.35, 1.5), share)
        gas = blur(collapse.region(x, y).astype(np.float32), 0.6)
        share *= 1 - collapse.clarity * gas
        vessels *= 1 - gas
    return np.asarray(gas_filled * share + 0.8 * vessels)


def _vessels(scene: Scene, view: Projection) -> Array:
    """Compute the thickness of the blood vessels in mm."""
    collapses = {collapse.side: collapse for collapse in scene.collapses}
    places, volumes = [], []
    for side, tree in grow_trees(scene.chest).items():
        points, volume = tree.samples(0.8 * view.pixel_mm)
        places.append(collapses[side].retract(points) if side in collapses else points)
        volumes.append(volume)
    return blur(view.deposit(np.concatenate(places), np.concatenate(volumes)), 0.6)


def _haze(scene: Scene, view: Projection, rng: np.random.Generator) -> Array:
    """Sample patches of denser lung, mostly in bedridden patients."""
    x, y = view.grid
    total = np.zeros_like(x)
    patches = int(rng.integers(1, 4)) if rng.random() < (0.4 if scene.pose.view == "AP" else 0.12) else 0
    for _ in range(patches):
        centre = scene.patient.half_width * rng.choice([RIGHT, LEFT]) * rng.uniform(0.35, 0.8)
        middle = scene.chest.height * rng.uniform(0.3, 1.05)
        across, down = rng.uniform(14, 42, 2).tolist()
        away_x, away_y = (x - np.float32(centre)) / across, (y - np.float32(middle)) / down
        total += rng.uniform(0.06, 0.3) * np.exp(-away_x * away_x - away_y * away_y)
    return total


def _mottle(size: int, rng: np.random.Generator) -> Array:
    """Sample relative changes of density without structure, coarse and fine."""
    total = np.zeros((size, size), dtype=np.float32)
    for share, amount in ((0.003, 0.12), (0.008, 0.12), (0.028, 0.1)):
        sigma = share * size
        total += amount * sigma * blur(rng.standard_normal((size, size), dtype=np.float32), sigma)
    return total
