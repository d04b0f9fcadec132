"""Charts of scores and probabilities."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from pneumoseg.pipeline.reporting.content import Chart
from pneumoseg.pipeline.reporting.svg import BLUE, COLOURS, GREEN, ORANGE, QUIET, chart_style, to_svg

SIZE = (5.2, 3.9)  # inches
_OFF_THE_CURVE = (
    "it may lie off the curve, which ranks images by their probability alone: a predicted positive also has a mask of "
    "the minimum area."
)
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Ranked(NamedTuple):
    """Images of a model.

    Attributes:
        probabilities: Image probabilities, shape ``(images,)``.
        positive: Whether each image is positive, shape ``(images,)``.
        predicted: Whether each image is predicted positive, shape ``(images,)``.
    """

    probabilities: Floats
    positive: Flags
    predicted: Flags


def roc_chart(curves: Mapping[str, Ranked], *, note: str, at: str) -> Chart:
    """Plot the ROC curve of the image probabilities of one or more models, with a ring at each operating point.

    Args:
        curves: Images by name of the model; a single model needs no name.
        note: Beginning of the note.
        at: Phrase that names the operating points.
    """
    from sklearn.metrics import roc_curve  # noqa: PLC0415  (takes seconds, and most reports do without)

    with square_axes("1 - specificity", "sensitivity") as (figure, axes):
        axes.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1, alpha=0.6)
        for (name, each), colour in zip(curves.items(), cycle(COLOURS)):
            false, true, _ = roc_curve(each.positive, each.probabilities)
            axes.plot(false, true, color=colour, label=name)
            _ring(axes, each.predicted[~each.positive].mean(), each.predicted[each.positive].mean(), colour)
        if len(curves) > 1:
            axes.legend(loc="lower right")
    text = f"{note} Ring: sensitivity and specificity {at}; {_OFF_THE_CURVE} Dashed: chance."
    return Chart("ROC of the images", to_svg(figure, name="roc"), text.strip())


def precision_recall_chart(curves: Mapping[str, Ranked], *, note: str, at: str) -> Chart:
    """Plot precision against recall of the image probabilities, with the share of positives as chance level.

    Args:
        curves: Images by name of the model; a single model needs no name.
        note: Beginning of the note.
        at: Phrase that names the operating points.
    """
    from sklearn.metrics import precision_recall_curve  # noqa: PLC0415

    with square_axes("recall", "precision") as (figure, axes):
        for (name, each), colour in zip(curves.items(), cycle(COLOURS)):
            precision, recall, _ = precision_recall_curve(each.positive, each.probabilities)
            axes.axhline(each.positive.mean(), color=QUIET, linestyle="--", linewidth=1, alpha=0.6)
            axes.step(recall, precision, where="post", color=colour, label=name)
            if each.predicted.any():
                found = each.predicted & each.positive
                _ring(axes, found.sum() / each.positive.sum(), found.sum() / each.predicted.sum(), colour)
        if len(curves) > 1:
            axes.legend(loc="upper right")
    text = f"{note} Ring: recall and precision {at}; {_OFF_THE_CURVE} Dashed: chance, the share of positives."
    return Chart("Precision and recall", to_svg(figure, name="pr"), text.strip())


def reliability_chart(curves: Mapping[str, Sequence[Mapping[str, float]]], *, note: str = "") -> Chart:
    """Plot the share of positives against the mean probability of each bin.

    Args:
        curves: Points with ``confidence`` and ``share`` by name of the curve, at most two curves.
        note: Addition to the note.
    """
    with square_axes("mean probability of the bin", "share of positives") as (figure, axes):
        axes.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1, alpha=0.6)
        for (name, points), colour in zip(curves.items(), (BLUE, ORANGE), strict=False):
            confidence = [point["confidence"] for point in points]
            axes.plot(confidence, [point["share"] for point in points], "o-", color=colour, label=name)
        axes.legend(loc="best")
    return Chart(
        "Reliability",
        to_svg(figure, name="reliability"),
        f"On the dashed line, probabilities are calibrated. {note}".strip(),
    )


def size_chart(areas_px: Floats, dices: Floats, predicted: npt.NDArray[np.bool_], *, at: str) -> Chart:
    """Plot the Dice of the positives against the size of their label.

    Args:
        areas_px: Number of pixels of each label, shape ``(positives,)``.
        dices: Dice of each positive, shape ``(positives,)``.
        predicted: Whether each is predicted positive, shape ``(positives,)``.
        at: Phrase that names the operating point.
    """
    with axes_of_chart() as (figure, axes):
        for where, colour, marker, name in (
            (predicted, BLUE, "o", "found"),
            (~predicted, ORANGE, "x", "missed"),
        ):
            axes.plot(
                areas_px[where], dices[where], marker, color=colour, alpha=0.75, label=name, markersize=5
            )
        # the limits contain a tick of the axis even for equal labels
        limits = (areas_px.min() / 2, areas_px.max() * 2)
        axes.set(xscale="log", xlim=limits, ylim=(-0.04, 1.04), xlabel="pixels of the label", ylabel="Dice")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.15)
        axes.legend(loc="best")
    return Chart(
        "Dice and size",
        to_svg(figure, name="size"),
        f"One mark is one image with a pneumothorax; Dice is {at}.",
    )


def surface_chart(
    thresholds: Sequence[float],
    min_areas: Sequence[float],
    dice: Floats,
    *,
    chosen: tuple[float, float],
    nothing: float,
) -> Chart:
    """Plot the score of each threshold and minimum area.

    Args:
        thresholds: Thresholds of the columns of *dice*.
        min_areas: Minimum areas of its rows, as shares of the image.
        dice: Mean Dice of the challenge, shape ``(minimum areas, thresholds)``.
        chosen: Threshold and minimum area in use.
        nothing: Score of empty masks, the middle of the colour scale. The scale resolves gains; losses are many times
            as large, and share one colour.
    """
    reach = max(1.2 * float((dice - nothing).max()), 0.02)
    with axes_of_chart() as (figure, axes):
        image = axes.imshow(
            dice,
            cmap="PuOr",
            vmin=nothing - reach,
            vmax=nothing + reach,
            aspect="auto",
            origin="lower",
            interpolation="nearest",
            extent=(thresholds[0], thresholds[-1], -0.5, len(min_areas) - 0.5),
        )
        ticks = list(range(0, len(min_areas), 3))
        axes.set_yticks(ticks, [f"{min_areas[tick]:.3%}" for tick in ticks])
        nearest = int(np.argmin(np.abs(np.asarray(min_areas) - chosen[1])))
        for colour, width in (("#ffffff", 5), ("#000000", 2)):  # visible on every colour
            _ring(axes, chosen[0], nearest, colour, size=11, width=width)
        axes.set(xlabel="threshold", ylabel="minimum area")
        bar = figure.colorbar(image, ax=axes, label="Dice", extend="min")
        bar.ax.axhline(nothing, color="#000000", linewidth=1.5)
    return Chart(
        "Threshold and minimum area",
        to_svg(figure, name="surface"),
        "In-sample. Purple scores above predicting nothing, orange below; the ring is the operating point of the "
        "model, the line on the scale the score of predicting nothing.",
    )


def threshold_chart(
    thresholds: Sequence[float], curves: Mapping[str, Floats], *, chosen: float, min_area: float
) -> Chart:
    """Plot the scores of each threshold.

    Args:
        thresholds: Threshold of each value.
        curves: Dice, sensitivity and specificity by name, each of shape ``(thresholds,)``; NaN where undefined.
        chosen: Threshold of the model.
        min_area: Minimum area of all points, as a share of the image.
    """
    with axes_of_chart() as (figure, axes):
        for (name, values), colour in zip(curves.items(), (BLUE, ORANGE, GREEN), strict=False):
            axes.plot(thresholds, values, color=colour, label=name)
        axes.axvline(chosen, color=QUIET, linestyle="--", linewidth=1, alpha=0.6)
        axes.set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel="threshold")
        axes.grid(alpha=0.15)
        axes.legend(loc="best")
    least = f"With a minimum area of {min_area:.3%} of the image" if min_area else "Without a minimum area"
    return Chart(
        "Each threshold",
        to_svg(figure, name="thresholds"),
        f"In-sample. {least}; dashed: the threshold of the model.",
    )


def histogram_chart(
    values: Mapping[str, Floats],
    *,
    title: str,
    label: str,
    limits: tuple[float, float] | None,
) -> Chart:
    """Plot a histogram of one to three groups of images.

    Args:
        values: Values by name of the group.
        title: Title of the chart.
        label: Label of the values.
        limits: Range of the values; None selects the range of the data.
    """
    known = [each for each in values.values() if len(each)]
    low, high = limits or (float(min(each.min() for each in known)), float(max(each.max() for each in known)))
    with axes_of_chart() as (figure, axes):
        bins = np.linspace(low, max(high, low + 1e-9), 31)
        axes.hist(
            list(values.values()),
            bins=bins.tolist(),
            stacked=True,
            label=list(values),
            color=[ORANGE, BLUE, GREEN][: len(values)],
        )
        axes.set(xlabel=label, ylabel="images")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        if len(values) > 1:
            # outside, since bars may be anywhere
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return Chart(title, to_svg(figure, name=title.lower().replace(" ", "-")))


def _ring(axes: Axes, x: float, y: float, colour: str, *, size: int = 9, width: int = 2) -> None:
    axes.plot(
        x, y, "o", markersize=size, markerfacecolor="none", markeredgecolor=colour, mew=width, clip_on=False
    )


@contextmanager
def axes_of_chart(size: tuple[float, float] = SIZE) -> Iterator[tuple[Figure, Axes]]:
    """Make a figure in the style of charts."""
    with chart_style():
        figure = Figure(figsize=size, layout="constrained")
        yield figure, figure.subplots()


@contextmanager
def square_axes(x_label: str, y_label: str) -> Iterator[tuple[Figure, Axes]]:
    """Make a figure whose axes both run from 0 to 1."""
    with axes_of_chart() as (figure, axes):
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x_label, ylabel=y_label)
        axes.grid(alpha=0.15)
        yield figure, axes
