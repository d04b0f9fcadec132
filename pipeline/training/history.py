"""Keep the scores of a run, a row for each epoch, and write them as a table and a picture."""

from collections.abc import Sequence
from pathlib import Path

from ignite.engine import Engine, Events
from matplotlib.figure import Figure

from pneumoseg.pipeline.core.files import write_csv, written_atomically
from pneumoseg.pipeline.drawing.curves import learning_curves
from pneumoseg.pipeline.training.checkpoint import State
from pneumoseg.pipeline.training.tracking import Row

COLUMNS = (
    "epoch", "image_size", "loss", "validation_loss", "learning_rate", "images_per_s", "seconds", "dice",
    "predict_nothing", "dice_positive", "dice_positive_fixed", "sensitivity", "specificity", "auc", "threshold",
    "min_area_fraction", "image_threshold",
)  # fmt: skip


class History:
    """Handler that keeps the metrics of each epoch as a row.

    Attributes:
        rows: One for each epoch, with the keys `COLUMNS`; without scores where no image is held out.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def attach(self, engine: Engine) -> None:
        """Keep the metrics of the trainer *engine*; attach after all handlers that add to them."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._add)

    def _add(self, engine: Engine) -> None:
        self.rows.append(dict(engine.state.metrics))

    def state_dict(self) -> State:
        """Return the rows, for a checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state: State) -> None:
        """Continue after the rows of a checkpoint.

        Args:
            state: What `state_dict` returned.
        """
        self.rows = list(state["rows"])


class HistoryFiles:
    """Handler that writes ``metrics.csv`` and ``progress.png`` after each epoch.

    Args:
        history: History to write; attached, and restored from a checkpoint, before this handler.
        run_dir: Run folder.
    """

    def __init__(self, history: History, run_dir: Path) -> None:
        self.history = history
        self.run_dir = run_dir

    def attach(self, engine: Engine) -> None:
        """Write after each epoch of the trainer *engine*, and now what a checkpoint has restored.

        A run that was killed between its checkpoint and these files may have no epoch left to write them.
        """
        if self.history.rows:
            self.write()
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.write)

    def write(self) -> None:
        """Write both files."""
        write_csv(self.run_dir / "metrics.csv", self.history.rows, COLUMNS)
        draw_progress(self.history.rows, self.run_dir / "progress.png")


def draw_progress(rows: Sequence[Row], path: Path) -> None:
    """Draw the learning curves side by side: loss and learning rate, Dice with predict-nothing, image scores.

    Args:
        rows: One for each epoch, with the keys `COLUMNS`; without scores, there is only the first curve.
        path: PNG file to write.
    """
    curves = learning_curves(rows)
    figure = Figure(figsize=(4 * len(curves), 3.6), layout="constrained")
    for axes, draw in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.values(), strict=True):
        draw(axes, rows)
    with written_atomically(path) as temporary:
        figure.savefig(temporary, dpi=120)
