"""Send the scores and pictures of a run to experiment trackers: TensorBoard, and MLflow where it is installed.

MONAI's handlers do not suffice: neither sends figures, and that of MLflow fails on a score that is None.
"""

import operator
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from pneumoseg.pipeline.core.console import warn
from pneumoseg.pipeline.core.errors import UsageError, first_line
from pneumoseg.pipeline.training.engines import RunEvents

Row = dict[str, Any]
Pictures = Iterable[tuple[str, Figure]]


class Tracker(Protocol):
    """Experiment tracker."""

    def add(self, row: Row) -> None:
        """Add a point to the curve of each score, which *row* has by name, for the epoch in it."""

    def show(self, name: str, figure: Figure, epoch: int) -> None:
        """Add a picture; the same picture has the same name in each epoch, and epochs count from 1."""

    def close(self) -> None:
        """Finish the run."""


class TrackerHandler:
    """Handler that sends each epoch's scores, and pictures of each new best epoch, to trackers.

    A tracker that raises an error, such as one whose server is down, is given up with a warning: the run continues.

    Args:
        trackers: Trackers to send to.
        draw: Function that draws the named pictures with the present weights; None sends none.
    """

    def __init__(self, trackers: Sequence[Tracker], draw: Callable[[], Pictures] | None = None) -> None:
        self.trackers = list(trackers)
        self.draw = draw

    def attach(self, engine: Engine) -> None:
        """Follow the trainer *engine*; needs the `RunEvents` and the scores in its metrics."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._send_scores)
        engine.add_event_handler(RunEvents.NEW_BEST, self._send_pictures)

    def _send_scores(self, engine: Engine) -> None:
        self._send(operator.methodcaller("add", dict(engine.state.metrics)))

    def _send_pictures(self, engine: Engine) -> None:
        if self.trackers and self.draw:
            for name, figure in self.draw():
                self._send(operator.methodcaller("show", name, figure, engine.state.epoch))

    def close(self) -> None:
        """Finish the run in all trackers."""
        self._send(operator.methodcaller("close"))

    def _send(self, call: Callable[[Tracker], None]) -> None:
        for tracker in list(self.trackers):
            try:
                call(tracker)
            except Exception as error:  # noqa: BLE001  (of any library behind a tracker)
                self.trackers.remove(tracker)
                warn(
                    f"{type(tracker).__name__} gets no more scores ({first_line(error)}); the run continues, and "
                    "metrics.csv has them all"
                )


class TensorBoard:
    """Tracker that writes TensorBoard's files.

    Args:
        folder: Folder of the files.
        epochs_before: Epochs that a resumed run has done; points written after them are hidden.
    """

    def __init__(self, folder: Path, *, epochs_before: int = 0) -> None:
        self.writer = SummaryWriter(str(folder), purge_step=epochs_before + 1)

    def add(self, row: Row) -> None:
        """Add a point to the curve of each score; see `Tracker`."""
        for name, value in numbers(row).items():
            self.writer.add_scalar(name, value, global_step=row["epoch"])
        self.writer.flush()

    def show(self, name: str, figure: Figure, epoch: int) -> None:
        """Add a picture; see `Tracker`."""
        self.writer.add_figure(name, figure, global_step=epoch)

    def close(self) -> None:
        """Close the files."""
        self.writer.close()


class MLflow:
    """Tracker that fills an MLflow run; needs the extra ``mlflow``.

    Args:
        uri: URI of the tracking store, like ``sqlite:///mlruns.db``.
        name: Name of the run.
        parameters: Configuration of the run, by dotted key.

    Raises: UsageError: If MLflow is not installed, or the store cannot be used.
    """

    def __init__(self, uri: str, *, name: str, parameters: Row) -> None:
        mlflow = import_mlflow()
        try:
            self.client = mlflow.MlflowClient(uri)
            experiment = self.client.get_experiment_by_name("pneumoseg")
            identifier = (
                experiment.experiment_id if experiment else self.client.create_experiment("pneumoseg")
            )
            self.run = self.client.create_run(identifier, run_name=name).info.run_id
            for key, value in parameters.items():
                self.client.log_param(self.run, key, value)
        except (mlflow.MlflowException, ImportError) as error:  # some stores need further packages
            raise UsageError(f"--mlflow {uri}: {first_line(error)}") from None

    def add(self, row: Row) -> None:
        """Add a point to the curve of each score; see `Tracker`."""
        for name, value in numbers(row).items():
            self.client.log_metric(self.run, name, value, step=row["epoch"])

    def show(self, name: str, figure: Figure, epoch: int) -> None:
        """Add a picture; see `Tracker`."""
        self.client.log_figure(self.run, figure, f"{name}/epoch{epoch:04d}.png")

    def close(self) -> None:
        """Mark the run as finished."""
        self.client.set_terminated(self.run)


def import_mlflow() -> Any:
    """Import MLflow.

    Raises: UsageError: If it is not installed.
    """
    try:
        import mlflow  # noqa: PLC0415  (an extra)
    except ImportError:
        raise UsageError("--mlflow: MLflow is not installed; pip install 'pneumoseg[mlflow]'") from None
    return mlflow


def numbers(row: Row) -> dict[str, float]:
    """Select the numbers that can be plotted over the epochs.

    Args:
        row: Scores of an epoch, by name; None where one does not exist.
    """
    return {name: float(value) for name, value in row.items() if name != "epoch" and value is not None}
