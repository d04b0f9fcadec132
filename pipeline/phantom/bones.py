"""Skeleton of the chest: bones as bent tubes with a projected shell and spongy interior.

The line integral of a shell is largest where a ray is tangential to it. The bright edges of ribs, the crossing of
posterior with anterior arches and the white line of the lateral chest wall follow from that.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from pneumoseg.pipeline.phantom.chest import LEFT, RIGHT, Chest
from pneumoseg.pipeline.phantom.projection import Array, Projection, blur
from pneumoseg.pipeline.phantom.solids import ellipsoid

Points = NDArray[np.float64]
Knot = tuple[float, float, float]


@dataclass(frozen=True)
class Tube:
    """Bones of one kind; lengths in mm.

    Attributes:
        paths: Centre lines in patient coordinates, (bones, samples, 3).
        across: Half width of the section in the picture plane.
        deep: Half width along the ray.
        cortex: Thickness of the compact shell, broadcast over (bones, samples).
        spongy: Share of bone in the inside.
    """

    paths: Points
    across: float
    deep: float
    cortex: Points | float
    spongy: float = 0.1

    def samples(self, spacing: float) -> tuple[Array, Array]:
        """Sample the shell and the interior.

        Args:
            spacing: Distance of the samples in mm.

        Returns: Points of shape ``(n, 3)`` in mm, and the volume of bone in mm3 that each represents, shape ``(n,)``.
        """
        around = 2 * int(np.ceil(np.pi * (self.across + self.deep) / spacing / 2))
        tangent = np.gradient(self.paths, axis=-2)
        step = np.linalg.norm(tangent, axis=-1, keepdims=True)
        tangent /= np.maximum(step, 1e-9)
        outward = self.paths * np.array([1.0, 0.0, 1.0]) + np.array([0.0, 0.0, 1e-3])
        outward -= (outward * tangent).sum(-1, keepdims=True) * tangent
        outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
        upward = np.cross(tangent, outward)

        # each ring of points is turned a little against the last one: no streaks along the bone
        shift = (np.arange(self.paths.shape[-2]) * 0.618)[:, None] % 1.0
        turn = (np.arange(around) + shift) * 2 * np.pi / around
        up, out = self.across * np.cos(turn), self.deep * np.sin(turn)
        arc = np.hypot(self.across * np.sin(turn), self.deep * np.cos(turn)) * 2 * np.pi / around
        # inner points, half as many: evenly over the section, the radius unrelated to the direction
        reach = np.sqrt((np.arange(0, around, 2) * 0.309 + shift) % 1.0)
        up = np.concatenate([up, reach * up[:, ::2]], axis=1)[..., None]
        out = np.concatenate([out, reach * out[:, ::2]], axis=1)[..., None]
        sideways = up * upward[..., None, :] + out * outward[..., None, :]
        points = self.paths[..., None, :] + sideways

        volume = np.empty(points.shape[:-1])
        volume[..., :around] = step * arc * np.asarray(self.cortex)[..., None]
        volume[..., around:] = step * 2 * np.pi * self.across * self.deep * self.spongy / around
        volume *= _taper(self.paths.shape[-2])[:, None]
        return points.reshape(-1, 3).astype(np.float32), volume.reshape(-1).astype(np.float32)


def _taper(samples: int) -> Points:
    """Weights that taper the ends of a bone."""
    way = np.linspace(0, 1, samples)
    return np.clip(way / 0.04, 0, 1) * np.clip((1 - way) / 0.04, 0, 1)


def curve(knots: list[Knot]) -> Points:
    """Interpolate a smooth line through knots.

    Args:
        knots: Points in patient coordinates in mm.

    Returns: Points, shape ``(240, 3)``.
    """
    table = np.array(knots, dtype=float)
    position = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(table, axis=0), axis=1))])
    spline = make_interp_spline(position, table, k=min(3, len(table) - 1))
    return np.asarray(spline(np.linspace(0, position[-1], 240)))


def mirrored(knots: list[Knot]) -> Points:
    """Interpolate the same bone on both sides.

    Args:
        knots: Points of one side in patient coordinates in mm.

    Returns: Points, shape ``(2, samples, 3)``.
    """
    line = curve(knots)
    return np.stack([line * [side, 1, 1] for side in (RIGHT, LEFT)])


def ribs(chest: Chest) -> Tube:
    """Make eleven pairs of ribs: from the spine gently down to the side, then steeply down to the front."""
    p = chest.patient
    way = np.linspace(0.0, 1.0, 330)
    paths, cortices = [], []
    for number in range(1, 12):
        u = way * {1: 0.72, 2: 0.78, 11: 0.5}.get(number, 0.83)  # 1 would be the sternum
        fall = min(66 + 13 * number, 132) * p.rib_slope
        down = fall * (0.28 * u + 0.58 * (0.5 + 0.5 * np.tanh((u - 0.5) / 0.17)) + 0.2 * u**2)
        y = chest.vertebra(number) + down - 9 * np.sin(np.pi * np.minimum(u * 2.6, 1))
        half_width = chest.half_width(y + 6 + 6 / number) + 4
        x = 15 + (half_width - 15) * np.cos((u - 0.5) * np.pi) ** 0.92
        z = (chest.half_depth(y) + 3) * np.sin((u - 0.5) * np.pi)
        paths += [np.stack([side * x, y, z], axis=-1) for side in (RIGHT, LEFT)]
        cortices += [1.0 * p.bone * np.clip((1 - way) / 0.12, 0, 1) ** 0.7] * 2  # it turns into cartilage
    return Tube(np.stack(paths), across=6.6, deep=3.3, cortex=np.stack(cortices), spongy=0.14)


def _clavicles(chest: Chest) -> Tube:
    """Make the clavicles: S-shaped from the sternum to the shoulders, across the apices."""
    p, s = chest.patient, chest.pose.shoulders
    wide, low = p.half_width / 133, 38.0 if chest.pose.view == "PA" else 26.0
    knots = [
        (15 * wide, low + 7, 76.0),
        (34 * wide, low + 0.5, 82.0),
        (72 * wide, low - 0.36 * p.clavicle_rise, 70.0),
        (118 * wide, low - 0.95 * p.clavicle_rise, 36.0),
        (160 * wide, low - p.clavicle_rise - 2 + 6 * s, 10.0),
    ]
    thick = 1.3 + 0.9 * np.exp(-(((np.linspace(0, 1, 240) - 0.5) / 0.3) ** 2))  # thickest in the middle
    return Tube(mirrored(knots), across=5.6, deep=5.0, cortex=thick * p.bone, spongy=0.26)


def _shoulder_girdle(chest: Chest) -> list[Tube]:
    """Make borders and spines of the scapulae, and the shafts of the humeri."""
    p, s = chest.patient, chest.pose.shoulders

    def at(x: float, y: float, z: float = -60.0) -> Knot:
        return x * p.half_width / 133 + 16 * s, y + 6 * (1 - s), z

    out = 10 * s
    parts: list[tuple[list[Knot], float, float, float]] = [
        # lateral and medial border, spine with acromion, coracoid, glenoid, humerus
        ([at(146, 32), at(140, 70), at(128 + out, 115), at(117 + out, 152)], 3.4, 3.0, 1.3),
        ([at(104 + out, 6), at(98 + out, 50), at(103 + out, 110), at(117 + out, 152)], 1.6, 2.0, 0.8),
        ([at(106 + out, 22), at(122, 10), at(146, -8), at(168, -8)], 4.0, 3.0, 0.8),
        ([at(147, 20), at(138, 8), at(128, 11)], 4.5, 4.0, 0.9),
        ([at(146, 16), at(143, 32), at(147, 48)], 3.2, 4.0, 1.3),
        ([at(166, 30, -20), at(178 + out, 90, -20), at(190 + 3 * out, 330, -20)], 10.5, 10.5, 2.2),
    ]
    return [Tube(mirrored(knots), a, d, cortex * p.bone) for knots, a, d, cortex in parts]


def _humeral_heads(chest: Chest, view: Projection) -> Array:
    """Make the humeral heads: balls of spongy bone in a thin shell."""
    p, s = chest.patient, chest.pose.shoulders
    x, y = view.grid
    total = np.zeros_like(x)
    for side in (RIGHT, LEFT):
        centre = np.array([side * (164 * p.half_width / 133 + 16 * s), 26 + 6 * (1 - s), -20.0])
        (cx, cy), r = view.flatten(centre), 23.0
        ball = ellipsoid(x, y, (cx, cy), (r, r, r))
        total += 0.14 * ball + 0.7 * (ball - ellipsoid(x, y, (cx, cy), (r - 1, r - 1, r - 1)))
    return total * np.float32(p.bone)


def _spine(chest: Chest, view: Projection) -> Array:
    """Make vertebral bodies with end plates, pedicles and spinous processes."""
    p = chest.patient
    x, y = view.grid
    near = np.flatnonzero((np.abs(x) < 45).any(axis=0))
    strip = slice(near[0], near[-1] + 1)
    x, y = x[:, strip], y[:, strip]
    x = x + np.float32(60 * np.sin(chest.pose.yaw))  # it lies at the back
    numbers = np.arange(-8, 20)
    number = np.interp(y, [chest.vertebra(n) for n in numbers.tolist()], numbers).astype(np.float32)
    phase = number - np.round(number)  # -0.5 and 0.5 are the discs
    half = np.float32(p.half_width / 133) * np.clip(14 + 0.42 * number, 12.5, 20) * (1 + 0.35 * phase**2)

    across = np.abs(x) / half
    body = 1 / (1 + np.exp(np.clip((across - 1) * 9, -30, 30)))
    plate = np.exp(-(((np.abs(phase) - 0.39) / 0.035) ** 2))
    disc = 1 / (1 + np.exp(np.clip((np.abs(phase) - 0.42) * -60, -30, 30)))
    wall = np.exp(-(((across - 0.97) / 0.06) ** 2)) * (1 - disc)
    ring = np.hypot((across - 0.66) / 0.2, (phase + 0.14) / 0.23)
    pedicle = np.exp(-(((ring - 1) / 0.28) ** 2))
    thorn = np.exp(-((x / 2.6) ** 4)) * np.exp(-(((phase - 0.2) / 0.24) ** 4))
    bone = body * (3.2 - 2.0 * disc + 1.3 * plate) + 1.0 * wall + 1.3 * pedicle + 2.6 * thorn
    total = np.zeros((view.size, view.size), dtype=np.float32)
    total[:, strip] = bone * p.bone
    return total


def skeleton(chest: Chest, view: Projection) -> Array:
    """Compute the thickness of compact bone along each ray.

    Args:
        chest: Chest of the patient.
        view: Projection of the exposure.

    Returns: Thickness in mm, shape ``(rows, columns)``.
    """
    tubes = [ribs(chest), _clavicles(chest), *_shoulder_girdle(chest)]
    points, volumes = zip(*(tube.samples(1.5 * view.pixel_mm) for tube in tubes), strict=True)
    bright = view.deposit(view.flatten(np.concatenate(points)), np.concatenate(volumes))
    return blur(bright + _humeral_heads(chest, view), 0.7) + blur(_spine(chest, view), 0.8)
