"""The search of the whole decision: when to call an image positive, and how to draw its mask then.

Whether an image is called positive depends on the top threshold and the minimum area alone, and its curves say it
exactly, at the original size. How well a positive is drawn depends on the bottom threshold and the cleaning alone,
and is measured on its stored map of at most 256 pixels; a negative that is called positive scores 0 however it is
drawn. So the score of every combination is a product of two small matrices: all top thresholds, minimum areas and
bottom thresholds are tried, and cleanings from coarse to fine.
"""

import hashlib
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.scoring.challenge import dice_from_counts
from pneumoseg.pipeline.scoring.cleaning import count_cleaned
from pneumoseg.pipeline.scoring.decision import MIN_AREA_FRACTIONS, STEPS, CaseCurves
from pneumoseg.pipeline.scoring.out_of_fold import OutOfFold
from pneumoseg.transforms.geometry import Placement, to_network_size
from pneumoseg.transforms.masks import OperatingPoint, min_area_px
from pneumoseg.transforms.rle import decode_rle

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
AimName = Literal["challenge", "specificity", "screening"]
LEAST: Final[dict[AimName, float]] = {"specificity": 0.95, "screening": 0.95}
"""What the aims hold on to: a specificity, with the best sensitivity there is; a sensitivity, with the best
specificity. The challenge's score asks for nothing of the kind."""
MIN_COMPONENT_FRACTIONS: Final = (0.0, 0.0002, 0.0005, 0.001, 0.002, 0.004)
STRIDES: Final = (32, 8, 2)
"""Of the bottom thresholds that cleanings are tried at, in steps of 1/256: over all, then about the best."""
PARTS: Final = 5
CLEANING_GAIN: Final = 0.001
"""What cleaning has to add to the score to be worth it: less is chance."""
_TOLERANCE: Final = 1e-9
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
        bottom = int(point.drawn_threshold * STEPS)
        return cls(bottom, Cleaning(point.min_component_fraction, point.fill_holes))


@dataclass(frozen=True)
class Found:
    """The best operating point for an aim, and what it has on the cases that it was searched on."""

    point: OperatingPoint
    dice: float
    sensitivity: float | None
    specificity: float | None


@dataclass(frozen=True)
class CrossFitted:
    """Points that were searched without some patients, to score these with.

    Args:
        points: For each part of the patients, the point that the others gave.
        dice: Of all cases, each with the point of its part: a score that never saw its own search.
    """

    points: tuple[OperatingPoint, ...]
    dice: float


