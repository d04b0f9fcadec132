import csv
from pathlib import Path
from typing import Any

import pytest
from ignite.engine import Engine, Events
from PIL import Image

from pneumoseg.pipeline.training.history import COLUMNS, History, HistoryFiles, draw_progress


def row(epoch: int, **values: Any) -> dict[str, Any]:
    return {"epoch": epoch, "loss": 1 / epoch, "learning_rate": 0.001, "dice": 0.77, "predict_nothing": 0.7742,
            "dice_positive": 0.1, "sensitivity": 0.5, "specificity": 0.9, "auc": 0.6, **values}  # fmt: skip


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run_epochs(handlers: list[Any], *rows: dict[str, Any]) -> None:
    """Run an epoch with the metrics of each row."""
    engine = Engine(lambda _, __: None)
    engine.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: engine.state.metrics.update(rows[engine.state.epoch - 1])
    )
    for handler in handlers:
        handler.attach(engine)
    engine.run([0], max_epochs=len(rows))


def test_the_metrics_of_each_epoch_are_a_row() -> None:
    history = History()
    run_epochs([history], row(1), row(2))
    assert history.rows == [row(1), row(2)]


def test_a_resumed_history_continues_after_its_rows_and_leaves_the_state_alone() -> None:
    state, history = {"rows": [row(1)]}, History()
    history.load_state_dict(state)
    run_epochs([history], row(2))
    assert history.state_dict() == {"rows": [row(1), row(2)]}
    assert state == {"rows": [row(1)]}


def test_the_files_hold_each_epoch_as_it_is_completed(tmp_path: Path) -> None:
    history = History()
    run_epochs([history, HistoryFiles(history, tmp_path)], row(1), row(2))
    rows = read(tmp_path / "metrics.csv")
    assert list(rows[0]) == list(COLUMNS)
    assert [(one["epoch"], one["loss"], one["predict_nothing"]) for one in rows] == [
        ("1", "1", "0.7742"),
        ("2", "0.5", "0.7742"),
    ]
    assert (tmp_path / "progress.png").stat().st_size > 1000


def test_a_score_that_does_not_exist_is_an_empty_cell(tmp_path: Path) -> None:
    history = History()
    history.load_state_dict({"rows": [row(1, dice_positive=None, auc=None)]})
    HistoryFiles(history, tmp_path).write()
    assert read(tmp_path / "metrics.csv")[0]["auc"] == ""


@pytest.mark.parametrize(
    "rows",
    [[row(1)], [row(n) for n in range(1, 60)], [row(1, dice_positive=None, auc=None, sensitivity=None)]],
)
def test_the_picture_is_drawn_for_one_epoch_and_for_many(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    draw_progress(rows, tmp_path / "progress.png")
    with Image.open(tmp_path / "progress.png") as picture:
        assert picture.width > picture.height > 300


def test_a_restored_history_is_written_though_no_epoch_is_left(tmp_path: Path) -> None:
    history = History()
    history.load_state_dict({"rows": [row(1), row(2)]})
    HistoryFiles(history, tmp_path).attach(Engine(lambda _, __: None))
    assert [each["epoch"] for each in read(tmp_path / "metrics.csv")] == ["1", "2"]
