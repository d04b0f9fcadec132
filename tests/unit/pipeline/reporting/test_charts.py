from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pneumoseg.pipeline.reporting import charts
from pneumoseg.pipeline.reporting.content import Chart

PROBABILITIES = np.array([0.9, 0.8, 0.3, 0.1])
POSITIVE = np.array([True, False, True, False])
CHANCE = 0.5  # two of the four are positive
RANKED = charts.Ranked(PROBABILITIES, POSITIVE, PROBABILITIES > 0.5)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures behind the charts."""
    figures: list[Figure] = []

    def keep(figure: Figure, *, name: str) -> str:
        figures.append(figure)
        return f"<svg>{name}</svg>"

    monkeypatch.setattr(charts, "to_svg", keep)
    return figures


def line(axes: Axes, number: int) -> list[list[float]]:
    """The points of a line."""
    points: list[list[float]] = np.asarray(axes.lines[number].get_xydata()).tolist()
    return points


def surface(dice: Any, *, chosen: tuple[float, float] = (0.5, 0.001), nothing: float = 0.5) -> Chart:
    return charts.surface_chart(
        [0.0, 0.5, 0.75], [0.0, 0.001], np.array(dice), chosen=chosen, nothing=nothing
    )


def histogram(values: dict[str, Any], limits: tuple[float, float] | None = (0.0, 1.0)) -> Chart:
    arrays = {name: np.array(each, dtype=np.float64) for name, each in values.items()}
    return charts.histogram_chart(arrays, title="How Often", label="value", limits=limits)


def heights(axes: Axes) -> NDArray[np.float64]:
    return np.array([patch.get_height() for patch in axes.patches])  # type: ignore[attr-defined]


# worked by hand: at .9 one of two positives, at .8 also one of two negatives, at .3 all positives, at .1 all


def test_the_roc_curve_turns_at_every_image(drawn: list[Figure]) -> None:
    chart = charts.roc_chart({"": RANKED}, note="AUC 0.7500.", at="here")
    assert line(drawn[0].axes[0], 1) == [[0, 0], [0, 0.5], [0.5, 0.5], [0.5, 1], [1, 1]]
    assert chart.note.startswith("AUC 0.7500. Ring: sensitivity and specificity here")


def test_a_ring_marks_the_operating_point_of_the_masks_on_both_curves(drawn: list[Figure]) -> None:
    """Two images are predicted positive, one of them a positive, so that each share is a half."""
    charts.roc_chart({"": RANKED}, note="", at="")
    charts.precision_recall_chart({"": RANKED}, note="", at="")
    assert [line(figure.axes[0], 2) for figure in drawn] == [[[0.5, 0.5]], [[0.5, 0.5]]]


def test_where_nothing_is_predicted_positive_there_is_no_precision_to_mark(drawn: list[Figure]) -> None:
    silent = RANKED._replace(predicted=np.zeros(4, dtype=bool))
    charts.precision_recall_chart({"": silent}, note="", at="")
    assert len(drawn[0].axes[0].lines) == 2


def test_curves_of_several_models_have_a_legend(drawn: list[Figure]) -> None:
    for chart in (charts.roc_chart, charts.precision_recall_chart):
        chart({"A": RANKED, "B": RANKED}, note="", at="")
        legend = drawn[-1].axes[0].get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()] == ["A", "B"]


def test_chance_lies_on_the_diagonal_of_the_roc_curve(drawn: list[Figure]) -> None:
    charts.roc_chart({"": RANKED}, note="", at="")
    assert line(drawn[0].axes[0], 0) == [[0, 0], [1, 1]]


def test_precision_is_that_of_each_recall(drawn: list[Figure]) -> None:
    charts.precision_recall_chart({"": RANKED}, note="", at="")
    points = line(drawn[0].axes[0], 1)
    assert points == [[1, 1 / 2], [1, pytest.approx(2 / 3)], [0.5, 1 / 2], [0.5, 1], [0, 1]]


def test_chance_has_the_share_of_positives_as_precision(drawn: list[Figure]) -> None:
    charts.precision_recall_chart({"": RANKED}, note="", at="")
    assert {y for _, y in line(drawn[0].axes[0], 0)} == {CHANCE}


def test_each_reliability_curve_goes_from_confidence_to_share(drawn: list[Figure]) -> None:
    points = [{"confidence": 0.25, "share": 0.5, "count": 3}, {"confidence": 0.75, "share": 1.0, "count": 1}]
    charts.reliability_chart({"images": points, "pixels": points[:1]})
    axes = drawn[0].axes[0]
    assert (line(axes, 1), line(axes, 2)) == ([[0.25, 0.5], [0.75, 1.0]], [[0.25, 0.5]])


def test_found_and_missed_are_told_apart(drawn: list[Figure]) -> None:
    predicted = np.array([True, False, True])
    charts.size_chart(np.array([10.0, 200.0, 3000.0]), np.array([0.5, 0.0, 0.75]), predicted, at="in-sample")
    axes = drawn[0].axes[0]
    assert [each.get_label() for each in axes.lines] == ["found", "missed"]
    assert (line(axes, 0), line(axes, 1)) == ([[10, 0.5], [3000, 0.75]], [[200, 0]])


@pytest.mark.parametrize("areas", [[110.0, 130.0], [55.0], [55.0, 161421.0], [2.9e6, 3.1e6]])
def test_the_axis_of_sizes_has_a_mark_however_alike_they_are_and_never_a_crowd(
    drawn: list[Figure], areas: list[float]
) -> None:
    charts.size_chart(np.array(areas), np.zeros(len(areas)), np.ones(len(areas), np.bool_), at="")
    axis = drawn[0].axes[0].xaxis
    low, high = drawn[0].axes[0].get_xlim()
    assert 1 <= sum(low <= mark <= high for mark in axis.get_majorticklocs()) <= 9
    assert len(axis.get_minorticklocs()) == 0


def test_the_surface_shows_each_score_where_it_belongs(drawn: list[Figure]) -> None:
    surface([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    (picture,) = drawn[0].axes[0].images
    assert np.asarray(picture.get_array()).tolist() == [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
    assert picture.origin == "lower"  # the smallest area at the bottom


def test_the_middle_of_the_colours_is_the_score_of_predicting_nothing(drawn: list[Figure]) -> None:
    surface([[0.0, 0.8, 0.9], [0.8, 0.8, 0.8]], nothing=0.75)
    low, high = drawn[0].axes[0].images[0].get_clim()
    assert (low + high) / 2 == pytest.approx(0.75)
    assert high > 0.9  # the best one is within the scale


@pytest.mark.parametrize("score", [0.0, 0.75])
def test_a_surface_without_any_gain_has_colours_all_the_same(drawn: list[Figure], score: float) -> None:
    surface(np.full((2, 3), score), nothing=0.75)
    low, high = drawn[0].axes[0].images[0].get_clim()
    assert low < 0.75 < high


def test_a_ring_lies_on_the_operating_point_of_the_model(drawn: list[Figure]) -> None:
    surface(np.zeros((2, 3)), chosen=(0.75, 0.0009))
    assert line(drawn[0].axes[0], 0) == [[0.75, 1.0]]  # in the row of 0.1 %


def test_a_score_of_a_threshold_that_there_is_not_is_left_out_of_its_curve(drawn: list[Figure]) -> None:
    curves = {"Dice": np.array([0.25, 0.5]), "sensitivity": np.array([np.nan, np.nan])}
    chart = charts.threshold_chart([0.0, 0.5], curves, chosen=0.5, min_area=0.001)
    axes = drawn[0].axes[0]
    assert line(axes, 0) == [[0, 0.25], [0.5, 0.5]]
    assert np.isnan(line(axes, 1)).any(axis=1).all()
    assert "0.100% of the image" in chart.note


def test_thresholds_without_a_minimum_area_say_so() -> None:
    chart = charts.threshold_chart([0.0, 0.5], {"Dice": np.zeros(2)}, chosen=0.5, min_area=0.0)
    assert chart.note.startswith("In-sample. Without a minimum area")


def test_every_value_of_a_histogram_is_in_a_bin(drawn: list[Figure]) -> None:
    histogram({"a": [0.0, 0.25, 1.0], "b": [0.5]})
    assert heights(drawn[0].axes[0]).sum() == 4


@pytest.mark.parametrize("values", [{"a": [], "b": [0.5, 0.5]}, {"a": [0.5], "b": []}, {"a": [], "b": []}])
def test_a_group_may_be_empty(drawn: list[Figure], values: dict[str, Any]) -> None:
    histogram(values)
    assert heights(drawn[0].axes[0]).sum() == sum(map(len, values.values()))


def test_values_that_are_all_the_same_are_in_one_bin(drawn: list[Figure]) -> None:
    histogram({"a": [0.125] * 5}, limits=None)
    assert sorted(heights(drawn[0].axes[0]))[-2:] == [0, 5]


def test_no_bar_is_hidden_by_the_legend(drawn: list[Figure]) -> None:
    histogram({"a": np.linspace(0, 1, 31), "b": np.linspace(0, 1, 31)})
    axes = drawn[0].axes[0]
    drawn[0].draw_without_rendering()
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_window_extent().y0 >= axes.get_window_extent().y1


def test_one_group_needs_no_legend(drawn: list[Figure]) -> None:
    histogram({"a": [0.5]})
    assert drawn[0].axes[0].get_legend() is None


def test_each_chart_is_drawn_under_a_name_of_its_own() -> None:
    dice = np.zeros(3)
    made = [
        charts.roc_chart({"": RANKED}, note="", at=""),
        charts.precision_recall_chart({"": RANKED}, note="", at=""),
        charts.reliability_chart({"images": []}),
        charts.size_chart(np.array([9.0]), np.array([1.0]), np.array([True]), at=""),
        surface(np.zeros((2, 3))),
        charts.threshold_chart([0.0, 0.5, 0.75], {"Dice": dice}, chosen=0.5, min_area=0.0),
        histogram({"a": [0.5]}),
    ]
    assert all(chart.svg.startswith("<svg") for chart in made)
    names = [chart.svg.partition(' id="')[2].partition("-")[0] for chart in made]
    assert len(set(names)) == len(made)
