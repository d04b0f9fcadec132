"""The numbers of a run, epoch by epoch: a table, a picture, and what trackers make of them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.files import write_csv, written_atomically
from pneumoseg.pipeline.training.gallery import Gallery
from pneumoseg.pipeline.training.tracking import Row, Tracker

COLUMNS = (
    "epoch", "image_size", "loss", "learning_rate", "images_per_s", "seconds", "dice", "predict_nothing",
    "dice_positive", "sensitivity", "specificity", "auc", "threshold", "min_area_fraction",
)  # fmt: skip


class History:
    """Keep one row for each epoch, and bring ``metrics.csv``, ``progress.png`` and the trackers up to date.

    Args:
        rows: Of the epochs before, where a run goes on.
    """

    def __init__(self, rows: list[Row] | None = None) -> None:
        self.rows = list(rows or [])

    def add(self, row: Row) -> None:
        """Add the row of an epoch."""
        self.rows.append(row)

    def show_best(self, network: AttentionUNet) -> None:
        """Take in that the last epoch was the best one."""


class WrittenHistory(History):
    """A history that is also written, by the one process of a run that does so.

    Args:
        run_dir: Where the files go.
        trackers: Get numbers and pictures too.
        gallery: Cases to draw.
        rows: Of the epochs before, where a run goes on.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        trackers: Sequence[Tracker] = (),
        gallery: Gallery | None = None,
        rows: list[Row] | None = None,
    ) -> None:
        super().__init__(rows)
        self.run_dir = run_dir
        self.trackers = trackers
        self.gallery = gallery

    def add(self, row: Row) -> None:
        """Add the row of an epoch and write everything anew."""
        super().add(row)
        write_csv(self.run_dir / "metrics.csv", self.rows, COLUMNS)
        draw_progress(self.rows, self.run_dir / "progress.png")
        for tracker in self.trackers:
            tracker.add(row)

    def show_best(self, network: AttentionUNet) -> None:
        """Draw a few cases for the trackers."""
        if self.gallery and self.trackers:
            for name, figure in self.gallery.draw(network):
                for tracker in self.trackers:
                    tracker.show(name, figure, self.rows[-1]["epoch"])


def draw_progress(rows: list[Row], path: Path) -> None:
    """Draw the learning curves: loss and rate, Dice beside predict-nothing, and the rates of the decision."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in rows]

    def line(axes: Axes, name: str, label: str, **style: Any) -> None:
        values = [math.nan if row.get(name) is None else row[name] for row in rows]
        axes.plot(epochs, values, label=label, marker="." if len(rows) < 30 else None, **style)

    line(left, "loss", "training loss")
    left.set_ylabel("loss")
    rate = left.twinx()
    line(rate, "learning_rate", "learning rate", color="0.7")
    rate.set_ylabel("learning rate", color="0.5")
    rate.set_ylim(bottom=0)
    line(middle, "dice", "all images")
    line(middle, "predict_nothing", "predict nothing", color="0.5", linestyle="--")
    line(middle, "dice_positive", "positives")
    middle.set_ylabel("validation Dice")
    line(right, "auc", "AUC")
    line(right, "sensitivity", "sensitivity")
    line(right, "specificity", "specificity")
    right.set_ylabel("validation, per image")
    for axes in (left, middle, right):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    for axes in (middle, right):
        axes.set_ylim(-0.02, 1.02)
        axes.legend(loc="best")
    with written_atomically(path) as temporary:
        figure.savefig(temporary, dpi=120)
