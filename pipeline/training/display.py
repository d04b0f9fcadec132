"""The live display of a training run."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from pneumoseg.pipeline.core.console import console


class TrainingDisplay:
    """A bar with loss, Dice, images a second and time left; a line for each epoch stays.

    Where standard output is no terminal only the lines are printed.

    Args:
        epochs: Of the whole run.
        steps: Of an epoch.
        first_step: Steps that are done already.
    """

    def __init__(self, *, epochs: int, steps: int, first_step: int = 0) -> None:
        self.epochs = epochs
        self.steps = steps
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  Dice {task.fields[dice]}  {task.fields[rate]} images/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task(
            "", total=epochs * steps, completed=first_step, epoch=1, loss="-", dice="-", rate="-"
        )
        self.started = time.monotonic()
        self.done = 0

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def step(self, *, epoch: int, loss: float, images_per_s: float) -> None:
        """Move the bar by one step."""
        self.done += 1
        self.progress.update(
            self.task, advance=1, epoch=epoch, loss=f"{loss:.3f}", rate=f"{images_per_s:.0f}"
        )

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Print the line of an epoch; each score stands beside what predicting nothing would give."""
        self.progress.update(self.task, dice=f"{row['dice']:.4f}")
        elapsed = time.monotonic() - self.started
        left = elapsed / max(self.done, 1) * (self.epochs - row["epoch"]) * self.steps
        positive, auc, sensitivity, specificity = (
            "-" if row[name] is None else f"{row[name]:.3f}"
            for name in ("dice_positive", "auc", "sensitivity", "specificity")
        )
        self.progress.console.print(
            f"epoch {row['epoch']:>3}/{self.epochs}  loss {row['loss']:.4f}  "
            f"Dice {row['dice']:.4f} (predict nothing {row['predict_nothing']:.4f})  positives {positive}  "
            f"AUC {auc}  sensitivity {sensitivity}  specificity {specificity}  "
            f"{row['images_per_s']:.0f} images/s  {_duration(left)} left"
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
