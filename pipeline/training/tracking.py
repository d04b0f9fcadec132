"""Where the numbers and pictures of a run are looked at: TensorBoard, and MLflow where it is installed."""

from pathlib import Path
from typing import Any, Protocol

from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from pneumoseg.pipeline.core.errors import UsageError

Row = dict[str, Any]


class Tracker(Protocol):
    """Gets what happens in a run."""

    def add(self, row: Row) -> None:
        """Take in the numbers of an epoch."""

    def show(self, name: str, figure: Figure, epoch: int) -> None:
        """Take in a picture."""

    def close(self) -> None:
        """End."""


class TensorBoard:
    """Learning curves and pictures in TensorBoard's files.

    Args:
        folder: Where they go.
        epochs_before: Of a run that goes on; what was written after them is hidden.
    """

    def __init__(self, folder: Path, *, epochs_before: int = 0) -> None:
        self.writer = SummaryWriter(str(folder), purge_step=epochs_before + 1)

    def add(self, row: Row) -> None:
        """Add a point to each curve."""
        for name, value in numbers(row).items():
            self.writer.add_scalar(name, value, global_step=row["epoch"])
        self.writer.flush()

    def show(self, name: str, figure: Figure, epoch: int) -> None:
        """Add a picture."""
        self.writer.add_figure(name, figure, global_step=epoch)

    def close(self) -> None:
        """Close the files."""
        self.writer.close()


class MLflow:
    """Learning curves, pictures and the configuration in an MLflow run; needs the extra ``mlflow``.

    Args:
        uri: Of the tracking store, like ``sqlite:///mlruns.db``.
        name: Of the run.
        parameters: Of the configuration.

    Raises: UsageError: If MLflow is not installed, or the store cannot be used.
    """

    def __init__(self, uri: str, *, name: str, parameters: Row) -> None:
        try:
            import mlflow  # noqa: PLC0415  (an extra)
        except ImportError:
            raise UsageError("--mlflow: MLflow is not installed; pip install 'pneumoseg[mlflow]'") from None
        self.client = mlflow.MlflowClient(uri)
        try:
            experiment = self.client.get_experiment_by_name("pneumoseg")
            number = experiment.experiment_id if experiment else self.client.create_experiment("pneumoseg")
            self.run = self.client.create_run(number, run_name=name).info.run_id
        except mlflow.MlflowException as error:
            raise UsageError(f"--mlflow {uri}: {str(error).splitlines()[0]}") from None
        for key, value in parameters.items():
            self.client.log_param(self.run, key, value)

    def add(self, row: Row) -> None:
        """Add a point to each curve."""
        for name, value in numbers(row).items():
            self.client.log_metric(self.run, name, value, step=row["epoch"])

    def show(self, name: str, figure: Figure, epoch: int) -> None:
        """Add a picture."""
        self.client.log_figure(self.run, figure, f"{name}/epoch{epoch:04d}.png")

    def close(self) -> None:
        """Tell that the run has ended."""
        self.client.set_terminated(self.run)


def numbers(row: Row) -> dict[str, float]:
    """What of a row can be drawn over the epochs."""
    return {name: float(value) for name, value in row.items() if name != "epoch" and value is not None}
