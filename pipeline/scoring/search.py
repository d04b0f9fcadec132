"""The search of the whole operating point: when an image is predicted positive, and how its mask is made then.

Whether an image is predicted positive depends on the classification threshold, the minimum area and the image
threshold alone, and its curves and its image probability say it exactly, at the original size. How good the mask of a
positive is depends on the segmentation threshold and the cleaning alone, and is measured on its stored map of at most
256 pixels; a negative that is predicted positive scores 0 whatever its mask is. So the scores of all combinations are
a product of small matrices. First the image threshold is chosen, jointly with all classification thresholds, minimum
areas and every eighth segmentation threshold; then, with that image threshold and without any, all segmentation
thresholds are tried, and cleanings from coarse to fine.
"""

import hashlib
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.scoring.case_curves import (
    IMAGE_THRESHOLDS,
    MIN_AREA_FRACTIONS,
    STEPS,
    TOLERANCE,
    CaseCurves,
    image_gain,
    image_probabilities,
)
from pneumoseg.pipeline.scoring.challenge import dice_from_counts
from pneumoseg.pipeline.scoring.cleaning import count_cleaned
from pneumoseg.pipeline.scoring.out_of_fold import OutOfFold
from pneumoseg.transforms.geometry import Placement, to_network_size
from pneumoseg.transforms.labels.rle import decode_rle
from pneumoseg.transforms.masks import OperatingPoint, accepts_image, min_area_px

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
AimName = Literal["challenge", "specificity", "screening"]
LEAST: Final[dict[AimName, float]] = {"specificity": 0.95, "screening": 0.95}
"""What the aims hold on to: a specificity, with the best sensitivity there is; a sensitivity, with the best
specificity. The challenge's score asks for nothing of the kind."""
MIN_COMPONENT_FRACTIONS: Final = (0.0, 0.0002, 0.0005, 0.001, 0.002, 0.004)
STRIDES: Final = (32, 8, 2)
"""Of the bottom thresholds that cleanings are tried at, in steps of 1/256: over all, then about the best."""
INNER_FOLDS: Final = 5
CLEANING_GAIN: Final = 0.001
"""What cleaning has to add to the score to be worth it: less is chance."""
_COARSE: Final = 8
"""Stride of the segmentation thresholds at which the image threshold is chosen."""
_AT_ONCE: Final = 32
"""Masks that are cleaned together: enough to waste no time on calls, few enough for a processor's cache."""
_LEVEL_OF: Final = np.arange(STEPS) * 255 // STEPS
"""For each threshold ``k / 256`` the highest step of 1/255 that is not above it."""


@dataclass(frozen=True)
class SearchCase:
    """What a search sees of a case.

    Args:
        curves: At the original size.
        levels: The probability map in steps of 1/255, without padding.
        label: Of the same shape.
        group: The patient.
    """

    curves: CaseCurves
    levels: npt.NDArray[np.uint8]
    label: Bools
    group: str


class Cleaning(NamedTuple):
    """What is done to a mask once it is drawn."""

    min_component_fraction: float
    fill_holes: bool


NO_CLEANING: Final = Cleaning(0.0, False)
CLEANINGS: Final = tuple(
    Cleaning(fraction, fill) for fraction in MIN_COMPONENT_FRACTIONS for fill in (False, True)
)


class Drawing(NamedTuple):
    """How the mask of an image that is called positive is drawn."""

    bottom: int
    """Threshold in steps of 1/256."""
    cleaning: Cleaning = NO_CLEANING

    @classmethod
    def of(cls, point: OperatingPoint) -> "Drawing":
        """As an operating point says."""
        bottom = int(point.mask_threshold * STEPS)
        return cls(bottom, Cleaning(point.min_component_fraction, point.fill_holes))


@dataclass(frozen=True)
class ScoredPoint:
    """The best operating point for an aim, and what it has on the cases that it was searched on."""

    point: OperatingPoint
    dice: float
    sensitivity: float | None
    specificity: float | None


