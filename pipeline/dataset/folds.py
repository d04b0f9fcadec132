"""Assignment of cases to folds with equal mixes of mask sizes and without dividing patients."""

import warnings
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from pneumoseg.pipeline.core.errors import UsageError

SIZE_CLASSES: Final = 4  # of positives, by quartile of mask area; the negatives are another class


def size_classes(areas: Sequence[float]) -> npt.NDArray[np.int64]:
    """Classify masks by size.

    Args:
        areas: Area of each mask, in pixels or as a share of its image.

    Returns: Class of each mask, shape ``(cases,)``: 0 for empty masks, else 1 to 4 by the quartile of the area.
    """
    area = np.asarray(areas)
    positive = area[area > 0]
    if positive.size == 0:
        return np.zeros(area.shape, dtype=np.int64)
    borders = np.quantile(positive, np.linspace(0, 1, SIZE_CLASSES + 1)[1:-1])
    return np.where(area > 0, 1 + np.searchsorted(borders, area, side="left"), 0)


def assign_folds(
    areas: Sequence[int], groups: Sequence[str], *, folds: int, seed: int
) -> npt.NDArray[np.int64]:
    """Assign each case to the fold in which it is held out.

    Args:
        areas: Number of pixels of each label.
        groups: Group of each case.
        folds: Number of folds.
        seed: Seed of the order in which groups are assigned.

    Returns: Index of the fold of each case, shape ``(cases,)``.
    Raises: UsageError: If there are not enough groups.
    """
    count = len(set(groups))
    if folds < 2 or count < folds:
        raise UsageError(
            f"--folds {folds}: the manifest has {len(groups)} labelled images in {count} groups, and a group is never "
            f"divided; {f'2 to {count} folds' if count > 1 else 'labelled images of more patients'} would fit"
        )
    sizes = size_classes(areas)
    splits = [
        _split(classes, groups, folds=folds, seed=seed)
        for classes in (sizes, np.minimum(sizes, 1), np.zeros_like(sizes))  # coarser where cases are few
        if np.bincount(classes).max() >= folds
    ]
    whole = [fold for fold in splits if np.unique(fold).size == folds]
    # a fold without a positive cannot be scored; where there are too few for all folds, the finest is as good as any
    return max(whole, key=lambda fold: np.unique(fold[sizes > 0]).size)


def _split(
    classes: npt.NDArray[np.int64], groups: Sequence[str], *, folds: int, seed: int
) -> npt.NDArray[np.int64]:
    """Assign cases to folds; a fold may be empty, unless all cases are of one class."""
    from sklearn.model_selection import StratifiedGroupKFold  # noqa: PLC0415  (takes a second; inference does without)

    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    fold = np.zeros(len(classes), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # small sets are allowed
        for index, (_, held_out) in enumerate(splitter.split(classes, classes, groups)):
            fold[held_out] = index
    return fold
