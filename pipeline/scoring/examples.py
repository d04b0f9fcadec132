"""Which cases to show of many: those that went best and worst, and one of each way to be wrong."""

from typing import Final, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

Example: TypeAlias = Literal["best", "median", "worst", "missed", "false alarm"]
EXAMPLES: Final[tuple[Example, ...]] = get_args(Example)


def choose_examples(
    true_px: npt.NDArray[np.int64],
    pred_px: npt.NDArray[np.int64],
    dice: npt.NDArray[np.float64],
    *,
    each: int = 3,
) -> list[tuple[int, Example]]:
    """Choose cases that show what a model can do and where it fails, in the order of `EXAMPLES`.

    Best, median and worst are by Dice, of the cases where both masks hold pixels; missed are the largest labels
    without a mask, false alarms the largest masks without a label. None is chosen twice.

    Args:
        true_px: Pixels of each label, shape ``(cases,)``.
        pred_px: Pixels of each mask.
        dice: Of each case.
        each: How many of a kind, if there are as many.

    Returns: Places and kinds.
    """
    found = np.flatnonzero((true_px > 0) & (pred_px > 0))
    by_dice = found[np.argsort(-dice[found], kind="stable")]
    middle = by_dice[np.argsort(np.abs(np.arange(len(by_dice)) - (len(by_dice) - 1) / 2), kind="stable")]
    ranked: dict[Example, npt.NDArray[np.int64]] = {
        "best": by_dice,
        "median": middle,
        "worst": by_dice[::-1],
        "missed": _largest(true_px, pred_px == 0),
        "false alarm": _largest(pred_px, true_px == 0),
    }
    share = min(each, max(1, len(found) // 3))  # a handful of cases is not all best ones
    chosen: dict[Example, list[int]] = {}
    for kind in (
        "best",
        "worst",
        "median",
        "missed",
        "false alarm",
    ):  # the extremes first, where there are few
        most = share if kind in ("best", "worst", "median") else each
        taken = {place for places in chosen.values() for place in places}
        chosen[kind] = [place for place in ranked[kind].tolist() if place not in taken][:most]
    return [(place, kind) for kind in EXAMPLES for place in chosen[kind]]


def _largest(pixels: npt.NDArray[np.int64], where: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    places = np.flatnonzero(where & (pixels > 0))
    return places[np.argsort(-pixels[places], kind="stable")]
