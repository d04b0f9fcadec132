"""Time of the search of the operating point, on curves of synthetic maps that contain no radiographs.

    python benchmarks/operating_point_search.py [--cases 960] [--positives 214] [--side 256] [--rounds 3]

Every map has faint blobs and noise; that of a positive has a brighter blob near its label. The benchmark searches the
points of all objectives, and then one without each inner fold, as training does.
Processor seconds are printed beside wall-clock seconds, since they do not depend on other programs.
"""

import argparse
import time

import numpy as np
import torch
from scipy import ndimage

from pneumoseg.pipeline.scoring.case_curves import STEPS, CaseCurves, count_levels
from pneumoseg.pipeline.scoring.cross_fitting import cross_fit
from pneumoseg.pipeline.scoring.search import MIN_AREA_FRACTIONS, Search
from pneumoseg.pipeline.scoring.tuning import OBJECTIVES

MAX_SECONDS = 20


def main() -> None:
    """Print the number of compared combinations, and the time of the search."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=960)
    parser.add_argument("--positives", type=int, default=214)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    words = parser.parse_args()
    cases = draw_cases(words.cases, words.positives, words.side)
    combinations = len(MIN_AREA_FRACTIONS) * STEPS * (STEPS + 1) // 2
    print(
        f"{words.cases} maps of {words.side} px, {words.positives} positive; "
        f"{combinations:,} combinations or more for each objective and inner fold; limit {MAX_SECONDS} s"
    )
    for _ in range(words.rounds):
        wall, processor = time.perf_counter(), time.process_time()
        search = Search(cases)
        for objective in OBJECTIVES:
            search.best(objective)
        objectives = time.perf_counter() - wall, time.process_time() - processor
        cross_fit(cases, [f"patient{number // 2}" for number in range(len(cases))])
        both = time.perf_counter() - wall, time.process_time() - processor
        print(
            "all objectives {:.1f} s (processor {:.1f} s), ".format(*objectives)
            + "with cross-fitting {:.1f} s (processor {:.1f} s)".format(*both)
        )


def draw_cases(count: int, positives: int, side: int) -> list[CaseCurves]:
    """Sample cases with typical predictions of a network, the positives first.

    Args:
        count: Number of cases.
        positives: Number of positives.
        side: Side of the maps in pixels.
    """
    random = np.random.default_rng(0)
    return [_draw_case(random, side, positive=number < positives) for number in range(count)]


def _draw_case(random: np.random.Generator, side: int, *, positive: bool) -> CaseCurves:
    coarse = ndimage.gaussian_filter(random.normal(size=(side // 8 + 1, side // 8 + 1)), 1.6)
    faint = ndimage.zoom(coarse / coarse.std(), 8, order=1)[:side, :side]
    logits = -4 + 1.2 * faint + random.normal(0, 0.5, (side, side))
    label = np.zeros((side, side), dtype=np.bool_)
    if positive:
        rows, columns = np.ogrid[:side, :side]
        row, column = random.uniform(0.2, 0.8, 2) * side
        high, wide = random.uniform(0.03, 0.15, 2) * side
        label = ((rows - row) / high) ** 2 + ((columns - column) / wide) ** 2 < 1
        moved = np.roll(label, random.integers(-5, 6, 2), (0, 1)).astype(np.float64)
        logits += random.uniform(2, 8) * ndimage.gaussian_filter(moved, side / 40)
    probabilities = torch.from_numpy(1 / (1 + np.exp(-logits)))
    probability = 1 / (1 + np.exp(-random.normal(0.5 if positive else -1.5, 1.5)))
    levels = count_levels(probabilities, torch.from_numpy(label)).numpy()
    return CaseCurves.from_levels(levels, index=0, image_probability=probability)


if __name__ == "__main__":
    main()
