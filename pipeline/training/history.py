"""The numbers of a run, epoch by epoch: a table, a picture and the learning curves of TensorBoard."""

import math
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from pneumoseg.pipeline.files import write_csv, written_atomically

COLUMNS = (
    "epoch", "loss", "learning_rate", "images_per_s", "seconds", "dice", "predict_nothing", "dice_positive",
    "sensitivity", "specificity", "auc", "threshold", "min_area_fraction",
)  # fmt: skip
Row = dict[str, Any]


class History:
    """Keep one row for each epoch, and bring ``metrics.csv``, ``progress.png`` and TensorBoard up to date.

    Args:
        run_dir: Where the files go.
        writer: Of TensorBoard's scalars.
        rows: Of the epochs before, where a run goes on.
    """

    def __init__(self, run_dir: Path, writer: SummaryWriter, rows: list[Row] | None = None) -> None:
        self.run_dir = run_dir
        self.writer = writer
        self.rows = rows or []

    def add(self, row: Row) -> None:
        """Add the row of an epoch and write everything anew."""
        self.rows.append(row)
        write_csv(self.run_dir / "metrics.csv", self.rows, COLUMNS)
        draw_progress(self.rows, self.run_dir / "progress.png")
        for name in COLUMNS[1:]:
            if row.get(name) is not None:
                self.writer.add_scalar(name, row[name], global_step=row["epoch"])
        self.writer.flush()


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
