"""Structures outside of the anatomy: tubes, leads, skin folds, side marker, and the notice of a synthetic image.

Lengths are in mm, and so is the thickness of what is rendered, along the ray of each pixel.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pneumoseg.pipeline.phantom.attenuation import MU_SOFT
from pneumoseg.pipeline.phantom.bones import Knot, curve
from pneumoseg.pipeline.phantom.chest import LEFT, RIGHT, Chest
from pneumoseg.pipeline.phantom.pneumothorax import Collapse
from pneumoseg.pipeline.phantom.projection import Array, Projection, blur
from pneumoseg.pipeline.phantom.scene import Scene

MU_PLASTIC = 0.033  # per mm, with barium
NOTICE = "SYNTHETIC PHANTOM"


def render_details(scene: Scene, view: Projection, rng: np.random.Generator) -> Array:
    """Render the attenuation of thin structures: pleural lines, and in some images a drain, leads or a skin fold.

    Args:
        scene: Scene that is imaged.
        view: Projection of the exposure.
        rng: Random generator.

    Returns: Line integrals without unit, shape ``(rows, columns)``.
    """
    chest, portable = scene.chest, scene.pose.view == "AP"
    total = np.zeros((view.size, view.size), dtype=np.float32)
    for collapse in scene.collapses:
        total += MU_SOFT * _pleural_line(view, collapse, rng.uniform(3.0, 6.5))
    drained, wired, folded = rng.random(3)
    if drained < (0.35 if scene.collapses else 0.06):
        side = scene.collapses[0].side if scene.collapses else int(rng.choice([RIGHT, LEFT]))
        total += MU_PLASTIC * _chest_tube(chest, view, side, rng)
    if wired < (0.5 if portable else 0.1):
        total += MU_PLASTIC * _monitor_leads(chest, view, rng)
    if folded < 0.12 and not scene.collapses:
        total += MU_SOFT * _skin_fold(chest, view, rng)
    return total


def _stroke(
    view: Projection, path: NDArray[np.float64], width_mm: float, thickness: NDArray[np.float64] | float
) -> Array:
    """Render a ribbon along a path, (n, 2), in the mid-plane; one value of thickness, or one for each point."""
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    position = np.concatenate([[0], np.cumsum(steps)])
    samples = np.linspace(0, position[-1], max(int(position[-1] / view.pixel_mm * 2.5), 2))
    x, y = np.interp(samples, position, path[:, 0]), np.interp(samples, position, path[:, 1])
    thick = np.interp(samples, position, np.broadcast_to(thickness, position.shape))
    lanes = max(int(np.ceil(width_mm / view.pixel_mm * 2)), 1)
    offsets = ((np.arange(lanes) + 0.5) / lanes - 0.5) * width_mm
    normal = np.stack([-np.gradient(y), np.gradient(x)], axis=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    points = np.stack([x, y], axis=1)[:, None] + offsets[:, None] * normal[:, None]
    volume = thick * (samples[1] - samples[0]) * width_mm / lanes
    return view.deposit(points, volume[:, None])


def _pleural_line(view: Projection, collapse: Collapse, thickness: float) -> Array:
    """Render the tissue of the tangential visceral pleura, which fades where the lung touches the wall."""
    path, gap = collapse.pleura()
    seen = np.clip((gap - 0.4) / 2.5, 0, 1)
    keep = seen > 0
    if keep.sum() < 2:
        return np.zeros((view.size, view.size), dtype=np.float32)
    return _stroke(view, path[keep], 0.55, thickness * seen[keep])


def _chest_tube(chest: Chest, view: Projection, side: int, rng: np.random.Generator) -> Array:
    """Render the plastic of a drain from the side of the chest towards the apex, with its radiopaque stripe."""
    w, h = chest.patient.half_width, chest.height
    low = rng.uniform(0.62, 0.85) * h
    knots: list[Knot] = [
        (side * (w + chest.patient.wall + 60), low + 60, 0),
        (side * (w + 2), low, 0),
        (side * w * rng.uniform(0.7, 0.85), low - 0.2 * h, 0),
        (side * w * rng.uniform(0.5, 0.66), rng.uniform(0.1, 0.3) * h, 0),
    ]
    path = curve(knots)[:, :2]
    return _stroke(view, path, 7.0, 2.2) + _stroke(view, path, 1.1, 9.0)


def _monitor_leads(chest: Chest, view: Projection, rng: np.random.Generator) -> Array:
    """Render cables across the chest that end in electrodes."""
    w, h = chest.patient.half_width, chest.height
    total = np.zeros((view.size, view.size), dtype=np.float32)
    ring = np.linspace(0, 2 * np.pi, 40)
    for _ in range(int(rng.integers(1, 4))):
        side = rng.choice([RIGHT, LEFT])
        pad = np.array([side * w * rng.uniform(0.4, 0.95), h * rng.uniform(0.05, 1.0)])
        exit_ = np.array([side * w * rng.uniform(-0.3, 1.5), h * rng.choice([-0.5, 1.7])])
        half = (pad + exit_) / 2 + rng.normal(0, 25, 2)
        third = (half + exit_) / 2 + rng.normal(0, 18, 2)
        path = curve([(*point, 0.0) for point in (pad, half, third, exit_)])[:, :2]
        total += _stroke(view, path, 1.3, 5.0)
        circle = pad + 4.2 * np.stack([np.cos(ring), np.sin(ring)], axis=1)
        total += _stroke(view, circle, 2.2, 9.0) + _stroke(view, pad + 0.25 * (circle - pad), 2.2, 14.0)
    return total


def _skin_fold(chest: Chest, view: Projection, rng: np.random.Generator) -> Array:
    """Render a skin fold: tissue that thickens slowly and ends abruptly, an edge similar to a pleura."""
    x, y = view.grid
    side = rng.choice([RIGHT, LEFT])
    top, bottom = rng.uniform(-0.05, 0.25) * chest.height, rng.uniform(0.75, 1.1) * chest.height
    lean, bow = rng.uniform(-15, 6), rng.uniform(-18, 18)
    share = (y - top) / (bottom - top)
    edge = chest.patient.half_width * rng.uniform(0.62, 0.85) + share * (lean + 4 * bow * (1 - share))
    inward = (edge - x * side) / rng.uniform(14, 30)
    ends = np.clip(share / 0.2, 0, 1) * np.clip((1 - share) / 0.2, 0, 1)
    fold = np.where(inward > 0, np.exp(-np.maximum(inward, 0)), 0) * ends * rng.uniform(4, 9)
    return blur(fold.astype(np.float32), 0.5)


def write_markers(picture: Array, *, portable: bool, rng: np.random.Generator) -> Array:
    """Burn in the L of the patient's left side, the view of a portable unit, and the notice.

    Args:
        picture: Image in [0, 1], shape ``(rows, columns)``.
        portable: Whether the unit is portable.
        rng: Random generator.
    """
    size = picture.shape[0]
    image = Image.new("L", (size, size))
    pen = ImageDraw.Draw(image)
    side, high = (0.90, rng.uniform(0.03, 0.09)) if rng.random() < 0.8 else (0.055, rng.uniform(0.03, 0.09))
    letter = "L" if side > 0.5 else "R"
    pen.text((side * size, high * size), letter, fill=255, font=ImageFont.load_default(0.05 * size))
    if portable and rng.random() < 0.7:
        pen.text(
            (0.03 * size, 0.17 * size), "AP\nPORTABLE", fill=235, font=ImageFont.load_default(0.017 * size)
        )
    pen.text((0.015 * size, 0.972 * size), NOTICE, fill=235, font=ImageFont.load_default(0.016 * size))
    ink = np.asarray(image, dtype=np.float32) / 255
    return np.maximum(picture * (1 - ink), ink)
