"""Search of the operating point: the rule that classifies an image and the rule that makes its mask.

Whether an image is predicted positive depends only on the classification threshold, the minimum area and the image
threshold. Its curves and its image probability determine that exactly, at the original size. The Dice of a positive
depends only on the segmentation threshold and the cleaning. It is measured on the stored map of at most 256 pixels. A
negative that is predicted positive scores 0 whatever its mask is. The scores of all combinations are therefore a
product of small matrices. The search first chooses the image threshold, jointly with all classification thresholds,
minimum areas and every eighth segmentation threshold. It then compares all segmentation thresholds, and cleanings from
coarse to fine, both with that image threshold and without one.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from pneumoseg.pipeline.scoring.case_curves import (
    IMAGE_THRESHOLDS,
    MIN_AREA_FRACTIONS,
    STEPS,
    TOLERANCE,
    image_gain,
)
from pneumoseg.pipeline.scoring.measured_cases import (
    CLEANINGS,
    INNER_FOLDS,
    NO_CLEANING,
    Bools,
    Floats,
    MaskRule,
    MeasuredCases,
    SearchCase,
    inner_fold_of,
)
from pneumoseg.transforms.masks import OperatingPoint, accepts_image

Objective = Literal["challenge", "specificity", "screening"]
LEAST: Final[dict[Objective, float]] = {"specificity": 0.95, "screening": 0.95}
"""Constraint of each objective: ``specificity`` maximises the sensitivity at no less than this specificity, and
``screening`` maximises the specificity at no less than this sensitivity. ``challenge`` has no constraint."""
STRIDES: Final = (32, 8, 2)
"""Strides of the segmentation thresholds at which cleanings are compared, in steps of 1/256: the first covers all
thresholds, the others the neighbourhood of the best one."""
CLEANING_GAIN: Final = 0.001
"""Gain in score that cleaning must exceed to be used; a smaller gain is chance."""
_COARSE: Final = 8
"""Stride of the segmentation thresholds at which the image threshold is chosen."""


@dataclass(frozen=True)
class ScoredPoint:
    """An operating point with its scores on the cases of the search; a rate is None where no case counts for it."""

    point: OperatingPoint
    dice: float
    sensitivity: float | None
    specificity: float | None


@dataclass(frozen=True)
class CrossFitted:
    """Operating points that were each searched without one inner fold, in order to score that fold.

    Attributes:
        points: For each inner fold, the point that the other inner folds gave.
        dice: Mean over all cases, each at the point of its inner fold.
    """

    points: tuple[OperatingPoint, ...]
    dice: float


class Search(MeasuredCases):
    """Search over cases; all objectives and inner folds share the measurements.

    Args:
        cases: Cases whose probability maps come from networks that were not trained on them.
        cleaning_gain: Gain in score that cleaning must exceed to be used.
    """

    def __init__(self, cases: Sequence[SearchCase], *, cleaning_gain: float = CLEANING_GAIN) -> None:
        super().__init__(cases)
        self.cleaning_gain = cleaning_gain

    def best(self, objective: Objective = "challenge", *, where: Bools | None = None) -> ScoredPoint:
        """Find the best operating point for an objective.

        Among equals the search prefers the point without image threshold, then without cleaning, then with the
        segmentation threshold at the classification threshold, then with the smaller area, then with the lower
        threshold.

        Args:
            objective: Objective of the search; `LEAST` lists the constraints.
            where: Whether to search on each case, shape ``(cases,)``; None selects all.
        """
        table = _ScoreTable(self, self._everywhere if where is None else where, objective)
        for level in dict.fromkeys((0, table.best_level())):
            table.offer_thresholds(level)
            table.offer_cleanings(level, {*range(0, STEPS, STRIDES[0]), table.rule.segmentation})
            for stride in (
                STRIDES[1:] if objective == "challenge" and table.rule.cleaning != NO_CLEANING else ()
            ):
                middle = table.rule.segmentation
                table.offer_cleanings(level, set(range(middle - 4 * stride, middle + 4 * stride + 1, stride)))
        return table.found()

    @property
    def _everywhere(self) -> Bools:
        return np.ones(len(self.cases), dtype=np.bool_)

    def cross_fit(self, inner_folds: int = INNER_FOLDS) -> CrossFitted | None:
        """Search once without each inner fold, and score that fold at the point found on the others.

        Args:
            inner_folds: Number of inner folds; all cases of a patient are in one.

        Returns: None where all patients are in one inner fold.
        """
        folds = np.array([inner_fold_of(case.group, inner_folds) for case in self.cases])
        if len(np.unique(folds)) < 2:
            return None
        points = []
        total = 0.0
        for fold in range(inner_folds):
            found = self.best(where=folds != fold)
            points.append(found.point)
            total += float(self.dices(found.point)[folds == fold].sum())
        return CrossFitted(points=tuple(points), dice=total / len(self.cases))

    def curve(self, point: OperatingPoint, *, stride: int = 4) -> list[ScoredPoint]:
        """Score each classification threshold with its own best minimum area.

        Args:
            point: Operating point that gives the image threshold and the rule of the masks.
            stride: Distance of the classification thresholds in steps of 1/256.
        """
        table = _ScoreTable(self, self._everywhere, "challenge", levels=(point.image_threshold,))
        rows = []
        for classification in range(0, STEPS, stride):
            rule = MaskRule.at(point, classification)
            scores = table.scores(classification, rule)[0]
            rows.append(table.at(0, int(np.argmax(scores)), classification, rule, float(scores.max())))
        return rows

    def frontier(self, point: OperatingPoint) -> list[ScoredPoint]:
        """List the operating points on the Pareto frontier of sensitivity and specificity.

        All image thresholds, minimum areas and classification thresholds are compared. Among equals the point with the
        higher Dice is listed, and an image threshold only where it adds at least `image_gain` to the sensitivity.

        Args:
            point: Operating point that gives the rule of the masks.

        Returns: Points in descending order of specificity; none where all cases are positive, or all negative.
        """
        if self.positive.all() or not self.positive.any():
            return []
        table = _ScoreTable(self, self._everywhere, "challenge")
        rules = [MaskRule.at(point, classification) for classification in range(STEPS)]
        dice = np.stack(
            [table.scores(classification, rule) for classification, rule in enumerate(rules)], axis=2
        )
        sensitivity = table.sensitivity.copy()
        sensitivity[1:] -= image_gain(int(self.positive.sum()))
        rows: list[ScoredPoint] = []
        highest = -1.0
        ranks = np.lexsort([-dice.ravel(), -sensitivity.ravel(), -table.specificity.ravel()])
        for place in ranks:
            if sensitivity.flat[place] > highest + TOLERANCE:
                level, area, classification = (int(each) for each in np.unravel_index(place, dice.shape))
                highest = float(table.sensitivity[level, area, classification])
                rows.append(
                    table.at(
                        level,
                        area,
                        classification,
                        rules[classification],
                        float(dice[level, area, classification]),
                    )
                )
        return rows


class _ScoreTable:
    """Scores of all combinations on some of the cases, and the best combination so far.

    Arrays are of shape (image thresholds, areas, classification thresholds), or begin with these axes.

    Args:
        search: All cases with their measurements.
        where: Whether to use each case, shape ``(cases,)``.
        objective: Objective of the search.
        levels: Image thresholds to compare, the preferred one first.
    """

    def __init__(
        self,
        search: Search,
        where: Bools,
        objective: Objective,
        *,
        levels: Sequence[float] = IMAGE_THRESHOLDS,
    ) -> None:
        self.search = search
        self.levels = levels
        positive = search.positive[where]
        self.rows = where[search.positive]
        self.count = len(positive)
        accepted = accepts_image(search.image_probabilities[where, None], levels).astype(np.float64)
        self.accepted = accepted[positive]  # (positives, image thresholds)
        called = search.called[:, :, where]
        self.called = called[:, :, positive].astype(
            np.float64
        )  # (areas, classification thresholds, positives)
        negatives = self.count - int(positive.sum())
        alarms = _matrix_product(called[:, :, ~positive], accepted[~positive])
        self.right_negatives = negatives - alarms
        hits = _matrix_product(self.called, self.accepted)
        self.sensitivity = hits / positive.sum() if positive.any() else np.full(hits.shape, np.nan)
        self.specificity = self.right_negatives / negatives if negatives else np.full(hits.shape, np.nan)
        self.allowed = self._allowed(objective)
        self.value = -np.inf  # score minus the required gains of image threshold and cleaning
        self.score = 0.0
        self.level, self.area, self.classification, self.rule = 0, 0, 0, MaskRule(0)

    def _allowed(self, objective: Objective) -> Bools:
        """Select the combinations that satisfy the objective; the best of these is the one with the best masks."""
        positives = len(self.accepted)
        held, wanted, images = (
            (self.specificity, self.sensitivity, positives)
            if objective == "specificity"
            else (self.sensitivity, self.specificity, self.count - positives)
        )
        if objective == "challenge" or np.isnan(held).any() or np.isnan(wanted).any():
            return np.ones(held.shape, dtype=np.bool_)
        enough: Bools = held >= min(LEAST[objective], held.max())
        wanted = wanted.copy()
        wanted[1:] -= image_gain(images)
        allowed: Bools = enough & (wanted >= wanted[enough].max())
        return allowed

    def _to_add(self, level: int) -> float:
        """Gain in score that an image threshold must exceed."""
        return image_gain(self.count) if level else 0.0

    def best_level(self) -> int:
        """Choose the image threshold, by its index, with masks at every eighth segmentation threshold."""
        segmentations = np.arange(0, STEPS, _COARSE)
        uncleaned = self.search.uncleaned[np.ix_(self.rows, segmentations)]
        too_high = np.arange(STEPS)[:, None] < segmentations
        values = np.empty(len(self.levels))
        for level in range(len(self.levels)):
            right = np.tensordot(self.called, self.accepted[:, level, None] * uncleaned, axes=1)
            right[:, too_high] = -np.inf
            scores = (right.max(axis=-1) + self.right_negatives[level]) / self.count
            values[level] = np.where(self.allowed[level], scores, -np.inf).max() - self._to_add(level)
        return int(np.argmax(values >= values.max() - TOLERANCE))

    def offer_thresholds(self, level: int) -> None:
        """Compare all thresholds and areas without cleaning; masks at the classification threshold come first."""
        uncleaned = self._accepted_dices(level, self.search.uncleaned)
        same = (self.right_negatives[level] + np.einsum("atn,nt->at", self.called, uncleaned)) / self.count
        area, classification = divmod(int(np.argmax(np.where(self.allowed[level], same, -np.inf))), STEPS)
        if self.allowed[level].any():
            self._take(
                float(same[area, classification]), level, area, classification, MaskRule(classification)
            )
        self._offer(level, uncleaned, [MaskRule(segmentation) for segmentation in range(STEPS)])

    def offer_cleanings(self, level: int, segmentations: Set[int]) -> None:
        """Compare all cleanings at some segmentation thresholds."""
        within = sorted(segmentation for segmentation in segmentations if 0 <= segmentation < STEPS)
        rules = [MaskRule(segmentation, cleaning) for segmentation in within for cleaning in CLEANINGS]
        cleaned = np.concatenate([self.search.cleaned(segmentation) for segmentation in within], axis=1)
        self._offer(level, self._accepted_dices(level, cleaned), rules)

    def _accepted_dices(self, level: int, uncleaned: Floats) -> Floats:
        """Set the Dice of the positives that the image threshold rejects to 0."""
        dices: Floats = uncleaned[self.rows] * self.accepted[:, level, None]
        return dices

    def _offer(self, level: int, dices: Floats, rules: Sequence[MaskRule]) -> None:
        """Compare all thresholds and areas with some rules; *dices* has the shape ``(positives, rules)``."""
        right = np.tensordot(self.called, dices, axes=1)
        scores: Floats = (right + self.right_negatives[level, ..., None]) / self.count
        scores[~self.allowed[level]] = -np.inf
        too_high = np.arange(STEPS)[:, None] < np.array([each.segmentation for each in rules])
        scores[:, too_high] = -np.inf
        for area, part in enumerate(scores):
            classification, index = divmod(int(np.argmax(part)), len(rules))
            self._take(float(part[classification, index]), level, area, classification, rules[index])

    def _take(self, score: float, level: int, area: int, classification: int, rule: MaskRule) -> None:
        cleaning = (rule.cleaning != NO_CLEANING) * self.search.cleaning_gain
        value = score - cleaning - self._to_add(level)
        if value > self.value + TOLERANCE:
            self.value, self.score = value, score
            self.level, self.area, self.classification, self.rule = level, area, classification, rule

    def scores(self, classification: int, rule: MaskRule) -> Floats:
        """Score all image thresholds and minimum areas with a classification threshold and a rule."""
        dices = self.search.mask_dices(rule)[self.rows, None] * self.accepted
        right = np.moveaxis(self.called[:, classification] @ dices, -1, 0)
        scores: Floats = (self.right_negatives[:, :, classification] + right) / self.count
        return scores

    def at(self, level: int, area: int, classification: int, rule: MaskRule, score: float) -> ScoredPoint:
        """Make the operating point of a combination."""
        self.level, self.area, self.classification, self.rule, self.score = (
            level,
            area,
            classification,
            rule,
            score,
        )
        return self.found()

    def found(self) -> ScoredPoint:
        """Make the operating point of the best combination so far."""
        segmentation = self.rule.segmentation
        place = self.level, self.area, self.classification
        sensitivity, specificity = (
            None if np.isnan(each) else float(each)
            for each in (self.sensitivity[place], self.specificity[place])
        )
        return ScoredPoint(
            point=OperatingPoint(
                threshold=self.classification / STEPS,
                min_area_fraction=MIN_AREA_FRACTIONS[self.area],
                segmentation_threshold=None if segmentation == self.classification else segmentation / STEPS,
                image_threshold=self.levels[self.level],
                **self.rule.cleaning._asdict(),
            ),
            dice=self.score,
            sensitivity=sensitivity,
            specificity=specificity,
        )


def _matrix_product(called: npt.NDArray[Any], accepted: Floats) -> Floats:
    """Count cases: ``(areas, thresholds, cases)`` times ``(cases, levels)`` gives ``(levels, areas, thresholds)``."""
    return np.stack([(each.astype(np.float64) @ accepted).T for each in called], axis=1)
