"""Learning curves of a run, one per axes, for its picture and its report."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

Rows: TypeAlias = Sequence[Mapping[str, Any]]
"""Rows of ``metrics.csv``, one for each epoch, with None for unknown values."""


def draw_loss(axes: Axes, rows: Rows) -> None:
    """Plot the losses of training and validation, and the learning rate.

    The levels of the losses differ, since positives are rarer in the validation; compare their trends.

    Args:
        axes: Axes to plot on.
        rows: Metrics of each epoch.
    """
    _line(axes, rows, "loss", "training")
    if _is_validated(rows):
        _line(axes, rows, "validation_loss", "validation")
    axes.set_ylabel("loss")
    axes.legend(loc="best")
    rate = axes.twinx()
    _line(rate, rows, "learning_rate", "learning rate", color="0.6", linestyle=":")
    rate.set_ylabel("learning rate (dotted)", color="0.5")
    rate.set_ylim(bottom=0)
    rate.spines.right.set_visible(True)  # also where the style hides it


def draw_dice(axes: Axes, rows: Rows) -> None:
    """Plot the challenge's Dice of the validation beside that of empty masks, and Dice on positives.

    Each epoch uses its own in-sample operating point, except for Dice on positives at a fixed threshold of 0.5.

    Args:
        axes: Axes to plot on.
        rows: Metrics of each epoch.
    """
    _line(axes, rows, "dice", "all images")
    _line(axes, rows, "predict_nothing", "predict nothing", color="0.5", linestyle="--")
    _line(axes, rows, "dice_positive", "positives")
    _line(axes, rows, "dice_positive_fixed", "positives at 0.5")
    _share(axes, "validation Dice, in-sample")


def draw_rates(axes: Axes, rows: Rows) -> None:
    """Plot AUC, and sensitivity and specificity at the in-sample operating point, of the validation images.

    Args:
        axes: Axes to plot on.
        rows: Metrics of each epoch.
    """
    for name, label in (("auc", "AUC"), ("sensitivity", "sensitivity"), ("specificity", "specificity")):
        _line(axes, rows, name, label)
    _share(axes, "validation, per image, in-sample")


Draw: TypeAlias = Callable[[Axes, Rows], None]
_OF_VALIDATION: Final[Mapping[str, Draw]] = {"Dice": draw_dice, "Classification": draw_rates}


def learning_curves(rows: Rows) -> dict[str, Draw]:
    """List the functions that draw the curves of a run, by title; those of scores only where there are some.

    Args:
        rows: Metrics of each epoch.
    """
    return {"Loss": draw_loss, **(_OF_VALIDATION if _is_validated(rows) else {})}


def _is_validated(rows: Rows) -> bool:
    return any(row.get("dice") is not None for row in rows)


def _line(axes: Axes, rows: Rows, name: str, label: str, **style: Any) -> None:
    values = [math.nan if row.get(name) is None else row[name] for row in rows]
    axes.plot(
        [row["epoch"] for row in rows], values, label=label, marker="." if len(rows) < 30 else None, **style
    )
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _share(axes: Axes, label: str) -> None:
    axes.set_ylabel(label)
    axes.set_ylim(-0.02, 1.02)
    axes.grid(alpha=0.2)
    axes.legend(loc="best")