@dataclass(frozen=True)
class CrossFitted:
    """Operating points that were each searched without one inner fold, to score that one with.

    Attributes:
        points: For each inner fold, the point that the other inner folds gave.
        dice: Mean over all cases, each at the point of its inner fold.
    """

    points: tuple[OperatingPoint, ...]
    dice: float


def inner_fold_of(group: str, inner_folds: int = INNER_FOLDS) -> int:
    """Give the inner fold of a patient: the same in every collection that holds the patient."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8]) % inner_folds


def search_cases(found: OutOfFold, cases: Sequence[Case]) -> list[SearchCase]:
    """Bring the stored maps together with the labels of their cases, *cases* being all of the manifest."""
    made = []
    for curves in found.curves:
        case, square = cases[curves.index], found.maps[curves.index]
        window = Placement.of(case.shape, square.shape[0]).window
        label = np.zeros(square.shape, dtype=np.bool_)
        if case.is_positive:
            whole = torch.from_numpy(decode_rle(case.label, case.shape))[None]
            label = (to_network_size(whole, square.shape[0])[0] > 0.5).numpy()
        made.append(SearchCase(curves, square[window], label[window], case.group))
    return made


class Search:
    """A search over cases; what was measured once serves all aims and inner folds.

    Args:
        cases: Cases whose probability maps come from networks that have not seen them.
        cleaning_gain: What cleaning has to add to the score to be taken.
    """

    def __init__(self, cases: Sequence[SearchCase], *, cleaning_gain: float = CLEANING_GAIN) -> None:
        self.cases = cases
        self.cleaning_gain = cleaning_gain
        self.image_probabilities = image_probabilities([case.curves for case in cases])
        self.positive = np.array([case.curves.label_area > 0 for case in cases])
        self._positives = [case for case in cases if case.curves.label_area > 0]
        self._cleaned: dict[int, Floats] = {}

    @cached_property
    def called(self) -> Bools:
        """Whether enough pixels of each case exceed each threshold: shape ``(areas, 256, cases)``."""
        if not self.cases:
            return np.empty((len(MIN_AREA_FRACTIONS), STEPS, 0), dtype=np.bool_)
        areas = np.stack([case.curves.area for case in self.cases], axis=1)
        least = [
            [min_area_px(fraction, case.curves.pixels) for case in self.cases]
            for fraction in MIN_AREA_FRACTIONS
        ]
        return areas > np.array(least)[:, None]

    @cached_property
    def drawn(self) -> Floats:
        """Dice of each positive, drawn at each bottom threshold and not cleaned: shape ``(positives, 256)``."""
        if not self._positives:
            return np.empty((0, STEPS))
        counts = np.array([_drawn_counts(case) for case in self._positives])
        labels = np.array([np.count_nonzero(case.label) for case in self._positives])
        return _dice(counts[:, 0], labels[:, None], counts[:, 1])

    def cleaned(self, bottom: int) -> Floats:
        """Dice of each positive, drawn at a bottom threshold and cleaned: shape ``(positives, cleanings)``."""
        if bottom not in self._cleaned:
            parts = [
                self._positives[first : first + _AT_ONCE]
                for first in range(0, len(self._positives), _AT_ONCE)
            ]
            dices = [_cleaned_dices(part, bottom) for part in parts]
            self._cleaned[bottom] = np.concatenate([np.empty((0, len(CLEANINGS))), *dices])
        return self._cleaned[bottom]

    def drawn_as(self, drawing: Drawing) -> Floats:
        """Dice of each positive, shape ``(positives,)``."""
        if drawing.cleaning == NO_CLEANING:
            dices: Floats = self.drawn[:, drawing.bottom]
        else:
            dices = self.cleaned(drawing.bottom)[:, CLEANINGS.index(drawing.cleaning)]
        return dices

    def best(self, aim: AimName = "challenge", *, where: Bools | None = None) -> ScoredPoint:
        """Find the best operating point for *aim*.

        Args:
            aim: What is best: see `LEAST`.
            where: Which cases to search on; None takes all.

        Among equals the point without image threshold, then without cleaning, then with the segmentation threshold at
        the classification threshold, then with the smaller area, then with the lower threshold is taken.
        """
        table = _Table(self, self._everywhere if where is None else where, aim)
        for level in dict.fromkeys((0, table.best_level())):
            table.offer_thresholds(level)
            table.offer_cleanings(level, {*range(0, STEPS, STRIDES[0]), table.drawing.bottom})
            for stride in STRIDES[1:] if aim == "challenge" and table.drawing.cleaning != NO_CLEANING else ():
                middle = table.drawing.bottom
                table.offer_cleanings(level, set(range(middle - 4 * stride, middle + 4 * stride + 1, stride)))
        return table.found()

    @property
    def _everywhere(self) -> Bools:
        return np.ones(len(self.cases), dtype=np.bool_)

    def cross_fit(self, inner_folds: int = INNER_FOLDS) -> CrossFitted | None:
        """Search once without each inner fold of the patients; None where all patients are in one inner fold."""
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

    def dices(self, point: OperatingPoint) -> Floats:
        """Dice of each case at *point*: classified at the original size, its mask made on the stored map."""
        least = [min_area_px(point.min_area_fraction, case.curves.pixels) for case in self.cases]
        areas = [case.curves.area[int(point.threshold * STEPS)] for case in self.cases]
        called = np.greater(areas, least) & point.accepts(self.image_probabilities)
        dices: Floats = (~called & ~self.positive).astype(np.float64)
        dices[self.positive] = np.where(called[self.positive], self.drawn_as(Drawing.of(point)), 0)
        return dices

    def curve(self, point: OperatingPoint, *, stride: int = 4) -> list[ScoredPoint]:
        """Score each classification threshold with its own best minimum area, and the rest as *point* has it."""
        table = _Table(self, self._everywhere, "challenge", levels=(point.image_threshold,))
        rows = []
        for top in range(0, STEPS, stride):
            drawing = _drawing_at(point, top)
            scores = table.scores(top, drawing)[0]
            rows.append(table.at(0, int(np.argmax(scores)), top, drawing, float(scores.max())))
        return rows

    def frontier(self, point: OperatingPoint) -> list[ScoredPoint]:
        """List the points that no other exceeds in sensitivity and specificity both.

        All image thresholds, minimum areas and classification thresholds are compared; masks are made as *point* has
        it. Among equals the one with the higher Dice is taken, and an image threshold only where it adds to the
        sensitivity what it has to add to be taken. The highest specificity comes first. Empty where all cases are of
        one kind.
        """
        if self.positive.all() or not self.positive.any():
            return []
        table = _Table(self, self._everywhere, "challenge")
        drawings = [_drawing_at(point, top) for top in range(STEPS)]
        dice = np.stack([table.scores(top, drawing) for top, drawing in enumerate(drawings)], axis=2)
        sensitivity = table.sensitivity.copy()
        sensitivity[1:] -= image_gain(int(self.positive.sum()))
        rows: list[ScoredPoint] = []
        highest = -1.0
        ranks = np.lexsort([-dice.ravel(), -sensitivity.ravel(), -table.specificity.ravel()])
        for place in ranks:
            if sensitivity.flat[place] > highest + TOLERANCE:
                level, area, top = (int(each) for each in np.unravel_index(place, dice.shape))
                highest = float(table.sensitivity[level, area, top])
                rows.append(table.at(level, area, top, drawings[top], float(dice[level, area, top])))
        return rows


def _drawing_at(point: OperatingPoint, top: int) -> Drawing:
    """How a mask is drawn as *point* does, where the top threshold is another."""
    own = Drawing.of(point)
    bottom = top if point.segmentation_threshold is None else min(top, own.bottom)
    return own if bottom == own.bottom else Drawing(bottom)  # cleaned is what was tried


class _Table:
    """The scores of all combinations on some of the cases, and the best one so far.

    Arrays are of shape (image thresholds, areas, classification thresholds), or begin with these axes.

    Args:
        search: All cases.
        where: Which of them to look at, shape ``(cases,)``.
        aim: Name of the operating point to find: see `LEAST`.
        levels: Image thresholds to compare, the one that is preferred first.
    """

    def __init__(
        self, search: Search, where: Bools, aim: AimName, *, levels: Sequence[float] = IMAGE_THRESHOLDS
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
        self.allowed = self._allowed(aim)
        self.value = -np.inf  # the score, less what its image threshold and its cleaning have to add
        self.score = 0.0
        self.level, self.area, self.top, self.drawing = 0, 0, 0, Drawing(0)

    def _allowed(self, aim: AimName) -> Bools:
        """Tell which combinations an aim allows; of these, the one with the best masks is the best."""
        positives = len(self.accepted)
        held, wanted, images = (
            (self.specificity, self.sensitivity, positives)
            if aim == "specificity"
            else (self.sensitivity, self.specificity, self.count - positives)
        )
        if aim == "challenge" or np.isnan(held).any() or np.isnan(wanted).any():
            return np.ones(held.shape, dtype=np.bool_)
        enough: Bools = held >= min(LEAST[aim], held.max())
        wanted = wanted.copy()
        wanted[1:] -= image_gain(images)
        allowed: Bools = enough & (wanted >= wanted[enough].max())
        return allowed

    def _to_add(self, level: int) -> float:
        """What an image threshold has to add to the score."""
        return image_gain(self.count) if level else 0.0

    def best_level(self) -> int:
        """Choose the image threshold, by its index, with masks at every eighth segmentation threshold."""
        bottoms = np.arange(0, STEPS, _COARSE)
        drawn = self.search.drawn[np.ix_(self.rows, bottoms)]
        too_high = np.arange(STEPS)[:, None] < bottoms
        values = np.empty(len(self.levels))
        for level in range(len(self.levels)):
            right = np.tensordot(self.called, self.accepted[:, level, None] * drawn, axes=1)
            right[:, too_high] = -np.inf
            scores = (right.max(axis=-1) + self.right_negatives[level]) / self.count
            values[level] = np.where(self.allowed[level], scores, -np.inf).max() - self._to_add(level)
        return int(np.argmax(values >= values.max() - TOLERANCE))

    def offer_thresholds(self, level: int) -> None:
        """Try all thresholds and areas without cleaning: the mask at the classification threshold first."""
        drawn = self._drawn_at(level, self.search.drawn)
        same = (self.right_negatives[level] + np.einsum("atn,nt->at", self.called, drawn)) / self.count
        area, top = divmod(int(np.argmax(np.where(self.allowed[level], same, -np.inf))), STEPS)
        if self.allowed[level].any():
            self._take(float(same[area, top]), level, area, top, Drawing(top))
        self._offer(level, drawn, [Drawing(bottom) for bottom in range(STEPS)])

    def offer_cleanings(self, level: int, bottoms: Set[int]) -> None:
        """Try all cleanings at some segmentation thresholds."""
        within = sorted(bottom for bottom in bottoms if 0 <= bottom < STEPS)
        drawings = [Drawing(bottom, cleaning) for bottom in within for cleaning in CLEANINGS]
        cleaned = np.concatenate([self.search.cleaned(bottom) for bottom in within], axis=1)
        self._offer(level, self._drawn_at(level, cleaned), drawings)

    def _drawn_at(self, level: int, drawn: Floats) -> Floats:
        """Dice of the positives looked at, 0 for those that the image threshold makes negative."""
        dices: Floats = drawn[self.rows] * self.accepted[:, level, None]
        return dices

    def _offer(self, level: int, drawn: Floats, drawings: Sequence[Drawing]) -> None:
        """Try all thresholds and areas with some drawings; *drawn* is of shape ``(positives, drawings)``."""
        right = np.tensordot(self.called, drawn, axes=1)
        scores: Floats = (right + self.right_negatives[level, ..., None]) / self.count
        scores[~self.allowed[level]] = -np.inf
        too_high = np.arange(STEPS)[:, None] < np.array([each.bottom for each in drawings])
        scores[:, too_high] = -np.inf
        for area, part in enumerate(scores):
            top, index = divmod(int(np.argmax(part)), len(drawings))
            self._take(float(part[top, index]), level, area, top, drawings[index])

    def _take(self, score: float, level: int, area: int, top: int, drawing: Drawing) -> None:
        cleaning = (drawing.cleaning != NO_CLEANING) * self.search.cleaning_gain
        value = score - cleaning - self._to_add(level)
        if value > self.value + TOLERANCE:
            self.value, self.score = value, score
            self.level, self.area, self.top, self.drawing = level, area, top, drawing

    def scores(self, top: int, drawing: Drawing) -> Floats:
        """Score all image thresholds and minimum areas with a classification threshold and a drawing."""
        drawn = self.search.drawn_as(drawing)[self.rows, None] * self.accepted
        right = np.moveaxis(self.called[:, top] @ drawn, -1, 0)
        scores: Floats = (self.right_negatives[:, :, top] + right) / self.count
        return scores

    def at(self, level: int, area: int, top: int, drawing: Drawing, score: float) -> ScoredPoint:
        """Describe a combination."""
        self.level, self.area, self.top, self.drawing, self.score = level, area, top, drawing, score
        return self.found()

    def found(self) -> ScoredPoint:
        """Describe the best combination so far."""
        bottom = self.drawing.bottom
        place = self.level, self.area, self.top
        sensitivity, specificity = (
            None if np.isnan(each) else float(each)
            for each in (self.sensitivity[place], self.specificity[place])
        )
        return ScoredPoint(
            point=OperatingPoint(
                threshold=self.top / STEPS,
                min_area_fraction=MIN_AREA_FRACTIONS[self.area],
                segmentation_threshold=None if bottom == self.top else bottom / STEPS,
                image_threshold=self.levels[self.level],
                **self.drawing.cleaning._asdict(),
            ),
            dice=self.score,
            sensitivity=sensitivity,
            specificity=specificity,
        )


def _matrix_product(called: npt.NDArray[Any], accepted: Floats) -> Floats:
    """Multiply ``(areas, tops, cases)`` by ``(cases, levels)`` to ``(levels, areas, tops)``: numbers of cases."""
    return np.stack([(each.astype(np.float64) @ accepted).T for each in called], axis=1)


def _drawn_counts(case: SearchCase) -> npt.NDArray[np.int64]:
    """Pixels of a map above each threshold, and those of them in the label: shape ``(2, 256)``."""
    histograms = [
        np.bincount(levels.ravel(), minlength=256) for levels in (case.levels, case.levels[case.label])
    ]
    above = np.cumsum([each[::-1] for each in histograms], axis=1)[:, ::-1]  # and at
    return np.pad(above, ((0, 0), (0, 1)))[:, _LEVEL_OF + 1]


def _cleaned_dices(cases: Sequence[SearchCase], bottom: int) -> Floats:
    """Dice of positives for each of `CLEANINGS`: shape ``(positives, cleanings)``."""
    counts = count_cleaned(
        [case.levels > _LEVEL_OF[bottom] for case in cases],
        [case.label for case in cases],
        [[min_area_px(fraction, case.levels.size) for fraction in MIN_COMPONENT_FRACTIONS] for case in cases],
    ).reshape(len(cases), len(CLEANINGS), 2)
    labels = np.array([np.count_nonzero(case.label) for case in cases])
    return _dice(counts[..., 0], labels[:, None], counts[..., 1])


def _dice(area: npt.ArrayLike, label: npt.ArrayLike, overlap: npt.ArrayLike) -> Floats:
    """Dice of positives; one whose label, or mask, is lost at the size of the map has none."""
    return np.where(np.add(area, label) > 0, dice_from_counts(area, label, overlap), 0.0)
