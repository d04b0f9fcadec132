"""Permutation test of two models on the same images, which swaps them patient by patient."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from pneumoseg.pipeline.scoring.intervals import CHUNK, RESAMPLES
from pneumoseg.pipeline.scoring.statistics import Floats, Statistic

MAX_PATIENTS_EXACT: Final = 10
"""Number of patients up to which all swaps are enumerated."""
_TOLERANCE: Final = 1e-9
"""Relative tolerance for equal differences, which rounding may change."""


def p_values(
    groups: Sequence[str], both: Mapping[str, Statistic], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, float | None]:
    """Compute two-sided p-values of the differences of two models.

    Under the null hypothesis the two models are exchangeable for each patient. The test swaps them at random, for all
    images of a patient together, and compares the differences of the swapped models with the observed ones.

    Args:
        groups: Patient of each image.
        both: Statistics of the images by the first model, followed by the same images by the second.
        resamples: Number of sampled swaps, where there are too many to enumerate.
        seed: Seed; the same seed gives the same swaps.

    Returns: For each statistic the share of swaps with at least the observed difference. Of sampled swaps, the observed
        one counts too, so that the share is never 0. Swaps that leave a statistic undefined count as at least the
        observed difference. None where the statistic is undefined for one of the models.

    Source: Good, Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005; Phipson and Smyth, Stat Appl Genet
        Mol Biol 2010, for counting the observed swap.
    """
    names, group = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    exact = len(names) <= MAX_PATIENTS_EXACT
    found = _differences(both, np.zeros((1, len(group)), dtype=np.bool_))
    as_large, tried = dict.fromkeys(both, 0), 0
    at_once = max(1, CHUNK // max(1, 2 * len(group)))
    for swaps in _all_swaps(len(names)) if exact else _sampled_swaps(len(names), resamples, at_once, seed):
        tried += len(swaps)
        for name, each in _differences(both, swaps[:, group]).items():
            size = abs(found[name][0])
            smaller = np.abs(each) < size - _TOLERANCE * max(1.0, size)  # False for an undefined value
            as_large[name] += len(each) - int(np.count_nonzero(smaller))
    own = 0 if exact else 1
    return {
        name: None if np.isnan(found[name][0]) else (as_large[name] + own) / (tried + own) for name in both
    }


def _differences(both: Mapping[str, Statistic], swapped: npt.NDArray[np.bool_]) -> dict[str, Floats]:
    """Compute the differences first minus second with some images swapped, shape ``(swaps, images)``."""
    first = np.concatenate([~swapped, swapped], axis=1).astype(np.float64)
    return {name: statistic.compute(first) - statistic.compute(1 - first) for name, statistic in both.items()}


def _all_swaps(patients: int) -> Iterator[npt.NDArray[np.bool_]]:
    yield np.arange(2**patients)[:, None] >> np.arange(patients) & 1 > 0


def _sampled_swaps(patients: int, count: int, at_once: int, seed: int) -> Iterator[npt.NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    for first in range(0, count, at_once):
        yield random.random((min(at_once, count - first), patients)) < 0.5
