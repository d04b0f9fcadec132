"""Gain of the steadiest operating point over the best one, on images that the search has not seen.

    python benchmarks/steadiest_point.py RUN...

Each run is a folder with ``out_of_fold.npz``. The images are divided into five parts at random, several times; every
part is scored at the points that were searched on the others.
"""

import argparse
from pathlib import Path
from typing import Final

import numpy as np

from pneumoseg.pipeline.scoring.case_curves import score_point
from pneumoseg.pipeline.scoring.out_of_fold import load_out_of_fold
from pneumoseg.pipeline.scoring.search import Search

PARTS: Final = 5


def main() -> None:
    """Print the mean scores of each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--repeats", type=int, default=10)
    words = parser.parse_args()
    for run in words.runs:
        curves = load_out_of_fold(run / "out_of_fold.npz")
        totals = np.zeros((words.repeats, 2))
        for repeat, total in enumerate(totals):
            part_of = np.random.default_rng(repeat).permutation(len(curves)) % PARTS
            for part in range(PARTS):
                search = Search([case for case, own in zip(curves, part_of, strict=True) if own != part])
                held_out = [case for case, own in zip(curves, part_of, strict=True) if own == part]
                for method, found in enumerate((search.best(), search.steadiest())):
                    total[method] += score_point(held_out, found.point).dices.sum() / len(curves)
        best, steadiest = totals.mean(axis=0)
        gain = totals[:, 1] - totals[:, 0]
        print(
            f"{run.name}: best {best:.4f}, steadiest {steadiest:.4f}, gain {gain.mean():+.4f} "
            f"(standard deviation {gain.std():.4f} over {words.repeats} divisions)"
        )


if __name__ == "__main__":
    main()
