"""How sure a number is, and a difference of two models on the same images: bootstrap intervals, resampled by patient.

Images of one patient are alike. To resample images as if each were of its own patient would make intervals too
narrow; so patients are drawn, with replacement, and each brings all of its images.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pneumoseg.pipeline.scoring.statistics import Floats, Statistic, difference_of, value_of

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 2000
CHUNK: Final = 2_000_000
"""Weights held at a time."""


@dataclass(frozen=True)
class Measured:
    """A number with its interval.

    Attributes:
        value: None where no image counts for it.
        low: Of the interval; None where there is no value, or only one patient.
        high: The same.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Difference(Measured):
    """How much one model is above another on the same images.

    Attributes:
        p_value: Two-sided, see `p_values`; None where it was not asked for.
    """

    p_value: float | None = None


class PatientBootstrap:
    """Resamples of a set of images, by patient.

    Args:
        groups: The patient of each image.
        resamples: How many.
        seed: The same seed gives the same resamples, so that models are compared on the same ones.
    """

    def __init__(self, groups: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0) -> None:
        names, self._group = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
        self.patients = len(names)
        self.resamples = resamples
        self.seed = seed

    def weights(self) -> Iterator[Floats]:
        """How often each image is in each resample, shape ``(some resamples, images)`` at a time."""
        random = np.random.default_rng(self.seed)
        at_once = max(1, CHUNK // max(1, len(self._group)))
        for first in range(0, self.resamples, at_once):
            count = min(at_once, self.resamples - first)
            drawn = random.integers(0, self.patients, size=(count, self.patients))
            drawn += self.patients * np.arange(count)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=count * self.patients)
            yield counts.reshape(count, self.patients)[:, self._group].astype(np.float64)

    def distributions(self, statistics: Mapping[str, Statistic]) -> dict[str, Floats]:
        """The values of each statistic in all resamples where it has one."""
        parts: dict[str, list[Floats]] = {name: [] for name in statistics}
        for weights in self.weights():
            for name, statistic in statistics.items():
                parts[name].append(statistic(weights))
        values = {name: np.concatenate(each) for name, each in parts.items()}
        return {name: each[~np.isnan(each)] for name, each in values.items()}

    def measure(
        self, statistics: Mapping[str, Statistic], *, too_high: Collection[str] = ()
    ) -> dict[str, Measured]:
        """Each statistic with its interval: between percentiles of the resamples.

        Args:
            statistics: By name.
            too_high: Names of those, never below 0, that chance makes larger and a resample larger again. Their
                percentiles are reflected at the value, which takes out what resampling adds: the basic interval, cut
                off at 0 and widened to the value if that lies outside.

        Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 5.2.
        """
        values = {name: value_of(statistic, len(self._group)) for name, statistic in statistics.items()}
        if self.patients < 2:
            return {name: Measured(value) for name, value in values.items()}
        drawn = self.distributions(
            {name: each for name, each in statistics.items() if values[name] is not None}
        )
        found = {name: Measured(value) for name, value in values.items()}
        for name, each in drawn.items():
            value = values[name]
            low, high = _interval(each)
            if name in too_high and value is not None:
                low, high = max(0.0, min(value, 2 * value - high)), max(value, 2 * value - low)
            found[name] = Measured(value, low, high)
        return found

    def compare(
        self, first: Mapping[str, Statistic], second: Mapping[str, Statistic]
    ) -> dict[str, Difference]:
        """How much the first is above the second, statistic by statistic, in the same resamples."""
        both = {name: difference_of(first[name], second[name]) for name in first if name in second}
        values = {name: value_of(statistic, len(self._group)) for name, statistic in both.items()}
        known = {name: both[name] for name, value in values.items() if value is not None}
        drawn = self.distributions(known) if self.patients > 1 else {}
        return {
            name: Difference(value, *_interval(drawn[name])) if name in drawn else Difference(value)
            for name, value in values.items()
        }


def _interval(drawn: Floats) -> tuple[float, float]:
    low, high = np.percentile(drawn, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return float(low), float(high)
