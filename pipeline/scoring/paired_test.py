"""Whether two models differ on the same images: a permutation test that swaps them, patient by patient."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from pneumoseg.pipeline.scoring.intervals import CHUNK, RESAMPLES
from pneumoseg.pipeline.scoring.statistics import Floats, Statistic

MAX_PATIENTS_EXACT: Final = 10
"""Up to so many, all swaps are tried."""
_TOLERANCE: Final = 1e-9
"""Of a difference, for what rounding makes of equal ones."""


def p_values(
    groups: Sequence[str], both: Mapping[str, Statistic], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, float | None]:
    """How often, if the two models were one and the same, they would differ by as much as they do: two-sided.

    If there is no difference, it does not matter which model has said what of a patient. So the models are swapped at
    random, for all images of a patient together, and each statistic of the one made so is compared with the other's.

    Args:
        groups: The patient of each image.
        both: Statistics of the images by the first model, followed by the same images by the second.
        resamples: Swaps that are drawn, where they are too many to try all.
        seed: The same seed gives the same swaps.

    Returns: For each statistic the share of the swaps that differ as much; of drawn ones, what was found counts as one,
        so that it is never 0. Swaps that leave a statistic without a value count as if they did. None where
        the statistic has no value for one of the models.

    Source: Good, Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005; Phipson and Smyth, Stat Appl Genet
        Mol Biol 2010, for the one that is added.
    """
    names, group = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    exact = len(names) <= MAX_PATIENTS_EXACT
    found = _differences(both, np.zeros((1, len(group)), dtype=np.bool_))
    as_large, tried = dict.fromkeys(both, 0), 0
    at_once = max(1, CHUNK // max(1, 2 * len(group)))
    for swaps in _all_swaps(len(names)) if exact else _drawn_swaps(len(names), resamples, at_once, seed):
        tried += len(swaps)
        for name, each in _differences(both, swaps[:, group]).items():
            size = abs(found[name][0])
            smaller = np.abs(each) < size - _TOLERANCE * max(1.0, size)  # without a value it is not
            as_large[name] += len(each) - int(np.count_nonzero(smaller))
    own = 0 if exact else 1
    return {
        name: None if np.isnan(found[name][0]) else (as_large[name] + own) / (tried + own) for name in both
    }


def _differences(both: Mapping[str, Statistic], swapped: npt.NDArray[np.bool_]) -> dict[str, Floats]:
    """How much the first model is above the second, where some images, shape ``(swaps, images)``, are swapped."""
    first = np.concatenate([~swapped, swapped], axis=1).astype(np.float64)
    return {name: statistic(first) - statistic(1 - first) for name, statistic in both.items()}


def _all_swaps(patients: int) -> Iterator[npt.NDArray[np.bool_]]:
    yield np.arange(2**patients)[:, None] >> np.arange(patients) & 1 > 0


def _drawn_swaps(patients: int, count: int, at_once: int, seed: int) -> Iterator[npt.NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    for first in range(0, count, at_once):
        yield random.random((min(at_once, count - first), patients)) < 0.5
