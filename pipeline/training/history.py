"""The numbers of a run, epoch by epoch: a table, a picture, and what trackers make of them."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.files import write_csv, written_atomically
from pneumoseg.pipeline.drawing.curves import LEARNING_CURVES
from pneumoseg.pipeline.training.gallery import Gallery
from pneumoseg.pipeline.training.tracking import Row, Tracker

COLUMNS = (
    "epoch", "image_size", "loss", "validation_loss", "learning_rate", "images_per_s", "seconds", "dice",
    "predict_nothing", "dice_positive", "dice_positive_fixed", "sensitivity", "specificity", "auc", "threshold",
    "min_area_fraction", "image_threshold",
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
    """Draw the learning curves side by side: loss and rate, Dice beside predict-nothing, images told apart."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, draw in zip(figure.subplots(1, 3), LEARNING_CURVES.values(), strict=True):
        draw(axes, rows)
    with written_atomically(path) as temporary:
        figure.savefig(temporary, dpi=120)
