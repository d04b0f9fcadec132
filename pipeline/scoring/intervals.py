"""Bootstrap intervals of scores, and of differences of two models on the same images, resampled by patient.

Images of one patient are correlated, and resampling single images would make the intervals too narrow. The bootstrap
therefore samples patients with replacement, and each patient contributes all of its images.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pneumoseg.pipeline.scoring.statistics import Floats, Statistic, difference_of, value_of

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 2000
CHUNK: Final = 2_000_000
"""Most weights in memory at a time."""


@dataclass(frozen=True)
class Measured:
    """A score with its confidence interval.

    Attributes:
        value: Score; None where no image counts for it.
        low: Lower bound; None where there is no value, or only one patient.
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
    """

    def __init__(self, groups: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0) -> None:
        names, self._group = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
        self.patients = len(names)
        self.resamples = resamples
        self.seed = seed

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
                parts[name].append(statistic(weights))
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
        values = {name: value_of(statistic, len(self._group)) for name, statistic in statistics.items()}
        if self.patients < 2:
            return {name: Measured(value) for name, value in values.items()}
        distributions = self.distributions(
            {name: each for name, each in statistics.items() if values[name] is not None}
        )
        found = {name: Measured(value) for name, value in values.items()}
        for name, each in distributions.items():
            value = values[name]
            low, high = _interval(each)
            if name in too_high and value is not None:
                low, high = max(0.0, min(value, 2 * value - high)), max(value, 2 * value - low)
            found[name] = Measured(value, low, high)
        return found

    def compare(
        self, first: Mapping[str, Statistic], second: Mapping[str, Statistic]
    ) -> dict[str, Difference]:
        """Compute the differences first minus second on the same resamples.

        Args:
            first: Statistics of the first model by name.
            second: Statistics of the second model by name; names that only one of them has are left out.
        """
        both = {name: difference_of(first[name], second[name]) for name in first if name in second}
        values = {name: value_of(statistic, len(self._group)) for name, statistic in both.items()}
        known = {name: both[name] for name, value in values.items() if value is not None}
        distributions = self.distributions(known) if self.patients > 1 else {}
        return {
            name: Difference(value, *_interval(distributions[name]))
            if name in distributions
            else Difference(value)
            for name, value in values.items()
        }


def _interval(values: Floats) -> tuple[float, float]:
    low, high = np.percentile(values, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return float(low), float(high)
