import math
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pneumoseg.pipeline.drawing.curves import draw_dice, draw_loss, draw_rates, learning_curves


@pytest.fixture
def axes() -> Axes:
    return Figure().subplots()


def rows(count: int = 3, **values: Any) -> list[dict[str, Any]]:
    return [
        {"epoch": epoch, "loss": 1 / epoch, "learning_rate": 0.001 * epoch, "dice": 0.25 * epoch,
         "predict_nothing": 0.5, "dice_positive": 0.1, "dice_positive_fixed": 0.05,
         "validation_loss": 2.0, "auc": 0.75, "sensitivity": 0.5, "specificity": 1.0, **values}
        for epoch in range(1, count + 1)
    ]  # fmt: skip


def lines(axes: Axes) -> dict[str, list[list[float]]]:
    return {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in axes.lines}


def test_loss_and_learning_rate_have_axes_of_their_own(axes: Axes) -> None:
    draw_loss(axes, rows(2))
    left, right = axes.figure.axes
    assert lines(left) == {"training": [[1, 1.0], [2, 0.5]], "validation": [[1, 2.0], [2, 2.0]]}
    assert lines(right) == {"learning rate": [[1, 0.001], [2, 0.002]]}


def test_a_learning_rate_is_seen_from_zero(axes: Axes) -> None:
    draw_loss(axes, rows())
    assert axes.figure.axes[1].get_ylim()[0] == 0


def test_dice_stands_beside_predicting_nothing(axes: Axes) -> None:
    draw_dice(axes, rows(2))
    found = lines(axes)
    assert list(found) == ["all images", "predict nothing", "positives", "positives at 0.5"]
    assert (found["all images"], found["predict nothing"]) == ([[1, 0.25], [2, 0.5]], [[1, 0.5], [2, 0.5]])


def test_images_are_told_apart_by_three_numbers(axes: Axes) -> None:
    draw_rates(axes, rows(1))
    assert lines(axes) == {"AUC": [[1, 0.75]], "sensitivity": [[1, 0.5]], "specificity": [[1, 1.0]]}


@pytest.mark.parametrize("draw", [draw_dice, draw_rates])
def test_shares_are_drawn_from_0_to_1(axes: Axes, draw: Any) -> None:
    draw(axes, rows())
    low, high = axes.get_ylim()
    assert -0.1 < low <= 0
    assert 1 <= high < 1.1


@pytest.mark.parametrize("value", [None, math.nan])
def test_a_number_that_there_is_not_leaves_a_gap(axes: Axes, value: float | None) -> None:
    draw_rates(axes, [*rows(1), {**rows(1)[0], "epoch": 2, "auc": value}])
    assert lines(axes)["AUC"][0] == [1, 0.75]
    assert math.isnan(lines(axes)["AUC"][1][1])


def test_a_column_that_there_is_not_leaves_gaps_only(axes: Axes) -> None:
    draw_dice(axes, [{"epoch": 1}])
    assert all(math.isnan(points[0][1]) for points in lines(axes).values())


def test_few_epochs_are_marked_one_by_one(axes: Axes) -> None:
    draw_dice(axes, rows(3))
    assert {line.get_marker() for line in axes.lines} == {"."}


def test_many_epochs_are_a_line(axes: Axes) -> None:
    draw_dice(axes, rows(60))
    assert {line.get_marker() for line in axes.lines} == {"None"}


def test_scores_are_drawn_only_where_there_are_some(axes: Axes) -> None:
    assert list(learning_curves(rows())) == ["Loss", "Dice", "Classification"]
    unscored = [{"epoch": 1, "loss": 1.0, "learning_rate": 0.001}]
    assert list(learning_curves(unscored)) == ["Loss"]
    draw_loss(axes, unscored)
    assert list(lines(axes.figure.axes[0])) == ["training"]


@pytest.mark.parametrize("title", learning_curves(rows()))
def test_epochs_are_whole_numbers(axes: Axes, title: str) -> None:
    learning_curves(rows())[title](axes, rows(2))
    assert axes.get_xlabel() == "epoch"
    assert all(mark == round(mark) for mark in axes.get_xticks())
