"""The live display of a training run."""

import time
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self

from ignite.engine import Engine, Events
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from pneumoseg.pipeline.core.console import console
from pneumoseg.pipeline.training.handlers import EpochMeter


class TrainingDisplay:
    """Handler that shows a progress bar with loss, Dice, speed and time left, and prints a line for each epoch.

    Only the lines are printed where standard output is not a terminal. Enter it to show the bar.

    Args:
        meter: Meter of the current epoch; attached before this handler.
        epochs: Epochs of the whole run.
        steps: Steps of an epoch.
        first_step: Steps that are done already.
    """

    def __init__(self, meter: EpochMeter, *, epochs: int, steps: int, first_step: int = 0) -> None:
        self.epochs = epochs
        self.steps = steps
        self.first_step = first_step
        self.progress = Progress(
            TextColumn("epoch {task.fields[meter].epoch}/" + str(epochs)),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn(
                "loss {task.fields[meter].loss:.3f}  Dice {task.fields[dice]}  "
                "{task.fields[meter].images_per_s:.0f} images/s"
            ),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task(
            "", total=epochs * steps, completed=first_step, meter=meter, dice="-"
        )
        self.started = time.monotonic()

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def attach(self, engine: Engine) -> None:
        """Follow the trainer *engine*; needs the scores of each epoch in its metrics."""
        # the bar reads the meter whenever it is rendered
        engine.add_event_handler(
            Events.ITERATION_COMPLETED, partial(self.progress.update, self.task, advance=1)
        )
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.print_epoch(engine.state.metrics))

    def print_epoch(self, row: Mapping[str, Any]) -> None:
        """Print the line of an epoch; its Dice stands beside that of predicting nothing.

        Args:
            row: Metrics of the epoch, without scores where no image is held out.
        """
        done = self.progress.tasks[0].completed - self.first_step
        elapsed = time.monotonic() - self.started
        left = elapsed / max(done, 1) * (self.epochs - row["epoch"]) * self.steps
        scores = ""
        if "dice" in row:
            self.progress.update(self.task, dice=f"{row['dice']:.4f}")
            positive, auc, sensitivity, specificity = (
                "-" if row[name] is None else f"{row[name]:.3f}"
                for name in ("dice_positive", "auc", "sensitivity", "specificity")
            )
            scores = (
                f"Dice {row['dice']:.4f} (predict nothing {row['predict_nothing']:.4f})  positives {positive}  "
                f"AUC {auc}  sensitivity {sensitivity}  specificity {specificity}  "
            )
        self.progress.console.print(
            f"epoch {row['epoch']:>3}/{self.epochs}  loss {row['loss']:.4f}  {scores}"
            f"{row['images_per_s']:.0f} images/s  {_duration(left)} left"
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
