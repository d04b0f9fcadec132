"""Search of the operating point: the rule that classifies an image and the rule that makes its mask.

Whether an image is predicted positive depends only on the classification threshold, the minimum area and the image
threshold. The Dice of a positive that is predicted positive depends only on the segmentation threshold. A negative that
is predicted positive scores 0 whatever its mask is. The scores of all combinations are therefore a product of small
matrices, and threshold curves determine them exactly, at the original size of each image. The search first chooses the
image threshold, jointly with all classification thresholds, minimum areas and every eighth segmentation threshold. It
then compares all segmentation thresholds, both with that image threshold and without one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from pneumoseg.pipeline.scoring.case_curves import STEPS, CaseCurves, image_probabilities
from pneumoseg.pipeline.scoring.challenge import dice_from_counts
from pneumoseg.transforms.masks import OperatingPoint, accepts_image, min_area_px

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Objective = Literal["challenge", "specificity", "screening"]
LEAST: Final[dict[Objective, float]] = {"specificity": 0.95, "screening": 0.9}
"""Constraint of each objective: ``specificity`` maximises the sensitivity at no less than this specificity, and
``screening`` maximises the specificity at no less than this sensitivity. ``challenge`` has no constraint."""
MIN_AREA_FRACTIONS: Final = (
    0.0, 0.00005, 0.0001, 0.0002, 0.0004, 0.0006, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.016,
    0.024, 0.032, 0.048, 0.064,
)  # fmt: skip
IMAGE_THRESHOLDS: Final = (0.0, *(float(value) for value in expit(np.linspace(-4.5, 4.5, 25)).round(4)))
"""Image thresholds of the search: none, and 0.011 to 0.989 in equal steps of log-odds, since image probabilities
cluster near 0 and 1. The values are fixed, so that the candidates do not depend on the images."""
MIN_IMAGE_GAIN: Final = 0.001
"""Least gain in score of an image threshold, see `image_gain`."""
TOLERANCE: Final = 1e-9
"""Scores that differ by less count as equal, since the order of a sum changes its rounding."""
_COARSE: Final = 8
"""Stride of the segmentation thresholds at which the image threshold is chosen."""
_CURVE: Final = 4
"""Stride of the classification thresholds in `Search.curve`."""
_NEIGHBOURS: Final = (2.0, 16.0, 16.0)
"""Standard deviations of the neighbourhood in `Search.steadiest`: minimum areas of the list, and steps of 1/256."""
_SAME: Final = np.arange(STEPS)
"""For each classification threshold, the equal segmentation threshold."""


@dataclass(frozen=True)
class ScoredPoint:
    """An operating point with its scores on the cases of the search; a rate is None where no case counts for it."""

    point: OperatingPoint
    dice: float
    sensitivity: float | None
    specificity: float | None


def image_gain(images: int) -> float:
    """Compute the gain in a mean over images that an image threshold must exceed to be used.

    An image threshold is one more parameter that is tuned on the same images. A gain of one image, or of less than
    0.001, is chance: with random image probabilities, a search on 400 images without the limit of one image used an
    image threshold in some inner folds, and lost Dice by it.

    Args:
        images: Number of images in the mean.
    """
    return max(MIN_IMAGE_GAIN, 1 / max(images, 1))


class _Combination(NamedTuple):
    """Indices of the parts of an operating point, and its score."""

    level: int
    area: int
    classification: int
    segmentation: int
    score: float


class Search:
    """Scores of all combinations on some cases; no array is changed after the start.

    Arrays of scores are of shape (image thresholds, minimum areas, classification thresholds).

    Args:
        curves: Threshold curves of each case, of networks that were not trained on it.
        levels: Image thresholds to compare, the preferred one first.

    Attributes:
        sensitivity: Share of the positives that are predicted positive; NaN where there are none.
        specificity: Share of the negatives that are predicted negative; NaN where there are none.
    """

    def __init__(self, curves: Sequence[CaseCurves], *, levels: Sequence[float] = IMAGE_THRESHOLDS) -> None:
        self.levels = levels
        area = np.array([case.area for case in curves]).reshape(-1, STEPS)
        overlap = np.array([case.overlap for case in curves]).reshape(-1, STEPS)
        label_area = np.array([case.label_area for case in curves])
        least = [[min_area_px(share, case.pixels) for case in curves] for share in MIN_AREA_FRACTIONS]
        positive = label_area > 0
        predicted = np.array(least)[:, None] < area.T  # (minimum areas, classification thresholds, cases)
        accepted = accepts_image(image_probabilities(curves)[:, None], levels).astype(np.float64)

        self._count, self._positives = len(curves), int(positive.sum())
        self._predicted, self._accepted = predicted[..., positive].astype(np.float64), accepted[positive]
        self._dice = dice_from_counts(area, label_area[:, None], overlap)[positive]  # (positives, 256)
        negatives = self._count - self._positives
        self._right_negatives = negatives - _matrix_product(predicted[..., ~positive], accepted[~positive])
        hits = _matrix_product(self._predicted, self._accepted)
        undefined = np.full(hits.shape, np.nan)
        self.sensitivity = hits / self._positives if self._positives else undefined
        self.specificity = self._right_negatives / negatives if negatives else undefined

    def scores(self, segmentations: npt.NDArray[np.int64] = _SAME) -> Floats:
        """Compute the mean Dice of all combinations.

        Args:
            segmentations: For each classification threshold, the segmentation threshold in steps of 1/256.

        Returns: Scores, shape (image thresholds, minimum areas, 256).
        """
        dice = self._dice[:, segmentations].T
        right = _matrix_product(self._predicted * dice, self._accepted)
        scores: Floats = (self._right_negatives + right) / self._count
        return scores

    def best(self, objective: Objective = "challenge") -> ScoredPoint:
        """Find the best operating point for an objective.

        Among equals the search prefers the point without image threshold, then with the segmentation threshold at the
        classification threshold, then with the smaller area, then with the lower threshold.

        Args:
            objective: Objective of the search; `LEAST` lists the constraints.
        """
        allowed = self._allowed(objective)
        found, *others = (
            candidate
            for level in dict.fromkeys((0, self._best_level(allowed)))
            for candidate in self._candidates(level, allowed[level])
        )
        for other in others:
            gained = other.score - self._required_gain(other.level)
            if gained > found.score - self._required_gain(found.level) + TOLERANCE:
                found = other
        return self._scored(found)

    def steadiest(self) -> ScoredPoint:
        """Find the operating point for the challenge in whose neighbourhood the mean score is best.

        With few positives the best of all points is often a lucky one: a peak that other patients do not have. The
        scores of neighbouring minimum areas and thresholds are averaged with Gaussian weights. The point itself has to
        score more than predicting nothing, which is the widest plateau of a weak network; else it is the best one.
        """
        allowed = self._allowed("challenge")
        nothing = 1 - self._positives / self._count
        found = []
        for level in dict.fromkeys((0, self._best_level(allowed))):
            scores = self._all_scores(level, allowed[level], _SAME[::_COARSE])[:, ::_COARSE]
            possible = np.isfinite(scores)
            weighed = np.array([np.where(possible, scores, 0), possible], dtype=np.float64)
            width = (0, _NEIGHBOURS[0], _NEIGHBOURS[1] / _COARSE, _NEIGHBOURS[2] / _COARSE)
            total, weight = gaussian_filter(weighed, width, mode="constant")
            better = scores > nothing + TOLERANCE
            mean = np.divide(total, weight, out=np.full_like(total, -np.inf), where=better)
            place = np.unravel_index(int(np.argmax(mean)), mean.shape)
            area, classification, segmentation = (int(index) for index in place)
            steady = float(mean[place]) - self._required_gain(level)
            combination = _Combination(
                level, area, classification * _COARSE, segmentation * _COARSE, float(scores[place])
            )
            found.append((steady, -level, combination))
        steady, _, combination = max(found)
        return self._scored(combination) if np.isfinite(steady) else self.best()

    def best_thresholds(self) -> OperatingPoint:
        """Find the best operating point for the challenge whose two pixel thresholds are equal.

        It is preferred among equals as in `best`. Its score on the same cases is an in-sample score and too high.
        """
        scores = self.scores()
        scores[1:] -= self._required_gain(1)
        first = int(np.argmax(scores >= scores.max() - TOLERANCE))  # of all equals
        level, area, classification = (int(index) for index in np.unravel_index(first, scores.shape))
        return self._scored(_Combination(level, area, classification, classification, 0.0)).point

    def curve(self, point: OperatingPoint) -> list[ScoredPoint]:
        """Score every fourth classification threshold with its own best minimum area.

        Args:
            point: Operating point that gives the segmentation threshold and the image threshold, one of *levels*.
        """
        segmentations = _segmentations(point)
        level = self.levels.index(point.image_threshold)
        scores = self.scores(segmentations)[level]
        return [
            self._scored(_Combination(level, area, step, int(segmentations[step]), float(scores[area, step])))
            for step in range(0, STEPS, _CURVE)
            for area in [int(np.argmax(scores[:, step]))]
        ]

    def frontier(self, point: OperatingPoint) -> list[ScoredPoint]:
        """List the operating points on the Pareto frontier of sensitivity and specificity.

        All image thresholds, minimum areas and classification thresholds are compared. Among equals the point with the
        higher Dice is listed, and an image threshold only where it adds at least `image_gain` to the sensitivity.

        Args:
            point: Operating point that gives the segmentation threshold.

        Returns: Points in descending order of specificity; none where all cases are positive, or all negative.
        """
        if self._positives in (0, self._count):
            return []
        segmentations = _segmentations(point)
        scores = self.scores(segmentations)
        sensitivity = self.sensitivity.copy()
        sensitivity[1:] -= image_gain(self._positives)
        rows: list[ScoredPoint] = []
        highest = -1.0
        for place in np.lexsort([-scores.ravel(), -sensitivity.ravel(), -self.specificity.ravel()]):
            if sensitivity.flat[place] > highest + TOLERANCE:
                level, area, step = (int(index) for index in np.unravel_index(place, scores.shape))
                highest = float(self.sensitivity[level, area, step])
                score = float(scores[level, area, step])
                rows.append(self._scored(_Combination(level, area, step, int(segmentations[step]), score)))
        return rows

    def _allowed(self, objective: Objective) -> Bools:
        """Select the combinations that satisfy the objective; the best of these is the one with the best masks."""
        held, wanted, images = (
            (self.specificity, self.sensitivity, self._positives)
            if objective == "specificity"
            else (self.sensitivity, self.specificity, self._count - self._positives)
        )
        if objective == "challenge" or np.isnan(held).any() or np.isnan(wanted).any():
            return np.ones(held.shape, dtype=np.bool_)
        enough: Bools = held >= min(LEAST[objective], held.max())
        wanted = wanted.copy()
        wanted[1:] -= image_gain(images)
        allowed: Bools = enough & (wanted >= wanted[enough].max())
        return allowed

    def _required_gain(self, level: int) -> float:
        """Gain in score that an image threshold must exceed."""
        return image_gain(self._count) if level else 0.0

    def _best_level(self, allowed: Bools) -> int:
        """Choose the image threshold, by its index, with masks at every eighth segmentation threshold."""
        values = np.array(
            [
                self._all_scores(level, allowed[level], _SAME[::_COARSE]).max() - self._required_gain(level)
                for level in range(len(self.levels))
            ]
        )
        return int(np.argmax(values >= values.max() - TOLERANCE))

    def _candidates(self, level: int, allowed: Bools) -> Iterator[_Combination]:
        """Yield the best combination with equal thresholds, then the best of all for each minimum area."""
        scores = self._all_scores(level, allowed, _SAME)
        same = np.diagonal(scores, axis1=1, axis2=2)
        area, classification = divmod(int(np.argmax(same)), STEPS)
        yield _Combination(level, area, classification, classification, float(same[area, classification]))
        for area, part in enumerate(scores):
            classification, segmentation = divmod(int(np.argmax(part)), STEPS)
            score = float(part[classification, segmentation])
            yield _Combination(level, area, classification, segmentation, score)

    def _all_scores(self, level: int, allowed: Bools, segmentations: npt.NDArray[np.int64]) -> Floats:
        """Score an image threshold with each of some segmentation thresholds; -inf where a combination is not allowed.

        Returns: Scores, shape (minimum areas, classification thresholds, segmentation thresholds).
        """
        dice = self._dice[:, segmentations] * self._accepted[:, level, None]
        right = np.tensordot(self._predicted, dice, axes=1)
        scores: Floats = (right + self._right_negatives[level, ..., None]) / self._count
        scores[~allowed] = -np.inf
        scores[:, _SAME[:, None] < segmentations] = -np.inf
        return scores

    def _scored(self, found: _Combination) -> ScoredPoint:
        """Make the operating point of a combination."""
        place = found.level, found.area, found.classification
        sensitivity, specificity = (
            None if np.isnan(rate[place]) else float(rate[place])
            for rate in (self.sensitivity, self.specificity)
        )
        same = found.segmentation == found.classification
        return ScoredPoint(
            point=OperatingPoint(
                threshold=found.classification / STEPS,
                min_area_fraction=MIN_AREA_FRACTIONS[found.area],
                segmentation_threshold=None if same else found.segmentation / STEPS,
                image_threshold=self.levels[found.level],
            ),
            dice=found.score,
            sensitivity=sensitivity,
            specificity=specificity,
        )


def _segmentations(point: OperatingPoint) -> npt.NDArray[np.int64]:
    """Adapt the segmentation threshold of a point to each classification threshold, which it may not exceed."""
    if point.segmentation_threshold is None:
        return _SAME
    return np.minimum(_SAME, int(point.segmentation_threshold * STEPS))


def _matrix_product(predicted: npt.NDArray[Any], accepted: Floats) -> Floats:
    """Multiply ``(areas, thresholds, cases)`` by ``(cases, levels)``, giving ``(levels, areas, thresholds)``."""
    return np.stack([(each.astype(np.float64) @ accepted).T for each in predicted], axis=1)
