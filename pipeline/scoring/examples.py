"""Choice of example cases: the best, median and worst ones, and both kinds of errors."""

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
    """Choose cases that show the strengths and failures of a model, in the order of `EXAMPLES`.

    Best, median and worst are ranked by Dice among the cases whose masks both contain pixels. Missed are the largest
    labels without a predicted mask, false alarms the largest predicted masks without a label. No case is chosen twice.

    Args:
        true_px: Number of pixels of each label, shape ``(cases,)``.
        pred_px: Number of pixels of each predicted mask, shape ``(cases,)``.
        dice: Dice of each case, shape ``(cases,)``.
        each: Most cases of each kind.

    Returns: Indices and kinds.
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
    share = min(each, max(1, len(found) // 3))  # with few cases, each kind gets its share
    chosen: dict[Example, list[int]] = {}
    # the extremes first, where there are few
    for kind in ("best", "worst", "median", "missed", "false alarm"):
        most = share if kind in ("best", "worst", "median") else each
        taken = {place for places in chosen.values() for place in places}
        chosen[kind] = [place for place in ranked[kind].tolist() if place not in taken][:most]
    return [(place, kind) for kind in EXAMPLES for place in chosen[kind]]


def _largest(pixels: npt.NDArray[np.int64], where: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    places = np.flatnonzero(where & (pixels > 0))
    return places[np.argsort(-pixels[places], kind="stable")]
