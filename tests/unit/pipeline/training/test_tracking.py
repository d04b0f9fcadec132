import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.training.engines import RunEvents
from pneumoseg.pipeline.training.tracking import MLflow, TensorBoard, TrackerHandler, numbers


def board(folder: Path) -> Any:
    return EventAccumulator(str(folder)).Reload()


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in board(folder).Scalars(name)]


def test_numbers_leave_out_the_epoch_and_scores_that_do_not_exist() -> None:
    row = {"epoch": 3, "loss": 0.5, "image_size": 64, "auc": None}
    assert numbers(row) == {"loss": 0.5, "image_size": 64.0}


# --- the handler


class Recorder:
    """A tracker that keeps what it is sent."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.pictures: list[tuple[str, Figure, int]] = []

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def show(self, name: str, figure: Figure, epoch: int) -> None:
        self.pictures.append((name, figure, epoch))

    def close(self) -> None:
        pass


def run_epochs(handler: TrackerHandler, *, best: int) -> None:
    """Run three epochs; one of them is a new best one."""
    engine = Engine(lambda _, __: None)
    engine.register_events(*RunEvents)
    engine.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: engine.state.metrics.update(epoch=engine.state.epoch)
    )
    handler.attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED(once=best), lambda: engine.fire_event(RunEvents.NEW_BEST))
    engine.run([0], max_epochs=3)


def test_every_tracker_gets_each_row_and_the_pictures_of_the_best_epoch() -> None:
    trackers, figures = [Recorder(), Recorder()], [("a", Figure()), ("b", Figure())]
    run_epochs(TrackerHandler(trackers, lambda: figures), best=2)
    for tracker in trackers:
        assert tracker.rows == [{"epoch": 1}, {"epoch": 2}, {"epoch": 3}]
        assert tracker.pictures == [(name, figure, 2) for name, figure in figures]


class Failing(Recorder):
    """Tracker whose server goes down after the first epoch."""

    def add(self, row: dict[str, Any]) -> None:
        super().add(row)
        if len(self.rows) > 1:
            raise ConnectionError("connection refused\nmore")


def test_a_tracker_that_fails_is_given_up_with_a_warning_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing, other = Failing(), Recorder()
    handler = TrackerHandler([failing, other], lambda: [("a", Figure())])
    run_epochs(handler, best=3)
    handler.close()
    assert len(failing.rows) == 2
    assert failing.pictures == []
    assert [row["epoch"] for row in other.rows] == [1, 2, 3]
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("warning:") == 1
    assert "Failing gets no more scores (connection refused); the run continues" in said


def test_without_trackers_no_picture_is_drawn() -> None:
    drawn: list[int] = []
    run_epochs(TrackerHandler([], lambda: drawn.append(1) or []), best=1)  # type: ignore[func-returns-value]
    assert drawn == []


# --- TensorBoard


def test_tensorboard_shows_the_numbers_by_epoch(tmp_path: Path) -> None:
    tracker = TensorBoard(tmp_path)
    tracker.add({"epoch": 1, "loss": 1.0, "auc": None})
    tracker.add({"epoch": 2, "loss": 0.5, "auc": 0.75})
    tracker.close()
    assert curve(tmp_path, "loss") == [(1, 1.0), (2, 0.5)]
    assert curve(tmp_path, "auc") == [(2, 0.75)]


def test_numbers_can_be_read_while_the_run_continues(tmp_path: Path) -> None:
    tracker = TensorBoard(tmp_path)
    tracker.add({"epoch": 1, "loss": 1.0})
    assert curve(tmp_path, "loss") == [(1, 1.0)]
    tracker.close()


def test_a_resumed_run_hides_the_epochs_that_it_repeats(tmp_path: Path) -> None:
    tracker = TensorBoard(tmp_path)
    for epoch in (1, 2, 3):
        tracker.add({"epoch": epoch, "loss": float(epoch)})
    tracker.close()
    tracker = TensorBoard(tmp_path, epochs_before=1)
    tracker.add({"epoch": 2, "loss": 20.0})
    tracker.close()
    assert curve(tmp_path, "loss") == [(1, 1.0), (2, 20.0)]


def test_tensorboard_shows_pictures(tmp_path: Path) -> None:
    tracker = TensorBoard(tmp_path)
    figure = Figure(figsize=(2, 1), dpi=50)
    figure.subplots()
    tracker.show("validation/case-1", figure, 4)
    tracker.close()
    (event,) = board(tmp_path).Images("validation/case-1")
    assert (event.step, event.width, event.height) == (4, 100, 50)


# --- MLflow


class Client:
    """Writes down what MLflow's own client is told."""

    def __init__(self, uri: str) -> None:
        self.told: list[tuple[Any, ...]] = [("uri", uri)]
        self.experiments: dict[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **named: self.told.append((name, *args, *named.values()))

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="7") if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        self.told.append(("create_experiment", name))
        return "8"

    def create_run(self, experiment: str, *, run_name: str) -> Any:
        self.told.append(("create_run", experiment, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id="r1"))


class StoreError(Exception):
    """MLflow's own."""


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """MLflow, as far as it is used; it need not be installed here."""
    module = SimpleNamespace(MlflowClient=Client, MlflowException=StoreError)
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return module


def test_a_missing_mlflow_is_a_usage_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match=r"pip install 'pneumoseg\[mlflow\]'") as caught:
        MLflow("sqlite:///x.db", name="run", parameters={})
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.usefixtures("mlflow")
def test_mlflow_gets_parameters_numbers_and_pictures() -> None:
    figure = Figure()
    tracker = MLflow("sqlite:///x.db", name="fold 1", parameters={"seed": 3})
    tracker.add({"epoch": 2, "loss": 0.5, "auc": None})
    tracker.show("validation/case-1", figure, 12)
    tracker.close()
    assert tracker.client.told == [
        ("uri", "sqlite:///x.db"),
        ("create_experiment", "pneumoseg"),
        ("create_run", "8", "fold 1"),
        ("log_param", "r1", "seed", 3),
        ("log_metric", "r1", "loss", 0.5, 2),
        ("log_figure", "r1", figure, "validation/case-1/epoch0012.png"),
        ("set_terminated", "r1"),
    ]


def test_runs_are_gathered_in_one_experiment(mlflow: Any) -> None:
    class Before(Client):
        def __init__(self, uri: str) -> None:
            super().__init__(uri)
            self.experiments["pneumoseg"] = "7"

    mlflow.MlflowClient = Before
    tracker = MLflow("sqlite:///x.db", name="fold 1", parameters={})
    assert tracker.client.told[1:] == [("create_run", "7", "fold 1")]


def test_a_store_whose_package_is_missing_is_a_usage_error(mlflow: Any) -> None:
    class Incomplete:
        def __init__(self, uri: str) -> None:
            raise ModuleNotFoundError("No module named 'sqlalchemy'")

    mlflow.MlflowClient = Incomplete
    with pytest.raises(UsageError, match=r"--mlflow sqlite:///x\.db: No module named 'sqlalchemy'"):
        MLflow("sqlite:///x.db", name="run", parameters={})


def test_a_store_that_cannot_be_used_is_a_usage_error_of_one_line(mlflow: Any) -> None:
    class Closed(Client):
        def get_experiment_by_name(self, name: str) -> Any:
            raise StoreError("no such store\nwith a long story")

    mlflow.MlflowClient = Closed
    with pytest.raises(UsageError, match=r"--mlflow sqlite:///x\.db: no such store$"):
        MLflow("sqlite:///x.db", name="run", parameters={})
