"""Charts that compare models."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from textwrap import fill

from matplotlib.ticker import MaxNLocator

from pneumoseg.pipeline.reporting.charts import SIZE, Floats, axes_of_chart, square_axes
from pneumoseg.pipeline.reporting.content import Chart
from pneumoseg.pipeline.reporting.svg import BLUE, COLOURS, QUIET, to_svg
from pneumoseg.pipeline.scoring.intervals import Difference


def difference_chart(differences: Mapping[str, Mapping[str, Difference]], *, first: str) -> Chart:
    """Plot the difference of each score from that of the first model, with its interval.

    Args:
        differences: Differences by title of the score, by name of the model.
        first: Name of the first model.
    """
    titles = list(dict.fromkeys(title for found in differences.values() for title in found))
    step = 0.7 / len(differences)
    with axes_of_chart((SIZE[0], max(SIZE[1], 0.7 * len(titles)))) as (figure, axes):
        axes.axvline(0, color=QUIET, linestyle="--", linewidth=1, alpha=0.6)
        for index, ((name, found), colour) in enumerate(zip(differences.items(), cycle(COLOURS[1:]))):
            label = f"{name} - {first}"
            for place, title in enumerate(titles):
                difference = found.get(title)
                if difference is None or difference.value is None:
                    continue
                height = place + (index - (len(differences) - 1) / 2) * step
                if difference.low is not None and difference.high is not None:
                    axes.plot([difference.low, difference.high], [height, height], color=colour, linewidth=2)
                axes.plot(difference.value, height, "o", color=colour, label=label)
                label = "_"  # one entry in the legend for all scores
        axes.set_yticks(range(len(titles)), [fill(title, 18) for title in titles])
        axes.set(ylim=(len(titles) - 0.5, -0.5), xlabel=f"difference from {first}")
        axes.grid(alpha=0.15, axis="x")
        if len(differences) > 1:
            axes.legend(loc="best")
    return Chart(
        "Differences",
        to_svg(figure, name="differences"),
        f"Right of the dashed line, the score is higher than that of {first}; bars: 95 % intervals.",
    )


def paired_chart(dices: Mapping[str, Floats], first: str, other: str) -> Chart:
    """Plot the Dice of each positive by one model against that by another.

    Args:
        dices: Dice of each positive by name of the model, shape ``(positives,)``.
        first: Name of the model on the horizontal axis.
        other: Name of the model on the vertical axis.
    """
    with square_axes(f"Dice, {first}", f"Dice, {other}") as (figure, axes):
        axes.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1, alpha=0.6)
        axes.plot(dices[first], dices[other], "o", color=BLUE, alpha=0.5, markersize=5, clip_on=False)
    better, worse = int((dices[other] > dices[first]).sum()), int((dices[other] < dices[first]).sum())
    return Chart(
        f"Dice of each positive, {other} and {first}",
        to_svg(figure, name=f"paired-{other.lower()}"),
        f"One mark is one image with a pneumothorax: {other} is better on {better}, {first} on {worse}, and "
        f"{len(dices[first]) - better - worse} are equal.",
    )


def epoch_chart(lines: Mapping[str, Sequence[tuple[float, float]]], *, title: str) -> Chart:
    """Plot a score of the validation of several runs over the epochs.

    Args:
        lines: Epoch and value of each point, by name of the run.
        title: Name of the score.
    """
    with axes_of_chart() as (figure, axes):
        for (name, points), colour in zip(lines.items(), cycle(COLOURS)):
            epochs, values = zip(*points, strict=True)
            axes.plot(epochs, values, color=colour, label=name, marker="." if len(points) < 30 else None)
        axes.set(xlabel="epoch", ylabel=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.15)
        axes.legend(loc="best")
    return Chart(title, to_svg(figure, name=title.lower().replace(" ", "-")))