def part_of(group: str, parts: int = PARTS) -> int:
    """The part that a patient belongs to: the same in every collection that holds the patient."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8]) % parts


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
    """A search over cases; what was measured once serves all aims and parts.

    Args:
        cases: Of which no probability map came from a network that had seen the case.
        cleaning_gain: What cleaning has to add to the score to be taken.
    """

    def __init__(self, cases: Sequence[SearchCase], *, cleaning_gain: float = CLEANING_GAIN) -> None:
        self.cases = cases
        self.cleaning_gain = cleaning_gain
        self.positive = np.array([case.curves.label_area > 0 for case in cases])
        self._positives = [case for case in cases if case.curves.label_area > 0]
        self._cleaned: dict[int, Floats] = {}

    @cached_property
    def called(self) -> Bools:
        """Whether each case is called positive by each area and top threshold: shape ``(areas, 256, cases)``."""
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

    def best(self, aim: AimName = "challenge", *, where: Bools | None = None) -> Found:
        """Find the best operating point for *aim*.

        Args:
            aim: What is best: see `LEAST`.
            where: Which cases to search on; None takes all.

        Among equals the point without cleaning, then with the bottom threshold at the top, then with the smaller
        area, then with the lower threshold is taken.
        """
        table = _Table(self, np.ones(len(self.cases), dtype=np.bool_) if where is None else where, aim)
        table.offer_thresholds()
        table.offer_cleanings({*range(0, STEPS, STRIDES[0]), table.drawing.bottom})
        for stride in STRIDES[1:] if aim == "challenge" and table.drawing.cleaning != NO_CLEANING else ():
            middle = table.drawing.bottom
            table.offer_cleanings(set(range(middle - 4 * stride, middle + 4 * stride + 1, stride)))
        return table.found()

    def cross_fit(self, parts: int = PARTS) -> CrossFitted | None:
        """Search once without each part of the patients; None where all patients are in one part."""
        part = np.array([part_of(case.group, parts) for case in self.cases])
        if len(np.unique(part)) < 2:
            return None
        points = []
        total = 0.0
        for number in range(parts):
            found = self.best(where=part != number)
            points.append(found.point)
            total += float(self.dices(found.point)[part == number].sum())
        return CrossFitted(points=tuple(points), dice=total / len(self.cases))

    def dices(self, point: OperatingPoint) -> Floats:
        """Dice of each case at *point*: called at the original size, drawn on the map."""
        least = [min_area_px(point.min_area_fraction, case.curves.pixels) for case in self.cases]
        areas = [case.curves.area[int(point.threshold * STEPS)] for case in self.cases]
        called = np.greater(areas, least)
        dices: Floats = (~called & ~self.positive).astype(np.float64)
        dices[self.positive] = np.where(called[self.positive], self.drawn_as(Drawing.of(point)), 0)
        return dices

    def curve(self, point: OperatingPoint, *, stride: int = 4) -> list[Found]:
        """What each top threshold would have with its own best minimum area, and masks drawn as *point* does."""
        table = _Table(self, np.ones(len(self.cases), dtype=np.bool_), "challenge")
        rows = []
        for top in range(0, STEPS, stride):
            drawing = _drawing_at(point, top)
            scores = table.scores(top, drawing)
            rows.append(table.at(int(np.argmax(scores)), top, drawing, float(scores.max())))
        return rows

    def frontier(self, point: OperatingPoint) -> list[Found]:
        """The thresholds and minimum areas that no other is better than, in sensitivity and specificity both.

        Masks are drawn as *point* does; among equals the one with the higher Dice is taken. The highest specificity
        comes first. None, where all cases are of one kind.
        """
        if self.positive.all() or not self.positive.any():
            return []
        table = _Table(self, np.ones(len(self.cases), dtype=np.bool_), "challenge")
        drawings = [_drawing_at(point, top) for top in range(STEPS)]
        dice = np.stack([table.scores(top, drawing) for top, drawing in enumerate(drawings)], axis=1)
        rows: list[Found] = []
        highest = -1.0
        ranks = np.lexsort([-dice.ravel(), -table.sensitivity.ravel(), -table.specificity.ravel()])
        for area, top in zip(*np.unravel_index(ranks, dice.shape), strict=True):
            if table.sensitivity[area, top] > highest:
                highest = table.sensitivity[area, top]
                rows.append(table.at(int(area), int(top), drawings[top], float(dice[area, top])))
        return rows


def _drawing_at(point: OperatingPoint, top: int) -> Drawing:
    """How a mask is drawn as *point* does, where the top threshold is another."""
    own = Drawing.of(point)
    bottom = top if point.bottom_threshold is None else min(top, own.bottom)
    return own if bottom == own.bottom else Drawing(bottom)  # cleaned is what was tried


class _Table:
    """Scores of all combinations on some of the cases, and the best so far.

    The called are of shape (areas, tops, cases), positives and negatives apart.
    """

    def __init__(self, search: Search, where: Bools, aim: AimName) -> None:
        self.search = search
        positive = search.positive[where]
        self.rows = where[search.positive]
        self.count = len(positive)
        negatives = self.count - int(positive.sum())
        called = search.called[:, :, where]
        self.called = called[:, :, positive].astype(np.float64)
        alarms = np.count_nonzero(called[:, :, ~positive], axis=-1)
        self.right_negatives = negatives - alarms
        self.sensitivity = self.called.mean(axis=-1) if positive.any() else np.full(alarms.shape, np.nan)
        self.specificity = self.right_negatives / negatives if negatives else np.full(alarms.shape, np.nan)
        self.allowed = self._allowed(aim)
        self.score = -np.inf
        self.top, self.area, self.drawing = 0, 0, Drawing(0)

    def _allowed(self, aim: AimName) -> Bools:
        """Which calls an aim allows: among these, the best drawn is best."""
        held, wanted = (
            (self.specificity, self.sensitivity)
            if aim == "specificity"
            else (self.sensitivity, self.specificity)
        )
        if aim == "challenge" or np.isnan(held).any() or np.isnan(wanted).any():
            return np.ones(held.shape, dtype=np.bool_)
        enough: Bools = held >= min(LEAST[aim], held.max())
        allowed: Bools = enough & (wanted >= wanted[enough].max())
        return allowed

    def offer_thresholds(self) -> None:
        """Try all thresholds and areas without cleaning: the mask at the top threshold first."""
        drawn = self.search.drawn[self.rows]
        same = (self.right_negatives + np.einsum("atn,nt->at", self.called, drawn)) / self.count
        best = int(np.argmax(np.where(self.allowed, same, -np.inf)))
        self.area, self.top = divmod(best, STEPS)
        self.score, self.drawing = float(same[self.area, self.top]), Drawing(self.top)
        self._offer(drawn, [Drawing(bottom) for bottom in range(STEPS)])

    def offer_cleanings(self, bottoms: Set[int]) -> None:
        """Try all cleanings at some bottom thresholds."""
        within = sorted(bottom for bottom in bottoms if 0 <= bottom < STEPS)
        drawings = [Drawing(bottom, cleaning) for bottom in within for cleaning in CLEANINGS]
        drawn = np.concatenate([self.search.cleaned(bottom)[self.rows] for bottom in within], axis=1)
        self._offer(drawn, drawings)

    def _offer(self, drawn: Floats, drawings: Sequence[Drawing]) -> None:
        """Try all thresholds and areas with some drawings; *drawn* is of shape ``(positives, drawings)``."""
        right = np.tensordot(self.called, drawn, axes=1)
        scores: Floats = (right + self.right_negatives[..., None]) / self.count
        scores[~self.allowed] = -np.inf
        too_high = np.arange(STEPS)[:, None] < np.array([each.bottom for each in drawings])
        scores[:, too_high] = -np.inf
        for area, part in enumerate(scores):
            top, number = divmod(int(np.argmax(part)), len(drawings))
            self._take(float(part[top, number]), area, top, drawings[number])

    def _take(self, score: float, area: int, top: int, drawing: Drawing) -> None:
        begins_to_clean = drawing.cleaning != NO_CLEANING and self.drawing.cleaning == NO_CLEANING
        if score > self.score + _TOLERANCE + begins_to_clean * self.search.cleaning_gain:
            self.score, self.area, self.top, self.drawing = score, area, top, drawing

    def scores(self, top: int, drawing: Drawing) -> Floats:
        """Of each minimum area with a top threshold and a drawing."""
        drawn = self.search.drawn_as(drawing)[self.rows]
        scores: Floats = (self.right_negatives[:, top] + self.called[:, top] @ drawn) / self.count
        return scores

    def at(self, area: int, top: int, drawing: Drawing, score: float) -> Found:
        """What is known of a combination."""
        self.area, self.top, self.drawing, self.score = area, top, drawing, score
        return self.found()

    def found(self) -> Found:
        """The best so far."""
        bottom = self.drawing.bottom
        sensitivity, specificity = (
            None if np.isnan(each) else float(each)
            for each in (self.sensitivity[self.area, self.top], self.specificity[self.area, self.top])
        )
        return Found(
            point=OperatingPoint(
                threshold=self.top / STEPS,
                min_area_fraction=MIN_AREA_FRACTIONS[self.area],
                bottom_threshold=None if bottom == self.top else bottom / STEPS,
                **self.drawing.cleaning._asdict(),
            ),
            dice=self.score,
            sensitivity=sensitivity,
            specificity=specificity,
        )


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
