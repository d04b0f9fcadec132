"""Cases for the search of operating points, with the maps and labels that brute force needs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from tests.conftest import measured_curves

from pneumoseg.pipeline.scoring.case_curves import CaseCurves
from pneumoseg.pipeline.scoring.search import Search
from pneumoseg.transforms.masks import OperatingPoint

SIDE = 40


@dataclass(frozen=True)
class Drawn:
    """A case with the map and the label that its curves were measured on."""

    curves: CaseCurves
    levels: NDArray[np.uint8]
    label: NDArray[np.bool_]
    group: str


def search_of(cases: Sequence[Drawn]) -> Search:
    return Search([case.curves for case in cases])


def make_search_case(
    levels: NDArray[np.uint8], label: NDArray[np.bool_], group: str = "p", *, image_probability: float = 0.5
) -> Drawn:
    probabilities = torch.from_numpy(levels.astype(np.float64) / 255)
    curves = measured_curves(
        probabilities, torch.from_numpy(label), index=0, image_probability=image_probability
    )
    return Drawn(curves, levels, label, group)


def blobs(count: int = 8, seed: int = 0, side: int = SIDE) -> list[Drawn]:
    """Maps with a blob about the label, and noise; every other one has no label."""
    random = np.random.default_rng(seed)
    cases = []
    for number in range(count):
        label = np.zeros((side, side), dtype=np.bool_)
        if number % 2:
            top, left = random.integers(2, side // 2, size=2)
            label[top : top + side // 3, left : left + side // 4] = True
        smooth = ndimage.gaussian_filter(label.astype(np.float64), side / 20) * random.uniform(0.4, 1)
        noise = random.random((side, side))
        smooth[noise < 0.02] += 0.4  # specks
        smooth[noise > 0.97] *= 0.2  # holes
        levels = (255 * np.clip(smooth + 0.1 * random.random((side, side)), 0, 1)).round().astype(np.uint8)
        cases.append(make_search_case(levels, label, f"patient{number // 2}"))
    return cases


def is_accepted(case: Drawn, point: OperatingPoint) -> bool:
    return point.image_threshold == 0 or case.curves.image_probability > point.image_threshold


def brute_force_dice(case: Drawn, point: OperatingPoint) -> float:
    """By NumPy, on the map itself."""
    probabilities = case.levels.astype(np.float64) / 255
    mask = probabilities > point.threshold
    if mask.sum() > int(point.min_area_fraction * mask.size) and is_accepted(case, point):
        mask = probabilities > point.mask_threshold
    else:
        mask[:] = False
    total = int(mask.sum()) + int(case.label.sum())
    return 2 * int((mask & case.label).sum()) / total if total else 1.0


def graded(seed: int = 0, count: int = 60) -> list[Drawn]:
    """Maps of one block, brighter on most positives."""
    random = np.random.default_rng(seed)
    cases = []
    for number in range(count):
        label, levels = np.zeros((8, 8), dtype=np.bool_), np.zeros((8, 8), dtype=np.uint8)
        label[2:5, 2:5] = number % 3 == 0
        levels[2:5, 2:6] = random.integers(20, 180) + 60 * (number % 3 == 0)
        cases.append(make_search_case(levels, label, f"p{number}"))
    return cases
