"""Bootstrap intervals of scores, and of differences of two models on the same images, resampled by patient.

Images of one patient are correlated, and resampling single images would make the intervals too narrow. The bootstrap
therefore samples patients with replacement, and each patient contributes all of its images.

A few patients do not show how much others would differ: a score of fewer than `FEWEST_PATIENTS` has no interval. Where
all images have the same value, such as a specificity of 1, all resamples have it, too; the interval is then the exact
one of a mean of bounded values. Resamples of a share near 0 or 1 vary too little as well: its interval is nowhere
narrower than the exact one of as many patients, that of Clopper and Pearson.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import betaincinv

from pneumoseg.pipeline.scoring.statistics import Floats, Statistic, difference_of, value_of

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 2000
FEWEST_PATIENTS: Final = 10
"""Number of patients from which on a score has an interval. Intervals of shares cover 95 of 100 true shares or more;
those of other means, of so few patients, may cover fewer."""
CHUNK: Final = 2_000_000
"""Most weights in memory at a time."""
_TOLERANCE: Final = 1e-9
"""Relative tolerance for equal resamples, which rounding may change."""


@dataclass(frozen=True)
class Measured:
    """A score with its confidence interval.

    Attributes:
        value: Score; None where no image counts for it.
        low: Lower bound; None where there is no value, too few patients count for it, or all resamples are equal and
            the values have no limits.
        high: Upper bound; None where there is no lower bound.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Difference(Measured):
    """Difference of two models on the same images, first minus second.

    Attributes:
        p_value: Two-sided p-value, see `p_values`; None where it was not computed.
    """

    p_value: float | None = None


class PatientBootstrap:
    """Bootstrap of a set of images, resampled by patient.

    Args:
        groups: Patient of each image.
        resamples: Number of resamples.
        seed: Seed; the same seed gives the same resamples, so that models are compared on the same ones.
        fewest: Number of patients from which on a statistic has an interval.
    """

    def __init__(
        self,
        groups: Sequence[str],
        *,
        resamples: int = RESAMPLES,
        seed: int = 0,
        fewest: int = FEWEST_PATIENTS,
    ) -> None:
        names, self._group = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
        self.patients = len(names)
        self.resamples = resamples
        self.seed = seed
        self.fewest = fewest

    def weights(self) -> Iterator[Floats]:
        """Yield how often each image is in each resample, in blocks of shape ``(resamples, images)``."""
        random = np.random.default_rng(self.seed)
        at_once = max(1, CHUNK // max(1, len(self._group)))
        for first in range(0, self.resamples, at_once):
            count = min(at_once, self.resamples - first)
            sampled = random.integers(0, self.patients, size=(count, self.patients))
            sampled += self.patients * np.arange(count)[:, None]
            counts = np.bincount(sampled.ravel(), minlength=count * self.patients)
            yield counts.reshape(count, self.patients)[:, self._group].astype(np.float64)

    def distributions(self, statistics: Mapping[str, Statistic]) -> dict[str, Floats]:
        """Compute the bootstrap distribution of each statistic.

        Args:
            statistics: Statistics by name.

        Returns: Values by name, shape ``(resamples,)`` without those where the statistic is not defined.
        """
        parts: dict[str, list[Floats]] = {name: [] for name in statistics}
        for weights in self.weights():
            for name, statistic in statistics.items():
                parts[name].append(statistic.compute(weights))
        values = {name: np.concatenate(each) for name, each in parts.items()}
        return {name: each[~np.isnan(each)] for name, each in values.items()}

    def measure(
        self, statistics: Mapping[str, Statistic], *, too_high: Collection[str] = ()
    ) -> dict[str, Measured]:
        """Compute each statistic with its percentile interval.

        Args:
            statistics: Statistics by name.
            too_high: Names of non-negative statistics that chance makes larger, and a resample larger again. Their
                percentiles are reflected at the value, which removes the bias of resampling: this is the basic
                interval, cut off at 0 and widened to the value if that lies outside.

        Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 5.2.
        """
        found = self._measured(statistics)
        return {name: _reflected(each) if name in too_high else each for name, each in found.items()}

    def compare(
        self, first: Mapping[str, Statistic], second: Mapping[str, Statistic]
    ) -> dict[str, Difference]:
        """Compute the differences first minus second on the same resamples.

        Args:
            first: Statistics of the first model by name.
            second: Statistics of the second model by name; names that only one of them has are left out.
        """
        both = {name: difference_of(first[name], second[name]) for name in first if name in second}
        return {
            name: Difference(each.value, each.low, each.high) for name, each in self._measured(both).items()
        }

    def _measured(self, statistics: Mapping[str, Statistic]) -> dict[str, Measured]:
        """Compute each statistic with its percentile interval, not narrower than the exact one where that is known."""
        values = {name: value_of(statistic, len(self._group)) for name, statistic in statistics.items()}
        patients = {
            name: min(len(np.unique(self._group[where])) for where in statistic.counted)
            for name, statistic in statistics.items()
        }
        enough = [
            name for name, value in values.items() if value is not None and patients[name] >= self.fewest
        ]
        distributions = self.distributions({name: statistics[name] for name in enough})
        found = {name: Measured(value) for name, value in values.items()}
        for name, each in distributions.items():
            statistic = statistics[name]
            if np.ptp(each) <= _TOLERANCE * max(1.0, abs(each[0])):
                found[name] = _exact(values[name], patients[name], statistic.limits)
                continue
            low, high = np.percentile(each, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]).tolist()
            if (share := values[name]) is not None and statistic.is_share:
                lowest, highest = clopper_pearson(share, patients[name])
                low, high = min(low, lowest), max(high, highest)
            found[name] = Measured(values[name], low, high)
        return found


def _reflected(measured: Measured) -> Measured:
    """Reflect the percentiles of a non-negative statistic at its value."""
    value, low, high = measured.value, measured.low, measured.high
    if value is None or low is None or high is None:
        return measured
    return Measured(value, max(0.0, min(value, 2 * value - high)), max(value, 2 * value - low))


def _exact(value: float | None, patients: int, limits: tuple[float, float] | None) -> Measured:
    """Bound the mean of bounded values that are all equal.

    A share *s* of other values shows none among *n* patients with a probability of ``(1 - s) ** n``. The largest share
    for which this is still 2.5 % moves the mean by at most that share of the way to a limit.

    Source: Clopper and Pearson, Biometrika 1934; Hanley and Lippman-Hand, JAMA 1983.
    """
    if value is None or limits is None:
        return Measured(value)
    _, share = clopper_pearson(0.0, patients)
    low, high = limits
    return Measured(value, value - share * (value - low), value + share * (high - value))


def clopper_pearson(share: float, patients: int) -> tuple[float, float]:
    """Bound a share of independent patients exactly.

    Args:
        share: Share in [0, 1]; its product with the number of patients need not be whole, as patients may have several
            images.
        patients: Number of patients.

    Returns: Lower and upper bound.
    Source: Clopper and Pearson, Biometrika 1934.
    """
    tail = (1 - CONFIDENCE) / 2
    found, others = share * patients, (1 - share) * patients
    low = float(betaincinv(found, others + 1, tail)) if found > 0 else 0.0
    high = float(betaincinv(found + 1, others, 1 - tail)) if others > 0 else 1.0
    return low, high
